//! Requests and answers on their way: keep-alive, heads, interim answers, upgrades.

use super::apps::*;
use super::world::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let app = App::echoing_heads().await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for _ in 0..50 {
        client.send(GET).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(app.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::answering(|head, _| ok(head.split(' ').nth(1).unwrap())).await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    let request = |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    client.send((0..200).map(request).collect::<String>()).await;
    for n in 0..200 {
        assert_eq!(client.answer().await.text(), format!("/{n}"));
    }
    world.end().await;
}

#[tokio::test]
async fn the_app_is_told_who_asks_and_the_client_cannot_say_so() {
    let app = App::echoing_heads().await;
    let world = World::with_app(&app).await;
    let port = world.address.port();
    let answer = world
        .ask(&format!(
            "GET /a%20b?c HTTP/1.1\r\nhost: Shop.TEST.:{port}\r\nX-Forwarded-For: 1.2.3.4\r\n\
             x_forwarded_proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n\
             X-Request-Start: 1\r\nCookie: a=b\r\n\r\n"
        ))
        .await;
    let head = Answer { head: answer.text().to_owned(), body: Vec::new() };
    assert_told(&head, port, "a=b");
    assert!(head.field("X-Request-Start").unwrap().len() == 13);
    let lower = head.head.to_ascii_lowercase();
    assert!(!lower.contains("evil") && !lower.contains("1.2.3.4") && !lower.contains("https"));
    world.end().await;
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    // As long as an answer to GET would be (RFC 9110 §8.6).
    let app = bodiless("Content-Length: 5").await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for (method, path, status) in BODILESS {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        let head = client.answer_head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    assert_eq!(app.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_http_1_0_client_gets_what_it_understands() {
    let app = App::answering(|_, _| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            .into()
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.ends_with("\r\n\r\nabcde"), "{rest}");
    assert!(!rest.to_ascii_lowercase().contains("transfer-encoding"), "{rest}");
    world.end().await;
}

#[tokio::test]
async fn interim_answers_pass() {
    let app = hinting().await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    for _ in 0..2 {
        client.send(GET).await;
        let hints = client.answer_head().await;
        assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        assert_eq!(client.answer_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.answer().await.text(), "done");
    }
    world.end().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_from_the_app() {
    let app = App::raw(|mut connection| async move {
        let head = connection.head().await.unwrap();
        assert!(head.contains("Expect: 100-continue"), "{head}");
        connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = connection.take(5).await.unwrap();
        connection.send(ok(std::str::from_utf8(&body).unwrap())).await;
    })
    .await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "hello");
    world.end().await;
}

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn an_upgrade_carries_bytes_both_ways_early_ones_too() {
    let app = echoing_websockets().await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send(format!("{UPGRADE}hello ")).await;
    let head = client.answer_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
    assert_eq!(client.take(11).await.unwrap(), b"earlyhello ");
    let big = vec![b'x'; 300_000];
    let (mut reader, mut writer) = client.stream.into_split();
    let sender = spawn({
        let big = big.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            writer.write_all(&big).await.unwrap();
            writer.shutdown().await.unwrap();
        }
    });
    let mut back = Vec::new();
    use tokio::io::AsyncReadExt;
    reader.read_to_end(&mut back).await.unwrap();
    sender.await.unwrap();
    assert_eq!(back.len(), big.len());
    world.end().await;
}

#[tokio::test]
async fn an_open_upgrade_is_an_open_request() {
    let app = echoing_websockets().await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send(UPGRADE).await;
    client.answer_head().await;
    let handle = world.handle().await;
    let drained = handle.drain(&[app.address], std::time::Duration::from_millis(20)).await.unwrap();
    assert_eq!(drained.open.get(&app.address), Some(&1));
    drop(client);
    let drained = handle.drain(&[app.address], SOON).await.unwrap();
    assert!(drained.open.is_empty());
    world.end().await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let app = App::echoing_heads().await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send(UPGRADE).await;
    assert_eq!(client.answer().await.status(), 200);
    client.send(GET).await;
    assert_eq!(client.answer().await.status(), 200);
    world.end().await;
}

#[tokio::test]
async fn a_request_of_two_lengths_never_reaches_the_app() {
    let app = App::echoing_heads().await;
    let world = World::with_app(&app).await;
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Host: other.test\r\n",
        "X: y\n",
    ] {
        let mut client = world.client().await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.status(), 400, "{fields}");
        assert_eq!(client.rest().await, b"", "{fields}");
    }
    assert_eq!(app.connections(), 0);
    let status = world.handle().await.status().await.unwrap();
    assert_eq!(status.bad_request, 5);
    world.end().await;
}
