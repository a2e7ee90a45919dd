//! The dashboard's domain: an app of the platform's own, whose only instance is the web door.
//!
//! So its certificates, redirects, HSTS, lists of addresses, limits and access log are those of any
//! app, with the same commands (`letsencrypt:enable staithe-dashboard`). It has no code and no
//! releases, and nobody else may have an app of its name.

use super::{Error, Kind, Platform, Result};
use crate::domain::{Actor, App, AppName, Hostname};
use crate::wire::DashboardReport;

/// The name of that app.
const NAME: &str = "staithe-dashboard";

/// Whether it is the platform's own app.
pub(super) fn is_own(app: &AppName) -> bool {
    app.as_str() == NAME
}

/// Keeps its name free, and it as it is.
///
/// # Errors
/// `Conflict` for that name.
pub(super) fn refuse_own(app: &AppName) -> Result<()> {
    if !is_own(app) {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, format!("`{NAME}` is the dashboard's own"))
        .hint("choose another name; `staithe dashboard:domain` says where the dashboard answers"))
}

impl Platform {
    /// Has the web door answer under `domain`, or under none.
    ///
    /// # Errors
    /// `Conflict` if the web door is closed or the domain is another app's.
    pub async fn set_dashboard_domain(
        &self,
        actor: &Actor,
        domain: Option<Hostname>,
    ) -> Result<DashboardReport> {
        let name: AppName = NAME.parse()?;
        let known = self.store.app(&name)?.is_some();
        match domain {
            None if known => self.destroy_app(actor, &name).await?,
            None => {}
            Some(domain) => {
                if self.settings().web_address.is_none() {
                    return Err(Error::new(Kind::Conflict, "the web door is closed")
                        .hint("`[web] listen` of the configuration opens it"));
                }
                if !known {
                    self.make_app(actor, &name).await?;
                }
                if let Err(error) = self.set_domains(actor, &name, vec![domain]).await {
                    if !known {
                        self.destroy_app(actor, &name).await?;
                    }
                    return Err(error);
                }
            }
        }
        self.dashboard_report().await
    }

    /// Where the dashboard answers.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn dashboard_report(&self) -> Result<DashboardReport> {
        let listen = self.settings().web_address.map(|address| address.to_string());
        let Some(app) = self.dashboard_app()? else {
            return Ok(DashboardReport { app: None, domain: None, urls: Vec::new(), listen });
        };
        let domain = self.domains_of(&app)?.into_iter().next();
        Ok(DashboardReport { urls: self.urls(&app)?, app: Some(app.name), domain, listen })
    }

    /// The app that stands for it, if it has a domain.
    pub(super) fn dashboard_app(&self) -> Result<Option<App>> {
        Ok(self.store.app(&NAME.parse()?)?)
    }
}
