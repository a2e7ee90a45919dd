//! The proxy's route table, made from desired state and the instances that are ready.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::front_door::{FrontDoor, Target, addresses, listener, route_url};
use super::instances::Instance;
use super::{InstanceStatus, Platform, Result, dashboard, front, launch};
use crate::domain::{
    App, AppId, ConfigVars, Hostname, PathRoute, ProcessType, ProxySettings, ReleaseVersion,
    RunState, Scheme,
};
use crate::proxy::{Binding, ExtraListener, ListenerName, Route, RouteState, RouteTable};
use crate::support::backoff::Backoff;
use crate::support::{report, tasks};

/// The waits before a table that could not be put in force is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Puts one table in force after the other; what fails is tried again until it succeeds.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The last version. Its lock serializes publications, so that a later table never has a lower
    /// version than an earlier one.
    version: Mutex<u64>,
    /// How many publications have begun to look at what there is.
    begun: AtomicU64,
    /// The last of them whose table is in force.
    in_force: watch::Sender<u64>,
    /// Whether another try is waiting for its time.
    again: AtomicBool,
    backoff: std::sync::Mutex<Backoff>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            version: Mutex::default(),
            begun: AtomicU64::new(0),
            in_force: watch::Sender::new(0),
            again: AtomicBool::new(false),
            backoff: std::sync::Mutex::new(Backoff::new(FIRST_RETRY, LAST_RETRY)),
        }
    }
}

/// Stands for everything that was changed before it was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes(u64);

impl Publisher {
    /// For [`Publisher::in_force`]: take it after a change and before its publication.
    pub(super) fn changes(&self) -> Changes {
        // A publication that has begun may have looked before the change.
        Changes(self.begun.load(Ordering::SeqCst) + 1)
    }

    /// Returns once a table that knows of `changes` is in force. Cancel-safe.
    pub(super) async fn in_force(&self, changes: Changes) {
        // Its sender is ours, so it does not end.
        let _ = self.in_force.subscribe().wait_for(|begun| *begun >= changes.0).await;
    }

    fn backoff(&self) -> std::sync::MutexGuard<'_, Backoff> {
        // Its two fields are set one at a time, and any values of them are waits.
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that lead somewhere already; each leads to one place.
type Taken = HashSet<(Hostname, String, ListenerName)>;

impl Platform {
    /// Puts the routes of all apps in force, in one step. When this returns, every new request is
    /// answered by the instances that are ready now.
    ///
    /// # Errors
    /// What kept it; it is tried again in the background then, until it succeeds.
    pub(super) async fn publish_routes(&self) -> Result<()> {
        let result = self.publish_once().await;
        match &result {
            Ok(()) => self.0.routes.backoff().reset(),
            Err(_) => self.publish_again_later(),
        }
        result
    }

    async fn publish_once(&self) -> Result<()> {
        let publisher = &self.0.routes;
        // Held across the await on purpose: tables must reach the proxy in the order they are made.
        let mut version = publisher.version.lock().await;
        if *version == 0 {
            *version = self.proxy.handle().await?.routes_version();
        }
        *version += 1;
        let begun = publisher.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let table = self.route_table(*version)?;
        self.proxy.set_routes(&table).await?;
        publisher.in_force.send_replace(begun);
        // Apps reach each other by their public URLs, on these ports too.
        let ports: Vec<u16> = table.listeners.iter().map(|listener| listener.port).collect();
        self.network.set_open_ports(&ports).await?;
        Ok(())
    }

    fn publish_again_later(&self) {
        let publisher = &self.0.routes;
        if publisher.again.swap(true, Ordering::SeqCst) {
            return;
        }
        let delay = publisher.backoff().next_delay();
        let platform = self.clone();
        tasks::spawn("publish-again", async move {
            tokio::time::sleep(delay).await;
            // Before the try: what fails from now on needs another.
            platform.0.routes.again.store(false, Ordering::SeqCst);
            match platform.publish_routes().await {
                Ok(()) => tracing::info!("the routes are in force at last"),
                Err(error) => {
                    tracing::error!(error = report(&error), "cannot put the routes in force");
                }
            }
        });
    }

    fn route_table(&self, version: u64) -> Result<RouteTable> {
        let global = self.store.global_proxy()?;
        let mut paths: BTreeMap<AppId, Vec<PathRoute>> = BTreeMap::new();
        for (app, route) in self.store.path_routes()? {
            paths.entry(app).or_default().push(route);
        }
        let mut doors = Vec::new();
        for app in self.store.apps()? {
            let door = self.door(&app, paths.remove(&app.id).unwrap_or_default(), &global)?;
            doors.push((app, door));
        }
        let mut table =
            RouteTable { version, challenges: self.challenges(), ..RouteTable::default() };
        let owners = Owners::of(&doors);
        let changes = self.plugin_route_changes()?;
        let mut taken = Taken::new();
        for (app, door) in doors.iter().filter(|(_, door)| !door.front.disabled) {
            table.listeners.extend(extra_listeners(door));
            for (target, bindings) in door.targets() {
                let mut bindings = untaken(&mut taken, app, bindings);
                for binding in &mut bindings {
                    let owner = owners.find(&binding.domain).unwrap_or(app);
                    binding.certificate = self.certificate_for(owner, &binding.domain)?;
                }
                if bindings.is_empty() {
                    continue;
                }
                let mut settings = door.settings(&target);
                for change in changes.get(&app.id).into_iter().flatten() {
                    settings.narrow(change);
                }
                table.routes.push(Route {
                    app: app.name.clone(),
                    process_type: target.process_type.clone(),
                    bindings,
                    settings,
                    state: self.route_state(app, &target)?,
                });
            }
        }
        table.listeners.sort_unstable();
        table.listeners.dedup();
        Ok(table)
    }

    /// The front door of an app.
    pub(super) fn front_door(&self, app: &App) -> Result<FrontDoor> {
        let routes = self.store.path_routes()?.into_iter();
        let paths = routes.filter(|(id, _)| *id == app.id).map(|(_, route)| route).collect();
        self.door(app, paths, &self.store.global_proxy()?)
    }

    fn door(&self, app: &App, paths: Vec<PathRoute>, global: &ProxySettings) -> Result<FrontDoor> {
        let front = self.store.front(app.id)?;
        let port = launch::app_port(&self.running_config(app)?, &front.ports);
        Ok(FrontDoor {
            domains: self.domains_of(app)?,
            paths,
            mappings: front.ports.effective(port),
            port,
            proxy: front::in_force(front.proxy.clone(), global.clone()),
            front,
        })
    }

    /// The config vars that instances get now.
    fn running_config(&self, app: &App) -> Result<ConfigVars> {
        let release = match app.current_release {
            Some(version) => self.store.release(app.id, version)?,
            None => None,
        };
        match release {
            Some(release) => Ok(release.config_in_force()),
            None => Ok(self.store.settings(app.id)?.config),
        }
    }

    fn route_state(&self, app: &App, target: &Target) -> Result<RouteState> {
        if dashboard::is_own(&app.name) {
            let upstreams = self.settings().web_address.into_iter().collect::<Vec<_>>();
            return Ok(match upstreams.is_empty() {
                true => RouteState::Stopped,
                false => RouteState::Live { release: ReleaseVersion(0), upstreams },
            });
        }
        let Some(release) = app.current_release else {
            return Ok(RouteState::Deploying);
        };
        let upstreams = self.upstreams(app, target);
        if !upstreams.is_empty() {
            return Ok(RouteState::Live { release, upstreams });
        }
        let process_type = &target.process_type;
        if app.run_state == RunState::Stopped || !self.wants(app, release, process_type)? {
            return Ok(RouteState::Stopped);
        }
        let reason = self.0.instances.last_exit(app.id, process_type);
        Ok(match reason {
            Some(reason) => RouteState::Crashed { reason },
            None => RouteState::Deploying,
        })
    }

    /// The addresses of the target's ready instances.
    fn upstreams(&self, app: &App, target: &Target) -> Vec<SocketAddr> {
        let ready = |instance: &&Instance| {
            instance.status == InstanceStatus::Running
                && instance.name.process_type == target.process_type
        };
        let instances = self.0.instances.of_app(app.id);
        let ready = instances.iter().filter(ready);
        ready.flat_map(|instance| addresses(instance.address(), &[target.port])).collect()
    }

    /// All addresses at which an instance may have open requests.
    pub(super) fn reached_at(&self, instance: &Instance) -> Result<Vec<SocketAddr>> {
        let mut ports = match self.store.app_by_id(instance.app)? {
            Some(app) => self.front_door(&app)?.ports(&instance.name.process_type),
            None => Vec::new(),
        };
        // Its own port, also where the app's mappings have just been changed.
        if !ports.contains(&None) {
            ports.push(None);
        }
        Ok(addresses(instance.address(), &ports))
    }

    fn wants(
        &self,
        app: &App,
        release: ReleaseVersion,
        process_type: &ProcessType,
    ) -> Result<bool> {
        let release = self.store.release(app.id, release)?;
        Ok(release.is_some_and(|release| {
            super::plan::wanted(app, &release)
                .iter()
                .any(|wanted| wanted.name.process_type == *process_type)
        }))
    }

    /// The domains that route to `app`: its own, or its name under each global domain, unless
    /// another app was given that.
    pub(super) fn domains_of(&self, app: &App) -> Result<Vec<Hostname>> {
        if let Some(own) = self.store.domains(app.id)? {
            return Ok(own);
        }
        let global = self.effective_global_domains()?;
        // A name too long for one of the domains has no default domain there.
        let default = global.iter().filter_map(|domain| domain.child(app.name.as_str()).ok());
        let mut domains = Vec::new();
        for domain in default {
            if !self.store.is_given_to_another(app.id, &domain)? {
                domains.push(domain);
            }
        }
        Ok(domains)
    }

    /// What `domains:set-global` said, or the operator's file.
    pub(super) fn effective_global_domains(&self) -> Result<Vec<Hostname>> {
        Ok(self.store.global_domains()?.unwrap_or_else(|| self.settings().global_domains.clone()))
    }

    /// Whether one of the app's domains has a certificate.
    pub(super) fn has_certificate(&self, app: &App) -> Result<bool> {
        for domain in self.domains_of(app)? {
            if self.certificate_for(app, &domain)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where `app` answers.
    pub(super) fn urls(&self, app: &App) -> Result<Vec<String>> {
        let door = self.front_door(app)?;
        if door.front.disabled {
            return Ok(Vec::new());
        }
        let listening = self.proxy.listening().ok();
        let standard = |scheme: Scheme| {
            let listening = listening.as_ref()?;
            let addresses = match scheme {
                Scheme::Http => &listening.listen,
                Scheme::Https => &listening.https,
            };
            addresses.first().map(SocketAddr::port)
        };
        let mut urls = Vec::new();
        for domain in &door.domains {
            if domain.as_str().starts_with(['*', '_']) {
                continue;
            }
            let certificate = self.certificate_for(app, domain)?.is_some();
            urls.extend(door.url(domain, certificate, standard));
        }
        for route in &door.paths {
            let domain = &route.address.domain;
            if domain.as_str().starts_with(['*', '_']) {
                continue;
            }
            let owner = self.owner_of(domain)?;
            let owner = owner.as_ref().unwrap_or(app);
            let certificate = self.certificate_for(owner, domain)?.is_some();
            urls.push(route_url(route, certificate, standard));
        }
        Ok(urls)
    }
}

/// The ports of an app that are not the configuration's.
fn extra_listeners(door: &FrontDoor) -> impl Iterator<Item = ExtraListener> + '_ {
    door.mappings.iter().filter_map(|mapping| match listener(*mapping) {
        ListenerName::Port(port) => Some(ExtraListener { port, scheme: mapping.scheme.client() }),
        ListenerName::Http | ListenerName::Https => None,
    })
}

/// Which app has which domain.
struct Owners<'a>(HashMap<&'a str, &'a App>);

impl<'a> Owners<'a> {
    fn of(doors: &'a [(App, FrontDoor)]) -> Self {
        let domains = |(app, door): &'a (App, FrontDoor)| {
            door.domains.iter().map(move |domain| (domain.as_str(), app))
        };
        // Of two apps with one domain the first is led to.
        Self(doors.iter().rev().flat_map(domains).collect())
    }

    /// The app that has the domain, or the closest wildcard above it.
    fn find(&self, domain: &Hostname) -> Option<&'a App> {
        let mut rest = domain.as_str();
        if let Some(app) = self.0.get(rest) {
            return Some(app);
        }
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(app) = self.0.get(format!("*.{parent}").as_str()) {
                return Some(app);
            }
            rest = parent;
        }
        None
    }
}

/// Leaves away what leads elsewhere already: a table that contradicts itself is refused as a whole,
/// and one app's domains must not keep another from being deployed.
fn untaken(taken: &mut Taken, app: &App, bindings: Vec<Binding>) -> Vec<Binding> {
    let mut free = Vec::new();
    for mut binding in bindings {
        let Binding { domain, path, listeners, .. } = &mut binding;
        listeners.retain(|listener| {
            let fresh = taken.insert((domain.clone(), path.to_string(), *listener));
            if !fresh {
                tracing::warn!(app.name = app.name.as_str(), %domain, %path, "leads to another app");
            }
            fresh
        });
        if !binding.listeners.is_empty() {
            free.push(binding);
        }
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_in_force_with_the_first_table_that_began_after_them() {
        let publisher = Publisher::default();
        let begin = || publisher.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let is_in_force = async |changes| {
            tokio::time::timeout(Duration::ZERO, publisher.in_force(changes)).await.is_ok()
        };
        let early = begin();
        let changes = publisher.changes();
        publisher.in_force.send_replace(early);
        assert!(!is_in_force(changes).await, "that table may not know of them");
        begin();
        let third = begin();
        publisher.in_force.send_replace(third);
        assert!(is_in_force(changes).await, "the second has failed, and the third knows all");
        assert!(!is_in_force(publisher.changes()).await);
    }
}
