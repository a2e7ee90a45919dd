//! The process: started, adopted, killed, ended.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use staithe::proxy::{Error, ProxyHandle, Supervisor};

use super::world::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";

pub(super) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn proc_status(pid: u32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_killed_proxy_comes_back_with_its_routes() {
    let app = App::answering(|_, _| ok("hello")).await;
    let mut world = World::with_app(&app).await;
    let first = world.handle().await;
    signal(first.pid(), "-KILL");
    first.closed().await;
    let second = eventually(|| async {
        let handle = world.handle().await;
        if handle.pid() == first.pid() { Err("the same process".into()) } else { Ok(handle) }
    })
    .await;
    assert_eq!(second.routes_version(), 1);
    // Port 0 again, so another port.
    world.address = world.supervisor.listening().unwrap().listen[0];
    assert_eq!(world.ask(GET).await.text(), "hello");
    world.end().await;
}

#[tokio::test]
async fn a_proxy_whose_log_cannot_be_written_serves() {
    let app = App::answering(|_, _| ok("hello")).await;
    let mut world = World::with_app(&app).await;
    let log = world.spec.data_dir.join("logs/proxy.log");
    std::fs::remove_file(&log).unwrap();
    // As on a full disk. full(4)
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let first = world.handle().await;
    signal(first.pid(), "-KILL");
    first.closed().await;
    eventually(|| async {
        let handle = world.handle().await;
        if handle.pid() == first.pid() { Err("the same process".into()) } else { Ok(handle) }
    })
    .await;
    world.address = world.supervisor.listening().unwrap().listen[0];
    assert_eq!(world.ask(GET).await.text(), "hello");
    world.end().await;
}

#[tokio::test]
async fn a_proxy_outlives_its_control_plane_and_is_adopted_by_the_next() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let pid = world.handle().await.pid();
    let spec = world.spec.clone();
    let address = world.address;
    let mut client = Client::connect(address).await;
    // As `kill -9` of the control plane: its connection closes, nobody watches any more.
    let World { supervisor, directory, .. } = world;
    drop(supervisor);
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "hello");
    let adopted = Supervisor::ensure_running(spec).await.unwrap();
    let handle = adopted.handle().await.unwrap();
    assert_eq!(handle.pid(), pid);
    assert_eq!(handle.routes_version(), 1);
    adopted.stop(Duration::ZERO).await.unwrap();
    drop(directory);
}

#[tokio::test]
async fn a_lost_connection_to_the_proxy_is_made_again_and_costs_no_client_anything() {
    let app = App::answering(|_, _| ok("hello")).await;
    let world = World::with_app(&app).await;
    let pid = world.handle().await.pid();
    let mut client = world.client().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "hello");
    // Longer than a message may be: the proxy hangs up on us. Of the longest addresses, since few of
    // them are written in time even on a busy machine.
    let longest: std::net::SocketAddr =
        "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap();
    let many = vec![longest; 340_000];
    let lost = world.supervisor.drain(&many, Duration::ZERO).await.unwrap_err();
    assert!(matches!(lost, Error::Gone), "nobody knows what is open: {lost}");
    assert_eq!(world.handle().await.pid(), pid);
    world.route(&[("shop.test", live(&[app.address]))]).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "hello", "on the connection from before");
    world.end().await;
}

#[tokio::test]
async fn a_proxy_that_is_silent_for_a_while_is_waited_for_and_adopted() {
    let app = App::answering(|_, _| ok("hello")).await;
    let World { supervisor, spec, address, directory, .. } = World::with_app(&app).await;
    let pid = supervisor.handle().await.unwrap().pid();
    drop(supervisor);
    signal(pid, "-STOP");
    let mut opening = std::pin::pin!(Supervisor::ensure_running(spec));
    // Longer than it may take to greet.
    let early = tokio::time::timeout(Duration::from_secs(6), &mut opening).await;
    signal(pid, "-CONT");
    assert!(early.is_err(), "another was started beside it");
    let supervisor = opening.await.unwrap();
    assert_eq!(supervisor.handle().await.unwrap().pid(), pid);
    let mut client = Client::connect(address).await;
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "hello");
    supervisor.stop(Duration::ZERO).await.unwrap();
    drop(directory);
}

#[tokio::test]
async fn a_second_instance_on_the_same_port_is_refused_with_the_reason() {
    let world = World::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut spec = world.spec.clone();
    spec.run_dir = directory.path().to_owned();
    spec.data_dir = directory.path().join("data");
    spec.config.http_listen = vec![world.address];
    let error = Supervisor::ensure_running(spec).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::EndedAtStart { .. }), "{text}");
    assert!(text.contains(&format!("listen on {}", world.address)), "{text}");
    assert!(text.contains("in use"), "{text}");
    world.end().await;
}

#[tokio::test]
async fn sigterm_lets_requests_end_and_leaves_idle_clients() {
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = std::sync::Arc::clone(&release);
    let app = App::raw(move |mut connection| {
        let wait = std::sync::Arc::clone(&wait);
        async move {
            while connection.head().await.is_some() {
                wait.notified().await;
                connection.send(ok("late")).await;
            }
        }
    })
    .await;
    // One core: that it has let the idle one go says that it knows for the busy one too.
    let world = World::start_with(quick(|config| config.threads = 1)).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let handle = world.handle().await;
    let mut idle = world.client().await;
    let mut busy = world.client().await;
    busy.send(GET).await;
    eventually(|| async {
        let status = handle.status().await.unwrap();
        let open = status.upstreams[&app.address].open;
        if (open, status.connections) == (1, 2) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    // Its port may be anyone's once it is gone, so nobody is to start it again.
    let World { supervisor, directory, .. } = world;
    drop(supervisor);
    signal(handle.pid(), "-TERM");
    assert_eq!(idle.rest().await, b"");
    release.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("late", Some("close")));
    assert_eq!(busy.rest().await, b"");
    tokio::time::timeout(SOON, handle.closed()).await.expect("the process to end");
    drop(directory);
}

#[tokio::test]
async fn the_process_has_dropped_everything_it_does_not_need() {
    let world = World::start().await;
    let pid = world.handle().await.pid();
    let socket = std::fs::metadata(world.spec.run_dir.join(format!("proxy-{pid}.sock"))).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(proc_status(pid, "NoNewPrivs"), "1");
    assert_eq!(proc_status(pid, "Seccomp"), "2");
    assert_eq!(proc_status(pid, "CapEff"), "0000000000000000");
    assert_eq!(proc_status(pid, "CapPrm"), "0000000000000000");
    if socket.uid() == 0 {
        assert_eq!(proc_status(pid, "Uid"), "32767 32767 32767 32767");
        assert_eq!(proc_status(pid, "Gid"), "32767 32767 32767 32767");
        assert_eq!(proc_status(pid, "Groups"), "");
        let data = std::fs::metadata(world.spec.data_dir.join("proxy")).unwrap();
        assert_eq!((data.uid(), data.mode() & 0o777), (32767, 0o750));
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = files.split_whitespace().filter(|word| word.parse::<u64>().is_ok());
    assert_eq!(numbers.next(), numbers.next(), "{files}");
    world.end().await;
}

#[tokio::test]
async fn nobody_answers_where_no_proxy_runs() {
    let directory = tempfile::tempdir().unwrap();
    let error = ProxyHandle::connect(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}
