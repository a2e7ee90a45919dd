//! What a route's settings do to a request before any instance sees it.

use std::path::Path;

use staithe::domain::{AccessLogFormat, Bytes, PageOccasion};
use staithe::proxy::{Challenge, CustomPage, Hsts, RouteSettings, RouteState};

use super::world::*;

impl World {
    /// Routes `shop.test` and `www.shop.test`, both with a certificate, to `state`.
    pub(super) async fn route_shop(&self, state: RouteState, settings: RouteSettings) {
        let mut table = self.table(&[("shop.test", state)]);
        let certificate = Some("a".repeat(64).parse().unwrap());
        let route = &mut table.routes[0];
        route.bindings[0].certificate = certificate;
        let mut www = route.bindings[0].clone();
        www.domain = "www.shop.test".parse().unwrap();
        route.bindings.push(www);
        route.settings = settings;
        self.supervisor.set_routes(&table).await.unwrap();
    }
}

pub(super) fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")
}

pub(super) fn ranges<const N: usize>(texts: [&str; N]) -> Vec<staithe::domain::IpRange> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn lists_decide_about_the_client_that_trusted_proxies_name() {
    let world = World::start().await;
    let app = App::echoing_heads().await;
    let ask = async |settings: &RouteSettings, forwarded: &str| {
        world.route_shop(live(&[app.address]), settings.clone()).await;
        world.ask(&request("GET", "/", forwarded)).await
    };
    let settings = RouteSettings { deny: ranges(["127.0.0.0/8"]), ..RouteSettings::default() };
    let answer = ask(&settings, "").await;
    assert_eq!((answer.status(), answer.field("x-staithe-error")), (403, Some("forbidden")));
    assert_eq!(answer.field("x-staithe-fault"), Some("client"));
    // Whoever is not trusted speaks for itself, and its claims end here.
    let settings = RouteSettings { allow: ranges(["192.0.2.1"]), ..RouteSettings::default() };
    let claim = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(ask(&settings, claim).await.status(), 403);
    let settings =
        RouteSettings { trusted_proxies: ranges(["127.0.0.1", "10.0.0.0/8"]), ..settings };
    for (claim, status) in [
        ("X-Forwarded-For: 192.0.2.1\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1:4711, 10.1.2.3\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.1.2.3, 10.0.0.1\r\n", 200),
        // The rightmost stranger counts, not what it claims.
        ("X-Forwarded-For: 192.0.2.1, 198.51.100.7\r\n", 403),
        ("X-Forwarded-For: 192.0.2.1, nonsense\r\n", 403),
        ("", 403),
    ] {
        assert_eq!(ask(&settings, claim).await.status(), status, "{claim:?}");
    }
    let all = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
               X-Forwarded-Host: public.test\r\nX-Forwarded-Port: 443\r\n";
    let answer = ask(&settings, all).await;
    for line in [
        "X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: public.test\r\n",
        "X-Forwarded-Port: 443\r\n",
    ] {
        assert_eq!(answer.text().matches(line).count(), 1, "{line} in {}", answer.text());
    }
    world.end().await;
}

#[tokio::test]
async fn one_redirect_leads_to_the_final_url() {
    let world = World::start().await;
    let port = world.supervisor.listening().unwrap().https[0].port();
    let app = App::echoing_heads().await;
    let https = RouteSettings { https_redirect: true, ..RouteSettings::default() };
    let canonical = Some("www.shop.test".parse().unwrap());
    let host = RouteSettings { canonical_host: canonical, ..RouteSettings::default() };
    let both = RouteSettings { https_redirect: true, ..host.clone() };
    for (settings, method, target, host, status, location) in [
        (&https, "GET", "/a?b=c", "shop.test", 301, format!("https://shop.test:{port}/a?b=c")),
        (&https, "HEAD", "/", "shop.test:80", 301, format!("https://shop.test:{port}/")),
        (&https, "POST", "/a", "shop.test:8080", 308, format!("https://shop.test:{port}/a")),
        (&host, "GET", "/a", "shop.test:8080", 301, "http://www.shop.test:8080/a".into()),
        (&host, "PUT", "/a", "shop.test:80", 308, "http://www.shop.test/a".into()),
        (&both, "GET", "/a", "shop.test", 301, format!("https://www.shop.test:{port}/a")),
        (&both, "GET", "/a", "www.shop.test", 301, format!("https://www.shop.test:{port}/a")),
        (
            &https,
            "GET",
            "//evil.test",
            "shop.test",
            301,
            format!("https://shop.test:{port}//evil.test"),
        ),
    ] {
        world.route_shop(live(&[app.address]), settings.clone()).await;
        let mut client = world.client().await;
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = Answer { head: client.answer_head().await, body: Vec::new() };
        assert_eq!(head.status(), status, "{method} {host}{target}");
        assert_eq!(head.field("location"), Some(location.as_str()), "{method} {host}{target}");
    }
    // No loop: the canonical host, and what a trusted proxy got over HTTPS, are served.
    let trusting = RouteSettings { trusted_proxies: ranges(["127.0.0.1"]), ..https };
    world.route_shop(live(&[app.address]), trusting).await;
    let secured = request("GET", "/", "X-Forwarded-Proto: https\r\n");
    assert_eq!(world.ask(&secured).await.status(), 200);
    world.route_shop(live(&[app.address]), host).await;
    assert_eq!(world.ask("GET / HTTP/1.1\r\nHost: WWW.shop.test\r\n\r\n").await.status(), 200);
    world.end().await;
}

#[tokio::test]
async fn challenges_are_answered_whatever_the_route_says() {
    let world = World::start().await;
    let mut table = world.table(&[("shop.test", RouteState::Stopped)]);
    table.routes[0].settings = RouteSettings {
        https_redirect: true,
        maintenance: true,
        deny: ranges(["0.0.0.0/0"]),
        ..RouteSettings::default()
    };
    table.routes[0].bindings[0].certificate = Some("a".repeat(64).parse().unwrap());
    table.challenges = vec![Challenge::Http01 {
        domain: "shop.test".parse().unwrap(),
        token: "tok-EN_1".into(),
        answer: "tok-EN_1.print".into(),
    }];
    world.supervisor.set_routes(&table).await.unwrap();
    let path = "/.well-known/acme-challenge/tok-EN_1";
    let answer = world.ask(&request("GET", path, "")).await;
    assert_eq!((answer.status(), answer.text()), (200, "tok-EN_1.print"));
    // Neither another token nor another host, nor a change.
    assert_eq!(world.ask(&request("GET", "/.well-known/acme-challenge/x", "")).await.status(), 403);
    let other = format!("GET {path} HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(world.ask(&other).await.status(), 404);
    assert_eq!(world.ask(&request("DELETE", path, "")).await.status(), 403);
    world.end().await;
}

#[tokio::test]
async fn limits_of_head_and_body_hold_for_every_framing() {
    let world = World::start().await;
    let app = App::answering(|_, body| ok(&body.len().to_string())).await;
    let settings = RouteSettings {
        max_body: Some(Bytes(10)),
        max_head: Some(Bytes(1024)),
        ..RouteSettings::default()
    };
    world.route_shop(live(&[app.address]), settings).await;
    let long_head = request("GET", "/", &format!("Cookie: {}\r\n", "c".repeat(1024)));
    assert_eq!(world.ask(&long_head).await.status(), 431);
    let fits = request("POST", "/", "Content-Length: 10\r\n") + "0123456789";
    assert_eq!(world.ask(&fits).await.text(), "10");
    let taken = app.connections();
    // Refused by its head: nothing of the body is waited for.
    let announced = request("POST", "/", "Content-Length: 11\r\n");
    let mut client = world.client().await;
    client.send(&announced).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (413, Some("close")));
    assert_eq!(answer.field("x-staithe-error"), Some("body-too-large"));
    assert_eq!(app.connections(), taken);
    let chunked = request("POST", "/", "Transfer-Encoding: chunked\r\n");
    let fits = format!("{chunked}5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n");
    assert_eq!(world.ask(&fits).await.text(), "10");
    let too_long = format!("{chunked}5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n");
    let mut client = world.client().await;
    client.send(&too_long).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (413, Some("close")));
    assert_eq!(client.rest().await, b"");
    world.end().await;
}

#[tokio::test]
async fn a_busy_app_says_so_until_a_request_ends() {
    let world = World::start().await;
    let app = App::raw(|mut connection| async move {
        while connection.head().await.is_some() {
            // Answers when the body has come.
            let Some(body) = connection.take(2).await else { return };
            connection.send(&ok(std::str::from_utf8(&body).unwrap())).await;
        }
    })
    .await;
    let settings = RouteSettings { max_open_requests: Some(2), ..RouteSettings::default() };
    world.route_shop(live(&[app.address]), settings).await;
    let post = request("POST", "/", "Content-Length: 2\r\n");
    let (mut first, mut second) = (world.client().await, world.client().await);
    for client in [&mut first, &mut second] {
        client.send(&post).await;
    }
    eventually(|| async { if app.connections() == 2 { Ok(()) } else { Err("not open".into()) } })
        .await;
    let answer = world.ask(&post).await;
    assert_eq!((answer.status(), answer.field("x-staithe-error")), (503, Some("app-busy")));
    assert_eq!(answer.field("retry-after"), Some("2"));
    first.send("hi").await;
    assert_eq!(first.answer().await.text(), "hi");
    // The place of the first is free again.
    let mut third = world.client().await;
    third.send(format!("{post}yo")).await;
    assert_eq!(third.answer().await.text(), "yo");
    second.send("ho").await;
    assert_eq!(second.answer().await.text(), "ho");
    world.end().await;
}

fn write_page(data_dir: &Path, id: &str, text: &str) {
    let directory = data_dir.join("pages");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{id}.html"));
    staithe::support::atomic_file::write(&path, text.as_bytes(), 0o644).unwrap();
}

#[tokio::test]
async fn maintenance_and_custom_pages_are_for_people() {
    let world = World::start().await;
    let app = App::raw(|mut connection| async move {
        connection.head().await;
    })
    .await;
    let ids = ["a", "b", "c", "d"].map(|digit| digit.repeat(64));
    write_page(&world.spec.data_dir, &ids[0], "<p>back soon, {{request_id}}");
    write_page(&world.spec.data_dir, &ids[1], "<p>asleep");
    write_page(&world.spec.data_dir, &ids[2], "<p>oops");
    let page = |when, id: &String| CustomPage { when, id: id.clone() };
    let pages = vec![
        page(PageOccasion::Maintenance, &ids[0]),
        page(PageOccasion::Unavailable, &ids[1]),
        page(PageOccasion::Error, &ids[2]),
    ];
    let maintenance = |maintenance| RouteSettings {
        maintenance,
        pages: pages.clone(),
        access_log: AccessLogFormat::Off,
        ..RouteSettings::default()
    };
    let html = request("GET", "/", "Accept: text/html\r\n");
    world.route_shop(live(&[app.address]), maintenance(true)).await;
    let answer = world.ask(&html).await;
    let id = answer.field("x-request-id").unwrap();
    assert_eq!((answer.status(), answer.text()), (503, format!("<p>back soon, {id}").as_str()));
    assert_eq!(answer.field("retry-after"), Some("300"));
    assert_eq!(answer.field("content-security-policy"), None);
    let json = world.ask(&request("GET", "/", "Accept: application/json\r\n")).await;
    assert!(json.text().contains("app-maintenance"), "{}", json.text());
    assert_eq!(app.connections(), 0);
    world.route_shop(live(&[app.address]), maintenance(false)).await;
    assert_eq!(world.ask(&html).await.text(), "<p>oops");
    world.route_shop(RouteState::Stopped, maintenance(false)).await;
    assert_eq!(world.ask(&html).await.text(), "<p>asleep");
    // A page that is not there is replaced by ours.
    let lost = RouteSettings {
        pages: vec![page(PageOccasion::Unavailable, &ids[3])],
        ..RouteSettings::default()
    };
    world.route_shop(RouteState::Stopped, lost).await;
    assert!(world.ask(&html).await.text().contains("This app is stopped"));
    world.end().await;
}

#[tokio::test]
async fn strict_transport_security_is_said_where_the_client_came_securely() {
    let world = World::start().await;
    let plain = App::answering(|_, _| ok("x")).await;
    let own =
        "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 0\r\n\r\n";
    let strict = App::answering(move |_, _| own.to_owned()).await;
    let hsts = Hsts { max_age_s: 600, include_subdomains: true, preload: false };
    let settings = RouteSettings {
        hsts: Some(hsts),
        trusted_proxies: ranges(["127.0.0.1"]),
        ..RouteSettings::default()
    };
    let secured = request("GET", "/", "X-Forwarded-Proto: https\r\n");
    let value = Some("max-age=600; includeSubDomains");
    let name = "strict-transport-security";
    world.route_shop(live(&[plain.address]), settings.clone()).await;
    assert_eq!(world.ask(&secured).await.field(name), value);
    assert_eq!(world.ask(&request("GET", "/", "")).await.field(name), None);
    world.route_shop(live(&[strict.address]), settings.clone()).await;
    let answer = world.ask(&secured).await;
    assert_eq!(answer.field(name), Some("max-age=1"));
    assert_eq!(answer.head.to_lowercase().matches(name).count(), 1);
    world.route_shop(RouteState::Stopped, settings).await;
    assert_eq!(world.ask(&secured).await.field(name), value);
    world.end().await;
}
