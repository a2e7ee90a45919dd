//! `/metrics`: on the control socket, and alone on a TCP address if the operator wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::platform::Platform;
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::tasks;
use crate::web::routing::Other;

/// The content type of OpenMetrics 1.0.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Scrapers at once; there are one or two.
const MAX_CONNECTIONS: usize = 16;
/// How long one connection lasts; scrapers come every few seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of one request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// After a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn metrics(State(platform): State<Platform>) -> Other {
    Other(([(header::CONTENT_TYPE, CONTENT_TYPE)], platform.metrics().await).into_response())
}

/// Serves `GET /metrics`, and nothing else, to everybody who reaches `listener`, until the shutdown
/// drains.
pub async fn serve_metrics(listener: TcpListener, platform: Platform, mut shutdown: Shutdown) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(platform);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            // Cancel-safe: an unaccepted connection stays in the listener's queue.
            accepted = listener.accept() => accepted,
            // Cancel-safe: the phase stays reached.
            () = shutdown.reached(Phase::Draining) => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // More than that are hung up on.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let router = router.clone();
        tasks::spawn("api/metrics", async move {
            // However it ends, it is a scraper's matter.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, router)).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, router: Router) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

/// Binds the address that `[api] metrics_listen` names.
///
/// # Errors
/// Those of bind(2).
pub async fn bind_metrics(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
