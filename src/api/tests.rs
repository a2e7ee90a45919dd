//! The edge, streams and the socket, with routes of the tests' own behind them.

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::peer::{Peer, actor_of};
use super::server::{Config, serve_router};
use super::stream::{self, OnDrop};
use crate::domain::BuildId;
use crate::domain::access::Grants;
use crate::platform::{Error, Journal, Kind, Operation};
use crate::support::shutdown::{self, Controller, Phase};
use crate::support::tasks;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Id, Query};
use crate::web::{RequestId, edge};
use crate::wire::{ACTOR_HEADER, LogQuery, REQUEST_ID_HEADER};

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// An operation that prints a line and then waits to be told how to end.
#[derive(Clone, Default)]
struct Control {
    finish: CancellationToken,
    canceled: CancellationToken,
}

impl Control {
    fn operation(&self) -> Operation<u32> {
        let (journal, control) = (Journal::new(), self.clone());
        let writer = journal.clone();
        let outcome = tasks::spawn("test/operation", async move {
            writer.line("-----> Working");
            control.finish.cancelled().await;
            writer.line("       done");
            writer.close();
            Ok(7)
        });
        Operation { journal, outcome, cancel: self.canceled.clone() }
    }
}

async fn push(State(control): State<Control>, caller: Caller) -> impl IntoResponse {
    stream::operation(control.operation(), OnDrop::Cancel, caller.request_id)
}

async fn scale(State(control): State<Control>, caller: Caller) -> impl IntoResponse {
    stream::operation(control.operation(), OnDrop::Continue, caller.request_id)
}

async fn fail(caller: Caller) -> impl IntoResponse {
    let (journal, cancel) = (Journal::new(), CancellationToken::new());
    let error = Error::new(Kind::Failed, "the build failed").hint("read the lines above");
    let writer = journal.clone();
    let outcome = tasks::spawn("test/operation", async move {
        writer.close();
        Err::<(), _>(error)
    });
    stream::operation(Operation { journal, outcome, cancel }, OnDrop::Cancel, caller.request_id)
}

/// Ends without closing its journal, as a task that panics does.
async fn vanish(caller: Caller) -> impl IntoResponse {
    let (journal, cancel) = (Journal::new(), CancellationToken::new());
    journal.line("last words");
    let outcome = tasks::spawn("test/operation", std::future::pending::<Result<(), Error>>());
    outcome.abort();
    stream::operation(Operation { journal, outcome, cancel }, OnDrop::Cancel, caller.request_id)
}

async fn build(App(app): App, Id(id): Id<BuildId>, caller: Caller) -> String {
    format!("{app} {id} {}", caller.actor)
}

async fn logs(Query(query): Query<LogQuery>) -> String {
    format!("{query:?}")
}

async fn panic() -> Result<(), Refusal> {
    panic!("on purpose");
}

async fn secret() -> Result<(), Refusal> {
    let source = std::io::Error::other("the password is hunter2");
    Err(Error::new(Kind::Internal, "read the store").because(source).into())
}

/// As the socket does, without a platform that knows of users.
async fn identify(mut request: Request, next: Next) -> Result<Response, Refusal> {
    let actor = actor_of(&request)?;
    let grants = Grants::everything();
    let RequestId(request_id) = request.extensions().get().cloned().unwrap();
    request.extensions_mut().insert(Caller { actor, grants, request_id });
    Ok(next.run(request).await)
}

fn routes(control: Control) -> Router {
    Router::new()
        .route("/push", post(push))
        .route("/scale", post(scale))
        .route("/fail", post(fail))
        .route("/vanish", post(vanish))
        .route("/apps/{app}/builds/{id}", get(build))
        .route("/logs", get(logs))
        .route("/secret", get(secret))
        .route("/panic", get(panic))
        .layer(axum::middleware::from_fn(identify))
        .layer(axum::middleware::from_fn(edge))
        .with_state(control)
}

/// A server on a socket of its own.
struct Server {
    socket: PathBuf,
    control: Control,
    phases: Controller,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (phases, shutdown) = shutdown::channel();
        let control = Control::default();
        let router = routes(control.clone());
        let task = tasks::spawn("test/server", async move {
            // The tests' own user is trusted, whoever it is.
            let own =
                std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
            serve_router(listener, &Config::default(), router, &[own], shutdown).await;
        });
        Self { socket, control, phases, task, _directory: directory }
    }

    async fn send(&self, method: Method, path: &str) -> hyper::Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        drop(tasks::spawn("test/connection", connection));
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "staithe")
            .header(ACTOR_HEADER, "alice")
            .body(Empty::<Bytes>::new())
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    async fn answer(&self, method: Method, path: &str) -> (StatusCode, String) {
        let answer = self.send(method, path).await;
        let status = answer.status();
        let body = tokio::time::timeout(DEADLINE, answer.into_body().collect()).await.unwrap();
        (status, String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap())
    }
}

async fn first_line(answer: &mut hyper::Response<Incoming>) -> String {
    let frame = tokio::time::timeout(DEADLINE, answer.body_mut().frame()).await.unwrap();
    String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn paths_and_queries_are_parsed_or_refused_with_a_sentence() {
    let server = Server::start();
    let (_, text) = server.answer(Method::GET, "/apps/shop/builds/7").await;
    assert_eq!(text, "shop 7 alice");
    let (_, text) = server.answer(Method::GET, "/logs?num=5&tail=true&process=web.1").await;
    let expected = r#"LogQuery { process: Some("web.1"), num: Some(5), tail: true, "#;
    assert!(text.starts_with(expected), "{text}");
    let (_, text) = server.answer(Method::GET, "/logs?level=warn&release=3&since=2h").await;
    for part in ["level: Some(Warn)", "Some(ReleaseVersion(3))", "since: Some(Ago(7200s))"] {
        assert!(text.contains(part), "{text}");
    }
    for (path, detail) in [
        ("/apps/Shop/builds/7", "app name `Shop` may only contain"),
        ("/apps/%2e%2e/builds/7", "app name `..` must start"),
        ("/apps/shop/builds/x", "build `x` must be a number"),
        ("/logs?nmu=5", "unknown field `nmu`"),
    ] {
        let (status, text) = server.answer(Method::GET, path).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{text}");
    }
}

#[tokio::test]
async fn a_problem_carries_the_requests_id_and_no_secret() {
    let server = Server::start();
    let answer = server.send(Method::GET, "/secret").await;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let id = answer.headers()[REQUEST_ID_HEADER].to_str().unwrap().to_owned();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({
        "type": "urn:staithe:problem:internal",
        "title": "Internal error",
        "status": 500,
        "detail": "read the store",
        "hint": format!("the server's log tells more under request {id}"),
        "kind": "internal",
        "request_id": id,
    });
    assert_eq!(problem, expected);
}

#[tokio::test]
async fn a_panic_is_answered() {
    let server = Server::start();
    let (status, text) = server.answer(Method::GET, "/panic").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("the request broke off"), "{text}");
}

#[tokio::test]
async fn a_stranger_is_told_no() {
    use hyper::service::Service;
    let call = |peer: Option<Peer>| async move {
        let mut request = Request::get("/secret").body(Empty::<Bytes>::new()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let router = hyper_util::service::TowerToHyperService::new(routes(Control::default()));
        router.call(request).await.unwrap().status()
    };
    assert_eq!(call(Some(Peer::Stranger(1000))).await, StatusCode::FORBIDDEN);
    assert_eq!(call(None).await, StatusCode::FORBIDDEN);
    assert_eq!(call(Some(Peer::Root)).await, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn an_operation_streams_its_lines_and_then_its_end() {
    let server = Server::start();
    let mut answer = server.send(Method::POST, "/scale").await;
    assert_eq!(first_line(&mut answer).await, "{\"line\":\"-----> Working\"}\n");
    server.control.finish.cancel();
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(rest, "{\"line\":\"       done\"}\n{\"result\":7}\n");
    assert!(!server.control.canceled.is_cancelled());

    let (status, text) = server.answer(Method::POST, "/fail").await;
    let item: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &item["error"]["kind"]), (StatusCode::OK, &json!("failed")));
    assert_eq!(item["error"]["hint"], "read the lines above");

    let (_, text) = server.answer(Method::POST, "/vanish").await;
    let (line, end) = text.split_once('\n').unwrap();
    assert_eq!(line, "{\"line\":\"last words\"}");
    assert!(end.contains("the operation broke off"), "{end}");
}

#[tokio::test]
async fn a_lost_client_cancels_a_push_and_nothing_else() {
    let server = Server::start();
    let mut scale = server.send(Method::POST, "/scale").await;
    first_line(&mut scale).await;
    drop(scale);
    let mut push = server.send(Method::POST, "/push").await;
    first_line(&mut push).await;
    assert!(!server.control.canceled.is_cancelled());
    drop(push);
    tokio::time::timeout(DEADLINE, server.control.canceled.cancelled()).await.unwrap();
}

#[tokio::test]
async fn a_push_that_ends_is_not_canceled() {
    let server = Server::start();
    server.control.finish.cancel();
    let (_, text) = server.answer(Method::POST, "/push").await;
    assert!(text.ends_with("{\"result\":7}\n"), "{text}");
    assert!(!server.control.canceled.is_cancelled());
}

#[tokio::test]
async fn draining_lets_open_requests_end_and_stopping_does_not() {
    let server = Server::start();
    let mut answer = server.send(Method::POST, "/scale").await;
    first_line(&mut answer).await;
    server.phases.advance(Phase::Draining);
    server.control.finish.cancel();
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"{\"result\":7}\n"));
    tokio::time::timeout(DEADLINE, server.task).await.unwrap().unwrap();

    let server = Server::start();
    let mut answer = server.send(Method::POST, "/push").await;
    first_line(&mut answer).await;
    server.phases.advance(Phase::Stopping);
    assert!(answer.into_body().collect().await.is_err());
    tokio::time::timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert!(server.control.canceled.is_cancelled());
}
