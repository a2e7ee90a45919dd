//! Bodies: streamed both ways, and cut off by either side.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::world::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let app = App::raw(|mut connection| async move {
        while let Some(message) = connection.message().await {
            let body = String::from_utf8(message.body).unwrap();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
            let chunks =
                format!("{:x}\r\n{body}\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n", body.len());
            connection.send(format!("{head}{chunks}")).await;
        }
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client
            .send(
                "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Up: 1\r\nHost: evil\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer().await.text(), "hello world|X-Up: 1|X-Sum: 7");
    }
    assert_eq!(app.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_body_until_the_end_of_the_connection_becomes_chunks() {
    let app = App::raw(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.0 200 OK\r\n\r\nhello").await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.answer().await.text(), "hello");
    }
    world.end().await;
}

#[tokio::test]
async fn a_large_upload_streams_before_it_is_whole() {
    const SIZE: usize = 32 * 1024 * 1024;
    const PART: usize = 1024 * 1024;
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let app = App::raw(move |mut connection| {
        let told = Arc::clone(&told);
        async move {
            let head = connection.head().await.unwrap();
            assert!(head.contains(&format!("Content-Length: {SIZE}\r\n")), "{head}");
            let first = connection.take(PART).await.unwrap();
            told.notify_one();
            let mut sum: u64 = first.iter().map(|byte| u64::from(*byte)).sum();
            for _ in 1..SIZE / PART {
                let part = connection.take(PART).await.unwrap();
                sum += part.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
            connection.send(ok(&sum.to_string())).await;
        }
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client
        .send(format!("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {SIZE}\r\n\r\n"))
        .await;
    let part: Vec<u8> = (0..PART).map(|at| u8::try_from(at % 251).unwrap()).collect();
    client.send(&part).await;
    tokio::time::timeout(SOON, seen.notified()).await.expect("the app to see the start");
    for _ in 1..SIZE / PART {
        client.send(&part).await;
    }
    let sum = part.iter().map(|byte| u64::from(*byte)).sum::<u64>() * (SIZE / PART) as u64;
    assert_eq!(client.answer().await.text(), sum.to_string());
    world.end().await;
}

#[tokio::test]
async fn a_large_download_arrives_whole_and_events_arrive_at_once() {
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        connection.send("6\r\nevent1\r\n").await;
        // Goes on only when the client has seen the first.
        connection.head().await.unwrap();
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send(GET).await;
    client.answer_head().await;
    assert_eq!(client.take(11).await.unwrap(), b"6\r\nevent1\r\n");
    drop(client);

    let big = Arc::new("0123456789abcdef".repeat(1 << 20));
    let body = Arc::clone(&big);
    let app = App::answering(move |_, _| ok(&body)).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let answer = world.ask(GET).await;
    assert_eq!(answer.body.len(), big.len());
    assert_eq!(answer.body, big.as_bytes());
    world.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let app = App::raw(move |mut connection| {
        let told = Arc::clone(&told);
        async move {
            connection.head().await.unwrap();
            // Never answers; notices the end.
            assert!(connection.read_some().await.is_none());
            told.notify_one();
        }
    })
    .await;
    let world = World::with_app(&app).await;
    for partial_body in [false, true] {
        let mut client = world.client().await;
        if partial_body {
            client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9\r\n\r\n").await;
        } else {
            client.send(GET).await;
        }
        eventually(|| async {
            let status = world.handle().await.status().await.unwrap();
            match status.upstreams[&app.address].open {
                1 => Ok(()),
                open => Err(format!("{open} requests open")),
            }
        })
        .await;
        drop(client);
        tokio::time::timeout(SOON, gone.notified()).await.expect("the app to see the end");
    }
    let aborted = eventually(|| async {
        let status = world.handle().await.status().await.unwrap();
        let shop = status.apps.values().next().unwrap().clone();
        if shop.aborted == 2 { Ok(shop) } else { Err(format!("{shop:?}")) }
    })
    .await;
    assert_eq!(aborted.success, 0);
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_never_made_whole() {
    let app = App::raw(|mut connection| async move {
        let head = connection.head().await.unwrap();
        let answer = match head.split(' ').nth(1).unwrap() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "/broken" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n"
            }
            path => panic!("{path}"),
        };
        connection.send(answer).await;
    })
    .await;
    let world = World::with_app(&app).await;
    for path in ["/length", "/chunks", "/broken"] {
        let mut client = world.client().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        let head = client.answer_head().await;
        // What was found broken before anything was passed on can still be said.
        if path == "/broken" && head.starts_with("HTTP/1.1 502 ") {
            continue;
        }
        let rest = client.rest().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{path}");
        assert!(rest.len() <= 10, "{path}: {rest:?}");
    }
    // HTTP/1.0 tells the end by the end: only a reset says that it is the wrong one.
    let mut client = world.client().await;
    client.send("GET /chunks HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut read = Vec::new();
    let result = client.stream.read_to_end(&mut read).await;
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    world.end().await;
}

#[tokio::test]
async fn an_app_that_answers_before_the_upload_is_whole_is_heard() {
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection
            .send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            .await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000000\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text()), (413, "big"));
    assert_eq!(answer.field("connection"), Some("close"));
    world.end().await;
}

#[tokio::test]
async fn a_stale_pooled_connection_is_no_error_for_what_may_be_repeated() {
    // Answers once, then closes without a word when the next request comes.
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection.send(ok("once")).await;
        connection.read_some().await;
    })
    .await;
    let world = World::with_app(&app).await;
    // One client, so one core and one pool: another core has nothing stale to offer.
    let mut client = world.client().await;
    for n in 1..=5 {
        client.send(GET).await;
        assert_eq!(client.answer().await.status(), 200, "request {n}");
    }
    // One more with each request but the first.
    assert_eq!(app.connections(), 5);
    // A POST is not repeated: the app may have acted on it.
    let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n";
    client.send(post).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("app-closed-connection"), "{}", answer.text());
    world.end().await;
}

#[tokio::test]
async fn connections_that_the_app_closed_are_not_used() {
    let app = App::raw(|mut connection| async move {
        connection.head().await.unwrap();
        connection.send(ok("once")).await;
        connection.stream.shutdown().await.unwrap();
    })
    .await;
    let world = World::with_app(&app).await;
    let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi";
    for _ in 0..30 {
        assert_eq!(world.ask(post).await.status(), 200);
        // For the end of the connection to cross the loopback.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.end().await;
}

#[tokio::test]
async fn a_long_answer_arrives_whole_again_and_again() {
    // Long enough to go through the kernel in several pieces.
    let body: String = (0..200_000).map(|n| format!("{n:07} ")).collect();
    let answer = ok(&body);
    let app = App::answering(move |_, _| answer.clone()).await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        assert!(client.answer().await.body == body.as_bytes());
    }
    assert_eq!(app.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_long_answer_that_is_cut_short_does_not_look_complete() {
    let app = App::raw(|mut connection| async move {
        connection.head().await;
        let sent = "x".repeat(100_000);
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{sent}")).await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    let head = client.answer_head().await;
    assert!(head.contains("Content-Length: 200000"), "{head}");
    assert_eq!(client.rest().await.len(), 100_000);
    world.end().await;
}

#[tokio::test]
async fn a_stream_of_events_may_be_silent_for_longer_than_a_body() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let app = App::raw(move |mut connection| {
        let mut told = told.clone();
        async move {
            let head = connection.head().await.unwrap();
            if head.starts_with("GET /stuck ") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            } else {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                told.wait_for(|told| *told).await.unwrap();
                connection.send("5\r\nevent\r\n0\r\n\r\n").await;
            }
            connection.rest().await;
        }
    })
    .await;
    let world = World::start_with(quick(|config| config.body_idle_timeout_ms = millis(100))).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut events = world.client().await;
    events.send("GET /events HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert!(events.answer_head().await.starts_with("HTTP/1.1 200"));
    // Silent from here on: what is cut off now was not silent for longer.
    let mut stuck = world.client().await;
    stuck.send("GET /stuck HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert!(stuck.rest().await.ends_with(b"\r\n\r\nhalf"));
    tell.send(true).unwrap();
    assert_eq!(events.rest_of_chunks().await, b"event");
    world.end().await;
}
