//! Listening, and the limits on connections.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::{Disconnect, MethodKind, MethodSet, SshId};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Shared, Status};
use super::gate::GatedStream;
use super::host_keys::{self, HostKeyError};
use super::{Access, Commands, Config};
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::{backoff::Backoff, tasks};
use crate::sys::session::peer_has_closed;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// The window of a channel: what a client may send before it hears from us. At 50 ms to the client
/// this is 40 MB/s.
const WINDOW: u32 = 2 << 20;
/// The largest packet; RFC 4253 §6.1 obliges to 32768, and OpenSSH sends no larger ones.
const PACKET: u32 = 32 * 1024;
/// How often a connection is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How long a connection may take to say good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// Silence after which the kernel asks whether a peer is still there, and between its questions.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message names")]
pub enum Error {
    /// The address cannot be bound.
    #[error("listen for SSH on `{address}`")]
    Listen { address: SocketAddr, source: io::Error },
    /// See there.
    #[error("the SSH server has no host keys")]
    HostKeys(#[source] HostKeyError),
}

/// The built-in SSH server, listening; [`Server::run`] serves.
#[derive(Debug)]
pub struct Server<A, C> {
    listeners: Vec<TcpListener>,
    protocol: Arc<russh::server::Config>,
    shared: Arc<Shared<A, C>>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl<A: Access, C: Commands> Server<A, C> {
    /// Loads or makes the host keys in `keys` and binds the addresses. Needs a runtime.
    ///
    /// # Errors
    /// The keys cannot be had, or an address cannot be bound.
    pub fn bind(config: Config, keys: &Path, access: A, commands: C) -> Result<Self, Error> {
        let protocol = protocol(&config, host_keys::load_or_create(keys).map_err(Error::HostKeys)?);
        let bind = |address: &SocketAddr| {
            listen(*address).map_err(|source| Error::Listen { address: *address, source })
        };
        let listeners = config.listen.iter().map(bind).collect::<Result<_, _>>()?;
        let shared = Shared { config, access, commands, jobs: TaskTracker::new() };
        Ok(Self {
            listeners,
            protocol: Arc::new(protocol),
            shared: Arc::new(shared),
            addresses: Arc::default(),
        })
    }

    /// Where it listens.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until the shutdown is draining, when no new connection is taken, and then until it
    /// is stopping, when those that are left are closed and their children hung up on.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { listeners, protocol, shared, addresses } = self;
        let connections = TaskTracker::new();
        let acceptor = Acceptor { protocol, shared, addresses, connections: connections.clone() };
        let accepting = listeners.into_iter().map(|listener| {
            let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
            tasks::spawn("ssh/listener", acceptor.accept(listener, shutdown))
        });
        for listener in accepting.collect::<Vec<_>>() {
            // A panic was reported by the panic hook; the others go on.
            let _ = listener.await;
        }
        let jobs = acceptor.shared.jobs.clone();
        connections.close();
        connections.wait().await;
        jobs.close();
        jobs.wait().await;
    }
}

fn protocol(config: &Config, keys: Vec<russh::keys::PrivateKey>) -> russh::server::Config {
    russh::server::Config {
        server_id: SshId::Standard("SSH-2.0-Staithe".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Whether a key is known is no secret: the protocol tells it before any proof. A client
        // with many keys in its agent should not wait for each.
        auth_rejection_time: Duration::from_millis(20),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        max_auth_attempts: config.max_auth_attempts,
        // Only for the version line; see `Acceptor::watch` for all that follows.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(config.keepalive_secs.max(1))),
        // Answers do not arrive while the gate is closed, so they must not be counted. The kernel
        // finds out about peers that are gone.
        keepalive_max: 0,
        nodelay: true,
        ..russh::server::Config::default()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        // `[::]` takes IPv4 as well, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

struct Acceptor<A, C> {
    protocol: Arc<russh::server::Config>,
    shared: Arc<Shared<A, C>>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    connections: TaskTracker,
}

impl<A, C> Clone for Acceptor<A, C> {
    fn clone(&self) -> Self {
        Self {
            protocol: Arc::clone(&self.protocol),
            shared: Arc::clone(&self.shared),
            addresses: Arc::clone(&self.addresses),
            connections: self.connections.clone(),
        }
    }
}

impl<A: Access, C: Commands> Acceptor<A, C> {
    async fn accept(self, listener: TcpListener, mut shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut draining = shutdown.clone();
        loop {
            // Both arms are cancel-safe: an accepted connection is returned.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = draining.reached(Phase::Draining) => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    backoff.reset();
                    self.take(stream, address, &shutdown);
                }
                Err(error) => {
                    // Out of file descriptors, most likely; it passes.
                    tracing::warn!(%error, "cannot accept an SSH connection");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        drop(listener);
        shutdown.reached(Phase::Draining).await;
    }

    fn take(&self, stream: TcpStream, address: SocketAddr, shutdown: &Shutdown) {
        let Some(place) = self.place(address.ip()) else {
            // Dropped without a word: an answer costs more than the attack.
            tracing::warn!(peer.address = %address, "too many SSH connections, one was closed");
            return;
        };
        let (acceptor, shutdown) = (self.clone(), shutdown.clone());
        let serve = async move {
            let _place = place;
            acceptor.serve(stream, address, shutdown).await;
        };
        // Owned by the tracker, which `Server::run` waits for.
        drop(tasks::spawn("ssh/connection", self.connections.track_future(serve)));
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let config = &self.shared.config;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let here = addresses.get(&network).copied().unwrap_or(0);
        let all: usize = addresses.values().sum();
        if here >= config.max_connections_per_address || all >= config.max_connections {
            return None;
        }
        addresses.insert(network, here + 1);
        Some(Place { addresses: Arc::clone(&self.addresses), network })
    }

    async fn serve(self, stream: TcpStream, address: SocketAddr, shutdown: Shutdown) {
        let status = Arc::new(Status::default());
        let socket = match prepare(&stream) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, peer.address = %address, "the peer left at once");
                return;
            }
        };
        let connection =
            Connection::new(Arc::clone(&self.shared), Arc::clone(&status), address.ip());
        let stream = GatedStream { stream, gate: Arc::clone(&status.gate) };
        let grace = Duration::from_secs(self.shared.config.login_grace_secs);
        let started = russh::server::run_stream(Arc::clone(&self.protocol), stream, connection);
        let ended = match timeout(grace, started).await {
            Ok(Ok(session)) => self.watch(session, &status, &socket, shutdown).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(russh::Error::ConnectionTimeout),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, peer.address = %address, "an SSH connection failed");
        }
    }

    /// Waits for the end of a session, and ends one that has no reason to go on.
    async fn watch(
        &self,
        session: russh::server::RunningSession<Connection<A, C>>,
        status: &Status,
        socket: &OwnedFd,
        mut shutdown: Shutdown,
    ) -> Result<(), russh::Error> {
        let handle = session.handle();
        let mut session = std::pin::pin!(session);
        let config = &self.shared.config;
        let login_deadline = Instant::now() + Duration::from_secs(config.login_grace_secs);
        let idle_limit = Duration::from_secs(config.idle_timeout_secs);
        let mut busy_until = Instant::now();
        let mut ticks = interval(WATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reason = loop {
            // Cancel-safe: the session runs in a task of its own, the others only wait.
            tokio::select! {
                ended = &mut session => return ended,
                () = shutdown.reached(Phase::Stopping) => break "the server is stopping",
                _ = ticks.tick() => {}
            }
            if !status.gate.is_open() && peer_has_closed(socket.as_fd()).unwrap_or(true) {
                status.gate.abandon();
            }
            if status.open_channels.load(Ordering::Acquire) > 0 {
                busy_until = Instant::now();
            }
            if !status.authenticated.load(Ordering::Acquire) {
                if Instant::now() > login_deadline {
                    break "no login in time";
                }
            } else if busy_until.elapsed() > idle_limit {
                break "no session for a while";
            }
        };
        let good_bye = async {
            let text = reason.to_owned();
            let said = handle.disconnect(Disconnect::ByApplication, text, String::new()).await;
            match said {
                Ok(()) => (&mut session).await,
                Err(error) => Err(error),
            }
        };
        let polite = timeout(GOOD_BYE, good_bye).await;
        // Whatever the peer does or does not do, this ends the session, and with it its children.
        status.gate.abandon();
        let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
        match polite {
            Ok(ended) => ended,
            Err(_) => timeout(GOOD_BYE, session).await.unwrap_or(Ok(())),
        }
    }
}

/// Sets the socket's options, and keeps a second descriptor to watch and to end it.
fn prepare(stream: &TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.as_fd().try_clone_to_owned()
}

/// What one customer of a provider has: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << 64;
            IpAddr::V6((address.to_bits() & mask).into())
        }
        address => address,
    }
}

/// A connection's place among those allowed.
struct Place {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    network: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        match addresses.get_mut(&self.network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = addresses.remove(&self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_by_its_network() {
        let check = |address: &str, expected: &str| {
            assert_eq!(network(address.parse().unwrap()).to_string(), expected);
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
