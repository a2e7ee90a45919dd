//! Certificates of apps: given, made, shown, and which of them a domain gets.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Error, Kind, Platform, Result, clock};
use crate::certificate::{Checked, Pair, Validity, issue};
use crate::domain::{
    Actor, App, AppId, AppName, CertificateId, CertificateSource, Hostname, Secret, Timestamp,
};
use crate::proxy::Challenge;
use crate::store::StoredCertificate;
use crate::support::report;
use crate::wire::{
    CertificateChange, CertificateReport, CertificateReportEntry, DomainCertificate,
    GeneratedCertificate, NewCertificate,
};

/// Files that nobody names are removed once they are this old: younger ones may be about to be
/// named.
const UNNAMED_FILES: Duration = Duration::from_secs(3600);

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Certificates as routes need them: often, and without asking the database each time.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<AppId, Arc<[StoredCertificate]>>>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Arc<[StoredCertificate]>>> {
        // Entries are replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificate that `domain` shows: the owner's, if it is for the domain; else one that was
/// issued by itself; else whatever the owner gave, since a warning in the browser says more than a
/// refused handshake.
fn choose<'a>(
    certificates: &'a [StoredCertificate],
    domain: &Hostname,
) -> Option<&'a StoredCertificate> {
    let own = certificates.iter().find(|one| one.domain.is_none());
    let given = own.filter(|own| own.source == CertificateSource::Custom);
    let covering = certificates
        .iter()
        .filter(|one| one.domain.is_some() && one.facts.covers(domain))
        .max_by_key(|one| (one.domain.as_ref() == Some(domain), one.facts.not_after));
    given.filter(|own| own.facts.covers(domain)).or(covering).or(own)
}

impl Platform {
    /// The app's certificates.
    pub(super) fn certificates_of(&self, app: AppId) -> Result<Arc<[StoredCertificate]>> {
        // Held over the read, so that a change between reading and noting is not missed: whoever
        // changes forgets afterwards.
        let mut book = self.0.book.lock();
        if let Some(known) = book.get(&app) {
            return Ok(Arc::clone(known));
        }
        let certificates: Arc<[StoredCertificate]> = self.store.certificates(app)?.into();
        book.insert(app, Arc::clone(&certificates));
        Ok(certificates)
    }

    /// The certificate of `domain`, which `app` has.
    pub(super) fn certificate_for(
        &self,
        app: &App,
        domain: &Hostname,
    ) -> Result<Option<CertificateId>> {
        let certificates = self.certificates_of(app.id)?;
        Ok(choose(&certificates, domain).map(|one| one.facts.id.clone()))
    }

    /// What certificate authorities look for at this moment.
    pub(super) fn challenges(&self) -> Vec<Challenge> {
        self.0.desk.challenges()
    }

    /// Keeps a certificate and shows it to visitors from now on.
    pub(super) async fn keep_certificate(
        &self,
        app: &App,
        pair: &Pair,
        stored: &StoredCertificate,
    ) -> Result<()> {
        self.certificates.files.keep(pair)?;
        self.store.set_certificate(app.id, stored)?;
        self.certificates_changed(app.id).await?;
        // Its authority may have something to say about it.
        self.0.desk.wake();
        Ok(())
    }

    /// Puts changed certificates in force, also those of an app that is gone, and removes the files
    /// that are not needed any more.
    pub(super) async fn certificates_changed(&self, app: AppId) -> Result<()> {
        let before = self.0.book.lock().remove(&app);
        self.publish_routes().await?;
        let needed: HashSet<CertificateId> = self.store.certificate_ids()?.into_iter().collect();
        let gone = before.iter().flat_map(|certificates| certificates.iter());
        for id in gone.map(|one| &one.facts.id).filter(|id| !needed.contains(id)) {
            if let Err(error) = self.certificates.files.remove(id) {
                tracing::error!(error = report(&error), "cannot remove a certificate");
            }
        }
        Ok(())
    }

    /// Removes files that no app needs.
    pub(super) fn remove_unneeded_certificates(&self) -> Result<()> {
        let mut needed: HashSet<_> = self.store.certificate_ids()?.into_iter().collect();
        needed.extend(self.challenges().into_iter().filter_map(|challenge| match challenge {
            Challenge::TlsAlpn01 { certificate, .. } => Some(certificate),
            Challenge::Http01 { .. } => None,
        }));
        self.certificates.files.remove_others(&needed, UNNAMED_FILES)?;
        Ok(())
    }

    /// The app's own certificate.
    fn own_certificate(&self, app: &App) -> Result<StoredCertificate> {
        let certificates = self.certificates_of(app.id)?;
        let own = certificates.iter().find(|one| one.domain.is_none()).cloned();
        own.ok_or_else(|| {
            let message = format!("app `{}` has no certificate of its own", app.name);
            let hint =
                format!("give it one: `staithe certs:add {} server.crt server.key`", app.name);
            Error::new(Kind::NotFound, message).hint(hint)
        })
    }

    fn own_pair(&self, app: &App) -> Result<Pair> {
        let own = self.own_certificate(app)?;
        let trust = &self.certificates.trust;
        Ok(self.certificates.files.read(&own.facts.id, clock::now(), trust)?)
    }

    /// Gives the app a certificate of its own, for all its domains.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a certificate or key that cannot be used.
    pub async fn add_certificate(
        &self,
        actor: &Actor,
        name: &AppName,
        new: NewCertificate,
    ) -> Result<CertificateChange> {
        let app = self.find_app(name)?;
        if new.replace {
            self.own_certificate(&app)?;
        }
        let key = match new.key {
            Some(key) => key,
            None => Secret::new(self.own_pair(&app)?.key_pem()),
        };
        let validity = if new.force { Validity::Waived } else { Validity::Required };
        let trust = &self.certificates.trust;
        let now = clock::now();
        let Checked { pair, mut warnings } =
            Pair::parse(&new.certificate, key.expose(), now, validity, trust)?;
        let facts = pair.facts();
        let uncovered: Vec<_> = self
            .domains_of(&app)?
            .into_iter()
            .filter(|domain| domain.as_str() != "_" && !facts.covers(domain))
            .map(|domain| format!("`{domain}`"))
            .collect();
        if !uncovered.is_empty() {
            warnings.push(format!("the certificate is not for {}", uncovered.join(", ")));
        }
        let stored = stored(CertificateSource::Custom, &pair, now);
        self.keep_certificate(&app, &pair, &stored).await?;
        let message = format!("certificate of {} kept, issued by {}", facts.subject, facts.issuer);
        self.note(app.id, "certificate.added", &message, actor);
        Ok(CertificateChange { report: self.report_certificates(&app)?, warnings })
    }

    /// Makes a key with a self-signed certificate for the app, and a request that an authority may
    /// sign; `certs:update` without a key completes it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where a certificate of another's signature would be lost.
    pub async fn generate_certificate(
        &self,
        actor: &Actor,
        name: &AppName,
        domain: &Hostname,
    ) -> Result<GeneratedCertificate> {
        let app = self.find_app(name)?;
        if domain.as_str() == "_" {
            return Err(Error::new(Kind::Invalid, "a certificate must be for a host name"));
        }
        if let Ok(own) = self.own_certificate(&app)
            && own.source == CertificateSource::Custom
        {
            let message = format!("app `{name}` has a certificate, whose key would be lost");
            let hint = format!("remove it first: `staithe certs:remove {name}`");
            return Err(Error::new(Kind::Conflict, message).hint(hint));
        }
        let now = clock::now();
        let made = issue::self_signed(domain, now, &self.certificates.trust)?;
        let stored = stored(CertificateSource::SelfSigned, &made.pair, now);
        self.keep_certificate(&app, &made.pair, &stored).await?;
        let message = format!("self-signed certificate for {domain} generated");
        self.note(app.id, "certificate.generated", &message, actor);
        Ok(GeneratedCertificate { request: made.request, report: self.report_certificates(&app)? })
    }

    /// Takes the app's own certificate away; those issued by themselves stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_certificate(
        &self,
        actor: &Actor,
        name: &AppName,
    ) -> Result<CertificateReport> {
        let app = self.find_app(name)?;
        let own = self.own_certificate(&app)?;
        self.store.remove_certificate(app.id, None)?;
        self.certificates_changed(app.id).await?;
        let message = format!("certificate of {} removed", own.facts.subject);
        self.note(app.id, "certificate.removed", &message, actor);
        self.0.desk.wake();
        self.report_certificates(&app)
    }

    /// The app's certificates.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn certificate_report(&self, name: &AppName) -> Result<CertificateReport> {
        self.report_certificates(&self.find_app(name)?)
    }

    /// The chain of the app's own certificate, in PEM.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn certificate_chain(&self, name: &AppName) -> Result<String> {
        Ok(self.own_pair(&self.find_app(name)?)?.certificate_pem())
    }

    /// The key of the app's own certificate, in PEM.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn certificate_key(&self, actor: &Actor, name: &AppName) -> Result<Secret> {
        let app = self.find_app(name)?;
        let key = self.own_pair(&app)?.key_pem();
        self.note(app.id, "certificate.key-shown", "the certificate's key was shown", actor);
        Ok(Secret::new(key))
    }

    fn report_certificates(&self, app: &App) -> Result<CertificateReport> {
        let certificates = self.certificates_of(app.id)?;
        let now = clock::now();
        let show = |domain: Hostname| {
            let shown = choose(&certificates, &domain);
            DomainCertificate {
                certificate: shown.map(|one| one.facts.id.clone()),
                covered: shown.is_some_and(|one| one.facts.covers(&domain)),
                domain,
            }
        };
        let (own, automatic): (Vec<_>, Vec<_>) =
            certificates.iter().partition(|one| one.domain.is_none());
        Ok(CertificateReport {
            directory: self.settings().data_dir.join("certificates").display().to_string(),
            own: own.first().map(|one| self.entry(one, now)),
            automatic: automatic.into_iter().map(|one| self.entry(one, now)).collect(),
            domains: self.domains_of(app)?.into_iter().map(show).collect(),
        })
    }

    fn entry(&self, one: &StoredCertificate, now: Timestamp) -> CertificateReportEntry {
        CertificateReportEntry {
            source: one.source,
            facts: one.facts.clone(),
            days_left: (one.facts.not_after.0 - now.0).div_euclid(DAY_MS),
            added_at: one.added_at,
            ocsp: self.ocsp_status(&one.facts.id, now),
        }
    }
}

fn stored(source: CertificateSource, pair: &Pair, now: Timestamp) -> StoredCertificate {
    StoredCertificate {
        source,
        domain: None,
        facts: pair.facts().clone(),
        added_at: now,
        server: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CertificateFacts;

    fn one(
        source: CertificateSource,
        domain: Option<&str>,
        names: &[&str],
        end: i64,
    ) -> StoredCertificate {
        let facts = CertificateFacts {
            id: format!("{end:064}").parse().unwrap(),
            subject: String::new(),
            issuer: String::new(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            not_before: Timestamp(0),
            not_after: Timestamp(end),
            key: String::new(),
            verified: true,
        };
        let domain = domain.map(|domain| domain.parse().unwrap());
        StoredCertificate { source, domain, facts, added_at: Timestamp(0), server: None }
    }

    fn check(certificates: &[StoredCertificate], domain: &str, end: Option<i64>) {
        let chosen = choose(certificates, &domain.parse().unwrap());
        assert_eq!(chosen.map(|one| one.facts.not_after.0), end, "{domain}");
    }

    #[test]
    fn a_domain_shows_the_owners_certificate_then_an_automatic_one_then_any() {
        use CertificateSource::{Acme, Custom, SelfSigned};
        let custom = one(Custom, None, &["a.test"], 1);
        let wildcard = one(Acme, Some("*.test"), &["*.test"], 3);
        let exact = one(Acme, Some("b.test"), &["b.test"], 2);
        let all = [custom, wildcard.clone(), exact];
        check(&all, "a.test", Some(1));
        check(&all, "b.test", Some(2));
        check(&all, "c.test", Some(3));
        check(&all, "x.y.test", Some(1));
        check(&all, "_", Some(1));
        check(&[], "a.test", None);
        let self_signed = one(SelfSigned, None, &["a.test"], 4);
        check(&[self_signed.clone(), wildcard], "a.test", Some(3));
        check(&[self_signed], "a.test", Some(4));
    }
}
