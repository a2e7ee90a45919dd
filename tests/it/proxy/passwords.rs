//! Sites that ask for a name and a password (RFC 7617), whatever the protocol.

use base64ct::{Base64, Encoding};
use http::Request;
use sha2::{Digest, Sha256};
use staithe::domain::{Bytes, Credential};
use staithe::proxy::{RouteSettings, RouteState};

use super::admission::{ranges, request};
use super::apps::echoing_websockets;
use super::h2::{Http2, get, read_body, send_body, websocket, whole};
use super::world::*;

const CHALLENGE: &str = r#"Basic realm="shop", charset="UTF-8""#;

/// A site of `ada`, whose password is `tiger`.
fn asking() -> RouteSettings {
    let salt = "0123456789abcdef";
    let bytes = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    let digest = Sha256::new().chain_update(bytes).chain_update("tiger").finalize();
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    RouteSettings {
        basic_auth: vec![Credential::new("ada", salt, &sha256).unwrap()],
        ..RouteSettings::default()
    }
}

fn basic(user: &str) -> String {
    format!("Basic {}", Base64::encode_string(user.as_bytes()))
}

fn authorization(user: &str) -> String {
    format!("Authorization: {}\r\n", basic(user))
}

#[tokio::test]
async fn whoever_has_no_password_does_not_reach_the_app() {
    let app = App::echoing_heads().await;
    let world = World::start().await;
    world.route_shop(live(&[app.address]), asking()).await;
    let mut client = world.client().await;
    let twice = authorization("ada:tiger").repeat(2);
    for fields in ["", &authorization("ada:lion"), "Authorization: Bearer x\r\n", &twice] {
        // On one connection: a refusal is no reason to end it.
        client.send(request("GET", "/", fields)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(CHALLENGE)));
        assert_eq!(answer.field("x-staithe-error"), Some("unauthorized"), "{fields}");
        assert_eq!(answer.field("x-staithe-fault"), Some("client"));
    }
    // The body of a refused request is not read, and so not taken for a request.
    client.send(request("POST", "/", "Content-Length: 100\r\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (401, Some("close")));
    assert_eq!(client.rest().await, b"");
    assert_eq!(app.connections(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_password_opens_the_site_and_ends_at_the_proxy() {
    let app = App::echoing_heads().await;
    let world = World::start().await;
    world.route_shop(live(&[app.address]), asking()).await;
    let fields = format!("Cookie: a=b\r\n{}X-After: c\r\n", authorization("ada:tiger"));
    let answer = world.ask(&request("GET", "/", &fields)).await;
    assert_eq!(answer.status(), 200);
    let seen = Answer { head: answer.text().to_owned(), body: Vec::new() };
    assert_eq!(seen.field("authorization"), None, "{}", seen.head);
    assert_eq!((seen.field("cookie"), seen.field("x-after")), (Some("a=b"), Some("c")));
    // Where nobody is asked the field is the app's, as it came.
    world.route_shop(live(&[app.address]), RouteSettings::default()).await;
    let answer = world.ask(&request("GET", "/", &authorization("ada:tiger"))).await;
    assert!(answer.text().contains(&authorization("ada:tiger")), "{}", answer.text());
    let twice = world.ask(&request("GET", "/", &authorization("ada:tiger").repeat(2))).await;
    assert!(twice.text().contains(&authorization("ada:tiger").repeat(2)), "{}", twice.text());
    world.end().await;
}

#[tokio::test]
async fn an_address_may_stand_for_a_password() {
    let app = App::echoing_heads().await;
    let world = World::start().await;
    let settings = RouteSettings {
        basic_auth_bypass: ranges(["192.0.2.0/24"]),
        trusted_proxies: ranges(["127.0.0.1"]),
        ..asking()
    };
    world.route_shop(live(&[app.address]), settings).await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\nAuthorization: Bearer x\r\n");
    let near = world.ask(&request("GET", "/", &from("192.0.2.7"))).await;
    assert_eq!(near.status(), 200);
    // What is not a password of ours is the app's.
    assert!(near.text().contains("Authorization: Bearer x\r\n"), "{}", near.text());
    assert_eq!(world.ask(&request("GET", "/", &from("198.51.100.7"))).await.status(), 401);
    world.end().await;
}

#[tokio::test]
async fn nobody_is_asked_before_it_is_known_that_they_may_come_here() {
    let app = App::echoing_heads().await;
    let world = World::start().await;
    let denied = RouteSettings { deny: ranges(["127.0.0.1"]), ..asking() };
    let maintained = RouteSettings { maintenance: true, ..asking() };
    let secured = RouteSettings { https_redirect: true, ..asking() };
    let canonical = Some("www.shop.test".parse().unwrap());
    let elsewhere = RouteSettings { canonical_host: canonical, ..asking() };
    // All that follows says something about the app, or costs it something.
    let short = RouteSettings { max_head: Some(Bytes(1024)), ..asking() };
    let long = format!("Cookie: {}\r\n", "c".repeat(1024));
    for (settings, fields, status) in [
        (denied, "", 403),
        (maintained, "", 503),
        (secured, "", 301),
        (elsewhere, "", 301),
        (short, long.as_str(), 401),
    ] {
        world.route_shop(live(&[app.address]), settings).await;
        let answer = world.ask(&request("GET", "/", fields)).await;
        assert_eq!(answer.status(), status, "{}", answer.head);
        assert_eq!(answer.field("www-authenticate").is_some(), status == 401, "{}", answer.head);
    }
    world.route_shop(RouteState::Stopped, asking()).await;
    assert_eq!(world.ask(&request("GET", "/", "")).await.status(), 401);
    let known = request("GET", "/", &authorization("ada:tiger"));
    assert_eq!(world.ask(&known).await.status(), 503);
    world.end().await;
}

#[tokio::test]
async fn http_2_asks_as_http_1_does() {
    let app = App::echoing_heads().await;
    let world = World::start().await;
    world.route_shop(live(&[app.address]), asking()).await;
    let mut client = Http2::connect(world.address).await;
    let answer = client.ask(get("/")).await;
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(CHALLENGE)));
    let with = |users: &[&str]| {
        let request = Request::get("http://shop.test/");
        let add = |request: http::request::Builder, user: &&str| {
            request.header("authorization", basic(user))
        };
        users.iter().fold(request, add).body(()).unwrap()
    };
    assert_eq!(client.ask(with(&["ada:lion"])).await.status(), 401);
    assert_eq!(client.ask(with(&["ada:tiger", "ada:tiger"])).await.status(), 401);
    let answer = client.ask(with(&["ada:tiger"])).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().to_ascii_lowercase().contains("authorization"), "{}", answer.text());
    world.end().await;
}

#[tokio::test]
async fn websockets_are_opened_with_a_password_only() {
    let app = echoing_websockets().await;
    let world = World::start().await;
    world.route_shop(live(&[app.address]), asking()).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    assert_eq!(world.ask(&request("GET", "/", upgrade)).await.status(), 401);
    let mut http2 = Http2::connect(world.address).await;
    let (response, _stream) = http2.send(websocket("/"), false).await;
    assert_eq!(whole(response).await.unwrap().status(), 401);
    assert_eq!(app.connections(), 0);
    let mut client = world.client().await;
    let known = format!("{upgrade}{}", authorization("ada:tiger"));
    client.send(request("GET", "/", &known)).await;
    assert!(client.answer_head().await.starts_with("HTTP/1.1 101 "));
    client.send("frame").await;
    assert_eq!(client.take(10).await.unwrap(), b"earlyframe");
    let mut known = websocket("/");
    known.headers_mut().insert("authorization", basic("ada:tiger").parse().unwrap());
    let (response, mut stream) = http2.send(known, false).await;
    let response = tokio::time::timeout(SOON, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    send_body(&mut stream, "frame".into(), true).await;
    let mut down = response.into_body();
    let echoed = tokio::time::timeout(SOON, read_body(&mut down)).await.unwrap();
    assert_eq!(echoed.unwrap(), b"earlyframe");
    world.end().await;
}
