//! Connections: accepting those of the web door, and bounding and ending those of every door.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::edge::edge;
use super::error::Refusal;
use super::identify::{Identities, identify};
use super::origin::Origin;
use super::rate;
use crate::platform::{Error, Kind};
use crate::support::backoff::Backoff;
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::tasks;

/// How long a client may take to send its request's head, and stay idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of one request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The longest pause within a request's body.
const BODY_PAUSE: Duration = Duration::from_secs(60);
/// Waits after a failed `accept` (too many open files, accept(2)).
pub const ACCEPT_RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The operator's settings of the web door.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the dashboard, the API and git over HTTP are served, in plain HTTP: for the proxy, which
    /// gives them a domain with TLS (`staithe dashboard:domain`). The first address must be one that
    /// this machine reaches. Default `["127.0.0.1:7070"]`; empty switches the web off.
    pub listen: Vec<SocketAddr>,
    /// The most connections at once; more wait. Default 512.
    pub max_connections: usize,
    /// The most requests in a minute from one token or user, and from one address without either; at
    /// most so many at once. Default 1200.
    pub requests_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 7070))],
            max_connections: 512,
            requests_per_minute: 1200,
        }
    }
}

/// Whatever the web door leads to, behind what every request of it passes: a name for the log, the
/// client's address, who they are, how much they may ask.
pub fn door(inner: Router, identities: &Identities) -> Router {
    inner
        .layer(from_fn_with_state(Arc::clone(&identities.rates), rate::limit))
        .layer(from_fn_with_state(identities.clone(), identify))
        .layer(map_request(paced))
        .layer(from_fn(edge))
}

/// Serves `router` on `listener` until the shutdown drains: then no new connection is accepted, open
/// requests go on until the shutdown stops, and the function returns when the last is gone.
pub async fn serve(
    listener: TcpListener,
    places: Arc<Semaphore>,
    router: Router,
    shutdown: Shutdown,
) {
    let connections = TaskTracker::new();
    let mut backoff = Backoff::new(ACCEPT_RETRY.0, ACCEPT_RETRY.1);
    let mut draining = shutdown.clone();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // Cancel-safe: an unaccepted connection stays in the listener's queue.
            accepted = accept => accepted,
            // Cancel-safe: the phase stays reached.
            () = draining.reached(Phase::Draining) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the web");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        backoff.reset();
        // Without it small events would wait for others (tcp(7)); the connection works either way.
        let _ = stream.set_nodelay(true);
        let router = router.clone().layer(map_request(move |mut request: Request| async move {
            let origin = Origin::of(peer, request.headers());
            request.extensions_mut().insert(origin);
            request
        }));
        let shutdown = shutdown.clone();
        let serving = connections.track_future(async move {
            connection(stream, router, None, shutdown).await;
            drop(place);
        });
        // Detached on purpose: the tracker waits for it below.
        drop(tasks::spawn("web/connection", serving));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection to its end: `lifetime` bounds it, if there is one; draining lets its request
/// end, stopping does not.
pub async fn connection<S>(
    stream: S,
    router: Router,
    lifetime: Option<Duration>,
    mut shutdown: Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let deadline = async {
        match lifetime {
            Some(lifetime) => tokio::time::sleep(lifetime).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut draining = shutdown.clone();
    loop {
        tokio::select! {
            // Polled to its end or dropped on purpose, in the two arms that end the loop.
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            () = draining.reached(Phase::Draining), if shutdown.phase() == Phase::Running => {
                connection.as_mut().graceful_shutdown();
            }
            () = shutdown.reached(Phase::Stopping) => return,
            () = deadline.as_mut() => return,
        }
    }
}

/// Refuses to wait for a body forever.
async fn paced(request: Request) -> Request {
    request.map(|body| Body::new(Paced { body, pause: Box::pin(tokio::time::sleep(BODY_PAUSE)) }))
}

/// A body that breaks off after too long a pause.
struct Paced {
    body: Body,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let next = tokio::time::Instant::now() + BODY_PAUSE;
            self.pause.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        match Future::poll(self.pause.as_mut(), context) {
            Poll::Ready(()) => {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Poll::Ready(Some(Err(axum::Error::new(late))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// For paths that lead nowhere.
pub async fn unknown_path() -> Refusal {
    Error::new(Kind::NotFound, "there is no such path").into()
}

/// For methods that a path does not take.
pub async fn unknown_method() -> Refusal {
    let error = Error::new(Kind::Invalid, "the path does not take this method");
    Refusal::from(error).with_status(StatusCode::METHOD_NOT_ALLOWED)
}
