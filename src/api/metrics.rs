//! `/metrics` for monitoring systems: on the control socket, and alone on a TCP address if the
//! operator wants it. `/apps/{app}/metrics`, `/host` and `/host/metrics` for people.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::domain::Timestamp;
use crate::platform::{Error, Platform};
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::tasks;
use crate::web::routing::{Other, Watched};
use crate::web::{App, Query, Refusal};
use crate::wire::{HostReport, MetricsQuery, MetricsReport, MetricsSample};

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
/// Between two comments that keep an event stream from being taken for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn metrics(State(platform): State<Platform>) -> Other {
    Other(([(header::CONTENT_TYPE, CONTENT_TYPE)], platform.metrics().await).into_response())
}

pub(super) async fn of_app(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<MetricsQuery>,
    headers: HeaderMap,
) -> Result<Watched<MetricsReport>, Refusal> {
    if !wants_events(&headers) {
        return Ok(Watched::new(Json(platform.app_metrics(&app, &query).await?).into_response()));
    }
    // Once before the stream begins, so that an app that does not exist is an answer of its own.
    platform.newest_app_metrics(&app).await?;
    let samples = platform.watch_samples();
    Ok(Watched::new(events(samples, move || {
        let (platform, app) = (platform.clone(), app.clone());
        async move { platform.newest_app_metrics(&app).await }
    })))
}

pub(super) async fn host_report(
    State(platform): State<Platform>,
) -> Result<Json<HostReport>, Refusal> {
    Ok(Json(platform.host().await?))
}

pub(super) async fn of_host(
    State(platform): State<Platform>,
    Query(query): Query<MetricsQuery>,
    headers: HeaderMap,
) -> Result<Watched<MetricsReport>, Refusal> {
    if !wants_events(&headers) {
        return Ok(Watched::new(Json(platform.host_metrics(&query).await?).into_response()));
    }
    let samples = platform.watch_samples();
    Ok(Watched::new(events(samples, move || {
        let platform = platform.clone();
        async move { Ok(platform.newest_host_metrics()) }
    })))
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.into_iter().any(|value| value.contains("text/event-stream"))
}

/// The newest sample, and each that is taken from now on, as server-sent events: a reader that is
/// slow misses some and always gets the newest. Ends when the app is gone.
fn events<F>(
    samples: watch::Receiver<Timestamp>,
    newest: impl Fn() -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Result<Option<MetricsSample>, Error>> + Send,
{
    let state = (samples, newest, true);
    let stream = stream::unfold(state, |(mut samples, newest, mut first)| async move {
        loop {
            if !std::mem::take(&mut first) && samples.changed().await.is_err() {
                return None;
            }
            samples.mark_unchanged();
            let Some(sample) = newest().await.ok()? else { continue };
            let event = Event::default().event("sample").id(sample.at.0.to_string());
            let event = event.json_data(&sample).ok()?;
            return Some((Ok::<_, Infallible>(event), (samples, newest, first)));
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
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
