//! Binding the ports: one listening socket for each core and address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::domain::Scheme;

use super::{Config, Error, ListenerName};

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Finds clients that vanished without a word, in tunnels above all: after 60 s of silence a probe
/// every 15 s, gone after 4.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 4;

/// An address on which clients are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    /// What bindings call it.
    pub(super) name: ListenerName,
    /// What is spoken on it.
    pub(super) scheme: Scheme,
    /// Where it is; once it is bound, with its real port.
    pub(super) address: SocketAddr,
}

impl Listener {
    /// What the configuration asks for.
    pub(super) fn of_config(config: &Config) -> Vec<Self> {
        let named =
            |name, scheme| move |address: &SocketAddr| Self { name, scheme, address: *address };
        let http = config.http_listen.iter().map(named(ListenerName::Http, Scheme::Http));
        let https = config.https_listen.iter().map(named(ListenerName::Https, Scheme::Https));
        http.chain(https).collect()
    }
}

/// The sockets of one listener, one for each core.
#[derive(Debug)]
pub(super) struct Bound {
    /// With the real port.
    pub(super) listener: Listener,
    pub(super) sockets: Vec<TcpListener>,
}

/// Binds `listeners` for `cores` cores.
///
/// # Errors
/// `Listen`, with the first address that cannot be bound.
pub(super) fn bind(listeners: &[Listener], cores: usize) -> Result<Vec<Bound>, Error> {
    let bind = |listener: &Listener| {
        let address = listener.address;
        let (address, sockets) = bind_address(address, OnlyV6::of(address, listeners), cores)
            .map_err(|source| Error::Listen { address, source })?;
        Ok(Bound { listener: Listener { address, ..*listener }, sockets })
    };
    listeners.iter().map(bind).collect()
}

/// Whether an IPv6 socket leaves IPv4 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OnlyV6(bool);

impl OnlyV6 {
    /// `[::]` takes IPv4 as well, unless `0.0.0.0` is asked for by itself.
    fn of(address: SocketAddr, all: &[Listener]) -> Self {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        Self(!address.ip().is_unspecified() || all.iter().any(|other| other.address == v4))
    }
}

/// The address with its real port, and the sockets.
type Sockets = (SocketAddr, Vec<TcpListener>);

fn bind_address(address: SocketAddr, only_v6: OnlyV6, cores: usize) -> io::Result<Sockets> {
    match bind_sockets(address, only_v6, cores) {
        // A kernel without IPv6: everything there is, is IPv4.
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && !matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                ) =>
        {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            bind_sockets(v4, only_v6, cores)
        }
        result => result,
    }
}

fn bind_sockets(mut address: SocketAddr, only_v6: OnlyV6, cores: usize) -> io::Result<Sockets> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second instance would get half of the first one's connections without
        // a word. A socket without it is refused while anyone listens.
        let probe = new_socket(address, only_v6)?;
        probe.bind(&SockAddr::from(address))?;
    }
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = new_socket(address, only_v6)?;
        socket.set_reuse_port(true)?;
        // Accepted connections inherit these, which saves calls for each.
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
        let keepalive = keepalive.with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        // The first socket of port 0 says which port the others share.
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok((address, sockets))
}

fn new_socket(address: SocketAddr, only_v6: OnlyV6) -> io::Result<Socket> {
    // Close-on-exec is socket2's default.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a predecessor may be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6.0)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(address: SocketAddr) -> Listener {
        Listener { name: ListenerName::Http, scheme: Scheme::Http, address }
    }

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn cores_share_the_free_port_that_the_first_got() {
        let bound = bind(&[http(loopback(0))], 3).unwrap();
        let address = bound[0].listener.address;
        assert_ne!(address.port(), 0);
        let ports = bound[0].sockets.iter().map(|socket| socket.local_addr().unwrap());
        assert!(ports.into_iter().all(|port| port == address));
    }

    #[test]
    fn a_second_instance_is_refused_the_port_by_name() {
        let first = bind(&[http(loopback(0))], 2).unwrap();
        let error = bind(&[first[0].listener], 2).unwrap_err();
        let port = first[0].listener.address.port();
        let Error::Listen { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("listen on 127.0.0.1:{port}"));
    }
    #[test]
    fn the_default_address_takes_ipv4_too_and_both_can_be_bound_apart() {
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        let bound = bind(&[http(any)], 1).unwrap();
        std::net::TcpStream::connect(loopback(bound[0].listener.address.port())).unwrap();
        let port = bound[0].listener.address.port();
        drop(bound);
        let both =
            [(Ipv4Addr::UNSPECIFIED, port).into(), SocketAddr::new(any.ip(), port)].map(http);
        assert_eq!(bind(&both, 2).unwrap().len(), 2);
    }
}
