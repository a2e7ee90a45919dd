//! Binding the ports: one listening socket for each core and address.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::Error;

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Finds clients that vanished without a word, in tunnels above all: after 60 s of silence a probe
/// every 15 s, gone after 4.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 4;

/// The sockets of one address, one for each core.
#[derive(Debug)]
pub(super) struct Bound {
    /// The address, with its real port.
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<TcpListener>,
}

/// Binds `addresses` for `cores` cores.
///
/// # Errors
/// `Listen`, with the first address that cannot be bound.
pub(super) fn bind(addresses: &[SocketAddr], cores: usize) -> Result<Vec<Bound>, Error> {
    let bind = |address: &SocketAddr| {
        bind_address(*address, OnlyV6::of(*address, addresses), cores)
            .map_err(|source| Error::Listen { address: *address, source })
    };
    addresses.iter().map(bind).collect()
}

/// Whether an IPv6 socket leaves IPv4 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OnlyV6(bool);

impl OnlyV6 {
    /// `[::]` takes IPv4 as well, unless `0.0.0.0` is asked for by itself.
    fn of(address: SocketAddr, all: &[SocketAddr]) -> Self {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        Self(!address.ip().is_unspecified() || all.contains(&v4))
    }
}

fn bind_address(address: SocketAddr, only_v6: OnlyV6, cores: usize) -> io::Result<Bound> {
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

fn bind_sockets(address: SocketAddr, only_v6: OnlyV6, cores: usize) -> io::Result<Bound> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second instance would get half of the first one's connections without
        // a word. A socket without it is refused while anyone listens.
        let probe = new_socket(address, only_v6)?;
        probe.bind(&SockAddr::from(address))?;
    }
    let mut bound = Bound { address, sockets: Vec::with_capacity(cores) };
    for _ in 0..cores {
        let socket = new_socket(bound.address, only_v6)?;
        socket.set_reuse_port(true)?;
        // Accepted connections inherit these, which saves calls for each.
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
        let keepalive = keepalive.with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.bind(&SockAddr::from(bound.address))?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        // The first socket of port 0 says which port the others share.
        bound.address = listener.local_addr()?;
        bound.sockets.push(listener);
    }
    Ok(bound)
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

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn cores_share_the_free_port_that_the_first_got() {
        let bound = bind(&[loopback(0)], 3).unwrap();
        assert_ne!(bound[0].address.port(), 0);
        let ports = bound[0].sockets.iter().map(|socket| socket.local_addr().unwrap());
        assert!(ports.into_iter().all(|address| address == bound[0].address));
    }

    #[test]
    fn a_second_instance_is_refused_the_port_by_name() {
        let first = bind(&[loopback(0)], 2).unwrap();
        let error = bind(&[first[0].address], 2).unwrap_err();
        let port = first[0].address.port();
        let Error::Listen { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("listen on 127.0.0.1:{port}"));
    }
    #[test]
    fn the_default_address_takes_ipv4_too_and_both_can_be_bound_apart() {
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        let bound = bind(&[any], 1).unwrap();
        std::net::TcpStream::connect(loopback(bound[0].address.port())).unwrap();
        let port = bound[0].address.port();
        drop(bound);
        let both = [(Ipv4Addr::UNSPECIFIED, port).into(), SocketAddr::new(any.ip(), port)];
        assert_eq!(bind(&both, 2).unwrap().len(), 2);
    }
}
