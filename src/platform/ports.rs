//! Ports: which of the machine's lead to which of an app's.

use std::net::SocketAddr;

use super::{Error, Kind, Platform, PortReport, Result, launch};
use crate::domain::{Actor, App, AppName, FrontSettings, PortMap, PortMapping, PortSelector};

impl Platform {
    /// The app's port mappings.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn ports(&self, name: &AppName) -> Result<PortReport> {
        let app = self.find_app(name)?;
        let ports = self.store.front(app.id)?.ports;
        let port = self.front_door(&app)?.port;
        let custom = !ports.own().is_empty();
        let mut mappings = ports.effective(port);
        // Without a certificate the default mapping of the TLS port leads nowhere.
        if !custom && !self.has_certificate(&app)? {
            mappings.retain(|mapping| mapping.scheme.client() == crate::domain::Scheme::Http);
        }
        Ok(PortReport { mappings, custom, port })
    }

    /// Adds mappings to those the app has; one of the same scheme and host port is replaced.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`; `Conflict` for a host port that somebody else holds.
    pub async fn add_ports(
        &self,
        actor: &Actor,
        name: &AppName,
        mappings: Vec<PortMapping>,
    ) -> Result<PortReport> {
        let app = self.find_app(name)?;
        let config = self.store.settings(app.id)?.config;
        let edit = |ports: &mut PortMap| {
            if ports.own().is_empty() {
                // The default mapping is one of those the app has.
                let port = launch::app_port(&config, ports);
                ports.set(&ports.effective(port))?;
            }
            Ok(ports.add(&mappings)?)
        };
        self.change_ports(actor, name, edit).await
    }

    /// Replaces the app's mappings; none goes back to the default.
    ///
    /// # Errors
    /// As [`Platform::add_ports`].
    pub async fn set_ports(
        &self,
        actor: &Actor,
        name: &AppName,
        mappings: Vec<PortMapping>,
    ) -> Result<PortReport> {
        self.change_ports(actor, name, |ports| Ok(ports.set(&mappings)?)).await
    }

    /// Removes mappings of the app; without any left it has the default ones.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a mapping that the app does not have.
    pub async fn remove_ports(
        &self,
        actor: &Actor,
        name: &AppName,
        mappings: Vec<PortSelector>,
    ) -> Result<PortReport> {
        self.change_ports(actor, name, |ports| Ok(ports.remove(&mappings)?)).await
    }

    async fn change_ports(
        &self,
        actor: &Actor,
        name: &AppName,
        edit: impl FnOnce(&mut PortMap) -> Result<()>,
    ) -> Result<PortReport> {
        {
            // Held across the await on purpose: of two changes the second sees the first.
            let _lock = self.0.front.lock().await;
            let app = self.find_app(name)?;
            let before = self.store.front(app.id)?;
            let mut front = before.clone();
            edit(&mut front.ports)?;
            self.check_ports(&app, &before.ports, &front)?;
            let list: Vec<_> = front.ports.own().iter().map(ToString::to_string).collect();
            let shown = if list.is_empty() { "the default".into() } else { list.join(" ") };
            let about = ("app.ports", format!("ports set to {shown}"));
            self.put_front(actor, &app, (&before, &front), (about.0, &about.1)).await?;
        }
        self.ports(name).await
    }

    /// A host port has one holder, or apps that speak the same on it and are told apart by domain.
    fn check_ports(&self, app: &App, before: &PortMap, front: &FrontSettings) -> Result<()> {
        let new = front.ports.own().iter().filter(|mapping| !before.own().contains(mapping));
        for mapping in new.filter(|mapping| !mapping.is_standard()) {
            self.refuse_own_port(*mapping)?;
            self.refuse_other_scheme(app, *mapping)?;
        }
        Ok(())
    }

    /// Staithe's own ports are not to be had.
    fn refuse_own_port(&self, mapping: PortMapping) -> Result<()> {
        let port = mapping.host;
        if port == self.settings().ssh_port {
            let message = format!("host port {port} is Staithe's own, for SSH");
            return Err(Error::new(Kind::Conflict, message).hint("choose another host port"));
        }
        let config = self.proxy.config();
        let standard = [(80, &config.http_listen), (443, &config.https_listen)];
        let is_listener = |addresses: &[SocketAddr]| addresses.iter().any(|a| a.port() == port);
        match standard.into_iter().find(|(_, addresses)| is_listener(addresses)) {
            None => Ok(()),
            Some((stands_for_it, _)) => {
                let message = format!("host port {port} is one of the proxy's configured ones");
                let hint = format!("write {stands_for_it} for it, whatever its number");
                Err(Error::new(Kind::Conflict, message).hint(hint))
            }
        }
    }

    /// Apps that share a port are told apart by domain, so they must speak the same on it.
    fn refuse_other_scheme(&self, app: &App, mapping: PortMapping) -> Result<()> {
        for other in self.store.apps()?.iter().filter(|other| other.id != app.id) {
            let theirs = self.store.front(other.id)?.ports;
            let Some(holder) = theirs.own().iter().find(|theirs| theirs.host == mapping.host)
            else {
                continue;
            };
            if holder.scheme.client() != mapping.scheme.client() {
                let message = format!("app `{}` has host port {holder}", other.name);
                return Err(Error::new(Kind::Conflict, message)
                    .hint("a host port has one scheme; choose another"));
            }
        }
        Ok(())
    }
}
