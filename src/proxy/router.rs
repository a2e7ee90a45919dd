//! The route table in the form that requests are looked up in.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{AppName, Hostname, ProcessType, ReleaseVersion};

use super::page::Page;
use super::protocol::AppStatus;
use super::upstream::Upstream;
use super::{Error, RouteState, RouteTable};

/// A compiled table; replaced as a whole.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) version: u64,
    exact: HashMap<Box<str>, Arc<Target>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Arc<Target>>,
    catch_all: Option<Arc<Target>>,
    processes: HashMap<(AppName, ProcessType), Arc<Target>>,
    pub(super) apps: BTreeMap<AppName, Arc<AppCounters>>,
    pub(super) upstreams: HashMap<SocketAddr, Arc<Upstream>>,
}

/// What stands behind a domain.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) app: AppName,
    pub(super) process_type: ProcessType,
    /// The version of its table.
    version: u64,
    pub(super) counters: Arc<AppCounters>,
    pub(super) state: TargetState,
}

/// [`RouteState`] with its upstreams found.
#[derive(Debug)]
pub(super) enum TargetState {
    Live { release: ReleaseVersion, upstreams: Box<[Arc<Upstream>]> },
    Stopped,
    Crashed,
    Deploying,
}

impl Router {
    /// Compiles `table`. Apps keep their counters and upstreams their open requests from
    /// `previous`, and from `retired`, upstreams that left an earlier table.
    ///
    /// # Errors
    /// `DuplicateDomain`.
    pub(super) fn compile(
        table: &RouteTable,
        previous: &Router,
        retired: &[Arc<Upstream>],
        cores: usize,
    ) -> Result<Self, Error> {
        let mut router = Self { version: table.version, ..Self::default() };
        for route in &table.routes {
            let counters = previous.apps.get(&route.app).cloned();
            let counters = counters.unwrap_or_else(|| Arc::new(AppCounters::new(cores)));
            router.apps.insert(route.app.clone(), Arc::clone(&counters));
            let known = |address: &SocketAddr| {
                let retired = || retired.iter().find(|upstream| upstream.address == *address);
                previous.upstreams.get(address).or_else(retired).cloned()
            };
            let state = router.compile_state(&route.state, known, cores);
            let target = Arc::new(Target {
                app: route.app.clone(),
                process_type: route.process_type.clone(),
                version: table.version,
                counters,
                state,
            });
            let process = (target.app.clone(), target.process_type.clone());
            router.processes.insert(process, Arc::clone(&target));
            for binding in &route.bindings {
                router.add(&binding.domain, &target)?;
            }
        }
        Ok(router)
    }

    fn compile_state(
        &mut self,
        state: &RouteState,
        known: impl Fn(&SocketAddr) -> Option<Arc<Upstream>>,
        cores: usize,
    ) -> TargetState {
        match state {
            RouteState::Live { release, upstreams } => {
                let find = |address: &SocketAddr| {
                    let make = || {
                        known(address).unwrap_or_else(|| Arc::new(Upstream::new(*address, cores)))
                    };
                    Arc::clone(self.upstreams.entry(*address).or_insert_with(make))
                };
                TargetState::Live {
                    release: *release,
                    upstreams: upstreams.iter().map(find).collect(),
                }
            }
            RouteState::Stopped => TargetState::Stopped,
            RouteState::Crashed { .. } => TargetState::Crashed,
            RouteState::Deploying => TargetState::Deploying,
        }
    }

    fn add(&mut self, domain: &Hostname, target: &Arc<Target>) -> Result<(), Error> {
        let name = domain.as_str();
        let replaced = match (name, name.strip_prefix("*.")) {
            ("_", _) => self.catch_all.replace(Arc::clone(target)),
            (_, Some(parent)) => self.wildcard.insert(parent.into(), Arc::clone(target)),
            (_, None) => self.exact.insert(name.into(), Arc::clone(target)),
        };
        match replaced {
            Some(first) if first.app != target.app => Err(Error::DuplicateDomain {
                domain: domain.clone(),
                first: first.app.to_string(),
                second: target.app.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// What has become of `target`, which may be of an earlier table; `None` if its process is no
    /// longer routed to.
    pub(super) fn successor<'t>(&'t self, target: &'t Arc<Target>) -> Option<&'t Arc<Target>> {
        if target.version == self.version {
            return Some(target);
        }
        self.processes.get(&(target.app.clone(), target.process_type.clone()))
    }

    /// The target of a folded host: exact, then the wildcard with the most labels, then the
    /// catch-all.
    pub(super) fn find(&self, host: &str) -> Option<&Arc<Target>> {
        if let Some(target) = self.exact.get(host) {
            return Some(target);
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(target) = self.wildcard.get(parent) {
                    return Some(target);
                }
                rest = parent;
            }
        }
        self.catch_all.as_ref()
    }
}

impl Target {
    /// The page for an app that has no instance to ask.
    pub(super) fn page(&self) -> Option<Page> {
        match &self.state {
            TargetState::Live { upstreams, .. } if !upstreams.is_empty() => None,
            TargetState::Stopped => Some(Page::Stopped),
            TargetState::Deploying => Some(Page::Deploying),
            TargetState::Crashed | TargetState::Live { .. } => Some(Page::Crashed),
        }
    }
}

/// How a request ended, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Status(u16),
    Aborted,
}

/// An app's requests. Each core writes a line of its own, so that cores share none.
#[derive(Debug)]
pub(super) struct AppCounters {
    cores: Box<[CoreCounters]>,
}

/// One core's share: 1xx to 5xx, aborted. Aligned to a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CoreCounters([AtomicU64; 6]);

const ABORTED: usize = 5;

impl AppCounters {
    fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| CoreCounters::default()).collect() }
    }

    /// Counts a request that ended on `core`.
    pub(super) fn count(&self, core: usize, ended: Counted) {
        let class = match ended {
            Counted::Status(status) => usize::from((status / 100).clamp(1, 5)) - 1,
            Counted::Aborted => ABORTED,
        };
        increment(&self.cores[core].0[class]);
    }

    /// The sums.
    pub(super) fn status(&self) -> AppStatus {
        let sum = |class: usize| {
            self.cores.iter().map(|core| core.0[class].load(Ordering::Relaxed)).sum()
        };
        AppStatus {
            informational: sum(0),
            success: sum(1),
            redirect: sum(2),
            client_error: sum(3),
            server_error: sum(4),
            aborted: sum(ABORTED),
        }
    }
}

/// Adds one to a counter that only this thread writes: no locked instruction needed.
pub(super) fn increment(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::Route;
    use super::*;

    fn table(version: u64, routes: &[(&str, &[&str], &[&str])]) -> RouteTable {
        let route = |(app, domains, upstreams): &(&str, &[&str], &[&str])| {
            let state = RouteState::Live {
                release: ReleaseVersion(1),
                upstreams: upstreams.iter().map(|address| address.parse().unwrap()).collect(),
            };
            let domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
            Route::web(app.parse().unwrap(), domains, state)
        };
        RouteTable { version, routes: routes.iter().map(route).collect(), ..RouteTable::default() }
    }

    fn app_of(router: &Router, host: &str) -> Option<String> {
        router.find(host).map(|target| target.app.to_string())
    }

    #[test]
    fn the_most_exact_domain_wins() {
        let table = table(
            1,
            &[
                ("exact", &["a.example.com"], &[]),
                ("deep", &["*.b.example.com"], &[]),
                ("wild", &["*.example.com"], &[]),
                ("rest", &["_"], &[]),
            ],
        );
        let router = Router::compile(&table, &Router::default(), &[], 1).unwrap();
        for (host, app) in [
            ("a.example.com", "exact"),
            ("x.example.com", "wild"),
            ("x.y.example.com", "wild"),
            ("x.b.example.com", "deep"),
            ("example.com", "rest"),
            ("127.0.0.1", "rest"),
            ("", "rest"),
        ] {
            assert_eq!(app_of(&router, host).as_deref(), Some(app), "{host}");
        }
    }

    #[test]
    fn a_host_without_a_route_has_no_target() {
        let table = table(1, &[("shop", &["shop.example.com"], &[])]);
        let router = Router::compile(&table, &Router::default(), &[], 1).unwrap();
        assert_eq!(app_of(&router, "other.example.com"), None);
    }

    #[test]
    fn one_domain_of_two_apps_is_refused_by_name() {
        let table = table(1, &[("a", &["x.example.com"], &[]), ("b", &["x.example.com"], &[])]);
        let error = Router::compile(&table, &Router::default(), &[], 1).unwrap_err();
        assert_eq!(error.to_string(), "domain `x.example.com` is routed to both `a` and `b`");
    }

    #[test]
    fn counters_and_upstreams_outlive_a_switch() {
        let first = table(1, &[("a", &["a.b"], &["10.0.0.1:80", "10.0.0.2:80"])]);
        let first = Router::compile(&first, &Router::default(), &[], 1).unwrap();
        first.apps.values().next().unwrap().count(0, Counted::Status(204));
        let second = table(2, &[("a", &["a.b"], &["10.0.0.2:80"])]);
        let second = Router::compile(&second, &first, &[], 1).unwrap();
        assert_eq!(second.apps.values().next().unwrap().status().success, 1);
        let address = "10.0.0.2:80".parse().unwrap();
        assert!(Arc::ptr_eq(&first.upstreams[&address], &second.upstreams[&address]));
        assert_eq!(second.upstreams.len(), 1);
    }
}
