//! Apps that speak HTTP/2 in clear text, as gRPC servers do.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use staithe::domain::UpstreamProtocol;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::h2::{Http2, get, post, read_body, send_body, whole};
use super::world::*;

/// An app: a listener, and what to do with each request.
struct Http2App {
    address: SocketAddr,
    /// Connections it has taken.
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Http2App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2App {
    /// Runs `serve` for each request, which learns how many came before.
    async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(h2::server::Builder::new(), serve).await
    }

    async fn start_with<F, R>(builder: h2::server::Builder, serve: F) -> Self
    where
        F: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let (counter, state) = (Arc::clone(&connections), Arc::new((serve, requests)));
        let task = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (builder, state) = (builder.clone(), Arc::clone(&state));
                spawn(async move {
                    let mut connection = builder.handshake(stream).await.unwrap();
                    while let Some(Ok((request, response))) = connection.accept().await {
                        let number = state.1.fetch_add(1, Ordering::SeqCst);
                        spawn(state.0(number, request, response));
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    /// Echoes each piece of a body as it comes, and ends with trailers.
    async fn grpc() -> Self {
        Self::start(|_, request, mut response| async move {
            let (head, mut body) = request.into_parts();
            assert_eq!(head.version, http::Version::HTTP_2);
            let answer = Response::builder()
                .header("content-type", "application/grpc")
                .header("x-te", head.headers.get("te").map_or("", |te| te.to_str().unwrap()))
                .header("x-host", head.uri.authority().unwrap().as_str())
                .header("x-forwarded", head.headers["x-forwarded-for"].clone());
            let mut stream = response.send_response(answer.body(()).unwrap(), false).unwrap();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                send_body(&mut stream, data, false).await;
            }
            let sent = body.trailers().await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            if let Some(checksum) = sent.and_then(|sent| sent.get("x-sum").cloned()) {
                trailers.insert("x-sum", checksum);
            }
            stream.send_trailers(trailers).unwrap();
        })
        .await
    }

    async fn world(&self) -> World {
        let world = World::start().await;
        let mut table = world.table(&[("shop.test", live(&[self.address]))]);
        table.routes[0].settings.upstream_protocol = UpstreamProtocol::H2c;
        world.supervisor.set_routes(&table).await.unwrap();
        world
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn answer(response: &mut SendResponse<Bytes>, body: &'static str) {
    let mut stream = response.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

#[tokio::test]
async fn calls_stream_both_ways_at_once_and_end_with_trailers() {
    let app = Http2App::grpc().await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    let mut request = post("/service/method");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let (response, mut up) = client.send(request, false).await;
    let response = tokio::time::timeout(SOON, response).await.unwrap().unwrap();
    assert_eq!(response.headers()["x-te"], "trailers");
    assert_eq!(response.headers()["x-host"], "shop.test");
    assert_eq!(response.headers()["x-forwarded"], "127.0.0.1");
    let mut down = response.into_body();
    for message in ["one", "two", "three"] {
        send_body(&mut up, Bytes::from_static(message.as_bytes()), false).await;
        let echoed = tokio::time::timeout(SOON, down.data()).await.unwrap();
        assert_eq!(echoed.unwrap().unwrap(), message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "11".parse().unwrap());
    up.send_trailers(trailers).unwrap();
    assert_eq!(read_body(&mut down).await.unwrap(), b"");
    let trailers = down.trailers().await.unwrap().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&"0".parse().unwrap(), &"11".parse().unwrap())
    );
    world.end().await;
}

#[tokio::test]
async fn clients_on_http_1_get_bodies_and_trailers_too() {
    let app = Http2App::grpc().await;
    let world = app.world().await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client
            .send(
                "POST / HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\nConnection: te\r\n\
                 Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
            )
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), "hello|grpc-status: 0|x-sum: 5");
        assert_eq!(answer.field("x-te"), Some("trailers"));
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
    }
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n"), "{rest}");
    assert!(app.connections() <= 2, "one for each core, not {}", app.connections());
    world.end().await;
}

#[tokio::test]
async fn large_bodies_stream_within_the_windows_of_both_sides() {
    const SIZE: usize = 6 * 1024 * 1024;
    let app = Http2App::grpc().await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    let (response, mut up) = client.send(post("/"), false).await;
    let body = vec![b'x'; SIZE].into();
    let (answer, ()) = tokio::join!(whole(response), send_body(&mut up, body, true));
    assert_eq!(answer.unwrap().body.len(), SIZE);
    let mut client = world.client().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {SIZE}\r\n\r\n"))
        .await;
    let (mut reader, mut writer) = client.stream.split();
    let body = vec![b'x'; SIZE];
    let read = async {
        let mut read = 0;
        let mut buffer = vec![0; 65536];
        while read < SIZE {
            let length = tokio::io::AsyncReadExt::read(&mut reader, &mut buffer).await.unwrap();
            assert!(length > 0, "the end after {read} bytes");
            read += length;
        }
    };
    let write = tokio::io::AsyncWriteExt::write_all(&mut writer, &body);
    let both = async { tokio::join!(read, write) };
    tokio::time::timeout(SOON, both).await.expect("the bodies in time").1.unwrap();
    world.end().await;
}

#[tokio::test]
async fn an_error_without_a_body_stays_one_frame() {
    // "Trailers-Only" of gRPC: a head that ends the stream.
    let app = Http2App::start(|_, _, mut response| async move {
        let head = Response::builder().header("grpc-status", "5").body(()).unwrap();
        response.send_response(head, true).unwrap();
    })
    .await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    let (response, _up) = client.send(post("/"), false).await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.body().is_end_stream());
    let answer = world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!((answer.field("grpc-status"), answer.text()), (Some("5"), ""));
    world.end().await;
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10);
    let app =
        Http2App::start_with(
            builder,
            |_, _, mut response| async move { answer(&mut response, "hi") },
        )
        .await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    for _ in 0..10 {
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(client.send(get("/"), true).await.0);
        }
        for response in answers {
            assert_eq!(whole(response).await.unwrap().text(), "hi");
        }
    }
    // Ten times ten on the one core that has the client.
    assert!(app.connections() <= 10, "{} connections", app.connections());
    world.end().await;
}

#[tokio::test]
async fn what_an_instance_has_not_looked_at_is_sent_again() {
    // RFC 9113 §8.7, for a method that is not idempotent as well.
    let app = Http2App::start(|number, _, mut response| async move {
        match number {
            1 | 2 => response.send_reset(Reason::REFUSED_STREAM),
            _ => answer(&mut response, "served"),
        }
    })
    .await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    assert_eq!(client.ask(get("/")).await.text(), "served");
    assert_eq!(client.ask(post("/")).await.text(), "served");
    let answer = world.ask("POST / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(answer.text(), "served");
    world.end().await;
}

#[tokio::test]
async fn what_it_may_have_looked_at_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let app = Http2App::start(move |_, _, mut response| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { response.send_reset(Reason::INTERNAL_ERROR) }
    })
    .await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    let answer = client.ask(post("/")).await;
    assert_eq!(
        (answer.status(), answer.field("x-staithe-error")),
        (502, Some("app-closed-connection"))
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
    world.end().await;
}

#[tokio::test]
async fn an_app_that_ends_its_connections_loses_no_request() {
    // Ends each connection after one request, politely.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut response))) = connection.accept().await {
                    connection.graceful_shutdown();
                    answer(&mut response, "bye");
                }
            });
        }
    });
    let world = World::start().await;
    let mut table = world.table(&[("shop.test", live(&[address]))]);
    table.routes[0].settings.upstream_protocol = UpstreamProtocol::H2c;
    world.supervisor.set_routes(&table).await.unwrap();
    let mut client = Http2::connect(world.address).await;
    for _ in 0..50 {
        let answer = client.ask(post("/")).await;
        assert_eq!((answer.status(), answer.text()), (200, "bye"));
    }
    world.end().await;
    task.abort();
}

#[tokio::test]
async fn a_reset_inside_the_body_is_passed_on() {
    let heard = Arc::new(Notify::new());
    let told = Arc::clone(&heard);
    let app = Http2App::start(move |_, _, mut response| {
        let told = Arc::clone(&told);
        async move {
            let mut stream = response.send_response(Response::new(()), false).unwrap();
            send_body(&mut stream, Bytes::from_static(b"half"), false).await;
            told.notified().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let world = app.world().await;
    let mut client = Http2::connect(world.address).await;
    let (response, _) = client.send(get("/"), true).await;
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    heard.notify_one();
    let error = tokio::time::timeout(SOON, body.data()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    client.answer_head().await;
    assert_eq!(client.line().await.unwrap(), "4");
    heard.notify_one();
    assert_eq!(client.rest().await, b"half\r\n");
    world.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_the_stream_of_the_app() {
    let (told, mut heard) = tokio::sync::mpsc::channel(4);
    let app = Http2App::start(move |_, _, mut response| {
        let told = told.clone();
        async move {
            told.send("asked").await.unwrap();
            std::future::poll_fn(|cx| response.poll_reset(cx)).await.unwrap();
            told.send("left").await.unwrap();
        }
    })
    .await;
    let world = app.world().await;
    let mut next = async || tokio::time::timeout(SOON, heard.recv()).await.unwrap().unwrap();
    let mut first = Http2::connect(world.address).await;
    let (_response, mut stream) = first.send(get("/"), true).await;
    assert_eq!(next().await, "asked");
    stream.send_reset(Reason::CANCEL);
    assert_eq!(next().await, "left");
    let mut second = world.client().await;
    second.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(next().await, "asked");
    drop(second);
    assert_eq!(next().await, "left");
    world.end().await;
}

#[tokio::test]
async fn an_app_that_is_not_there_or_speaks_http_1_is_said_so() {
    let plain = App::answering(|_, _| ok("HTTP/1.1")).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::start().await;
    for (address, code) in [(closed, "app-unreachable"), (plain.address, "app-closed-connection")] {
        let mut table = world.table(&[("shop.test", live(&[address]))]);
        table.routes[0].settings.upstream_protocol = UpstreamProtocol::H2c;
        world.supervisor.set_routes(&table).await.unwrap();
        let answer = Http2::connect(world.address).await.ask(get("/")).await;
        assert_eq!((answer.status(), answer.field("x-staithe-error")), (502, Some(code)));
        let answer = world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        assert_eq!((answer.status(), answer.field("x-staithe-error")), (502, Some(code)));
    }
    world.end().await;
}
