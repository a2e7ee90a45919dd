//! Clients on HTTP/2 that mean no good: frames made by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection whose frames are written by hand.
struct Raw {
    stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields as HPACK literals without indexing (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop.test")];

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&GET))
}

impl Raw {
    async fn connect(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends `bytes` over and over until the other side has had enough; returns how many it took, and
    /// the code that it ended with.
    async fn flood(mut self, mut bytes: impl FnMut(u32) -> Vec<u8>, most: u32) -> (u32, u32) {
        let (mut reader, mut writer) = self.stream.split();
        let sent = std::cell::Cell::new(0);
        let write = async {
            for n in 0..most {
                if writer.write_all(&bytes(n)).await.is_err() {
                    break;
                }
                sent.set(n + 1);
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            loop {
                match read_frame(&mut reader).await {
                    Some(frame) if frame.kind == GOAWAY && frame.code() != 0 => {
                        return frame.code();
                    }
                    Some(_) => {}
                    None => panic!("the connection ended without a GOAWAY"),
                }
            }
        };
        let code = tokio::time::timeout(SOON, async {
            tokio::select! {
                code = read => code,
                () = write => unreachable!(),
            }
        });
        let code = code.await.unwrap_or_else(|_| panic!("{} frames were taken", sent.get()));
        (sent.get(), code)
    }

    /// The next frame of `kind`; others are skipped.
    async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = tokio::time::timeout(SOON, read_frame(&mut self.stream)).await;
            let frame = frame.expect("a frame in time").expect("a frame before the end");
            if frame.kind == kind {
                return frame;
            }
            assert!(frame.kind != GOAWAY || frame.code() == 0, "{frame:?}");
        }
    }

    /// How the stream is answered: by a status, or a reset with this code.
    async fn verdict(&mut self, stream: u32) -> Result<u8, u32> {
        loop {
            let frame = tokio::time::timeout(SOON, read_frame(&mut self.stream)).await;
            let frame = frame.expect("a frame in time").expect("a frame before the end");
            match frame.kind {
                HEADERS if frame.stream == stream => return Ok(frame.payload[0]),
                RST_STREAM if frame.stream == stream => return Err(frame.code()),
                GOAWAY => return Err(frame.code()),
                _ => {}
            }
        }
    }
}

async fn read_frame(reader: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
    reader.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
}

/// An app that counts its requests and answers none.
async fn silent_app() -> (App, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = App::raw(move |mut connection| {
        let count = Arc::clone(&count);
        async move {
            if connection.head().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                connection.head().await;
            }
        }
    })
    .await;
    (app, asked)
}

/// The number of the client's stream `n`.
fn nth(n: u32) -> u32 {
    2 * n + 1
}

/// A flooded proxy serves others as before, and holds nothing of the flood.
async fn still_serves(world: &World) {
    let hello = App::answering(|_, _| ok("hello")).await;
    world.route(&[("shop.test", live(&[hello.address]))]).await;
    let answer = world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(answer.text(), "hello");
    let handle = world.handle().await;
    eventually(|| async {
        let status = handle.status().await.unwrap();
        match status.upstreams.values().map(|upstream| upstream.open).sum::<u64>() {
            0 => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn requests_taken_back_at_once_are_bounded() {
    // CVE-2023-44487.
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let reset = |n| [get(nth(n)), frame(RST_STREAM, 0, nth(n), &[0, 0, 0, 8])].concat();
    let (_, code) = Raw::connect(&world).await.flood(reset, 100_000).await;
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(asked.load(Ordering::SeqCst) < 300, "{asked:?} reached the app");
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn requests_that_make_us_take_them_back_are_bounded() {
    // CVE-2025-8671: a WINDOW_UPDATE of nothing is the stream's error, so that we reset it.
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let broken = |n| [get(nth(n)), frame(WINDOW_UPDATE, 0, nth(n), &[0; 4])].concat();
    let (_, code) = Raw::connect(&world).await.flood(broken, 100_000).await;
    // The crate may take it for the connection's error.
    assert!([ENHANCE_YOUR_CALM, PROTOCOL_ERROR].contains(&code), "{code}");
    assert!(asked.load(Ordering::SeqCst) < 300, "{asked:?} reached the app");
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_head_without_end_is_bounded() {
    // CVE-2024-27316.
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let mut client = Raw::connect(&world).await;
    client.send(&frame(HEADERS, 0, 1, &block(&GET))).await;
    let more = block(&[("x-filler", &"y".repeat(100))]);
    let (sent, code) = client.flood(|_| frame(CONTINUATION, 0, 1, &more), 100_000).await;
    assert!([ENHANCE_YOUR_CALM, PROTOCOL_ERROR].contains(&code), "{code}");
    // What the sockets hold is taken too.
    assert!(sent < 90_000, "{sent} frames");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn frames_that_carry_nothing_are_bounded() {
    // CVE-2019-9512, 9515, 9518 and their kin.
    let (app, _) = silent_app().await;
    let world = World::with_app(&app).await;
    for (name, first, flood) in [
        ("PING", None, frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", None, frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", None, frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", None, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", None, frame(0x42, 0, 0, b"what")),
        ("DATA", Some(frame(HEADERS, END_HEADERS, 1, &block(&GET))), frame(DATA, 0, 1, &[])),
    ] {
        let mut client = Raw::connect(&world).await;
        if let Some(first) = first {
            client.send(&first).await;
        }
        let (_, code) = client.flood(|_| flood.clone(), 2_000_000).await;
        assert_eq!(code, ENHANCE_YOUR_CALM, "{name}");
    }
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_gentle_client_may_ping_and_change_its_mind() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let mut client = Raw::connect(&world).await;
    for n in 0..400 {
        client.send(&get(nth(n))).await;
        client.next(DATA).await;
        client.send(&frame(PING, 0, 0, &[0; 8])).await;
        client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 5])).await;
        // Too late: the stream has ended.
        client.send(&frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 1])).await;
    }
    world.end().await;
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_and_the_others_stay() {
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let mut client = Raw::connect(&world).await;
    let settings = client.next(SETTINGS).await;
    let most = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
    assert_eq!(most[2..], [0, 0, 0, 128]);
    client.send(&frame(SETTINGS, 1, 0, &[])).await;
    client.send(&(0..138).flat_map(|n| get(nth(n))).collect::<Vec<_>>()).await;
    for n in 128..138 {
        let reset = client.next(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (nth(n), REFUSED_STREAM));
    }
    eventually(|| async {
        match asked.load(Ordering::SeqCst) {
            128 => Ok(()),
            other => Err(format!("{other} reached the app")),
        }
    })
    .await;
    drop(client);
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    // A page that says so: 431. What follows `0x48` (literal `:status` with an indexed name) is it.
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let filler = "y".repeat(120);
    let long: Vec<(&str, &str)> =
        GET.into_iter().chain((0..220).map(|_| ("x-filler", filler.as_str()))).collect();
    let many: Vec<(&str, &str)> = GET.into_iter().chain((0..101).map(|_| ("x", "y"))).collect();
    for fields in [long, many] {
        let mut client = Raw::connect(&world).await;
        let block = block(&fields);
        let (first, rest) = block.split_at(block.len().min(16_000));
        client.send(&frame(HEADERS, END_STREAM, 1, first)).await;
        for part in rest.chunks(16_000) {
            client.send(&frame(CONTINUATION, 0, 1, part)).await;
        }
        client.send(&frame(CONTINUATION, END_HEADERS, 1, &[])).await;
        let answer = client.next(HEADERS).await;
        // Huffman-coded or not, the status is no indexed one.
        assert!(answer.payload[0] & 0x80 == 0, "{answer:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn malformed_requests_do_not_reach_the_app() {
    let (app, asked) = silent_app().await;
    let world = World::with_app(&app).await;
    let with = |field: (&'static str, &'static str)| GET.into_iter().chain([field]).collect();
    let without = |name: &str| GET.into_iter().filter(|(known, _)| *known != name).collect();
    let replaced = |name: &'static str, value: &'static str| {
        GET.into_iter().map(move |(known, old)| (known, if known == name { value } else { old }))
    };
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("upper case", with(("X-Upper", "1"))),
        ("connection", with(("connection", "close"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("keep-alive", with(("keep-alive", "1"))),
        ("upgrade", with(("upgrade", "websocket"))),
        ("proxy-connection", with(("proxy-connection", "close"))),
        ("te", with(("te", "gzip"))),
        ("line feed", with(("x", "a\r\nhost: evil"))),
        ("name with a colon", with(("x:y", "1"))),
        ("unknown pseudo-header", with((":x", "1"))),
        ("pseudo-header behind a field", [&[("x", "1")], &GET[..]].concat()),
        ("two paths", with((":path", "/other"))),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no host", without(":authority")),
        ("a status", with((":status", "200"))),
        ("another host", with(("host", "admin.test"))),
        ("two lengths", [&GET[..], &[("content-length", "0"), ("content-length", "0")]].concat()),
        ("a length without a body", with(("content-length", "5"))),
        ("empty path", replaced(":path", "").collect()),
        ("path without a slash", replaced(":path", "other").collect()),
        ("path with a space", replaced(":path", "/ HTTP/1.1").collect()),
        ("user in the authority", replaced(":authority", "user@shop.test").collect()),
    ];
    for (name, fields) in cases {
        let mut client = Raw::connect(&world).await;
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))).await;
        match client.verdict(1).await {
            Err(code) => assert_eq!(code, PROTOCOL_ERROR, "{name}"),
            // 0x8c is `:status: 400` (RFC 7541, appendix A).
            Ok(status) => assert_eq!(status, 0x8c, "{name}"),
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_body_that_belies_its_length_is_never_whole_for_the_app() {
    for (length, body) in [("5", "1234"), ("3", "1234")] {
        let (told, mut heard) = tokio::sync::mpsc::channel(1);
        let app = App::raw(move |mut connection| {
            let told = told.clone();
            async move {
                if connection.head().await.is_some() {
                    told.send(Vec::new()).await.unwrap();
                    told.send(connection.rest().await).await.unwrap();
                }
            }
        })
        .await;
        let mut next = async || tokio::time::timeout(SOON, heard.recv()).await.unwrap().unwrap();
        let world = World::with_app(&app).await;
        let mut client = Raw::connect(&world).await;
        let fields: Vec<_> = GET.into_iter().chain([("content-length", length)]).collect();
        client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        next().await;
        client.send(&frame(DATA, END_STREAM, 1, body.as_bytes())).await;
        assert_eq!(client.verdict(1).await, Err(PROTOCOL_ERROR));
        let body = next().await;
        assert!(body.len() < length.parse().unwrap(), "{body:?} of {length}");
        still_serves(&world).await;
        world.end().await;
    }
}

#[tokio::test]
async fn clients_that_never_begin_are_let_go() {
    let config = quick(|config| config.request_head_timeout_ms = millis(50));
    let world = World::start_with(config).await;
    // The second half of the preface does not come; then, no request.
    for bytes in [&PREFACE[..20], PREFACE] {
        let mut client = world.client().await;
        client.send(bytes).await;
        client.rest().await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_costs_no_more_than_its_windows() {
    let (told, mut heard) = tokio::sync::mpsc::channel::<()>(1);
    let app = App::raw(move |mut connection| {
        let told = told.clone();
        async move {
            if connection.head().await.is_none() {
                return;
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
            if connection.stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            // Fails once the proxy has given the request up.
            while connection.stream.write_all(&[0; 65536]).await.is_ok() {}
            told.send(()).await.unwrap();
        }
    })
    .await;
    let config = quick(|config| config.body_idle_timeout_ms = millis(100));
    let world = World::start_with(config).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = Raw::connect(&world).await;
    // As much room as there can be, and never a read.
    client.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes())).await;
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await;
    client.send(&(0..8).flat_map(|n| get(nth(n))).collect::<Vec<_>>()).await;
    for _ in 0..8 {
        tokio::time::timeout(SOON, heard.recv()).await.expect("each request to be given up");
    }
    drop(client);
    still_serves(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_is_left_half_open_ends() {
    let (app, _) = silent_app().await;
    let world = World::with_app(&app).await;
    let mut client = Raw::connect(&world).await;
    client.send(&get(1)).await;
    client.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(SOON, client.stream.read_to_end(&mut rest)).await;
    // With or without a reset.
    let _ = end.expect("an end in time");
    still_serves(&world).await;
    tokio::time::timeout(Duration::from_secs(20), world.end()).await.unwrap();
}
