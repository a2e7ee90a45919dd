//! The control plane's side: talks to the proxy, starts it, keeps it running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Drained, Error, ListenerFile, RouteTable, Status};

/// A connection to a running proxy. Cheap to clone; requests may overlap.
#[derive(Debug, Clone)]
pub struct ProxyHandle {}

impl ProxyHandle {
    /// Connects to the proxy that listens in `run_dir`.
    ///
    /// # Errors
    /// `Connect` if none answers, `Protocol` if it is of another make.
    pub async fn connect(run_dir: &Path) -> Result<Self, Error> {
        let _ = run_dir;
        unimplemented!()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        unimplemented!()
    }

    /// Version of the route table that was in force at the connect; the next must be higher.
    pub fn routes_version(&self) -> u64 {
        unimplemented!()
    }

    /// Puts `table` in force: on disk, and seen by every request that begins after this returns.
    ///
    /// # Errors
    /// `Refused` if it is stale or contradicts itself; the old table stays.
    pub async fn set_routes(&self, table: &RouteTable) -> Result<(), Error> {
        let _ = table;
        unimplemented!()
    }

    /// Waits until none of `upstreams` has an open request, at most until `deadline`. Take them out
    /// of the table first.
    ///
    /// # Errors
    /// `Gone` if the proxy died, and all its requests with it.
    pub async fn drain(
        &self,
        upstreams: &[SocketAddr],
        deadline: Duration,
    ) -> Result<Drained, Error> {
        let _ = (upstreams, deadline);
        unimplemented!()
    }

    /// The counters.
    ///
    /// # Errors
    /// `Gone`, `Timeout`.
    pub async fn status(&self) -> Result<Status, Error> {
        unimplemented!()
    }

    /// Ends the process: no new connections, requests in flight until `deadline`; returns when it
    /// is gone.
    ///
    /// # Errors
    /// `Timeout` if it outlives the deadline by more than a few seconds.
    pub async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        let _ = deadline;
        unimplemented!()
    }

    /// Returns when the proxy is gone. Cancel-safe.
    pub async fn closed(&self) {
        unimplemented!()
    }
}

/// What the supervisor starts.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// The `staithe` executable, run as `<program> proxy --run-dir … --data-dir … --config <json>`.
    pub program: PathBuf,
    /// Holds `proxy.sock` and `proxy.json`.
    pub run_dir: PathBuf,
    /// `proxy/` in it holds the routes and logs.
    pub data_dir: PathBuf,
    /// The settings.
    pub config: Config,
}

/// Keeps a proxy running. Cheap to clone. Dropping all clones ends the supervision, not the proxy.
#[derive(Debug, Clone)]
pub struct Supervisor {}

impl Supervisor {
    /// Adopts the proxy that runs in `spec.run_dir`, or starts one; from then on starts another
    /// whenever it dies, with the routes it had. Returns when it answers.
    ///
    /// # Errors
    /// What kept it from starting, with the words of its log (a port that is taken).
    pub async fn ensure_running(spec: SupervisorSpec) -> Result<Self, Error> {
        let _ = spec;
        unimplemented!()
    }

    /// The proxy now; waits for one that is being started, up to 10 s.
    ///
    /// # Errors
    /// `Timeout`, when no proxy comes up.
    pub async fn handle(&self) -> Result<ProxyHandle, Error> {
        unimplemented!()
    }

    /// [`ProxyHandle::set_routes`] on the proxy now, and on every later one.
    ///
    /// # Errors
    /// As there; if the proxy dies meanwhile its successor is asked.
    pub async fn set_routes(&self, table: &RouteTable) -> Result<(), Error> {
        let _ = table;
        unimplemented!()
    }

    /// [`ProxyHandle::drain`]; a proxy that dies has nothing open.
    ///
    /// # Errors
    /// As there.
    pub async fn drain(
        &self,
        upstreams: &[SocketAddr],
        deadline: Duration,
    ) -> Result<Drained, Error> {
        let _ = (upstreams, deadline);
        unimplemented!()
    }

    /// Where the proxy listens.
    ///
    /// # Errors
    /// If `proxy.json` cannot be read.
    pub fn listening(&self) -> Result<ListenerFile, Error> {
        unimplemented!()
    }

    /// Ends supervision and the proxy, and removes its socket.
    ///
    /// # Errors
    /// As [`ProxyHandle::stop`].
    pub async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        let _ = deadline;
        unimplemented!()
    }
}
