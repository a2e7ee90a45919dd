//! Clients on HTTP/2.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use staithe::proxy::RouteState;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::apps::*;
use super::world::*;

/// A client's connection, whose frames are moved by a task.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    task: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2 {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        Self { sender, task: spawn(connection) }
    }

    /// Sends a head.
    pub(super) async fn send(
        &mut self,
        request: Request<()>,
        last: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender.clone().ready().await.unwrap().send_request(request, last).unwrap()
    }

    pub(super) async fn ask(&mut self, request: Request<()>) -> Whole {
        let (response, _stream) = self.send(request, true).await;
        whole(response).await.unwrap()
    }

    /// How the connection ends.
    async fn end(&mut self) -> Result<(), h2::Error> {
        tokio::time::timeout(SOON, &mut self.task).await.expect("an end in time").unwrap()
    }
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://shop.test{path}")).body(()).unwrap()
}

pub(super) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://shop.test{path}")).body(()).unwrap()
}

/// An answer with its body and trailers.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) head: http::response::Parts,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

impl Whole {
    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(super) async fn whole(response: ResponseFuture) -> Result<Whole, h2::Error> {
    let read = async {
        let (head, mut stream) = response.await?.into_parts();
        let body = read_body(&mut stream).await?;
        let trailers = stream.trailers().await?;
        Ok(Whole { head, body, trailers })
    };
    tokio::time::timeout(SOON, read).await.expect("an answer in time")
}

pub(super) async fn read_body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// Sends all of `body` as there is room for it.
pub(super) async fn send_body(stream: &mut SendStream<Bytes>, mut body: Bytes, last: bool) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap().unwrap();
        stream.send_data(body.split_to(room.min(body.len())), false).unwrap();
    }
    if last {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

#[tokio::test]
async fn requests_share_a_connection_and_are_answered_side_by_side() {
    let app = App::answering(|head, _| ok(head.split(' ').nth(1).unwrap())).await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let mut answers = Vec::new();
    for n in 0..100 {
        let (response, _) = client.send(get(&format!("/{n}")), true).await;
        answers.push(response);
    }
    for (n, response) in answers.into_iter().enumerate() {
        let answer = whole(response).await.unwrap();
        assert_eq!((answer.status(), answer.text()), (200, format!("/{n}").as_str()));
    }
    world.end().await;
}

#[tokio::test]
async fn curl_is_served() {
    let app = App::answering(|head, body| ok(&format!("{} {}", &head[..6], body.len()))).await;
    let world = World::with_app(&app).await;
    let url = format!("http://{}/", world.address);
    let output = tokio::task::spawn_blocking(move || {
        let format = "|%{http_code} %{http_version}";
        let arguments = ["-sS", "--http2-prior-knowledge", "-m", "20", "-d", "hello", "-w", format];
        Command::new("curl").args(arguments).args(["-H", "Host: shop.test", &url]).output().unwrap()
    })
    .await
    .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "POST / 5|200 2", "{output:?}");
    world.end().await;
}

#[tokio::test]
async fn the_app_is_told_the_same_as_over_http_1() {
    let app = App::echoing_heads().await;
    let world = World::with_app(&app).await;
    let port = world.address.port();
    let request = Request::get(format!("http://Shop.TEST.:{port}/a%20b?c"))
        .header("x-forwarded-for", "1.2.3.4")
        .header("x_forwarded_proto", "https")
        .header("forwarded", "for=1.2.3.4")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .header("te", "trailers")
        .header("accept", "*/*");
    let answer = Http2::connect(world.address).await.ask(request.body(()).unwrap()).await;
    let head = Answer { head: answer.text().to_owned(), body: Vec::new() };
    assert_told(&head, port, "a=b; c=d");
    assert_eq!((head.field("TE"), head.field("Accept")), (Some("trailers"), Some("*/*")));
    let lower = head.head.to_ascii_lowercase();
    assert!(!lower.contains("1.2.3.4") && !lower.contains("https"), "{lower}");
    assert_eq!(lower.matches("\r\ncookie:").count(), 1);
    world.end().await;
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let app = bodiless("ETag: \"a\"").await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    for (method, path, status) in BODILESS {
        let request = Request::builder().method(method).uri(format!("http://shop.test{path}"));
        let (response, _) = client.send(request.body(()).unwrap(), true).await;
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.body().is_end_stream(), "{path}");
    }
    assert_eq!(app.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let app = App::answering(|head, body| {
        let body = String::from_utf8_lossy(body);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunked} {body}\r\n0\r\n\
             X-Sum: 7\r\nContent-Length: 1\r\n\r\n",
            body.len() + chunked.to_string().len() + 1
        )
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let (response, mut stream) = client.send(post("/"), false).await;
    send_body(&mut stream, Bytes::from_static(b"hello"), false).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", "1".parse().unwrap());
    trailers.insert("authorization", "no".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    let answer = whole(response).await.unwrap();
    assert_eq!(answer.text(), "true hello|x-check: 1");
    let trailers = answer.trailers.unwrap();
    assert_eq!((trailers.len(), trailers["x-sum"].to_str().unwrap()), (1, "7"));
    assert_eq!(answer.head.headers.get("transfer-encoding"), None);
    world.end().await;
}

#[tokio::test]
async fn large_bodies_stream_within_the_windows() {
    const SIZE: usize = 6 * 1024 * 1024;
    let app = App::answering(|_, body| ok(std::str::from_utf8(body).unwrap())).await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let (response, mut stream) = client.send(post("/"), false).await;
    send_body(&mut stream, vec![b'x'; SIZE].into(), true).await;
    let answer = whole(response).await.unwrap();
    assert_eq!(answer.body.len(), SIZE);
    assert!(answer.body.iter().all(|&byte| byte == b'x'));
    world.end().await;
}

#[tokio::test]
async fn an_answer_may_begin_before_the_request_has_ended() {
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
        // The size line of the first chunk.
        let size = connection.line().await.unwrap();
        let text = connection.take(usize::from_str_radix(&size, 16).unwrap()).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        connection.send(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())).await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let (response, mut stream) = client.send(post("/"), false).await;
    let mut body = tokio::time::timeout(SOON, response).await.unwrap().unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hi");
    send_body(&mut stream, Bytes::from_static(b"there"), false).await;
    assert_eq!(body.data().await.unwrap().unwrap(), "there");
    world.end().await;
}

#[tokio::test]
async fn interim_answers_pass() {
    let app = hinting().await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let (mut response, _) = client.send(get("/"), true).await;
    for status in [103, 100] {
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.unwrap().unwrap();
        assert_eq!(interim.status(), status);
        assert_eq!(interim.headers().contains_key("link"), status == 103);
    }
    assert_eq!(whole(response).await.unwrap().text(), "done");
    world.end().await;
}

#[tokio::test]
async fn a_request_taken_back_ends_at_the_app_at_once() {
    let (asked, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&asked), Arc::clone(&left));
    let app = App::raw(move |mut connection| {
        let (asked, left) = told.clone();
        async move {
            connection.head().await.unwrap();
            asked.notify_one();
            assert_eq!(connection.rest().await, b"");
            left.notify_one();
        }
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let (_response, mut stream) = client.send(get("/"), true).await;
    asked.notified().await;
    stream.send_reset(Reason::CANCEL);
    tokio::time::timeout(SOON, left.notified()).await.expect("the app to see the reset");
    let (_response, _stream) = client.send(get("/"), true).await;
    asked.notified().await;
    drop(client);
    tokio::time::timeout(SOON, left.notified()).await.expect("the app to see the end");
    world.end().await;
}

#[tokio::test]
async fn an_answer_cut_short_never_looks_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let app = App::raw(move |mut connection| async move {
            connection.head().await.unwrap();
            connection.send(answer).await;
        })
        .await;
        let world = World::with_app(&app).await;
        let mut client = Http2::connect(world.address).await;
        let (response, _) = client.send(get("/"), true).await;
        let error = whole(response).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
        world.end().await;
    }
}

#[tokio::test]
async fn what_goes_wrong_is_said_in_pages() {
    let world = World::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nonsense = App::answering(|_, _| "nonsense\r\n\r\n".into()).await;
    world
        .route(&[
            ("stopped.test", RouteState::Stopped),
            ("closed.test", live(&[closed])),
            ("nonsense.test", live(&[nonsense.address])),
        ])
        .await;
    let mut client = Http2::connect(world.address).await;
    for (host, status, code) in [
        ("unknown.test", 404, "unknown-host"),
        ("stopped.test", 503, "app-stopped"),
        ("closed.test", 502, "app-unreachable"),
        ("nonsense.test", 502, "app-bad-response"),
    ] {
        let request = Request::get(format!("http://{host}/")).header("accept", "application/json");
        let answer = client.ask(request.body(()).unwrap()).await;
        assert_eq!(answer.status(), status, "{host}");
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(page["error"]["code"], code);
        let length = answer.field("content-length").unwrap();
        assert_eq!(length, answer.body.len().to_string());
        assert_eq!(page["error"]["request_id"], answer.field("x-request-id").unwrap());
    }
    let connect = Request::connect("shop.test:443").body(()).unwrap();
    let (response, _stream) = client.send(connect, false).await;
    assert_eq!(whole(response).await.unwrap().status(), 501);
    world.end().await;
}

#[tokio::test]
async fn a_stale_connection_to_the_app_is_replaced() {
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection.send(ok("once")).await;
        // The next request finds the connection closed, or sees it close.
        connection.head().await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    for _ in 0..10 {
        assert_eq!(client.ask(get("/")).await.text(), "once");
    }
    world.end().await;
}

pub(super) fn websocket(path: &str) -> Request<()> {
    let request = Request::connect(format!("http://shop.test{path}"));
    let request = request.header("sec-websocket-version", "13");
    request.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap()
}

#[tokio::test]
async fn websockets_pass_by_extended_connect() {
    let app = echoing_websockets().await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    // The setting comes with the server's first frame.
    assert_eq!(client.ask(get("/none")).await.status(), 502);
    assert!(client.sender.is_extended_connect_protocol_enabled());
    let (response, mut stream) = client.send(websocket("/"), false).await;
    let response = tokio::time::timeout(SOON, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let mut down = response.into_body();
    assert_eq!(down.data().await.unwrap().unwrap(), "early");
    for _ in 0..3 {
        send_body(&mut stream, Bytes::from_static(b"frame"), false).await;
        assert_eq!(down.data().await.unwrap().unwrap(), "frame");
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let rest = tokio::time::timeout(SOON, read_body(&mut down)).await.unwrap();
    assert_eq!(rest.unwrap(), b"");
    world.end().await;
}

#[tokio::test]
async fn a_websocket_that_the_app_did_not_mean_is_not_opened() {
    let app = echoing_websockets().await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    client.ask(get("/none")).await;
    let (response, _stream) = client.send(websocket("/wrong"), false).await;
    let answer = whole(response).await.unwrap();
    assert_eq!((answer.status(), answer.field("x-staithe-error")), (502, Some("app-bad-response")));
    world.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_ended_with_a_word() {
    let app = App::answering(|_, _| ok("hello")).await;
    let config = quick(|config| config.client_idle_timeout_ms = millis(50));
    let world = World::start_with(config).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = Http2::connect(world.address).await;
    assert_eq!(client.ask(get("/")).await.text(), "hello");
    // Without an error: a GOAWAY that blames nobody.
    client.end().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let app = App::answering(|_, _| ok("hello")).await;
    let config = quick(|config| config.body_idle_timeout_ms = millis(50));
    let world = World::start_with(config).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = Http2::connect(world.address).await;
    let (response, _stream) = client.send(post("/"), false).await;
    assert_eq!(whole(response).await.unwrap().status(), 408);
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let app = App::answering(|_, _| ok(&"x".repeat(1024 * 1024))).await;
    let config = quick(|config| config.body_idle_timeout_ms = millis(50));
    let world = World::start_with(config).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = Http2::connect(world.address).await;
    let (response, _) = client.send(get("/"), true).await;
    let mut body = response.await.unwrap().into_body();
    // Never releases what it gets, so that the window stays shut.
    let error = loop {
        match tokio::time::timeout(SOON, body.data()).await.expect("an end in time") {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the answer looks complete"),
        }
    };
    assert!(error.is_reset(), "{error}");
    world.end().await;
}

#[tokio::test]
async fn sigterm_lets_streams_end_and_takes_no_more() {
    let release = Arc::new(Notify::new());
    let wait = Arc::clone(&release);
    let app = App::raw(move |mut connection| {
        let wait = Arc::clone(&wait);
        async move {
            connection.head().await.unwrap();
            wait.notified().await;
            connection.send(ok("late")).await;
        }
    })
    .await;
    let world = World::with_app(&app).await;
    let handle = world.handle().await;
    let mut client = Http2::connect(world.address).await;
    let (response, _) = client.send(get("/"), true).await;
    eventually(|| async {
        let status = handle.status().await.unwrap();
        let open = status.upstreams[&app.address].open;
        if open == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let World { supervisor, directory, .. } = world;
    drop(supervisor);
    let term = Command::new("kill").args(["-TERM", &handle.pid().to_string()]).status();
    assert!(term.unwrap().success());
    eventually(|| async {
        match client.sender.clone().ready().await {
            Ok(_) => Err("still taking requests".into()),
            Err(_) => Ok(()),
        }
    })
    .await;
    release.notify_one();
    assert_eq!(whole(response).await.unwrap().text(), "late");
    client.end().await.unwrap();
    tokio::time::timeout(SOON, handle.closed()).await.expect("the process to end");
    drop(directory);
}

#[tokio::test]
async fn requests_are_counted_and_logged_as_those_of_http_1() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    for _ in 0..3 {
        client.ask(get("/logged")).await;
    }
    let status = world.handle().await.status().await.unwrap();
    assert_eq!(status.apps.values().map(|app| app.success).sum::<u64>(), 3, "{status:?}");
    let log = world.spec.data_dir.join("proxy");
    eventually(|| async {
        let mut found = String::new();
        for entry in walk(&log) {
            found += &std::fs::read_to_string(entry).unwrap_or_default();
        }
        let lines = found.lines().filter(|line| line.contains("/logged"));
        match lines.filter(|line| line.contains("HTTP/2.0")).count() {
            3 => Ok(()),
            _ => Err(found),
        }
    })
    .await;
    world.end().await;
}

/// All files below `directory`.
fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
