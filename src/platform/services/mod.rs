//! Services: databases and the like, one container each, that apps are linked to.
//!
//! ```text
//!  plugin (manifest, scripts) ─► image ─► container ─┬─ volume at /data
//!                                                    └─ address for life ◄─ edges ─ linked apps
//! ```
//!
//! What a service should be doing is in the store; [`Services`] knows what it is doing. Each has a
//! lane, so that one verb at a time works on it. A service that ends by itself is started again
//! after a wait that doubles, as an instance is.
//!
//! **Invariant.** Everything of a plugin's runs inside the service's container. Nobody but the
//! containers of linked apps reaches a service, unless a port was exposed. The record in the store
//! is written before there is anything to remove, and goes last.

mod exposing;
mod images;
mod linking;
mod running;
mod sessions;
mod settings;
mod upgrading;
mod verbs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, Kind, Platform, Result};
use crate::domain::{PluginName, Service, ServiceId, ServiceName, Timestamp};
use crate::network::Addresses;
use crate::plugin;
use crate::support::backoff::Backoff;
use crate::wire::ServiceStatus;

pub(super) use images::ImageFor;
pub(super) use sessions::Scratch;

/// The waits before a service that ended by itself is started again.
const FIRST_RESTART: Duration = Duration::from_secs(1);
const LAST_RESTART: Duration = Duration::from_secs(300);

/// A service's container.
#[derive(Debug, Clone)]
struct Running {
    container: String,
    status: ServiceStatus,
    started_at: Timestamp,
    /// Canceled when the container has ended.
    ended: CancellationToken,
}

/// What is remembered of a service across its containers.
#[derive(Debug)]
struct History {
    restarts: u32,
    last_exit: Option<String>,
    backoff: Backoff,
}

impl Default for History {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_RESTART, LAST_RESTART);
        Self { restarts: 0, last_exit: None, backoff }
    }
}

/// Everything about services that is not in the store.
#[derive(Debug, Default)]
pub(super) struct Services {
    running: Mutex<HashMap<ServiceId, Running>>,
    histories: Mutex<HashMap<ServiceId, History>>,
    lanes: Mutex<HashMap<ServiceId, Arc<tokio::sync::Mutex<()>>>>,
    /// Held from the question whether a name is free until it is taken.
    names: Mutex<()>,
    /// Serializes the making of images: two of the same would do the work twice.
    images: tokio::sync::Mutex<()>,
    /// Serializes links: each looks at vars that it then sets, and sets all edges. Whether edges
    /// may have been set before.
    edges: tokio::sync::Mutex<bool>,
    /// Serializes the exposing of ports.
    ports: tokio::sync::Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Services {
    /// The lane of a service.
    async fn lane(&self, id: ServiceId) -> tokio::sync::OwnedMutexGuard<()> {
        let lane = Arc::clone(locked(&self.lanes).entry(id).or_default());
        lane.lock_owned().await
    }

    fn running(&self, id: ServiceId) -> Option<Running> {
        locked(&self.running).get(&id).cloned()
    }

    /// Moves a service's container on, unless it is another one by now.
    fn set_status(&self, id: ServiceId, container: &str, status: ServiceStatus) {
        if let Some(running) = locked(&self.running).get_mut(&id)
            && running.container == container
        {
            running.status = status;
        }
    }

    fn forget(&self, id: ServiceId) {
        locked(&self.running).remove(&id);
        locked(&self.histories).remove(&id);
        locked(&self.lanes).remove(&id);
    }
}

/// What a plugin says of its services.
#[derive(Debug, Clone)]
struct ServiceType {
    plugin: Arc<super::plugins::Plugin>,
}

impl ServiceType {
    fn manifest(&self) -> &plugin::Manifest {
        self.plugin.manifest()
    }

    fn service(&self) -> &plugin::Service {
        let service = self.plugin.manifest().service.as_ref();
        service.expect("checked where a ServiceType is made")
    }

    /// The address that apps are given.
    fn url(&self, service: &Service) -> String {
        let (password, port) = (service.password.expose(), self.service().port.get());
        self.service().url(password, &service.host(), port, &service.name.database())
    }
}

impl Service {
    fn addresses(&self) -> Addresses {
        Addresses { v4: self.v4, v6: self.v6 }
    }
}

impl Platform {
    /// The type of services of that name.
    fn service_type(&self, kind: &PluginName) -> Result<ServiceType> {
        let plugin = self.find_plugin(kind)?;
        match plugin.manifest().service {
            Some(_) => Ok(ServiceType { plugin }),
            None => {
                let message = format!("plugin `{kind}` has no services");
                Err(Error::new(Kind::NotFound, message))
            }
        }
    }

    /// The service of that type and name.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn find_service(&self, kind: &PluginName, name: &ServiceName) -> Result<Service> {
        self.service_type(kind)?;
        let found = self.store.service(kind, name)?.filter(|service| !service.scratch);
        found.ok_or_else(|| {
            // Dokku's sentence.
            let message = format!("{kind} service {name} does not exist");
            Error::new(Kind::NotFound, message).hint(format!(
                "run `staithe {kind}:list` to see the services, or `staithe {kind}:create {name}` to make one"
            ))
        })
    }

    /// The services of a type, or all of them; none that are for the platform's own use.
    fn visible_services(&self, kind: Option<&PluginName>) -> Result<Vec<Service>> {
        let mut services = self.store.services()?;
        services
            .retain(|service| !service.scratch && kind.is_none_or(|kind| service.kind == *kind));
        Ok(services)
    }
}
