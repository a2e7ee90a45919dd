//! What is counted, and which lines are written, for whom.

use staithe::domain::{AccessLogFormat, AppName, ReleaseVersion};
use staithe::proxy::{CountedRelease, Metrics, ReleaseMetrics, RouteState};

use super::world::*;

fn get(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\nReferer: http://a.test/\r\n\r\n")
}

/// Counters that `wanted` accepts; requests are counted just after their answer.
async fn metrics(world: &World, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    eventually(|| async {
        let metrics = world.handle().await.metrics().await.unwrap();
        if wanted(&metrics) { Ok(metrics) } else { Err(format!("{metrics:?}")) }
    })
    .await
}

fn of(metrics: &Metrics, app: &str, release: u32) -> ReleaseMetrics {
    let app: AppName = app.parse().unwrap();
    let release = CountedRelease::Version(ReleaseVersion(release));
    let mut found = metrics.releases.iter().filter(|m| m.app == app && m.release == release);
    found.next().unwrap_or_else(|| panic!("no {app} {release:?} in {metrics:?}")).clone()
}

#[tokio::test]
async fn requests_are_counted_by_app_release_and_end() {
    let world = World::start().await;
    let app = App::answering(|_, body| match body {
        b"bad" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into(),
        _ => ok("hello"),
    })
    .await;
    let live = |release| RouteState::Live {
        release: ReleaseVersion(release),
        upstreams: vec![app.address],
    };
    world.route(&[("shop.test", live(1))]).await;
    let post = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nbad";
    for request in [&get("shop.test"), &get("shop.test"), post, &get("other.test")] {
        world.ask(request).await;
    }
    world.route(&[("shop.test", live(2))]).await;
    world.ask(&get("shop.test")).await;
    let total = |metrics: &Metrics| -> u64 {
        metrics.releases.iter().flat_map(|m| m.ended).flatten().sum()
    };
    let metrics = metrics(&world, |m| total(m) == 4 && m.unknown_host == 1).await;
    let first = of(&metrics, "shop", 1);
    assert_eq!(first.ended, [[0, 2, 0, 0, 1, 0], [0; 6]]);
    assert_eq!((first.received_bytes, first.sent_bytes, first.open), (3, 10, 0));
    assert_eq!(first.latencies.iter().sum::<u64>(), 3);
    assert!(first.latency_us > 0);
    assert_eq!(of(&metrics, "shop", 2).ended[0][1], 1);
    assert_eq!(metrics.errors["unknown-host"], 1);
    assert_eq!(metrics.errors["app-timeout"], 0);
    let text = staithe::proxy::openmetrics::render(Some(&metrics));
    let line = "staithe_requests_total{app=\"shop\",release=\"v1\",protocol=\"http/1\",status=\"5xx\"} 1\n";
    assert!(text.contains(line), "{text}");
    world.end().await;
}

#[tokio::test]
async fn open_requests_are_those_that_have_not_ended() {
    let world = World::start().await;
    let app = App::raw(|mut connection| async move {
        connection.head().await;
        // It may have come with the head.
        connection.take(1).await;
        connection.send(&ok("late")).await;
    })
    .await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\n\r\n").await;
    metrics(&world, |m| m.releases.first().is_some_and(|release| release.open == 1)).await;
    client.send("x").await;
    assert_eq!(client.answer().await.text(), "late");
    metrics(&world, |m| m.releases[0].open == 0).await;
    world.end().await;
}

#[tokio::test]
async fn an_instance_that_keeps_hanging_up_is_left_alone() {
    let world = World::start().await;
    let good = App::answering(|_, _| ok("good")).await;
    let bad = App::raw(|mut connection| async move {
        connection.head().await;
    })
    .await;
    world.route(&[("shop.test", live(&[good.address, bad.address]))]).await;
    let mut failures = 0;
    for _ in 0..40 {
        failures += usize::from(world.ask(&get("shop.test")).await.status() == 502);
    }
    // Turns are taken until the fifth failure in a row of the bad one.
    assert_eq!((failures, bad.connections()), (5, 5));
    let status = world.handle().await.status().await.unwrap();
    assert_eq!(status.ejections, 1);
    assert!(status.upstreams[&bad.address].ejected && !status.upstreams[&good.address].ejected);
    // The last one is asked whatever it did before.
    world.route(&[("shop.test", live(&[bad.address]))]).await;
    assert_eq!(world.ask(&get("shop.test")).await.status(), 502);
    assert_eq!(bad.connections(), 6);
    world.end().await;
}

#[tokio::test]
async fn each_app_decides_about_its_log() {
    let world = World::start().await;
    let app = App::answering(|_, _| ok("hello")).await;
    let hosts = ["json.test", "combined.test", "off.test"];
    let routes = hosts.map(|host| (host, live(&[app.address])));
    let mut table = world.table(&routes);
    let formats = [AccessLogFormat::Json, AccessLogFormat::Combined, AccessLogFormat::Off];
    for (route, format) in table.routes.iter_mut().zip(formats) {
        route.settings.access_log = format;
    }
    world.supervisor.set_routes(&table).await.unwrap();
    for host in hosts.into_iter().rev() {
        world.ask(&get(host)).await;
    }
    let directory = world.spec.data_dir.join("proxy/access");
    let read = async |app: &str| {
        let path = directory.join(format!("{app}.log"));
        eventually(|| async {
            let log = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            log.strip_suffix('\n').map(str::to_owned).ok_or(log.clone())
        })
        .await
    };
    let combined = read("combined").await;
    let (before, after) = combined.split_once(" - - [").unwrap();
    assert_eq!(before, "127.0.0.1");
    let line = "] \"GET /x HTTP/1.1\" 200 5 \"http://a.test/\" \"-\"";
    assert!(after.ends_with(line), "{combined}");
    let json: serde_json::Value = serde_json::from_str(&read("json").await).unwrap();
    assert_eq!((&json["app"], &json["referer"]), (&"json".into(), &"http://a.test/".into()));
    assert!(json["upstream_ms"].is_u64(), "{json}");
    // The one that was asked first has no file, though the others' are there.
    assert!(!directory.join("off.log").exists());
    world.end().await;
}
