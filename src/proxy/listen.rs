//! Binding the ports: one listening socket for each core and address.
//!
//! A successor takes its predecessor's sockets over and never closes one while it is wanted: what
//! waits in its queue would be reset.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::domain::Scheme;
use crate::support::report;

use super::{Config, Error, ExtraListener, ListenerName};

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

    /// What a route table asks for beyond it.
    pub(super) fn extra(extra: ExtraListener) -> Self {
        Self {
            name: ListenerName::Port(extra.port),
            scheme: extra.scheme,
            address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, extra.port)),
        }
    }
}

/// Sockets of one address, from a predecessor.
#[derive(Debug)]
pub(super) struct Received {
    /// The address as it was asked for: with port 0, for any.
    pub(super) asked: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

/// The sockets of one listener, at least one for each core.
#[derive(Debug)]
pub(super) struct Bound {
    /// With the real port.
    pub(super) listener: Listener,
    /// The address as it was asked for.
    pub(super) asked: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

impl Bound {
    /// Lets clients in on sockets that are bound only; for the others this changes nothing.
    ///
    /// # Errors
    /// `Listen`.
    pub(super) fn listen(&self) -> Result<(), Error> {
        let address = self.listener.address;
        let mut sockets = self.sockets.iter();
        sockets
            .try_for_each(|socket| socket2::SockRef::from(socket).listen(BACKLOG))
            .map_err(|source| Error::Listen { address, source })
    }
}

/// Binds `listeners` for `cores` cores, with the sockets of a predecessor where it had them. Ports
/// that only a route table asks for are left out if they cannot be had, which is logged: the others
/// must be served all the same.
///
/// # Errors
/// `Listen`, with the first address of the configuration that cannot be bound.
pub(super) fn bind(
    listeners: &[Listener],
    cores: usize,
    mut received: Vec<Received>,
) -> Result<Vec<Bound>, Error> {
    let mut all = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let asked = listener.address;
        let only_v6 = OnlyV6::of(asked, listeners);
        let known = received.iter().position(|received| received.asked == asked);
        let result = match known {
            Some(index) => extend(received.remove(index).sockets, only_v6, cores),
            None => bind_address(asked, only_v6, cores),
        };
        match result.map_err(|source| Error::Listen { address: asked, source }) {
            Ok((address, sockets)) => {
                all.push(Bound { listener: Listener { address, ..*listener }, asked, sockets });
            }
            Err(error) if matches!(listener.name, ListenerName::Port(_)) => {
                tracing::error!(error = report(&error), "leave a port out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Whether a port could be bound, on all addresses.
///
/// # Errors
/// Why not.
pub(super) fn probe(port: u16) -> io::Result<()> {
    bind_address(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), OnlyV6(false), 0).map(|_| ())
}

/// More sockets beside those of a predecessor that had fewer cores. They are bound only, and take
/// no clients until [`Bound::listen`]: an attempt to succeed that is given up must lose none.
fn extend(mut sockets: Vec<TcpListener>, only_v6: OnlyV6, cores: usize) -> io::Result<Sockets> {
    let first = sockets.first().ok_or(io::ErrorKind::NotFound)?;
    let address = first.local_addr()?;
    while sockets.len() < cores {
        sockets.push(bind_shared(address, only_v6)?);
    }
    Ok((address, sockets))
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
        let socket = bind_shared(address, only_v6)?;
        socket2::SockRef::from(&socket).listen(BACKLOG)?;
        // The first socket of port 0 says which port the others share.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

fn bind_shared(address: SocketAddr, only_v6: OnlyV6) -> io::Result<TcpListener> {
    let socket = new_socket(address, only_v6)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit these, which saves calls for each.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    let keepalive = keepalive.with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(TcpListener::from(socket))
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
        let bound = bind(&[http(loopback(0))], 3, Vec::new()).unwrap();
        let address = bound[0].listener.address;
        assert_ne!(address.port(), 0);
        let ports = bound[0].sockets.iter().map(|socket| socket.local_addr().unwrap());
        assert!(ports.into_iter().all(|port| port == address));
    }

    #[test]
    fn a_second_instance_is_refused_the_port_by_name() {
        let first = bind(&[http(loopback(0))], 2, Vec::new()).unwrap();
        let error = bind(&[first[0].listener], 2, Vec::new()).unwrap_err();
        let port = first[0].listener.address.port();
        let Error::Listen { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("listen on 127.0.0.1:{port}"));
    }
    #[test]
    fn the_default_address_takes_ipv4_too_and_both_can_be_bound_apart() {
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        let bound = bind(&[http(any)], 1, Vec::new()).unwrap();
        std::net::TcpStream::connect(loopback(bound[0].listener.address.port())).unwrap();
        let port = bound[0].listener.address.port();
        drop(bound);
        let both =
            [(Ipv4Addr::UNSPECIFIED, port).into(), SocketAddr::new(any.ip(), port)].map(http);
        assert_eq!(bind(&both, 2, Vec::new()).unwrap().len(), 2);
    }

    fn received(bound: Vec<Bound>) -> Vec<Received> {
        let one = |bound: Bound| Received { asked: bound.asked, sockets: bound.sockets };
        bound.into_iter().map(one).collect()
    }

    #[test]
    fn a_successor_keeps_the_sockets_and_adds_what_its_cores_lack() {
        let wanted = [http(loopback(0))];
        let first = bind(&wanted, 2, Vec::new()).unwrap();
        let address = first[0].listener.address;
        let waiting = std::net::TcpStream::connect(address).unwrap();
        let second = bind(&wanted, 4, received(first)).unwrap();
        assert_eq!((second[0].listener.address, second[0].sockets.len()), (address, 4));
        second[0].listen().unwrap();
        // More than are wanted are kept too: clients may wait in each.
        let third = bind(&wanted, 1, received(second)).unwrap();
        assert_eq!((third[0].listener.address, third[0].sockets.len()), (address, 4));
        let peer = waiting.local_addr().unwrap();
        let taken = third[0].sockets.iter().find_map(|socket| socket.accept().ok());
        assert_eq!(taken.unwrap().1, peer);
    }

    #[test]
    fn a_port_of_a_table_that_is_taken_is_left_out() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let first = bind(&[http(any)], 1, Vec::new()).unwrap();
        let port = first[0].listener.address.port();
        assert_eq!(probe(port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let taken = Listener::extra(ExtraListener { port, scheme: Scheme::Http });
        let bound = bind(&[http(loopback(0)), taken], 1, Vec::new()).unwrap();
        assert_eq!(bound.len(), 1);
        drop(first);
        probe(port).unwrap();
    }
}
