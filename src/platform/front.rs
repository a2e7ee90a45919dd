//! How an app's requests are treated: proxy properties, maintenance.

use super::{Error, Kind, MaintenanceReport, Platform, ProxyProperty, ProxyReport, Result, Switch};
use crate::domain::{
    Actor, App, AppName, FrontSettings, Invalid, PageOccasion, ProxyKey, ProxySettings,
};

impl Platform {
    /// The app's proxy properties; without an app, those set for all.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn proxy_properties(&self, name: Option<&AppName>) -> Result<ProxyReport> {
        let global = self.store.global_proxy()?;
        let front = match name {
            Some(name) => self.store.front(self.find_app(name)?.id)?,
            None => FrontSettings::default(),
        };
        let own = front.proxy;
        let effective = in_force(own.clone(), global.clone());
        let property = |key: ProxyKey| ProxyProperty {
            key,
            value: effective.get(key),
            app: own.get(key),
            global: global.get(key),
        };
        let properties = ProxyKey::ALL.into_iter().map(property).collect();
        let processes = match name {
            Some(_) => Vec::new(),
            None => self.proxy_processes().await?,
        };
        Ok(ProxyReport { enabled: !front.disabled, properties, processes })
    }

    /// Sets a proxy property of an app, or of all apps; no value goes back to the default. Takes
    /// effect at once.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a wrong value.
    pub async fn set_proxy(
        &self,
        actor: &Actor,
        name: Option<&AppName>,
        key: ProxyKey,
        value: Option<&str>,
    ) -> Result<ProxyReport> {
        let shown =
            value.map_or("set to its default".to_owned(), |value| format!("set to {value}"));
        let message = format!("proxy property `{key}` {shown}");
        match name {
            None => {
                if key == ProxyKey::CanonicalHost {
                    return Err(Error::new(
                        Kind::Invalid,
                        "one canonical host cannot be all apps'",
                    )
                    .hint("set it for an app: `staithe proxy:set <app> canonical-host <domain>`"));
                }
                let _lock = self.0.front.lock().await;
                let mut global = self.store.global_proxy()?;
                global.set(key, value)?;
                check(&in_force(global.clone(), ProxySettings::default()), key)?;
                self.store.set_global_proxy(&global)?;
                self.note_named(None, "proxy.global", &message, actor);
                self.publish_routes().await?;
            }
            Some(name) => {
                let global = self.store.global_proxy()?;
                let edit = |app: &App, front: &mut FrontSettings| {
                    front.proxy.set(key, value)?;
                    check(&in_force(front.proxy.clone(), global), key)?;
                    self.check_canonical(app, &front.proxy, key)
                };
                self.change_front(actor, name, ("app.proxy", &message), edit).await?;
            }
        }
        self.proxy_properties(name).await
    }

    /// A redirect to a host that is not the app's would lead visitors away.
    fn check_canonical(&self, app: &App, proxy: &ProxySettings, key: ProxyKey) -> Result<()> {
        let Some(host) = proxy.canonical_host.as_ref().filter(|_| key == ProxyKey::CanonicalHost)
        else {
            return Ok(());
        };
        match self.domains_of(app)?.contains(host) {
            true => Ok(()),
            false => {
                let message = format!("`{host}` is not a domain of app `{}`", app.name);
                let hint = format!("add it first: `staithe domains:add {} {host}`", app.name);
                Err(Error::new(Kind::Invalid, message).hint(hint))
            }
        }
    }

    /// Puts an app on the web, or takes it off: its domains are unknown hosts then.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_proxy_enabled(
        &self,
        actor: &Actor,
        name: &AppName,
        switch: Switch,
    ) -> Result<ProxyReport> {
        let message = if switch.enabled { "proxy enabled" } else { "proxy disabled" };
        let edit = |_: &App, front: &mut FrontSettings| {
            front.disabled = !switch.enabled;
            Ok(())
        };
        self.change_front(actor, name, ("app.proxy", message), edit).await?;
        self.proxy_properties(Some(name)).await
    }

    /// Whether the app is in maintenance.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn maintenance(&self, name: &AppName) -> Result<MaintenanceReport> {
        let front = self.store.front(self.find_app(name)?.id)?;
        let page = front.pages.get(&PageOccasion::Maintenance).cloned();
        Ok(MaintenanceReport { enabled: front.maintenance, page })
    }

    /// Answers every request of the app by its maintenance page, or no longer.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_maintenance(
        &self,
        actor: &Actor,
        name: &AppName,
        switch: Switch,
    ) -> Result<MaintenanceReport> {
        let message = if switch.enabled { "maintenance begun" } else { "maintenance ended" };
        let edit = |_: &App, front: &mut FrontSettings| {
            front.maintenance = switch.enabled;
            Ok(())
        };
        self.change_front(actor, name, ("app.maintenance", message), edit).await?;
        self.maintenance(name).await
    }

    /// [`Platform::put_front`] of what `edit` makes of an app's front door.
    pub(super) async fn change_front(
        &self,
        actor: &Actor,
        name: &AppName,
        about: (&str, &str),
        edit: impl FnOnce(&App, &mut FrontSettings) -> Result<()>,
    ) -> Result<()> {
        // Held across the await on purpose: of two changes the second sees the first.
        let _lock = self.0.front.lock().await;
        let app = self.find_app(name)?;
        let before = self.store.front(app.id)?;
        let mut front = before.clone();
        edit(&app, &mut front)?;
        self.put_front(actor, &app, (&before, &front), about).await
    }

    /// Keeps an app's front door, records it as an event and puts it in force. One whose ports cannot be opened is not kept:
    /// with it no table would be taken, also not one that is about another app.
    pub(super) async fn put_front(
        &self,
        actor: &Actor,
        app: &App,
        (before, front): (&FrontSettings, &FrontSettings),
        (kind, message): (&str, &str),
    ) -> Result<()> {
        self.store.set_front(app.id, front)?;
        let published = self.publish_routes().await;
        match published.as_ref().is_err_and(|error| error.kind() == Kind::Conflict) {
            true => self.store.set_front(app.id, before)?,
            false => self.note(app.id, kind, message, actor),
        }
        published
    }
}

/// What is in force where these are set.
pub(super) fn in_force(own: ProxySettings, global: ProxySettings) -> ProxySettings {
    own.or(global).or(ProxySettings::defaults())
}

fn check(effective: &ProxySettings, key: ProxyKey) -> std::result::Result<(), Invalid> {
    let about_hsts = [ProxyKey::HstsPreload, ProxyKey::HstsMaxAge, ProxyKey::HstsIncludeSubdomains];
    match about_hsts.contains(&key) {
        true => effective.check_preload(),
        false => Ok(()),
    }
}
