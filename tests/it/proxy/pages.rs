//! What visitors read when there is no app to answer.

use staithe::proxy::RouteState;

use super::world::*;

fn get(host: &str, accept: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n")
}

#[tokio::test]
async fn each_state_has_its_page() {
    let world = World::start().await;
    world
        .route(&[
            ("stopped.test", RouteState::Stopped),
            ("crashed.test", RouteState::Crashed { reason: "secret reason".into() }),
            ("new.test", RouteState::Deploying),
            ("empty.test", live(&[])),
        ])
        .await;
    for (host, status, code, retry) in [
        ("stopped.test", 503, "app-stopped", Some("60")),
        ("crashed.test", 503, "app-crashed", Some("30")),
        ("new.test", 503, "app-deploying", Some("3")),
        ("empty.test", 503, "app-crashed", Some("30")),
        ("other.test", 404, "unknown-host", None),
    ] {
        for (accept, kind) in [
            ("text/html", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("*/*", "text/plain; charset=utf-8"),
        ] {
            let answer = world.ask(&get(host, accept)).await;
            assert_eq!(answer.status(), status, "{host}");
            assert_eq!(answer.field("content-type"), Some(kind));
            assert_eq!(answer.field("retry-after"), retry);
            assert_eq!(answer.field("cache-control"), Some("no-store"));
            assert!(answer.text().contains(code), "{}", answer.text());
            let id = answer.field("x-request-id").unwrap();
            assert!(answer.text().contains(id), "{}", answer.text());
            assert!(!answer.text().contains("secret"), "{}", answer.text());
        }
    }
    let unknown = world.ask(&get("other.test", "*/*")).await;
    assert!(!unknown.text().contains("stopped"), "{}", unknown.text());
    eventually(|| async {
        match world.handle().await.status().await.unwrap().unknown_host {
            4 => Ok(()),
            count => Err(format!("{count} unknown hosts")),
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_page_keeps_the_connection_unless_a_body_is_in_the_way() {
    let world = World::start().await;
    let mut client = world.client().await;
    for _ in 0..3 {
        client.send(get("x.test", "*/*")).await;
        assert_eq!(client.answer().await.status(), 404);
    }
    client.send("POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\n\r\nhello").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (404, Some("close")));
    assert_eq!(client.rest().await, b"");
    world.end().await;
}

#[tokio::test]
async fn apps_that_do_not_answer_well_are_named_as_the_cause() {
    let config = quick(|config| config.response_head_timeout_ms = millis(150));
    let world = World::start_with(config).await;
    let silent = App::raw(|mut connection| async move {
        connection.head().await;
        connection.read_some().await;
    })
    .await;
    let closing = App::raw(|mut connection| async move {
        connection.head().await;
    })
    .await;
    let babbling = App::answering(|_, _| "what?\r\n\r\n".into()).await;
    // Bound, then closed: refuses.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world
        .route(&[
            ("silent.test", live(&[silent.address])),
            ("closing.test", live(&[closing.address])),
            ("babbling.test", live(&[babbling.address])),
            ("dead.test", live(&[dead])),
        ])
        .await;
    for (host, status, code) in [
        ("silent.test", 504, "app-timeout"),
        ("closing.test", 502, "app-closed-connection"),
        ("babbling.test", 502, "app-bad-response"),
        ("dead.test", 502, "app-unreachable"),
    ] {
        let answer = world.ask(&get(host, "application/json")).await;
        assert_eq!(answer.status(), status, "{host}");
        let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(value["error"]["code"], code);
        assert_eq!(value["error"]["fault"], "app");
    }
    assert_eq!(closing.connections(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_instance_that_refuses_is_passed_over() {
    let world = World::start().await;
    let app = App::answering(|_, _| ok("hello")).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.route(&[("shop.test", live(&[dead, app.address]))]).await;
    for _ in 0..20 {
        // Nothing was sent to the dead one, so a body is no obstacle.
        let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(world.ask(post).await.text(), "hello");
    }
    world.end().await;
}

#[tokio::test]
async fn slow_clients_are_told_and_let_go() {
    let config = quick(|config| {
        config.request_head_timeout_ms = millis(100);
        config.client_idle_timeout_ms = millis(100);
        config.body_idle_timeout_ms = millis(100);
    });
    let world = World::start_with(config).await;
    let app = App::answering(|_, _| ok("hello")).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: sh").await;
    assert_eq!(client.answer().await.status(), 408);
    // Silence is not answered.
    assert_eq!(world.client().await.rest().await, b"");
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(client.rest().await, b"");
    // A body that stops half way.
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert_eq!(client.answer().await.status(), 408);
    world.end().await;
}

#[tokio::test]
async fn heads_have_a_limit() {
    let world = World::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "c".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(120));
    for request in [long, many] {
        assert_eq!(world.ask(&request).await.status(), 431);
    }
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    assert_eq!(world.ask(connect).await.status(), 501);
    world.end().await;
}

#[tokio::test]
async fn every_request_is_in_the_access_log() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let request = "GET /a?b=\"c HTTP/1.1\r\nHost: SHOP.test\r\nUser-Agent: it/1\r\nX-Request-Id: my-id\r\n\r\n";
    world.ask(request).await;
    world.ask(&get("other.test", "*/*")).await;
    let read = async |name: &str| {
        let path = world.spec.data_dir.join("proxy").join(name);
        eventually(|| async {
            let log = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let line = log.strip_suffix('\n').ok_or("no whole line")?.to_owned();
            Ok(serde_json::from_str::<serde_json::Value>(&line).unwrap())
        })
        .await
    };
    let line = read("access/shop.log").await;
    assert_eq!(line["app"], "shop");
    for (key, value) in [
        ("request_id", "my-id"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "shop.test"),
        ("target", "/a?b=\"c"),
        ("user_agent", "it/1"),
        ("protocol", "HTTP/1.1"),
        ("upstream", &app.address.to_string()),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!((line["status"].as_u64(), line["bytes"].as_u64()), (Some(200), Some(5)));
    assert_eq!(line["release"], 1);
    let line = read("access.log").await;
    assert!(line["app"].is_null());
    assert_eq!(line["error"], "unknown-host");
    world.end().await;
}
