//! What is known about certificates (their keys are in files), and how far automatic ones have come.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{Result, Store, failed, from_json, from_text, to_json};
use crate::domain::{
    AcmeProgress, AcmeSettings, AppId, CertificateFacts, CertificateId, CertificateSource,
    Hostname, Timestamp,
};

const GLOBAL_ACME: &str = "acme";

/// A certificate of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCertificate {
    /// Where it came from.
    pub source: CertificateSource,
    /// The domain it was ordered for; none for the app's own.
    pub domain: Option<Hostname>,
    /// What it says.
    pub facts: CertificateFacts,
    /// When it was kept.
    pub added_at: Timestamp,
    /// The authority it came from, if any.
    #[serde(default)]
    pub server: Option<String>,
}

impl Store {
    /// Keeps a certificate: in place of the app's own, or of the one for the same domain.
    pub fn set_certificate(&self, app: AppId, certificate: &StoredCertificate) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        remove(&transaction, app, certificate.domain.as_ref())?;
        transaction
            .execute(
                "insert into certificates (app, domain, id, body) values (?, ?, ?, ?)",
                params![
                    app.0,
                    certificate.domain.as_ref().map_or("", Hostname::as_str),
                    certificate.facts.id.as_str(),
                    to_json(certificate)
                ],
            )
            .map_err(failed("insert certificate"))?;
        transaction.commit().map_err(failed("commit certificate"))
    }

    /// The app's certificates, its own one first, then by domain.
    pub fn certificates(&self, app: AppId) -> Result<Vec<StoredCertificate>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select body from certificates where app = ? order by domain")
            .map_err(failed("list certificates"))?;
        let rows = statement
            .query_map([app.0], |row| row.get::<_, String>(0))
            .map_err(failed("list certificates"))?;
        rows.map(|row| from_json("certificate", &row.map_err(failed("list certificates"))?))
            .collect()
    }

    /// Removes the app's own certificate, or the one for `domain`; says whether there was one.
    pub fn remove_certificate(&self, app: AppId, domain: Option<&Hostname>) -> Result<bool> {
        remove(&self.lock(), app, domain)
    }

    /// The names of all files that are needed.
    pub fn certificate_ids(&self) -> Result<Vec<CertificateId>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select distinct id from certificates")
            .map_err(failed("list certificate files"))?;
        let rows =
            statement.query_map([], |row| row.get(0)).map_err(failed("list certificate files"))?;
        rows.map(|row| from_text("certificate id", row.map_err(failed("list certificate files"))?))
            .collect()
    }

    /// What an app sets about automatic certificates.
    pub fn acme_settings(&self, app: AppId) -> Result<AcmeSettings> {
        let text: String = self
            .lock()
            .query_row("select acme from apps where id = ?", [app.0], |row| row.get(0))
            .map_err(failed("read certificate settings"))?;
        from_json("certificate settings", &text)
    }

    /// Replaces what an app sets about automatic certificates.
    pub fn set_acme_settings(&self, app: AppId, settings: &AcmeSettings) -> Result<()> {
        self.lock()
            .execute("update apps set acme = ? where id = ?", params![to_json(settings), app.0])
            .map_err(failed("write certificate settings"))?;
        Ok(())
    }

    /// What `letsencrypt:set --global` said.
    pub fn global_acme(&self) -> Result<AcmeSettings> {
        Ok(self.setting(GLOBAL_ACME, "certificate settings")?.unwrap_or_default())
    }

    /// Replaces what is set for all apps.
    pub fn set_global_acme(&self, settings: &AcmeSettings) -> Result<()> {
        self.set_setting(GLOBAL_ACME, settings, "write certificate settings")
    }

    /// How far the app's domains have come.
    pub fn acme_progress(&self, app: AppId) -> Result<BTreeMap<Hostname, AcmeProgress>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select domain, body from acme_progress where app = ?")
            .map_err(failed("list orders"))?;
        let rows = statement
            .query_map([app.0], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
            .map_err(failed("list orders"))?;
        rows.map(|row| {
            let (domain, body) = row.map_err(failed("list orders"))?;
            Ok((from_text("domain", domain)?, from_json("order", &body)?))
        })
        .collect()
    }

    /// Records how far a domain has come.
    pub fn set_acme_progress(
        &self,
        app: AppId,
        domain: &Hostname,
        progress: &AcmeProgress,
    ) -> Result<()> {
        self.lock()
            .execute(
                "insert into acme_progress (app, domain, body) values (?1, ?2, ?3)
                 on conflict (app, domain) do update set body = ?3",
                params![app.0, domain.as_str(), to_json(progress)],
            )
            .map_err(failed("write order"))?;
        Ok(())
    }

    /// Forgets how far the app's domains have come, all but `kept`.
    pub fn forget_acme_progress(&self, app: AppId, kept: &[Hostname]) -> Result<()> {
        let kept: Vec<&str> = kept.iter().map(Hostname::as_str).collect();
        self.lock()
            .execute(
                "delete from acme_progress where app = ?1
                 and domain not in (select value from json_each(?2))",
                params![app.0, to_json(&kept)],
            )
            .map_err(failed("forget orders"))?;
        Ok(())
    }
}

fn remove(connection: &Connection, app: AppId, domain: Option<&Hostname>) -> Result<bool> {
    connection
        .execute(
            "delete from certificates where app = ? and domain = ?",
            params![app.0, domain.map_or("", Hostname::as_str)],
        )
        .map(|count| count > 0)
        .map_err(failed("remove certificate"))
}
