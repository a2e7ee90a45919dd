//! The proxy's route table, made from desired state and the instances that are ready.

use std::net::SocketAddr;

use tokio::sync::Mutex;

use super::{InstanceStatus, Platform, Result};
use crate::domain::{App, Hostname, ReleaseVersion, RunState};
use crate::proxy::{Route, RouteState, RouteTable};

/// Serializes publications, so that a later table never has a lower version than an earlier one.
#[derive(Debug, Default)]
pub(super) struct Publisher(Mutex<u64>);

impl Platform {
    /// Puts the routes of all apps in force, in one step. When this returns, every new request is
    /// answered by the instances that are ready now.
    pub(super) async fn publish_routes(&self) -> Result<()> {
        // Held across the await on purpose: tables must reach the proxy in the order they are made.
        let mut version = self.0.routes.0.lock().await;
        if *version == 0 {
            *version = self.proxy.handle().await?.routes_version();
        }
        *version += 1;
        let routes = self.store.apps()?.iter().map(|app| self.route(app)).collect::<Result<_>>()?;
        self.proxy
            .set_routes(&RouteTable { version: *version, routes, ..RouteTable::default() })
            .await?;
        Ok(())
    }

    fn route(&self, app: &App) -> Result<Route> {
        let domains = self.domains_of(app)?;
        Ok(Route::web(app.name.clone(), domains, self.route_state(app)?))
    }

    fn route_state(&self, app: &App) -> Result<RouteState> {
        let Some(release) = app.current_release else {
            return Ok(RouteState::Deploying);
        };
        let upstreams = self.upstreams(app);
        if !upstreams.is_empty() {
            return Ok(RouteState::Live { release, upstreams });
        }
        if app.run_state == RunState::Stopped || !self.wants_web(app, release)? {
            return Ok(RouteState::Stopped);
        }
        let reason = self.0.instances.last_exit(app.id);
        Ok(match reason {
            Some(reason) => RouteState::Crashed { reason },
            None => RouteState::Deploying,
        })
    }

    /// The addresses of the app's ready web instances.
    fn upstreams(&self, app: &App) -> Vec<SocketAddr> {
        let ready = |instance: &super::instances::Instance| {
            instance.status == InstanceStatus::Running && instance.name.process_type.is_web()
        };
        let instances = self.0.instances.of_app(app.id);
        instances
            .iter()
            .filter(|instance| ready(instance))
            .map(|instance| instance.address())
            .collect()
    }

    fn wants_web(&self, app: &App, release: ReleaseVersion) -> Result<bool> {
        let release = self.store.release(app.id, release)?;
        Ok(release.is_some_and(|release| {
            super::plan::wanted(app, &release)
                .iter()
                .any(|wanted| wanted.name.process_type.is_web())
        }))
    }

    /// The domains that route to `app`: its own, or its name under each global domain.
    pub(super) fn domains_of(&self, app: &App) -> Result<Vec<Hostname>> {
        if let Some(own) = self.store.domains(app.id)? {
            return Ok(own);
        }
        let global = self.effective_global_domains()?;
        // A name too long for one of the domains has no default domain there.
        Ok(global.iter().filter_map(|domain| domain.child(app.name.as_str()).ok()).collect())
    }

    /// What `domains:set-global` said, or the operator's file.
    pub(super) fn effective_global_domains(&self) -> Result<Vec<Hostname>> {
        Ok(self.store.global_domains()?.unwrap_or_else(|| self.settings().global_domains.clone()))
    }

    /// Where `app` answers.
    pub(super) fn urls(&self, app: &App) -> Result<Vec<String>> {
        let port = self
            .proxy
            .listening()
            .ok()
            .and_then(|listening| listening.listen.first().map(SocketAddr::port));
        let suffix = match port {
            None | Some(80) => String::new(),
            Some(port) => format!(":{port}"),
        };
        let domains = self.domains_of(app)?;
        let shown = domains
            .iter()
            .filter(|domain| domain.as_str() != "_" && !domain.as_str().starts_with('*'));
        Ok(shown.map(|domain| format!("http://{domain}{suffix}")).collect())
    }
}
