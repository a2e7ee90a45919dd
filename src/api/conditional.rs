//! What HTTP asks of representations: `ETag`, `If-None-Match`, `If-Match` (RFC 9110 §13), and
//! server-sent events instead of lines.
//!
//! A tag is the hash of what `GET` answers. A change with `If-Match` is made if `GET` of its path, or
//! of the closest path above it that can be read, still answers what the client has seen.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};

use crate::platform::{Error, Kind};
use crate::web::Refusal;
use crate::wire::{NDJSON, SSE};

/// The most bytes of an answer that gets a tag.
const MAX_TAGGED: u64 = 4 << 20;
/// How far above the path of a change its representation may be.
const MAX_LEVELS: usize = 2;
/// How often a silent stream of events is proven alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The routes that answer `GET`, and the changes with a condition that go on.
#[derive(Clone)]
pub(super) struct Representations {
    routes: Router,
    changing: Arc<Mutex<HashSet<String>>>,
}

impl Representations {
    pub(super) fn of(routes: Router) -> Self {
        Self { routes, changing: Arc::default() }
    }

    /// The tag of what may be read at `path`, as the same caller.
    async fn tag(&self, path: &str, extensions: &axum::http::Extensions) -> Option<String> {
        let mut path = path.trim_end_matches('/');
        for _ in 0..=MAX_LEVELS {
            let mut request = Request::get(path).body(Body::empty()).ok()?;
            *request.extensions_mut() = extensions.clone();
            let service = TowerToHyperService::new(self.routes.clone());
            let answer = service.call(request).await.into_response();
            if answer.status() == StatusCode::OK {
                let tagged = tagged(answer).await;
                let tag = tagged.headers().get(ETAG)?;
                return tag.to_str().ok().map(str::to_owned);
            }
            path = path.rsplit_once('/')?.0;
        }
        None
    }

    /// One change with a condition at a time, for each app: between its look and its end nothing
    /// else that looks may come.
    fn begin(&self, path: &str) -> Result<Changing, Refusal> {
        let subject: String = path.split('/').take(3).collect::<Vec<_>>().join("/");
        let mut changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !changing.insert(subject.clone()) {
            let error = Error::new(Kind::Conflict, "another conditional change is under way")
                .hint("read what there is when it has ended, and try again");
            return Err(error.into());
        }
        Ok(Changing { subject, all: Arc::clone(&self.changing) })
    }
}

/// A change that goes on.
struct Changing {
    subject: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.subject);
    }
}

/// Tags answers, refuses changes of what has changed, and turns lines into events.
pub(super) async fn conditional(
    State(representations): State<Representations>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (method, headers) = (request.method().clone(), request.headers().clone());
    if method == Method::GET {
        let answer = events_if_asked(next.run(request).await, &headers);
        let answer = tagged(answer).await;
        return Ok(unless_known(answer, &headers));
    }
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Ok(events_if_asked(next.run(request).await, &headers));
    };
    let path = request.uri().path().to_owned();
    let changing = representations.begin(&path)?;
    let current = representations.tag(&path, request.extensions()).await;
    let known = |tag: &String| matches_tag(wanted, tag) || wanted == "*";
    if !current.as_ref().is_some_and(known) {
        let now = current.as_deref().unwrap_or("gone");
        let error = Error::new(Kind::Conflict, format!("it has changed; its version is {now} now"))
            .hint("read it again, and send the change with the new ETag");
        return Err(Refusal::from(error).with_status(StatusCode::PRECONDITION_FAILED));
    }
    let answer = events_if_asked(next.run(request).await, &headers);
    // A change that streams ends with its body.
    Ok(answer.map(|body| {
        let frames = body.into_data_stream().map(move |frame| {
            let _until_the_end = &changing;
            frame
        });
        Body::from_stream(frames)
    }))
}

/// RFC 9110 §8.8.3.2: a list of tags.
fn matches_tag(list: &HeaderValue, tag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    list.to_str().is_ok_and(|list| list.split(',').any(|one| bare(one) == tag))
}

/// With its tag, if it is a small JSON document.
async fn tagged(answer: Response) -> Response {
    let json = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let small = HttpBody::size_hint(answer.body()).exact().is_some_and(|n| n <= MAX_TAGGED);
    if answer.status() != StatusCode::OK || !json || !small {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let Ok(collected) = body.collect().await else {
        let error = Error::new(Kind::Internal, "an answer could not be read");
        return Refusal::from(error).into_response();
    };
    let bytes = collected.to_bytes();
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(&bytes)[..16] {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(ETAG, tag);
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// `304` for who has it already.
fn unless_known(answer: Response, headers: &HeaderMap) -> Response {
    let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let known = headers
        .get(IF_NONE_MATCH)
        .zip(tag)
        .is_some_and(|(list, tag)| list == "*" || matches_tag(list, tag));
    if !known {
        return answer;
    }
    let (parts, _) = answer.into_parts();
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    response.headers_mut().extend(parts.headers.get(ETAG).map(|tag| (ETAG, tag.clone())));
    response
}

/// Lines as server-sent events, for who asks for those. An event is named after the only key of its
/// line (`line`, `result`, `error`), or `item`; its id counts the lines, and `Last-Event-ID` skips
/// those up to it.
fn events_if_asked(answer: Response, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let asked = accept.into_iter().any(|value| value.contains(SSE));
    let lines = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == NDJSON);
    if !asked || !lines {
        return answer;
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (mut parts, body) = answer.into_parts();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(SSE));
    parts.headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let reader =
        Reader { body: StreamExt::boxed(body.into_data_stream()), rest: Vec::new(), count: 0 };
    let skip: u64 = last.unwrap_or(0);
    let events = stream::unfold(reader, move |mut reader| async move {
        loop {
            let Ok(line) = tokio::time::timeout(HEARTBEAT, reader.next()).await else {
                return Some((Bytes::from_static(b": still here\n\n"), reader));
            };
            let line = line?;
            if reader.count > skip {
                return Some((event(reader.count, &line), reader));
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(events.map(Ok::<_, Infallible>)))
}

/// The lines of a body.
struct Reader {
    body: stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    rest: Vec<u8>,
    count: u64,
}

impl Reader {
    /// The next line. Cancel-safe: what was read stays in `rest`.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let after = self.rest.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.rest, after);
                line.pop();
                self.count += 1;
                return Some(line);
            }
            self.rest.extend_from_slice(&self.body.next().await?.ok()?);
        }
    }
}

fn event(id: u64, line: &[u8]) -> Bytes {
    let name =
        [("line", &b"{\"line\":"[..]), ("result", b"{\"result\":"), ("error", b"{\"error\":")]
            .into_iter()
            .find(|(_, start)| line.starts_with(start))
            .map_or("item", |(name, _)| name);
    let mut text = format!("id: {id}\nevent: {name}\ndata: ").into_bytes();
    // JSON has no raw line feeds.
    text.extend_from_slice(line);
    text.extend_from_slice(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use serde_json::json;

    use super::*;

    fn router() -> Router {
        let value = Arc::new(Mutex::new(1));
        let read = Arc::clone(&value);
        let show = move || {
            let value = *read.lock().unwrap();
            async move { Json(json!({ "value": value })) }
        };
        let change = move || {
            *value.lock().unwrap() += 1;
            async { "changed" }
        };
        let lines = || async {
            ([(CONTENT_TYPE, NDJSON)], "{\"line\":\"a\"}\n{\"line\":\"b\"}\n{\"result\":null}\n")
        };
        let routes = Router::new()
            .route("/apps/shop/config", get(show).patch(change.clone()))
            .route("/apps/shop/config/deep", post(change))
            .route("/apps/shop/output", get(lines));
        let state = Representations::of(routes.clone());
        routes.layer(from_fn_with_state(state, conditional))
    }

    async fn ask(
        router: &Router,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Option<String>, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let service = TowerToHyperService::new(router.clone());
        let answer = service.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let tag = answer.headers().get(ETAG).map(|tag| tag.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, tag, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_change_of_what_has_changed_is_refused() {
        let router = router();
        let path = "/apps/shop/config";
        let (_, tag, _) = ask(&router, "GET", path, &[]).await;
        let tag = tag.unwrap();
        assert_eq!(ask(&router, "GET", path, &[("if-none-match", &tag)]).await.0, 304);
        let deep = ask(&router, "POST", "/apps/shop/config/deep", &[("if-match", &tag)]).await;
        assert_eq!(deep.0, 200);
        assert_eq!(ask(&router, "PATCH", path, &[("if-match", &tag)]).await.0, 412);
        assert_eq!(ask(&router, "PATCH", path, &[("if-match", "*")]).await.0, 200);
        assert_eq!(ask(&router, "PATCH", path, &[]).await.0, 200);
        let (status, new, body) = ask(&router, "GET", path, &[("if-none-match", &tag)]).await;
        assert_eq!((status, body.as_str()), (200, "{\"value\":4}"));
        assert_ne!(new.unwrap(), tag);
    }

    #[tokio::test]
    async fn lines_become_events_and_are_resumed() {
        let router = router();
        let events = [("accept", "text/event-stream")];
        let (_, _, text) = ask(&router, "GET", "/apps/shop/output", &events).await;
        let first = "id: 1\nevent: line\ndata: {\"line\":\"a\"}\n\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.ends_with("id: 3\nevent: result\ndata: {\"result\":null}\n\n"), "{text}");
        let resumed = [events[0], ("last-event-id", "2")];
        let (_, _, text) = ask(&router, "GET", "/apps/shop/output", &resumed).await;
        assert_eq!(text, "id: 3\nevent: result\ndata: {\"result\":null}\n\n");
        let (_, _, text) = ask(&router, "GET", "/apps/shop/output", &[]).await;
        assert!(text.starts_with("{\"line\":\"a\"}\n"), "{text}");
    }
}
