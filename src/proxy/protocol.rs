//! What is said over `proxy-<pid>.sock`: newline-delimited JSON, one message a line.
//!
//! The proxy greets with [`Hello`]; then every [`Request`] of the control plane is answered by one
//! [`Reply`] with the same id, in any order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, Millis};

use super::metrics::{CountedRelease, ReleaseMetrics};
use super::routes::{ExtraListener, RouteTable};

/// Raised when either side would misread the other.
pub(super) const PROTOCOL: u32 = 2;

/// The longest message. A route takes about 200 bytes: room for 80,000 apps.
pub(super) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The name in the run directory of the file that holds [`ListenerFile`].
pub(super) const LISTENER_FILE_NAME: &str = "proxy.json";

/// The proxy's first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    pub(super) software: String,
    pub(super) pid: u32,
    /// Version of the route table in force.
    pub(super) routes: u64,
    /// What it was started with, for comparison.
    #[serde(default)]
    pub(super) fingerprint: String,
    /// Whether a successor has taken over.
    #[serde(default)]
    pub(super) retiring: bool,
    /// Where it listens, or did.
    #[serde(default)]
    pub(super) listening: ListenerFile,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) command: Command,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    /// Put a table in force.
    Routes(RouteTable),
    /// Answer when none of the upstreams has an open request, or at the deadline.
    Drain { upstreams: Vec<SocketAddr>, deadline_ms: Millis },
    /// Tell the counters.
    Status {},
    /// Tell all counters, those of each release too.
    Metrics {},
    /// End the process, giving requests in flight until the deadline.
    Stop { deadline_ms: Millis },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) answer: Answer,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The table is in force on every core, and on disk.
    Routed {
        version: u64,
    },
    Drained(Drained),
    Status(Status),
    Metrics(Metrics),
    Stopping {},
    Error {
        message: String,
    },
}

/// The end of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Requests (upgraded connections too) that were still open at the deadline, by upstream.
    /// Empty: all ended.
    pub open: BTreeMap<SocketAddr, u64>,
}

impl Drained {
    /// Adds what is open in another process.
    pub(super) fn add(&mut self, other: Self) {
        for (address, open) in other.open {
            *self.open.entry(address).or_default() += open;
        }
    }
}

/// Counters since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Version of the route table in force.
    pub routes: u64,
    /// Client connections now.
    pub connections: u64,
    /// By app; only apps that have a route.
    pub apps: BTreeMap<AppName, AppStatus>,
    /// Requests for hosts that no app has.
    pub unknown_host: u64,
    /// Requests refused for their form.
    pub bad_request: u64,
    /// By upstream address; only upstreams with a route or open requests.
    pub upstreams: BTreeMap<SocketAddr, UpstreamStatus>,
    /// Access log lines lost because the disk was too slow.
    pub access_log_dropped: u64,
    /// Times that an instance was left alone for its failures.
    #[serde(default)]
    pub ejections: u64,
    /// The processes that serve clients: the one that takes new ones, and those it succeeded. Empty
    /// where one process speaks for itself.
    #[serde(default)]
    pub generations: Vec<Generation>,
}

/// Everything that is counted, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Version of the route table in force.
    pub routes: u64,
    /// Client connections now.
    pub connections: u64,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: u64,
    /// TLS handshakes that failed.
    pub tls_failures: u64,
    /// Requests for hosts that no app has.
    pub unknown_host: u64,
    /// Requests refused for their form.
    pub bad_request: u64,
    /// Times that an instance was left alone for its failures.
    pub ejections: u64,
    /// Access log lines lost because the disk was too slow.
    pub access_log_dropped: u64,
    /// What clients were told instead of an app's answer, by its code.
    pub errors: BTreeMap<String, u64>,
    /// By app and release; only apps that have a route.
    pub releases: Vec<ReleaseMetrics>,
}

/// Releases of one app whose requests are kept apart after their process has ended.
const MAX_SETTLED: usize = 16;

impl Metrics {
    /// Adds what another process counts, and has open.
    pub fn add(&mut self, other: &Self) {
        self.routes = self.routes.max(other.routes);
        for (sum, count) in [
            (&mut self.connections, other.connections),
            (&mut self.tls_handshakes, other.tls_handshakes),
            (&mut self.tls_failures, other.tls_failures),
            (&mut self.unknown_host, other.unknown_host),
            (&mut self.bad_request, other.bad_request),
            (&mut self.ejections, other.ejections),
            (&mut self.access_log_dropped, other.access_log_dropped),
        ] {
            *sum += count;
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for release in &other.releases {
            let same = |one: &&mut ReleaseMetrics| {
                one.app == release.app && one.release == release.release
            };
            match self.releases.iter_mut().find(same) {
                Some(sums) => sums.add(release),
                None => self.releases.push(release.clone()),
            }
        }
    }

    /// Adds what a process had counted that has ended: nothing of it is open any more.
    pub fn settle(&mut self, mut ended: Self) {
        (ended.routes, ended.connections) = (0, 0);
        ended.releases.iter_mut().for_each(|release| release.open = 0);
        self.add(&ended);
    }

    /// Forgets apps that are not `known`, and counts the oldest of very many releases together.
    pub fn tidy(&mut self, known: impl Fn(&AppName) -> bool) {
        self.releases.retain(|release| known(&release.app));
        let mut by_app: BTreeMap<AppName, Vec<ReleaseMetrics>> = BTreeMap::new();
        for release in self.releases.drain(..) {
            by_app.entry(release.app.clone()).or_default().push(release);
        }
        for mut releases in by_app.into_values() {
            releases.sort_by_key(|release| release.release);
            while releases.len() > MAX_SETTLED {
                let mut second = releases.remove(1);
                second.release = CountedRelease::Older;
                match releases[0].release {
                    CountedRelease::Older => releases[0].add(&second),
                    _ => releases.insert(0, second),
                }
            }
            self.releases.extend(releases);
        }
    }
}

/// One process of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The process.
    pub pid: u32,
    /// The version of Staithe that it runs.
    pub software: String,
    /// Whether a successor has taken over: it serves what is open and takes nothing new.
    pub retiring: bool,
    /// Version of its route table.
    pub routes: u64,
    /// Its client connections.
    pub connections: u64,
}

impl Status {
    /// Adds what an earlier generation, which still serves, has counted.
    pub(super) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.unknown_host += other.unknown_host;
        self.bad_request += other.bad_request;
        self.access_log_dropped += other.access_log_dropped;
        self.ejections += other.ejections;
        for (app, counts) in other.apps {
            self.apps.entry(app).or_default().add(&counts);
        }
        for (address, upstream) in other.upstreams {
            self.upstreams.entry(address).or_default().open += upstream.open;
        }
    }
}

/// An app's requests by the class of their status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// 101: became tunnels.
    pub informational: u64,
    /// 200 to 299.
    pub success: u64,
    /// 300 to 399.
    pub redirect: u64,
    /// 400 to 499.
    pub client_error: u64,
    /// 500 and above.
    pub server_error: u64,
    /// Cut off before the answer was whole, by either side.
    pub aborted: u64,
}

impl AppStatus {
    fn add(&mut self, other: &Self) {
        self.informational += other.informational;
        self.success += other.success;
        self.redirect += other.redirect;
        self.client_error += other.client_error;
        self.server_error += other.server_error;
        self.aborted += other.aborted;
    }
}

/// An upstream's load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Requests now.
    pub open: u64,
    /// It is left alone for now, because it failed several times in a row.
    #[serde(default)]
    pub ejected: bool,
}

/// `proxy.json` in the run directory: the process and where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerFile {
    /// The process.
    pub pid: u32,
    /// The addresses of `http_listen`, in its order, with real ports.
    pub listen: Vec<SocketAddr>,
    /// Those of `https_listen`.
    #[serde(default)]
    pub https: Vec<SocketAddr>,
    /// The ports of the route table that could be bound.
    #[serde(default)]
    pub ports: Vec<ExtraListener>,
}
