//! The control socket: accepting, bounding and ending connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::peer::Peer;
use super::router::{Parts, router, web_router};
use super::session::Sessions;
use super::ssh::Shell;
use crate::platform::Platform;
use crate::support::backoff::Backoff;
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::tasks;
use crate::web::{self, ACCEPT_RETRY};

/// How long a stranger's connection lasts: enough to be told no.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many strangers are told no at once; more are hung up on. The socket is open to all users, and
/// a crowd of them must not keep root out.
const MAX_STRANGERS: usize = 16;

/// The operator's settings of the control socket.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most connections at once; more wait. Default 512.
    pub max_connections: usize,
    /// The most `run`, `enter` and SSH sessions at once. Default 128.
    pub max_sessions: usize,
    /// Where everybody may read `/metrics` over TCP, and nothing else, such as `127.0.0.1:9464`.
    /// Default `[]`: only on the control socket (`staithe metrics`).
    pub metrics_listen: Vec<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_connections: 512, max_sessions: 128, metrics_listen: Vec::new() }
    }
}

/// The API for the web door, and the sessions that it starts: await their end when the door is closed.
pub fn for_web(
    config: &Config,
    platform: Platform,
    shell: Arc<dyn Shell>,
    shutdown: Shutdown,
) -> (Router, impl Future<Output = ()> + Send + 'static) {
    let sessions = Sessions::new(config.max_sessions, shutdown);
    let router = web_router(Parts { platform, shell, sessions: sessions.clone() });
    (router, async move { sessions.finished().await })
}

/// Serves the API on `listener` until the shutdown drains: then no new connection is accepted, open
/// requests go on until the shutdown stops, and the function returns when the last is gone.
///
/// User ids in `trusted` (the repositories' owner) may act for the person they name in a header;
/// root may do anything; all others are refused.
pub async fn serve(
    listener: UnixListener,
    config: &Config,
    platform: Platform,
    shell: Arc<dyn Shell>,
    trusted: &[u32],
    shutdown: Shutdown,
) {
    let sessions = Sessions::new(config.max_sessions, shutdown.clone());
    let router = router(Parts { platform, shell, sessions: sessions.clone() });
    serve_router(listener, config, router, trusted, shutdown).await;
    sessions.finished().await;
}

pub(super) async fn serve_router(
    listener: UnixListener,
    config: &Config,
    router: Router,
    trusted: &[u32],
    mut shutdown: Shutdown,
) {
    let known = Arc::new(Semaphore::new(config.max_connections));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let connections = TaskTracker::new();
    let mut backoff = Backoff::new(ACCEPT_RETRY.0, ACCEPT_RETRY.1);
    loop {
        let stream = tokio::select! {
            // Cancel-safe: an unaccepted connection stays in the listener's queue.
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            // Cancel-safe: the phase stays reached.
            () = shutdown.reached(Phase::Draining) => break,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        };
        backoff.reset();
        let Some((peer, permit)) = admit(&stream, trusted, &known, &strangers).await else {
            continue;
        };
        let connection = connection(stream, router.clone(), peer, permit, shutdown.clone());
        // Detached on purpose: the tracker waits for it below.
        drop(tasks::spawn("api/connection", connections.track_future(connection)));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Who connects, and a place for them. Waits for a place if the peer is known.
async fn admit(
    stream: &UnixStream,
    trusted: &[u32],
    known: &Arc<Semaphore>,
    strangers: &Arc<Semaphore>,
) -> Option<(Peer, OwnedSemaphorePermit)> {
    let credentials = stream
        .peer_cred()
        .inspect_err(|error| tracing::warn!(%error, "cannot learn who connects"))
        .ok()?;
    let peer = Peer::of(credentials.uid(), trusted);
    let permit = match peer {
        Peer::Stranger(_) => Arc::clone(strangers).try_acquire_owned().ok()?,
        Peer::Root | Peer::Trusted => Arc::clone(known).acquire_owned().await.ok()?,
    };
    Some((peer, permit))
}

async fn connection(
    stream: UnixStream,
    router: Router,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
    shutdown: Shutdown,
) {
    let router =
        router.layer(axum::middleware::map_request(move |mut request: Request| async move {
            request.extensions_mut().insert(peer);
            request
        }));
    let lifetime = matches!(peer, Peer::Stranger(_)).then_some(STRANGER_TIMEOUT);
    web::connection(stream, router, lifetime, shutdown).await;
}
