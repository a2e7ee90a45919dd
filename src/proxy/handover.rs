//! How a successor takes the listening sockets over, while clients wait in their queues.
//!
//! ```text
//!   successor (still root)                  predecessor
//!     │ ── {"versions":[1]} ───────────────► │
//!     │ ◄── {"asked":"[::]:80"} + sockets ── │   one packet for 8 sockets at most
//!     │ ◄── {"end":true} ─────────────────── │
//!   binds what is new, drops its privileges, loads the table, accepts
//!     │ ── {"take_over":{"drain_ms":…}} ───► │   stops accepting; retires
//!     │ ◄── {"retired":true} ─────────────── │
//! ```
//!
//! **Invariants.** Until the last step the predecessor serves as if nothing had happened, and a
//! successor that ends is forgotten. The exchange has versions of its own, apart from the control
//! plane's protocol, and packets may only gain fields: any two releases of Staithe from the first
//! that speaks it can replace each other.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::domain::Millis;
use crate::support::report;
use crate::sys::handover::{MAX_DESCRIPTORS, peer_user, receive, send};

use super::listen::{Bound, Received};
use super::{Error, places};

/// Versions of the exchange that are spoken here.
const VERSIONS: &[u32] = &[1];

/// For an answer of the other side, which is waiting for nothing.
const PROMPT: Duration = Duration::from_secs(5);

/// For a successor between the sockets and its first accept; its supervisor gives it up after 10 s.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// Successors that may wait while one is served. There is one supervisor, and it starts one.
const BACKLOG: i32 = 4;

/// How long accepting rests when it fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// More sockets than any machine has cores and ports for.
const MAX_SOCKETS: usize = 8192;

/// What a successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    Versions(Vec<u32>),
    TakeOver { drain_ms: Millis },
}

/// What a predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tell {
    /// The packet carries sockets of this address.
    Asked(SocketAddr),
    End(bool),
    Retired(bool),
}

/// The successor's end.
#[derive(Debug)]
pub(super) struct Predecessor {
    socket: Socket,
    pid: u32,
}

impl Predecessor {
    /// Connects to the process `pid`, whose sockets are in `run_dir`.
    ///
    /// # Errors
    /// `HandOver`.
    pub(super) fn connect(run_dir: &Path, pid: u32) -> Result<Self, Error> {
        let connect = || {
            let socket = packet_socket()?;
            socket.connect(&SockAddr::unix(places::handover_socket(run_dir, pid))?)?;
            socket.set_read_timeout(Some(PROMPT))?;
            socket.set_write_timeout(Some(PROMPT))?;
            io::Result::Ok(socket)
        };
        let socket = connect().map_err(|source| Error::HandOver { pid, source })?;
        Ok(Self { socket, pid })
    }

    /// Its sockets. It goes on accepting from them.
    ///
    /// # Errors
    /// `HandOver`.
    pub(super) fn sockets(&self) -> Result<Vec<Received>, Error> {
        self.receive_all().map_err(|source| Error::HandOver { pid: self.pid, source })
    }

    fn receive_all(&self) -> io::Result<Vec<Received>> {
        say(self.socket.as_fd(), &Ask::Versions(VERSIONS.to_vec()), &[])?;
        let (mut all, mut count) = (Vec::<Received>::new(), 0);
        loop {
            let (packet, descriptors) = receive(self.socket.as_fd())?;
            let asked = match serde_json::from_slice(&packet)? {
                Tell::Asked(asked) => asked,
                Tell::End(true) => return Ok(all),
                other => return Err(unexpected(&other)),
            };
            count += descriptors.len();
            if count > MAX_SOCKETS {
                return Err(io::Error::other("it offers more sockets than there can be"));
            }
            let sockets: Vec<_> = descriptors.into_iter().map(TcpListener::from).collect();
            for socket in &sockets {
                check(socket, asked)?;
            }
            match all.last_mut().filter(|last| last.asked == asked && asked.port() != 0) {
                Some(last) => last.sockets.extend(sockets),
                None => join_or_push(&mut all, asked, sockets),
            }
        }
    }

    /// Tells it to retire: everything new is ours from now on. It is given `drain` for what is open.
    ///
    /// # Errors
    /// `HandOver`. It may accept still, which harms nobody.
    pub(super) fn take_over(self, drain: Millis) -> Result<(), Error> {
        let take_over = || {
            say(self.socket.as_fd(), &Ask::TakeOver { drain_ms: drain }, &[])?;
            match serde_json::from_slice(&receive(self.socket.as_fd())?.0)? {
                Tell::Retired(true) => Ok(()),
                other => Err(unexpected(&other)),
            }
        };
        take_over().map_err(|source| Error::HandOver { pid: self.pid, source })
    }
}

/// Sockets of port 0 belong together if they got the same port.
fn join_or_push(all: &mut Vec<Received>, asked: SocketAddr, sockets: Vec<TcpListener>) {
    let port = |sockets: &[TcpListener]| sockets.first().and_then(|one| one.local_addr().ok());
    match all.last_mut() {
        Some(last) if last.asked == asked && port(&last.sockets) == port(&sockets) => {
            last.sockets.extend(sockets);
        }
        _ => all.push(Received { asked, sockets }),
    }
}

/// The other side has no privileges, and we do: what it sends is looked at.
fn check(socket: &TcpListener, asked: SocketAddr) -> io::Result<()> {
    let address = socket.local_addr()?;
    let is_asked = asked.port() == 0 || address.port() == asked.port();
    if !is_asked || !socket2::SockRef::from(socket).is_listener()? {
        let text =
            format!("it offers a socket of {address} for {asked} that does not listen there");
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// The predecessor's end: offers its sockets until a successor has taken over.
#[derive(Debug)]
pub(super) struct Offer {
    listener: Socket,
    /// The user who may ask beside root.
    owner: u32,
    sockets: Vec<Received>,
}

impl Offer {
    /// Sockets of `bound` beside those that the cores use.
    ///
    /// # Errors
    /// Of duplicating a descriptor.
    pub(super) fn new(listener: Socket, owner: u32, bound: &[Bound]) -> io::Result<Self> {
        let keep = |bound: &Bound| {
            let sockets =
                bound.sockets.iter().map(TcpListener::try_clone).collect::<Result<_, _>>();
            Ok(Received { asked: bound.asked, sockets: sockets? })
        };
        let sockets = bound.iter().map(keep).collect::<io::Result<_>>()?;
        Ok(Self { listener, owner, sockets })
    }

    /// Serves one would-be successor after another, on the calling thread. When one takes over,
    /// closes the sockets and calls `retire` with the time it may take; the successor is told when
    /// that has returned.
    pub(super) fn serve(self, retire: impl FnOnce(Duration)) {
        loop {
            match self.listener.accept() {
                Ok((peer, _)) => match self.serve_peer(&peer) {
                    Ok(Some(drain)) => {
                        // Before the cores let go of theirs: a port that a later generation gives
                        // up must not stay bound through us.
                        drop(self.sockets);
                        retire(drain);
                        if let Err(error) = say(peer.as_fd(), &Tell::Retired(true), &[]) {
                            tracing::warn!(%error, "tell the successor");
                        }
                        return;
                    }
                    Ok(None) => tracing::warn!("a successor has given up"),
                    Err(error) => tracing::warn!(error = report(&error), "hand over"),
                },
                Err(error) => {
                    tracing::warn!(%error, "accept a successor");
                    rest();
                }
            }
        }
    }

    fn serve_peer(&self, peer: &Socket) -> io::Result<Option<Duration>> {
        let user = peer_user(peer.as_fd())?;
        if user != 0 && user != self.owner {
            return Err(io::Error::other(format!("user {user} may not ask for the sockets")));
        }
        peer.set_read_timeout(Some(PROMPT))?;
        peer.set_write_timeout(Some(PROMPT))?;
        match serde_json::from_slice(&receive(peer.as_fd())?.0)? {
            Ask::Versions(theirs) if theirs.iter().any(|version| VERSIONS.contains(version)) => {}
            other => return Err(unexpected(&other)),
        }
        for offered in &self.sockets {
            let descriptors: Vec<_> = offered.sockets.iter().map(AsFd::as_fd).collect();
            for some in descriptors.chunks(MAX_DESCRIPTORS) {
                say(peer.as_fd(), &Tell::Asked(offered.asked), some)?;
            }
        }
        say(peer.as_fd(), &Tell::End(true), &[])?;
        peer.set_read_timeout(Some(TAKE_OVER))?;
        let (packet, _) = receive(peer.as_fd())?;
        if packet.is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice(&packet)? {
            Ask::TakeOver { drain_ms } => Ok(Some(drain_ms.into())),
            other @ Ask::Versions(_) => Err(unexpected(&other)),
        }
    }
}

/// Binds the socket at which a successor asks, for our user alone.
pub(super) fn bind(path: &Path) -> io::Result<Socket> {
    let listener = packet_socket()?;
    listener.bind(&SockAddr::unix(path)?)?;
    places::for_owner_alone(path)?;
    listener.listen(BACKLOG)?;
    Ok(listener)
}

/// A shortage of descriptors has no event that tells its end.
#[allow(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn rest() {
    std::thread::sleep(ACCEPT_PAUSE);
}

fn packet_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::SEQPACKET, None)
}

fn say(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send(socket, &serde_json::to_vec(message)?, descriptors)
}

fn unexpected(message: &impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("the other side said something else: {message:?}"))
}
