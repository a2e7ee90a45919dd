//! Domains: the host names that route to an app.

use super::{DomainReport, Error, Kind, Platform, Result};
use crate::domain::{Actor, App, AppName, Hostname};

impl Platform {
    /// The app's domains.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn domains(&self, name: &AppName) -> Result<DomainReport> {
        let app = self.find_app(name)?;
        Ok(DomainReport {
            domains: self.domains_of(&app)?,
            custom: self.store.domains(app.id)?.is_some(),
            global: self.effective_global_domains()?,
        })
    }

    /// Adds domains to those the app has.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if another app has one of them.
    pub async fn add_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        let app = self.find_app(name)?;
        let mut all = self.domains_of(&app)?;
        let new: Vec<_> = domains.into_iter().filter(|domain| !all.contains(domain)).collect();
        all.extend(new);
        self.replace_domains(actor, &app, Some(all)).await
    }

    /// Removes domains from those the app has.
    ///
    /// # Errors
    /// `NotFound` also for a domain that the app does not have.
    pub async fn remove_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        let app = self.find_app(name)?;
        let mut all = self.domains_of(&app)?;
        for domain in &domains {
            let position = all.iter().position(|own| own == domain).ok_or_else(|| {
                Error::new(Kind::NotFound, format!("app `{name}` has no domain `{domain}`"))
                    .hint(format!("run `staithe domains:report {name}` to see its domains"))
            })?;
            all.remove(position);
        }
        self.replace_domains(actor, &app, Some(all)).await
    }

    /// Replaces the app's domains; an empty list goes back to the default.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if another app has one of them.
    pub async fn set_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        let app = self.find_app(name)?;
        let domains = (!domains.is_empty()).then_some(domains);
        self.replace_domains(actor, &app, domains).await
    }

    async fn replace_domains(
        &self,
        actor: &Actor,
        app: &App,
        domains: Option<Vec<Hostname>>,
    ) -> Result<DomainReport> {
        if let Some(domains) = &domains {
            self.refuse_defaults_of_others(app, domains)?;
        }
        let before = self.domains_of(app)?;
        self.store.set_domains(app.id, domains.as_deref())?;
        let change = super::events::Change::new(before, self.domains_of(app)?);
        let shown = domains.map_or("the default".to_owned(), |domains| {
            domains.iter().map(Hostname::as_str).collect::<Vec<_>>().join(", ")
        });
        let message = format!("domains set to {shown}");
        self.note_change(app.id, "app.domains", &message, actor, change);
        self.publish_routes().await?;
        self.0.desk.wake();
        let report = self.domains(&app.name).await?;
        let told = serde_json::json!({ "actor": actor.name, "domains": report.domains });
        self.notify(crate::plugin::Hook::PostDomainsUpdate, Some(&app.name), told);
        Ok(report)
    }

    /// The default domain of another app must not be taken from it.
    fn refuse_defaults_of_others(&self, app: &App, domains: &[Hostname]) -> Result<()> {
        self.refuse_routed(domains)?;
        for other in self.store.apps()?.iter().filter(|other| other.id != app.id) {
            let theirs = self.domains_of(other)?;
            if let Some(domain) = domains.iter().find(|domain| theirs.contains(domain)) {
                let message = format!("domain `{domain}` belongs to app `{}`", other.name);
                let hint = format!(
                    "remove it there first: `staithe domains:remove {} {domain}`",
                    other.name
                );
                return Err(Error::new(Kind::Conflict, message).hint(hint));
            }
        }
        Ok(())
    }

    /// A domain that a route leads elsewhere as a whole cannot be had.
    fn refuse_routed(&self, domains: &[Hostname]) -> Result<()> {
        for (id, route) in self.store.path_routes()? {
            let address = &route.address;
            if address.path.is_root() && domains.contains(&address.domain) {
                let app =
                    self.store.app_by_id(id)?.map_or(String::new(), |app| app.name.to_string());
                let message = format!("domain `{}` is routed to app `{app}`", address.domain);
                let hint = format!("remove that first: `staithe routes:remove {app} {address}`");
                return Err(Error::new(Kind::Conflict, message).hint(hint));
            }
        }
        Ok(())
    }

    /// The domains under which every app answers.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn global_domains(&self) -> Result<Vec<Hostname>> {
        self.effective_global_domains()
    }

    /// Replaces the domains under which every app answers.
    ///
    /// # Errors
    /// `Invalid` for a wildcard or the catch-all.
    pub async fn set_global_domains(&self, actor: &Actor, domains: Vec<Hostname>) -> Result<()> {
        if let Some(domain) = domains.iter().find(|domain| domain.as_str().starts_with(['*', '_']))
        {
            let message = format!("global domain `{domain}` must be a plain host name");
            return Err(
                Error::new(Kind::Invalid, message).hint("apps answer at <app>.<global domain>")
            );
        }
        self.store.set_global_domains(&domains)?;
        let shown = domains.iter().map(Hostname::as_str).collect::<Vec<_>>().join(", ");
        self.note_named(None, "domains.global", &format!("global domains set to {shown}"), actor);
        self.publish_routes().await?;
        self.0.desk.wake();
        Ok(())
    }
}
