//! The route table in the form that requests are looked up in.
//!
//! A request is looked up by the listener it came in at, then by its host (exact, then the wildcard
//! with the most labels, then `_`), then by the longest prefix of its path. The host decides first:
//! a path that no binding of the host has is nobody's.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;

use crate::domain::{AppName, ProcessType, ReleaseVersion};

use super::metrics::{AppCounters, Counters};
use super::page::Page;
use super::page_files::PageFiles;
use super::settings::Settings;
use super::upstream::Upstream;
use super::{Binding, Challenge, Config, Error, ListenerName, Route, RouteState, RouteTable, path};

/// A compiled table; replaced as a whole.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) version: u64,
    /// Which of the routers of this process it is. Versions are the control plane's: one that is
    /// killed while its table is being put in force may give its number to another table.
    serial: u64,
    exact: HashMap<Box<str>, Host, RandomState>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Host, RandomState>,
    catch_all: Host,
    /// Several routes of one process lead to different ports of it.
    processes: HashMap<(AppName, ProcessType), Vec<Arc<Target>>>,
    /// By token: the name in question and the answer.
    http_challenges: HashMap<Box<str>, (Box<str>, Box<str>)>,
    pages: HashMap<Box<str>, Arc<str>>,
    pub(super) apps: BTreeMap<AppName, AppCounters>,
    pub(super) upstreams: HashMap<SocketAddr, Arc<Upstream>>,
}

/// The table in force: a copy for each core, because requests count their references to it, and a
/// counter that two cores write costs each of them more than the lookup.
#[derive(Debug)]
pub(super) struct Routes {
    copies: Box<[ArcSwap<Router>]>,
}

impl Routes {
    pub(super) fn new(router: Router, cores: usize) -> Self {
        let copies = (1..cores).map(|_| ArcSwap::from_pointee(router.copy())).collect::<Vec<_>>();
        let copies = copies.into_iter().chain([ArcSwap::from_pointee(router)]).collect();
        Self { copies }
    }

    /// The table as `core` sees it.
    pub(super) fn of_core(&self, core: usize) -> Guard<Arc<Router>> {
        self.copies[core].load()
    }

    /// The table as the control thread sees it.
    pub(super) fn load(&self) -> Guard<Arc<Router>> {
        self.of_core(0)
    }

    /// The same, to be kept.
    pub(super) fn load_full(&self) -> Arc<Router> {
        self.copies[0].load_full()
    }

    /// Puts `router` in force.
    pub(super) fn store(&self, router: Router) {
        for copy in &self.copies[1..] {
            copy.store(Arc::new(router.copy()));
        }
        self.copies[0].store(Arc::new(router));
    }
}

/// A host's bindings, those with the longest paths first.
#[derive(Debug, Default)]
struct Host {
    bound: Vec<Bound>,
    has_paths: bool,
}

/// A binding of a host.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    listeners: Box<[ListenerName]>,
    /// Without a final slash: `""` for the root.
    prefix: Box<str>,
    strip: bool,
    /// Whether clients can come over TLS.
    pub(super) has_certificate: bool,
    pub(super) target: Arc<Target>,
}

/// Where a request belongs.
#[derive(Debug)]
pub(super) enum Found<'r> {
    /// To nobody.
    Nothing,
    /// Nobody can say: its path means one thing to us and another one to loose readers.
    Ambiguous,
    /// To a binding; with what becomes of the path, if it is not forwarded as it is.
    Bound { bound: &'r Bound, path: Option<NewPath> },
}

/// A path that was normalized, and perhaps stripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewPath {
    /// Path and query.
    pub(super) target: String,
    pub(super) prefix: Option<String>,
}

/// What stands behind a domain.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) app: AppName,
    pub(super) process_type: ProcessType,
    /// The router it was made for.
    serial: u64,
    /// Where it is found, which tells it from others of the same process.
    bindings: Box<[Binding]>,
    pub(super) counters: Arc<Counters>,
    /// The app's name as that of its access log.
    pub(super) log: Arc<str>,
    pub(super) settings: Settings,
    pub(super) load: Arc<Load>,
    pub(super) state: TargetState,
}

/// [`RouteState`] with its upstreams found.
#[derive(Debug, Clone)]
pub(super) enum TargetState {
    Live { release: ReleaseVersion, upstreams: Box<[Arc<Upstream>]> },
    Stopped,
    Crashed,
    Deploying,
}

/// Requests that are open, where they have a limit.
#[derive(Debug, Default)]
pub(super) struct Load {
    open: AtomicU64,
}

/// A place among a target's open requests; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Load>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a table is compiled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) cores: usize,
    pub(super) pages: &'a PageFiles,
    /// The table before: apps keep their counters, upstreams their open requests.
    pub(super) previous: &'a Router,
    /// Upstreams that left an earlier table.
    pub(super) retired: &'a [Arc<Upstream>],
}

impl Router {
    /// Compiles `table`.
    ///
    /// # Errors
    /// `DuplicateDomain`.
    pub(super) fn compile(table: &RouteTable, ground: &Ground<'_>) -> Result<Self, Error> {
        static COMPILED: AtomicU64 = AtomicU64::new(0);
        let serial = COMPILED.fetch_add(1, Ordering::Relaxed) + 1;
        let mut router = Self { version: table.version, serial, ..Self::default() };
        for route in &table.routes {
            let target = Arc::new(router.compile_target(route, serial, ground));
            let process = (target.app.clone(), target.process_type.clone());
            router.processes.entry(process).or_default().push(Arc::clone(&target));
            for binding in &route.bindings {
                router.add(binding, &target)?;
            }
        }
        let hosts = router.exact.values_mut().chain(router.wildcard.values_mut());
        for host in hosts.chain([&mut router.catch_all]) {
            host.bound.sort_by_key(|bound| std::cmp::Reverse(bound.prefix.len()));
            host.has_paths = host.bound.iter().any(|bound| !bound.prefix.is_empty());
        }
        for challenge in &table.challenges {
            if let Challenge::Http01 { domain, token, answer } = challenge {
                let answer = (domain.as_str().into(), answer.as_str().into());
                router.http_challenges.insert(token.as_str().into(), answer);
            }
        }
        Ok(router)
    }

    /// The same with targets of its own; counters, places and upstreams are shared.
    fn copy(&self) -> Self {
        let mut copies: HashMap<*const Target, Arc<Target>> = HashMap::new();
        let mut copy = |target: &Arc<Target>| {
            let own =
                copies.entry(Arc::as_ptr(target)).or_insert_with(|| Arc::new((**target).clone()));
            Arc::clone(own)
        };
        let mut host = |host: &Host| Host {
            bound: host
                .bound
                .iter()
                .map(|bound| Bound { target: copy(&bound.target), ..bound.clone() })
                .collect(),
            has_paths: host.has_paths,
        };
        let mut hosts = |hosts: &HashMap<Box<str>, Host, RandomState>| {
            hosts.iter().map(|(name, found)| (name.clone(), host(found))).collect()
        };
        let (exact, wildcard) = (hosts(&self.exact), hosts(&self.wildcard));
        let catch_all = host(&self.catch_all);
        let processes = self
            .processes
            .iter()
            .map(|(process, targets)| (process.clone(), targets.iter().map(&mut copy).collect()));
        Self {
            version: self.version,
            serial: self.serial,
            exact,
            wildcard,
            catch_all,
            processes: processes.collect(),
            http_challenges: self.http_challenges.clone(),
            pages: self.pages.clone(),
            apps: self.apps.clone(),
            upstreams: self.upstreams.clone(),
        }
    }

    fn compile_target(&mut self, route: &Route, serial: u64, ground: &Ground<'_>) -> Target {
        let Ground { config, cores, pages, previous, retired } = *ground;
        let known = || previous.apps.get(&route.app).cloned().unwrap_or_default();
        let counters = self.apps.entry(route.app.clone()).or_insert_with(known);
        let release = match route.state {
            RouteState::Live { release, .. } => Some(release),
            _ => None,
        };
        let counters = counters.of(&route.app, release, cores);
        let process = (route.app.clone(), route.process_type.clone());
        let load = previous.find_like(&process, &route.bindings);
        let load = load.map(|target| Arc::clone(&target.load));
        let known = |address: &SocketAddr| {
            let retired = || retired.iter().find(|upstream| upstream.address == *address);
            previous.upstreams.get(address).or_else(retired).cloned()
        };
        let state = self.compile_state(&route.state, known, cores);
        let page = |id: &str| {
            let known = self.pages.get(id).or_else(|| previous.pages.get(id)).cloned();
            let page = known.or_else(|| pages.read(id))?;
            self.pages.insert(id.into(), Arc::clone(&page));
            Some(page)
        };
        Target {
            app: process.0,
            process_type: process.1,
            serial,
            bindings: route.bindings.as_slice().into(),
            counters,
            log: route.app.as_str().into(),
            settings: Settings::compile(&route.settings, config, page),
            load: load.unwrap_or_default(),
            state,
        }
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

    fn add(&mut self, binding: &Binding, target: &Arc<Target>) -> Result<(), Error> {
        let name = binding.domain.as_str();
        let host = match (name, name.strip_prefix("*.")) {
            ("_", _) => &mut self.catch_all,
            (_, Some(parent)) => self.wildcard.entry(parent.into()).or_default(),
            (_, None) => self.exact.entry(name.into()).or_default(),
        };
        let prefix = if binding.path.is_root() { "" } else { binding.path.as_str() };
        let same_place = host.bound.iter().filter(|bound| *bound.prefix == *prefix);
        let mut shares_port = same_place
            .filter(|bound| bound.listeners.iter().any(|port| binding.listeners.contains(port)));
        if let Some(first) = shares_port.find(|bound| !Arc::ptr_eq(&bound.target, target)) {
            return Err(Error::DuplicateDomain {
                domain: format!("{}{prefix}", binding.domain),
                first: first.target.name_beside(target),
                second: target.name_beside(&first.target),
            });
        }
        host.bound.push(Bound {
            listeners: binding.listeners.as_slice().into(),
            prefix: prefix.into(),
            strip: binding.strip_path && !prefix.is_empty(),
            has_certificate: binding.certificate.is_some(),
            target: Arc::clone(target),
        });
        Ok(())
    }

    /// What has become of `target`, which may be of an earlier table; `None` if its process is no
    /// longer routed to from there.
    pub(super) fn successor<'t>(&'t self, target: &'t Arc<Target>) -> Option<&'t Arc<Target>> {
        if target.serial == self.serial {
            return Some(target);
        }
        self.find_like(&(target.app.clone(), target.process_type.clone()), &target.bindings)
    }

    /// The route of `process` that is found in one of the places of `bindings`.
    fn find_like(
        &self,
        process: &(AppName, ProcessType),
        bindings: &[Binding],
    ) -> Option<&Arc<Target>> {
        let meets = |one: &Binding, other: &Binding| {
            (&one.domain, &one.path) == (&other.domain, &other.path)
                && one.listeners.iter().any(|listener| other.listeners.contains(listener))
        };
        let is_there = |target: &&Arc<Target>| {
            bindings.iter().any(|one| target.bindings.iter().any(|other| meets(one, other)))
        };
        self.processes.get(process)?.iter().find(is_there)
    }

    /// Where a request for `target`, path and query, of the folded `host` belongs that came in at
    /// `listener`.
    pub(super) fn find(&self, listener: ListenerName, host: &str, target: &str) -> Found<'_> {
        let Some(host) = self.host(listener, host) else { return Found::Nothing };
        if !host.has_paths {
            return match host.bound.iter().find(|bound| bound.is_at(listener)) {
                Some(bound) => Found::Bound { bound, path: None },
                None => Found::Nothing,
            };
        }
        let (asked, query) = path::split(target);
        let normal = path::normalize(asked);
        let bound = host.best(listener, &normal);
        let loose = host.best(listener, &path::loosen(asked));
        match (bound, loose) {
            (Some(bound), Some(loose)) if std::ptr::eq(bound, loose) => {
                Found::Bound { bound, path: bound.new_path(normal, query) }
            }
            (None, None) => Found::Nothing,
            _ => Found::Ambiguous,
        }
    }

    /// Whether clients can come to `host` over TLS.
    pub(super) fn has_certificate(&self, host: &str) -> bool {
        let host = self.host(ListenerName::Https, host);
        host.is_some_and(|host| host.bound.iter().any(|bound| bound.has_certificate))
    }

    /// The answer to a challenge for `host`.
    pub(super) fn http_challenge(&self, host: &str, token: &str) -> Option<&str> {
        let (domain, answer) = self.http_challenges.get(token)?;
        (**domain == *host).then_some(&**answer)
    }

    /// The most exact host with a binding at `listener`.
    fn host(&self, listener: ListenerName, name: &str) -> Option<&Host> {
        let here = |host: &&Host| host.bound.iter().any(|bound| bound.is_at(listener));
        if let Some(host) = self.exact.get(name).filter(here) {
            return Some(host);
        }
        if !self.wildcard.is_empty() {
            let mut rest = name;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(host) = self.wildcard.get(parent).filter(here) {
                    return Some(host);
                }
                rest = parent;
            }
        }
        Some(&self.catch_all).filter(here)
    }
}

impl Host {
    fn best(&self, listener: ListenerName, path: &str) -> Option<&Bound> {
        let fits = |bound: &&Bound| {
            bound.is_at(listener)
                && (bound.prefix.is_empty() || path::is_below(path, &bound.prefix))
        };
        self.bound.iter().find(fits)
    }
}

impl Bound {
    fn is_at(&self, listener: ListenerName) -> bool {
        self.listeners.contains(&listener)
    }

    fn new_path(&self, normal: Cow<'_, str>, query: &str) -> Option<NewPath> {
        if self.strip {
            let path = normal.strip_prefix(&*self.prefix).unwrap_or(&normal);
            let slash = if path.is_empty() { "/" } else { "" };
            let target = format!("{slash}{path}{query}");
            return Some(NewPath { target, prefix: Some(self.prefix.to_string()) });
        }
        match normal {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(NewPath { target: format!("{path}{query}"), prefix: None }),
        }
    }
}

impl Target {
    /// A place for one more open request; `None` if it has no limit.
    ///
    /// # Errors
    /// `Busy`: there is no place.
    pub(super) fn take_place(&self) -> Result<Option<Permit>, Busy> {
        let Some(limit) = self.settings.max_open_requests else { return Ok(None) };
        let open = self.load.open.fetch_add(1, Ordering::Relaxed);
        // Gives the place back if it was one too many.
        let permit = Permit(Arc::clone(&self.load));
        if open < limit { Ok(Some(permit)) } else { Err(Busy) }
    }

    /// A name that tells it from `other`.
    fn name_beside(&self, other: &Self) -> String {
        match self.app == other.app {
            true => format!("{}.{}", self.app, self.process_type),
            false => self.app.to_string(),
        }
    }
}

/// A target has as many requests open as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

impl Target {
    /// Its instances, if it has any.
    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        match &self.state {
            TargetState::Live { upstreams, .. } => upstreams,
            _ => &[],
        }
    }

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

#[cfg(test)]
impl Target {
    /// The route of an app with these instances, and nothing else about it.
    pub(super) fn with_upstreams(upstreams: Vec<Arc<Upstream>>) -> Arc<Self> {
        let upstreams = upstreams.into();
        Arc::new(Self {
            app: "shop".parse().unwrap(),
            process_type: ProcessType::web(),
            serial: 1,
            bindings: Box::default(),
            counters: Arc::new(Counters::new(2)),
            log: "shop".into(),
            settings: Settings::compile(&Default::default(), &Config::default(), |_| None),
            load: Arc::default(),
            state: TargetState::Live { release: ReleaseVersion(1), upstreams },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Route;
    use super::super::metrics::Counted;
    use super::super::record::Protocol;
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

    fn compile_after(table: &RouteTable, previous: &Router) -> Result<Router, Error> {
        let (config, pages) = (&Config::default(), &PageFiles::none());
        Router::compile(table, &Ground { config, cores: 1, pages, previous, retired: &[] })
    }

    fn compile(table: &RouteTable) -> Result<Router, Error> {
        compile_after(table, &Router::default())
    }

    /// App and path as forwarded.
    fn found(router: &Router, at: ListenerName, host: &str, path: &str) -> Option<String> {
        match router.find(at, host, path) {
            Found::Nothing => None,
            Found::Ambiguous => Some("?".into()),
            Found::Bound { bound, path: new } => {
                let forwarded = new.map_or(path.to_owned(), |new| new.target);
                Some(format!("{} {forwarded}", bound.target.app))
            }
        }
    }

    fn ended(status: u16) -> Counted {
        Counted {
            protocol: Protocol::Http11,
            status,
            aborted: false,
            received: 0,
            sent: 0,
            duration: std::time::Duration::ZERO,
        }
    }

    fn app_of(router: &Router, host: &str) -> Option<String> {
        let found = found(router, ListenerName::Http, host, "/")?;
        Some(found.strip_suffix(" /")?.to_owned())
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
        let router = compile(&table).unwrap();
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
        let router = compile(&table).unwrap();
        assert_eq!(app_of(&router, "other.example.com"), None);
    }

    #[test]
    fn one_domain_of_two_apps_is_refused_by_name() {
        let table = table(1, &[("a", &["x.example.com"], &[]), ("b", &["x.example.com"], &[])]);
        let error = compile(&table).unwrap_err();
        assert_eq!(error.to_string(), "domain `x.example.com` is routed to both `a` and `b`");
    }

    #[test]
    fn counters_and_upstreams_outlive_a_switch() {
        let first = table(1, &[("a", &["a.b"], &["10.0.0.1:80", "10.0.0.2:80"])]);
        let first = compile(&first).unwrap();
        let counters = &first.processes.values().next().unwrap()[0].counters;
        counters.count(0, &ended(204));
        let second = table(2, &[("a", &["a.b"], &["10.0.0.2:80"])]);
        let second = compile_after(&second, &first).unwrap();
        let app = "a".parse().unwrap();
        assert_eq!(second.apps[&app].status(&app).success, 1);
        let address = "10.0.0.2:80".parse().unwrap();
        assert!(Arc::ptr_eq(&first.upstreams[&address], &second.upstreams[&address]));
        assert_eq!(second.upstreams.len(), 1);
    }

    /// `app domain path`, with ` strip` to strip it.
    fn paths(bindings: &[&str]) -> RouteTable {
        let route = |text: &&str| {
            let words: Vec<_> = text.split(' ').collect();
            let state = RouteState::Stopped;
            let mut route =
                Route::web(words[0].parse().unwrap(), vec![words[1].parse().unwrap()], state);
            route.bindings[0].path = words[2].parse().unwrap();
            route.bindings[0].strip_path = words.len() > 3;
            route
        };
        let routes = bindings.iter().map(route).collect();
        RouteTable { version: 1, routes, ..RouteTable::default() }
    }

    #[test]
    fn the_longest_prefix_of_the_host_wins() {
        let table = paths(&[
            "root a.b /",
            "api a.b /api",
            "deep a.b /api/deep strip",
            "only c.d /x",
            "any _ /",
        ]);
        let router = compile(&table).unwrap();
        let at = ListenerName::Http;
        for (host, path, expected) in [
            ("a.b", "/", Some("root /")),
            ("a.b", "/apix?y=/api", Some("root /apix?y=/api")),
            ("a.b", "/api?x", Some("api /api?x")),
            ("a.b", "/api/x/", Some("api /api/x/")),
            ("a.b", "/api/deep", Some("deep /")),
            ("a.b", "/api/deep?q=1", Some("deep /?q=1")),
            ("a.b", "/api/deep/x?q", Some("deep /x?q")),
            ("a.b", "*", Some("root *")),
            ("c.d", "/x/y", Some("only /x/y")),
            // The host decides first.
            ("c.d", "/y", None),
            ("e.f", "/y", Some("any /y")),
        ] {
            assert_eq!(found(&router, at, host, path).as_deref(), expected, "{host}{path}");
        }
    }

    #[test]
    fn what_is_matched_is_what_is_forwarded() {
        let router = compile(&paths(&["root a.b /", "admin a.b /admin"])).unwrap();
        for (path, expected) in [
            ("/admin/../x", "root /x"),
            ("/x/../admin", "admin /admin"),
            ("/x/%2e%2E/admin/y?a/../b", "admin /admin/y?a/../b"),
            ("/%61dmin", "admin /admin"),
            ("/./admin", "admin /admin"),
            ("/a//b%2fc", "root /a//b%2fc"),
            ("/admin%2f..%2fx", "root /admin%2f..%2fx"),
            // Two readings, two routes.
            ("//admin", "?"),
            ("/x/..%2fadmin", "?"),
            ("/admin/..%2f..%2fx", "?"),
            ("/x\\..\\admin", "?"),
            ("/admin;x", "?"),
            ("/x/%252e%252e/admin", "?"),
        ] {
            let found = found(&router, ListenerName::Http, "a.b", path);
            assert_eq!(found.as_deref(), Some(expected), "{path}");
        }
        // Nothing to be fooled: the app gets what the client sent.
        let router = compile(&paths(&["root a.b /"])).unwrap();
        for path in ["/a/../b", "//x", "/%2e%2e/x", "/a%2f..%2fb"] {
            let expected = format!("root {path}");
            assert_eq!(found(&router, ListenerName::Http, "a.b", path), Some(expected));
        }
    }

    #[test]
    fn listeners_have_routes_of_their_own() {
        let mut table = paths(&["plain a.b /", "tls a.b /", "wild *.b /"]);
        table.routes[0].bindings[0].listeners = vec![ListenerName::Http];
        table.routes[1].bindings[0].listeners = vec![ListenerName::Https, ListenerName::Port(9)];
        let router = compile(&table).unwrap();
        let found = |at| found(&router, at, "a.b", "/");
        assert_eq!(found(ListenerName::Http).as_deref(), Some("plain /"));
        assert_eq!(found(ListenerName::Https).as_deref(), Some("tls /"));
        assert_eq!(found(ListenerName::Port(9)).as_deref(), Some("tls /"));
        assert_eq!(found(ListenerName::Port(8)), None);
    }

    #[test]
    fn one_path_of_two_routes_is_refused_by_name() {
        let mut table = paths(&["a x.y /p", "b x.y /p"]);
        let error = compile(&table).unwrap_err();
        assert_eq!(error.to_string(), "domain `x.y/p` is routed to both `a` and `b`");
        table.routes[1].app = "a".parse().unwrap();
        table.routes[1].process_type = "api".parse().unwrap();
        let error = compile(&table).unwrap_err();
        assert_eq!(error.to_string(), "domain `x.y/p` is routed to both `a.web` and `a.api`");
        table.routes[1].bindings[0].listeners = vec![ListenerName::Port(1)];
        compile(&table).unwrap();
    }

    #[test]
    fn a_route_is_followed_into_the_next_table_by_where_it_is_found() {
        let mut table = paths(&["a x.y /", "a x.y /"]);
        table.routes[0].bindings[0].listeners = vec![ListenerName::Http];
        table.routes[1].bindings[0].listeners = vec![ListenerName::Port(9)];
        let first = compile(&table).unwrap();
        table.version = 2;
        table.routes.reverse();
        let second = compile_after(&table, &first).unwrap();
        for target in first.processes.values().flatten() {
            let next = second.successor(target).unwrap();
            assert_eq!(next.bindings, target.bindings);
        }
        table.version = 3;
        table.routes.truncate(1);
        let third = compile_after(&table, &second).unwrap();
        let gone: Vec<_> =
            first.processes.values().flatten().filter(|t| third.successor(t).is_none()).collect();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].bindings[0].listeners, [ListenerName::Http]);
    }

    #[test]
    fn a_route_is_followed_into_another_table_of_the_same_version() {
        let first = compile(&table(7, &[("a", &["x.y"], &["10.0.0.1:80"])])).unwrap();
        let second = table(7, &[("a", &["x.y"], &["10.0.0.2:80"])]);
        let second = compile_after(&second, &first).unwrap();
        let target = &first.processes.values().next().unwrap()[0];
        let TargetState::Live { upstreams, .. } = &second.successor(target).unwrap().state else {
            panic!("not live");
        };
        assert_eq!(upstreams[0].address, "10.0.0.2:80".parse().unwrap());
    }

    #[test]
    fn places_are_given_back_and_outlive_a_switch() {
        let mut table = paths(&["a x.y /"]);
        table.routes[0].settings.max_open_requests = Some(2);
        let first = compile(&table).unwrap();
        table.version = 2;
        let second = compile_after(&table, &first).unwrap();
        let target = |router: &Router| Arc::clone(&router.processes.values().next().unwrap()[0]);
        let (first, second) = (target(&first), target(&second));
        let one = first.take_place().unwrap();
        let two = second.take_place().unwrap();
        assert_eq!(second.take_place().unwrap_err(), Busy);
        assert_eq!(first.take_place().unwrap_err(), Busy);
        drop(one);
        let three = second.take_place().unwrap();
        assert!(two.is_some() && three.is_some());
        second.take_place().unwrap_err();
    }
}
