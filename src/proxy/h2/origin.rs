//! Connections to instances that speak HTTP/2 in clear text, by prior knowledge (RFC 9113 §3.3).
//!
//! A core has few of them for each instance, each with many requests. What is kept is only the end
//! that sends; a task moves the frames, and ends the connection when it has had nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, SendRequest};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::proxy::Config;
use crate::proxy::http::{MAX_FIELDS, MAX_HEAD};
use crate::proxy::timer::Timer;
use crate::proxy::upstream;

/// Requests on a connection to an instance that does not say how many it takes; as RFC 9113 §6.5.2
/// recommends.
const ASSUMED_STREAMS: usize = 100;

/// Of one answer, before the client has taken any.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Of all answers on a connection together.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What we hold of one request's body while the instance does not take it.
const SEND_BUFFER: usize = 64 * 1024;

/// An app's head list, counted as RFC 9113 §6.5.2 does.
const MAX_HEADER_LIST: u32 = 32 * 1024 + 100 * 32;
const _: () = assert!(MAX_HEADER_LIST as usize == MAX_HEAD + MAX_FIELDS * 32);

/// A core's connections.
#[derive(Debug)]
pub(in crate::proxy) struct Origins {
    origins: RefCell<HashMap<SocketAddr, Rc<Origin>>>,
    max_connections: usize,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

/// Those to one instance.
#[derive(Debug, Default)]
struct Origin {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while one is opened: requests that come meanwhile wait for it, and share it.
    opening: Mutex<()>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    /// Requests on it.
    open: Cell<usize>,
    /// It takes no further requests.
    closed: Cell<bool>,
}

/// A place for one request on a connection.
#[derive(Debug)]
pub(super) struct Place {
    connection: Rc<Connection>,
    /// The connection was there before: the instance may have closed it since.
    pub(super) reused: bool,
}

impl Place {
    fn on(connection: &Rc<Connection>, reused: bool) -> Self {
        connection.open.set(connection.open.get() + 1);
        Self { connection: Rc::clone(connection), reused }
    }

    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.connection.sender.clone()
    }

    /// The instance takes no more requests on this connection.
    pub(super) fn close(&self) {
        self.connection.closed.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.open.set(self.connection.open.get() - 1);
    }
}

impl Origins {
    pub(in crate::proxy) fn new(config: &Config) -> Self {
        Self {
            origins: RefCell::default(),
            max_connections: config.upstream_idle_connections.max(1),
            connect_timeout: config.connect_timeout_ms.into(),
            idle_timeout: config.upstream_idle_timeout_ms.into(),
        }
    }

    /// A place on a connection to `address`; on a new one if all are full, or if `fresh`.
    ///
    /// # Errors
    /// Of the connect; `TimedOut` at the configured deadline. Nothing has been sent then.
    pub(super) async fn place(&self, address: SocketAddr, fresh: bool) -> io::Result<Place> {
        let origin = Rc::clone(self.origins.borrow_mut().entry(address).or_default());
        if !fresh && let Some(place) = origin.place(self.max_connections) {
            return Ok(place);
        }
        let open = async {
            let _opening = origin.opening.lock().await;
            // Another request may have opened one meanwhile.
            match origin.place(self.max_connections) {
                Some(place) if !fresh => Ok(place),
                _ => self.open(address, &origin).await,
            }
        };
        let result = tokio::time::timeout(self.connect_timeout, open).await;
        result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn open(&self, address: SocketAddr, origin: &Rc<Origin>) -> io::Result<Place> {
        let stream = upstream::open(address).await?;
        let handshake = Builder::new()
            .initial_max_send_streams(ASSUMED_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .enable_push(false)
            .handshake(stream)
            .await;
        let (sender, mut frames) = handshake.map_err(io::Error::other)?;
        let ping = frames.ping_pong();
        let connection =
            Rc::new(Connection { sender, open: Cell::new(0), closed: Cell::new(false) });
        let place = Place::on(&connection, false);
        let frames = run(frames, Rc::clone(&connection), Rc::clone(origin), self.idle_timeout);
        tokio::task::spawn_local(frames);
        if let Some(mut ping) = ping {
            // The answer comes behind the instance's settings, of which the number of streams must be
            // known before there are several. An error shows again when a request is sent.
            let _ = ping.ping(Ping::opaque()).await;
        }
        origin.connections.borrow_mut().push(connection);
        Ok(place)
    }

    /// Takes no further requests to instances that `keep` does not want; those under way go on.
    pub(in crate::proxy) fn retain(&self, keep: impl Fn(SocketAddr) -> bool) {
        self.origins.borrow_mut().retain(|address, origin| {
            let kept = keep(*address);
            if !kept {
                let connections = origin.connections.take();
                connections.iter().for_each(|connection| connection.closed.set(true));
            }
            kept
        });
    }
}

impl Origin {
    /// A place where there is room; if there is none and there are `max` connections, where it is
    /// least crowded: the crate sends what is too much when it can.
    fn place(&self, max: usize) -> Option<Place> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.closed.get());
        let has_room = |connection: &&Rc<Connection>| {
            connection.open.get() < connection.sender.current_max_send_streams()
        };
        let found = connections.iter().find(has_room);
        let crowded = || connections.iter().min_by_key(|connection| connection.open.get());
        let found = found.or_else(|| if connections.len() < max { None } else { crowded() });
        found.map(|connection| Place::on(connection, true))
    }
}

/// Moves a connection's frames until it ends, or has had no request for so long.
async fn run(
    frames: h2::client::Connection<TcpStream, Bytes>,
    connection: Rc<Connection>,
    origin: Rc<Origin>,
    idle: Duration,
) {
    let timer = Timer::new(idle);
    let mut frames = pin!(frames);
    poll_fn(|cx| {
        if frames.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let open = connection.open.get();
        if open > 0 {
            timer.set(idle);
        } else if connection.closed.get() {
            return Poll::Ready(());
        }
        timer.poll_expired(cx)
    })
    .await;
    connection.closed.set(true);
    origin.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
}
