//! Switching routes under load: nothing is dropped, nothing goes to the wrong place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use staithe::proxy::Error;

use super::world::*;

const SWITCHES: u64 = 50;
const CLIENTS: usize = 16;

/// Requests between two switches: the load must be there whatever the machine's speed.
const ANSWERS_PER_SWITCH: u64 = 60;

/// An instance that says its number, and fails once it was drained and stopped.
async fn instance(number: u64) -> (App, Arc<AtomicBool>) {
    let stopped = Arc::new(AtomicBool::new(false));
    let is_stopped = Arc::clone(&stopped);
    let app = App::answering(move |_, _| {
        assert!(!is_stopped.load(Ordering::SeqCst), "a stopped instance was asked");
        ok(&number.to_string())
    })
    .await;
    (app, stopped)
}

/// What clients and the test tell each other.
#[derive(Default)]
struct Load {
    ending: AtomicBool,
    /// The instance whose route is acknowledged.
    in_force: AtomicU64,
    answers: AtomicU64,
}

/// Asks over and over, on kept connections and on new ones. Every answer must be of an instance at
/// least as new as the one in force when the request was sent.
async fn ask_until_the_end(address: std::net::SocketAddr, load: Arc<Load>) {
    let mut count = 0;
    let mut client = Client::connect(address).await;
    while !load.ending.load(Ordering::SeqCst) {
        let oldest = load.in_force.load(Ordering::SeqCst);
        let (method, body) = if count % 3 == 0 { ("POST", "hi") } else { ("GET", "") };
        client
            .send(format!(
                "{method} / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let number: u64 = answer.text().parse().unwrap();
        assert!(number >= oldest, "instance {number} answered after {oldest} was in force");
        load.answers.fetch_add(1, Ordering::SeqCst);
        count += 1;
        if count % 50 == 0 {
            client = Client::connect(address).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_switches_under_load_drop_nothing() {
    let world = World::start().await;
    let (mut app, mut stopped) = instance(0).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let load = Arc::new(Load::default());
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| spawn(ask_until_the_end(world.address, Arc::clone(&load)))).collect();
    for number in 1..=SWITCHES {
        let (next, next_stopped) = instance(number).await;
        world.route(&[("shop.test", live(&[next.address]))]).await;
        load.in_force.store(number, Ordering::SeqCst);
        let drained = world.supervisor.drain(&[app.address], SOON).await.unwrap();
        assert!(drained.open.is_empty(), "{drained:?}");
        // From here on a request to it fails, and with it the test.
        stopped.store(true, Ordering::SeqCst);
        (app, stopped) = (next, next_stopped);
        eventually(|| async {
            let answers = load.answers.load(Ordering::SeqCst);
            let enough = answers >= number * ANSWERS_PER_SWITCH;
            if enough { Ok(()) } else { Err(format!("{answers} answers")) }
        })
        .await;
    }
    load.ending.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let answers = load.answers.load(Ordering::SeqCst);
    // A request is counted a moment after its answer was written.
    eventually(|| async {
        let status = world.handle().await.status().await.unwrap();
        let shop = status.apps.values().next().unwrap();
        let counted = (shop.success, shop.server_error, shop.aborted);
        if counted == (answers, 0, 0) { Ok(()) } else { Err(format!("{shop:?}, not {answers}")) }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_request_in_flight_ends_where_it_began() {
    let release = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&release);
    let old = App::raw(move |mut connection| {
        let wait = Arc::clone(&wait);
        async move {
            while connection.head().await.is_some() {
                wait.notified().await;
                connection.send(ok("old")).await;
            }
        }
    })
    .await;
    let new = App::answering(|_, _| ok("new")).await;
    let world = World::with_app(&old).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    eventually(|| async {
        let status = world.handle().await.status().await.unwrap();
        if status.upstreams[&old.address].open == 1 { Ok(()) } else { Err("not open".into()) }
    })
    .await;
    world.route(&[("shop.test", live(&[new.address]))]).await;
    let get = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    assert_eq!(world.ask(get).await.text(), "new");
    let short = Duration::from_millis(20);
    let drained = world.supervisor.drain(&[old.address], short).await.unwrap();
    assert_eq!(drained.open.get(&old.address), Some(&1));
    release.notify_one();
    assert_eq!(client.answer().await.text(), "old");
    assert!(world.supervisor.drain(&[old.address], SOON).await.unwrap().open.is_empty());
    // The client's connection went through the switch.
    client.send(get).await;
    assert_eq!(client.answer().await.text(), "new");
    world.end().await;
}

#[tokio::test]
async fn idle_connections_to_a_removed_instance_are_closed() {
    let closed = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&closed);
    let old = App::raw(move |mut connection| {
        let told = Arc::clone(&told);
        async move {
            while connection.head().await.is_some() {
                connection.send(ok("old")).await;
            }
            told.notify_one();
        }
    })
    .await;
    let world = World::with_app(&old).await;
    world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    world.route(&[]).await;
    tokio::time::timeout(SOON, closed.notified()).await.expect("the connection to close");
    world.end().await;
}

#[tokio::test]
async fn tables_that_are_stale_or_contradict_themselves_change_nothing() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let good = world.table(&[("shop.test", live(&[app.address]))]);
    world.supervisor.set_routes(&good).await.unwrap();
    let mut stale = good.clone();
    stale.version -= 1;
    stale.routes.clear();
    let mut torn = good.clone();
    torn.version += 1;
    torn.routes
        .push(staithe::proxy::Route { app: "other".parse().unwrap(), ..good.routes[0].clone() });
    for table in [stale, torn] {
        let error = world.supervisor.set_routes(&table).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
    assert_eq!(world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await.text(), "hello");
    world.end().await;
}

#[tokio::test]
async fn drains_that_wait_keep_no_table_from_being_put_in_force() {
    let asked = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&asked);
    let silent = App::raw(move |mut connection| {
        let told = Arc::clone(&told);
        async move {
            connection.head().await;
            told.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let hello = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&silent).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    tokio::time::timeout(SOON, asked.notified()).await.expect("the app to be asked");
    let handle = world.handle().await;
    let addresses = [silent.address];
    let drains = (0..260).map(|_| handle.drain(&addresses, Duration::from_secs(3600)));
    let mut drains: FuturesUnordered<_> = drains.collect();
    // As many wait as may; the others are told so at once.
    let refused = tokio::time::timeout(SOON, drains.next()).await.expect("an answer").unwrap();
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    let routes = [("shop.test", live(&[hello.address]))];
    let route = world.route(&routes);
    tokio::time::timeout(SOON, route).await.expect("the table to be put in force");
    let answer = world.ask("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    assert_eq!(answer.text(), "hello");
    drop(drains);
    world.end().await;
}
