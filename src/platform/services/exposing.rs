//! Ports of the machine that lead to services.

use crate::domain::{Actor, ExposedPort, PluginName, Service, ServiceName};
use crate::network::Exposure;
use crate::platform::pipeline::blocking;
use crate::platform::{Error, Kind, Platform, Result};

impl Platform {
    /// Lets ports of the machine lead to a service's ports, in their order; ports of the kernel's
    /// choice if none are given. Answers which.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is exposed already or something else listens there.
    pub async fn expose_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        ports: Vec<u16>,
    ) -> Result<Vec<ExposedPort>> {
        let _turn = self.0.services.ports.lock().await;
        let service = self.find_service(kind, name)?;
        if !service.settings.exposed.is_empty() {
            let message = format!("{} is exposed already", service.title());
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("run `staithe {kind}:unexpose {name}` first")));
        }
        let about = self.service_type(kind)?;
        let own: Vec<u16> = std::iter::once(&about.service().port)
            .chain(&about.service().more)
            .map(|port| port.get())
            .collect();
        if ports.len() > own.len() || ports.contains(&0) {
            let message = format!("{} has {} port(s) to expose", service.title(), own.len());
            return Err(Error::new(Kind::Invalid, message));
        }
        self.check_exposed(&ports)?;
        let count = if ports.is_empty() { own.len() } else { ports.len() };
        let mut exposed = Vec::new();
        for (index, port) in own.into_iter().take(count).enumerate() {
            let host = free_port(ports.get(index).copied().unwrap_or_default()).await?;
            exposed.push(ExposedPort { host, service: port });
        }
        self.change_exposed(&service, exposed.clone()).await?;
        let shown: Vec<_> =
            exposed.iter().map(|port| format!("{}->{}", port.host, port.service)).collect();
        let message = format!("{} exposed: {}", service.title(), shown.join(" "));
        self.note_named(None, "service.exposed", &message, actor);
        Ok(exposed)
    }

    /// Closes the ports of the machine that lead to a service.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if there are none.
    pub async fn unexpose_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<()> {
        let _turn = self.0.services.ports.lock().await;
        let service = self.find_service(kind, name)?;
        if service.settings.exposed.is_empty() {
            return Err(Error::new(Kind::Conflict, format!("{} is not exposed", service.title())));
        }
        self.change_exposed(&service, Vec::new()).await?;
        let message = format!("{} is no longer exposed", service.title());
        self.note_named(None, "service.unexposed", &message, actor);
        Ok(())
    }

    fn check_exposed(&self, ports: &[u16]) -> Result<()> {
        for service in self.store.services()? {
            let taken = service.settings.exposed.iter().find(|port| ports.contains(&port.host));
            if let Some(port) = taken {
                let message = format!("port {} leads to {}", port.host, service.title());
                return Err(Error::new(Kind::Conflict, message));
            }
        }
        Ok(())
    }

    async fn change_exposed(&self, service: &Service, exposed: Vec<ExposedPort>) -> Result<()> {
        let mut changed = service.clone();
        changed.settings.exposed = exposed;
        self.store.set_service(&changed)?;
        let applied = self.refresh_exposures().await;
        if applied.is_err() {
            self.store.set_service(service)?;
        }
        applied
    }

    /// Has the kernel send on exactly the ports that services are exposed by.
    pub(super) async fn refresh_exposures(&self) -> Result<()> {
        let services = self.store.services()?;
        let exposures: Vec<_> = services
            .iter()
            .flat_map(|service| {
                service.settings.exposed.iter().map(|port| Exposure {
                    port: port.host,
                    to: service.addresses(),
                    to_port: port.service,
                })
            })
            .collect();
        Ok(self.network.set_exposures(&exposures).await?)
    }
}

/// `wanted`, if nothing listens there; any free one for 0.
async fn free_port(wanted: u16) -> Result<u16> {
    let probe = move || {
        std::net::TcpListener::bind(("0.0.0.0", wanted)).and_then(|socket| socket.local_addr())
    };
    match blocking(probe).await? {
        Ok(address) => Ok(address.port()),
        Err(source) => {
            let message = format!("port {wanted} of the machine is in use");
            Err(Error::new(Kind::Conflict, message)
                .because(source)
                .hint(format!("`ss -ltnp 'sport = :{wanted}'` shows by what")))
        }
    }
}
