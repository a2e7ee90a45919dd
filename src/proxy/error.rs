//! What can go wrong outside of a request.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An operation of the proxy, or of its control, that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file of the proxy could not be made ready.
    #[error("prepare `{}`", path.display())]
    Prepare {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port could not be bound.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The process could not become its own user.
    #[error("become user {uid}, group {gid}")]
    BecomeUser {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime could not be started.
    #[error("start {what}")]
    Start {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The listening sockets could not be taken over from the process that runs.
    #[error("take over from proxy {pid}")]
    HandOver {
        /// That process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// A port that a route table asks for cannot be had; the table before stays in force.
    #[error(
        "port {port} cannot be opened: choose another, or end what holds it (`ss -ltnp 'sport = \
         :{port}'` shows it)"
    )]
    Port {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A core ended by itself; the process cannot go on without its listeners.
    #[error("a core of the proxy ended")]
    CoreEnded,
    /// The control plane cannot reach the process any more.
    #[error("the control socket of the proxy is served no more")]
    SeamEnded,
    /// Two routes claim one domain and path.
    #[error("domain `{domain}` is routed to both `{first}` and `{second}`")]
    DuplicateDomain {
        /// The domain and the path below it.
        domain: String,
        /// The app, or process of it, that has it.
        first: String,
        /// The one that wants it as well.
        second: String,
    },
    /// A table older than the one in force was offered.
    #[error("route table {offered} is older than table {current}, which is in force")]
    StaleRoutes {
        /// Version offered.
        offered: u64,
        /// Version in force.
        current: u64,
    },
    /// The route table could not be kept on disk; it is not in force then.
    #[error("write the route table")]
    PersistRoutes {
        /// Why.
        source: io::Error,
    },
    /// The route table on disk is not one.
    #[error("read the route table `{}`", path.display())]
    ReadRoutes {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No proxy answers on the socket.
    #[error("connect to the proxy at `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The proxy speaks another protocol than this control plane.
    #[error("proxy {pid} speaks protocol {theirs}, this control plane {ours}")]
    Protocol {
        /// The process.
        pid: u32,
        /// The proxy's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The connection to the proxy ended before it answered.
    #[error("the proxy ended before it answered")]
    Gone,
    /// The proxy refused a request of the control plane.
    #[error("the proxy refused: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The proxy did not answer in time.
    #[error("the proxy did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },
    /// The proxy could not be started.
    #[error("start the proxy `{}`", program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The proxy ended while it was being started.
    #[error("the proxy ended at its start ({status}): {log}")]
    EndedAtStart {
        /// Exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
}
