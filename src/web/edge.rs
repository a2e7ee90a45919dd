//! The edge of every request: under which id, how it ended.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;

use super::error::Refusal;
use crate::platform::{Error, Kind};
use crate::support::report;
use crate::wire::REQUEST_ID_HEADER;

/// The id of a request, for whoever identifies its caller.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Names the request, renders refusals, and writes the one log line.
pub async fn edge(mut request: Request, next: Next) -> Response {
    let request_id = new_request_id();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", request.id = %request_id, %method, path);
    async {
        let started = Instant::now();
        request.extensions_mut().insert(RequestId(request_id.clone()));
        let mut response = answer(next, request).await;
        if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
            log_failure(&refusal.error);
            // Fields that were added on the way out, such as those of rates, stay.
            let added = std::mem::take(response.headers_mut());
            response = refusal.render(&request_id);
            for (name, value) in &added {
                if !response.headers().contains_key(name) && name != CONTENT_LENGTH {
                    response.headers_mut().append(name.clone(), value.clone());
                }
            }
        }
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID_HEADER, value);
        }
        let duration_ms = started.elapsed().as_millis();
        tracing::debug!(status = response.status().as_u16(), duration_ms, "request answered");
        response
    }
    .instrument(span)
    .await
}

/// A verb that panics is answered as well; the panic itself has been logged by its hook.
async fn answer(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            Refusal::from(Error::new(Kind::Internal, "the request broke off")).into_response()
        }
    }
}

/// One line for an error that a client is told about. Only the platform's own faults need a person.
pub fn log_failure(error: &Error) {
    let kind = error.kind().as_str();
    match error.kind() {
        Kind::Internal => tracing::error!(kind, "request failed: {}", report(error)),
        Kind::Unavailable => tracing::warn!(kind, "request put off: {}", report(error)),
        _ => tracing::info!(kind, "request refused: {}", report(error)),
    }
}

/// 64 random bits in hexadecimal; unique enough to find a line in a log.
fn new_request_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness the id is all zeros, which is still a valid id.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}
