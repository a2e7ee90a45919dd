//! One process after another: connections, sockets and ports go from each to the next.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use staithe::domain::Scheme;
use staithe::proxy::{
    Config, Error, ExtraListener, ProxyArgs, ProxyHandle, RouteState, Start, Supervisor,
};

use super::life::signal;
use super::world::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
const UPGRADE: &str =
    "GET /socket HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Answers with `text`; echoes on an upgraded connection.
async fn app(text: &'static str) -> App {
    App::raw(move |mut connection| async move {
        while let Some(head) = connection.head().await {
            if !head.to_ascii_lowercase().contains("upgrade: websocket") {
                connection.send(ok(text)).await;
                continue;
            }
            connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
            loop {
                let read = std::mem::take(&mut connection.read);
                connection.send(read).await;
                if connection.read_some().await.is_none() {
                    return;
                }
            }
        }
    })
    .await
}

async fn open_socket(world: &World) -> Client {
    let mut socket = world.client().await;
    socket.send(UPGRADE).await;
    assert!(socket.answer_head().await.starts_with("HTTP/1.1 101 "));
    socket
}

async fn echoes(socket: &mut Client, word: &str) {
    socket.send(word).await;
    let back = tokio::time::timeout(SOON, socket.take(word.len())).await;
    assert_eq!(back.expect("an echo in time").as_deref(), Some(word.as_bytes()));
}

async fn generations(supervisor: &Supervisor) -> usize {
    supervisor.status().await.unwrap().generations.len()
}

async fn until_generations(supervisor: &Supervisor, wanted: usize) {
    eventually(|| async {
        let now = generations(supervisor).await;
        if now == wanted { Ok(()) } else { Err(format!("{now} processes")) }
    })
    .await;
}

/// Asks until `ending`, on connections that it keeps as long as it may, or on new ones.
async fn ask_until_the_end(
    address: SocketAddr,
    keep: bool,
    ending: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) {
    let mut client = Client::connect(address).await;
    while !ending.load(Ordering::SeqCst) {
        client.send(GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        answers.fetch_add(1, Ordering::SeqCst);
        if !keep || answer.field("connection") == Some("close") {
            client = Client::connect(address).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_drop_nothing() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let mut socket = open_socket(&world).await;
    let (ending, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (ending, answers) = (Arc::clone(&ending), Arc::clone(&answers));
            spawn(ask_until_the_end(world.address, number % 2 == 0, ending, answers))
        })
        .collect();
    for number in 1..=5 {
        let before = world.handle().await.pid();
        let upgraded = world.supervisor.upgrade().await.unwrap();
        assert_eq!(upgraded.before, before);
        assert_eq!(world.handle().await.pid(), upgraded.pid);
        assert_eq!(world.supervisor.listening().unwrap().listen, [world.address]);
        eventually(|| async {
            let answers = answers.load(Ordering::SeqCst);
            if answers >= number * 200 { Ok(()) } else { Err(format!("{answers} answers")) }
        })
        .await;
        echoes(&mut socket, "still here").await;
    }
    ending.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    // The first serves its WebSocket; the others had nothing left to do.
    until_generations(&world.supervisor, 2).await;
    drop(socket);
    until_generations(&world.supervisor, 1).await;
    world.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_close_not_cut() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    client.send(GET).await;
    assert_eq!(client.answer().await.field("connection"), None);
    let before = world.handle().await;
    world.supervisor.upgrade().await.unwrap();
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
    assert_eq!(client.rest().await, b"");
    tokio::time::timeout(SOON, before.closed()).await.expect("the process before to end");
    until_generations(&world.supervisor, 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_retiring_process_follows_the_routes_and_is_drained() {
    let (old, new) = (app("old").await, app("new").await);
    let world = World::with_app(&old).await;
    let mut socket = open_socket(&world).await;
    let mut idle = world.client().await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.text(), "old");
    world.supervisor.upgrade().await.unwrap();
    world.route(&[("shop.test", live(&[new.address]))]).await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.text(), "new");
    let drain = async |deadline| world.supervisor.drain(&[old.address], deadline).await.unwrap();
    let drained = drain(Duration::from_millis(20)).await;
    assert_eq!(drained.open.get(&old.address), Some(&1), "{drained:?}");
    echoes(&mut socket, "as before").await;
    drop(socket);
    assert!(drain(SOON).await.open.is_empty());
    // What it wrote last is the successor's table, not its own.
    let kept = std::fs::read_to_string(world.spec.data_dir.join("proxy/routes.json")).unwrap();
    assert!(kept.contains(&new.address.to_string()), "{kept}");
    world.end().await;
}

/// WebSockets, as many as it takes until one of them is in the process that takes new clients: the
/// one before may take some more, until it has read that it retires.
async fn open_sockets_in_the_current(world: &World, app: &App) -> Vec<Client> {
    let mut sockets = Vec::new();
    loop {
        sockets.push(open_socket(world).await);
        let status = world.handle().await.status().await.unwrap();
        if status.upstreams[&app.address].open > 0 {
            return sockets;
        }
        assert!(sockets.len() < 100, "{status:?}");
    }
}

async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_drain_asks_who_takes_over_meanwhile() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let first = open_socket(&world).await;
    let before = world.handle().await;
    let upstreams = [app.address];
    let mut drain = Box::pin(world.supervisor.drain(&upstreams, SOON));
    // Asks the only process there is.
    assert!(is_pending(&mut drain).await);
    world.supervisor.upgrade().await.unwrap();
    let mut sockets = open_sockets_in_the_current(&world, &app).await;
    let last = sockets.pop().unwrap();
    drop((first, sockets));
    tokio::time::timeout(SOON, before.closed()).await.expect("the process before to end");
    assert!(is_pending(&mut drain).await);
    drop(last);
    assert!(drain.await.unwrap().open.is_empty());
    world.end().await;
}

#[tokio::test]
async fn the_next_control_plane_adopts_every_generation() {
    let (old, new) = (app("old").await, app("new").await);
    let world = World::with_app(&old).await;
    let mut socket = open_socket(&world).await;
    let mut idle = world.client().await;
    idle.send(GET).await;
    idle.answer().await;
    let upgraded = world.supervisor.upgrade().await.unwrap();
    let table = world.table(&[("shop.test", live(&[new.address]))]);
    let World { supervisor, spec, directory, .. } = world;
    drop(supervisor);
    let adopted = Supervisor::ensure_running(spec).await.unwrap();
    assert_eq!(adopted.handle().await.unwrap().pid(), upgraded.pid);
    assert_eq!(generations(&adopted).await, 2);
    adopted.set_routes(&table).await.unwrap();
    idle.send(GET).await;
    assert_eq!(idle.answer().await.text(), "new");
    echoes(&mut socket, "as before").await;
    adopted.stop(Duration::ZERO).await.unwrap();
    assert_eq!(socket.rest().await, b"");
    drop(directory);
}

#[tokio::test]
async fn other_settings_replace_the_process_with_its_sockets() {
    let app = app("hello").await;
    let mut world = World::start_with(quick(|config| config.threads = 1)).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut pid = world.handle().await.pid();
    // More cores than sockets, then fewer.
    for threads in [3, 1] {
        world = world.restart(|spec| spec.config.threads = threads).await;
        let now = world.handle().await.pid();
        assert_ne!(now, pid);
        assert_eq!(world.supervisor.listening().unwrap().listen, [world.address]);
        let is_core = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).unwrap().starts_with("core-")
        };
        // A thread names itself, a moment after its start.
        eventually(|| async {
            let tasks = std::fs::read_dir(format!("/proc/{now}/task")).unwrap();
            let cores = tasks.flatten().filter(is_core).count();
            if cores == threads { Ok(()) } else { Err(format!("{cores} cores")) }
        })
        .await;
        // Enough for each of the sockets to be chosen.
        for _ in 0..50 {
            assert_eq!(world.ask(GET).await.text(), "hello");
        }
        pid = now;
    }
    world.end().await;
}

/// By another process: a child that some other test forks meanwhile must not have the program open
/// for writing, ETXTBSY of execve(2).
fn write_program(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    staithe::support::atomic_file::write(&draft, text.as_bytes(), 0o755).unwrap();
    let copied = Command::new("cp").arg("-p").args([&draft, path]).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_process_as_it_was() {
    let app = app("hello").await;
    let world = World::start().await;
    // A program of our own, to break it.
    let program = world.directory.0.path().join("staithe");
    std::fs::copy(&world.spec.program, &program).unwrap();
    let world = world.restart(|spec| spec.program = program.clone()).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut client = world.client().await;
    let pid = world.handle().await.pid();
    std::fs::remove_file(&program).unwrap();
    write_program(&program, "#!/bin/sh\necho no such luck >&2; exit 7\n");
    let error = world.supervisor.upgrade().await.unwrap_err();
    assert!(matches!(error, Error::EndedAtStart { .. }), "{error}");
    assert!(error.to_string().contains("no such luck"), "{error}");
    client.send(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("connection")), ("hello", None));
    assert_eq!(world.handle().await.pid(), pid);
    // Nor does the next control plane lose it.
    let world = world.restart(|_| {}).await;
    assert_eq!(world.handle().await.pid(), pid);
    world.end().await;
}

/// The shortage of descriptors comes when the sockets are taken over and some cores run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_fails_late_takes_no_client_with_it() {
    const CORES: usize = 64;
    let app = app("hello").await;
    let world = World::start_with(quick(|config| config.threads = CORES)).await;
    let program = world.directory.0.path().join("staithe");
    // Two listeners, a socket for each core, each held twice; then two descriptors for each core.
    let limit = 4 * CORES + CORES;
    let real = world.spec.program.display();
    write_program(&program, &format!("#!/bin/sh\nulimit -n {limit}\nexec {real} \"$@\"\n"));
    let world = world.restart(|spec| spec.program = program).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let pid = world.handle().await.pid();
    let (ending, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (ending, answers) = (Arc::clone(&ending), Arc::clone(&answers));
            spawn(ask_until_the_end(world.address, false, ending, answers))
        })
        .collect();
    for number in 1..=5 {
        let error = world.supervisor.upgrade().await.unwrap_err();
        assert!(error.to_string().contains("a core"), "{error}");
        eventually(|| async {
            let answers = answers.load(Ordering::SeqCst);
            if answers >= number * 100 { Ok(()) } else { Err(format!("{answers} answers")) }
        })
        .await;
    }
    ending.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(world.handle().await.pid(), pid);
    world.end().await;
}

#[tokio::test]
async fn a_process_that_nobody_told_retires_all_the_same() {
    let world = World::start().await;
    let at_port = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // As a predecessor that its successor could not reach: both take clients.
    let config = Config { http_listen: vec![at_port], ..world.spec.config.clone() };
    let args = ProxyArgs {
        run_dir: world.spec.run_dir.clone(),
        data_dir: world.spec.data_dir.clone(),
        start: Start { config, ..Start::default() },
    };
    let mut other = tokio::process::Command::new(&world.spec.program)
        .arg("proxy")
        .args(args.to_arguments())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut idle = eventually(|| async {
        let stream = tokio::net::TcpStream::connect(at_port).await;
        stream.map(|stream| Client { stream, read: Vec::new() }).map_err(|error| error.to_string())
    })
    .await;
    idle.send(GET).await;
    assert_eq!(idle.answer().await.field("connection"), Some("keep-alive"));
    // The one with the newer routes stays.
    world.route(&[("shop.test", RouteState::Stopped)]).await;
    let pid = world.handle().await.pid();
    let world = world.restart(|_| {}).await;
    assert_eq!(world.handle().await.pid(), pid);
    let closed = async || tokio::net::TcpStream::connect(at_port).await.is_err();
    eventually(|| async { if closed().await { Ok(()) } else { Err("open".to_owned()) } }).await;
    // Retired, not ended: what is open is served.
    idle.send(GET).await;
    assert_eq!(idle.answer().await.field("connection"), Some("close"));
    until_generations(&world.supervisor, 1).await;
    assert!(tokio::time::timeout(SOON, other.wait()).await.unwrap().unwrap().success());
    world.end().await;
}

#[tokio::test]
async fn a_successor_that_dies_half_way_is_forgotten() {
    let world = World::start().await;
    let pid = world.handle().await.pid();
    let path = world.spec.run_dir.join(format!("handover-{pid}.sock"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for message in ["", r#"{"versions":[1]}"#, r#"{"versions":[77]}"#, "nonsense"] {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None);
        let socket = socket.unwrap();
        socket.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        // Closed at once, whatever the other side says.
        socket.send(message.as_bytes()).unwrap();
    }
    assert_eq!(world.supervisor.upgrade().await.unwrap().before, pid);
    world.end().await;
}

fn free_port() -> u16 {
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    std::net::TcpListener::bind(any).unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn ports_of_the_table_are_opened_and_closed() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let mut client = world.client().await;
    let port = free_port();
    let routes = [("shop.test", live(&[app.address]))];
    let mut table = world.table(&routes);
    table.listeners = vec![ExtraListener { port, scheme: Scheme::Http }];
    table.routes[0].bindings[0].listeners.push(staithe::proxy::ListenerName::Port(port));
    world.supervisor.set_routes(&table).await.unwrap();
    let at_port = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = async || {
        let mut client = Client::connect(at_port).await;
        client.send(GET).await;
        client.answer().await.text().to_owned()
    };
    assert_eq!(ask().await, "hello");
    // The connection from before went through it.
    client.send(GET).await;
    assert_eq!(client.answer().await.text(), "hello");
    // It is there after a crash.
    let before = world.handle().await;
    Command::new("kill").args(["-KILL", &before.pid().to_string()]).status().unwrap();
    before.closed().await;
    eventually(|| async {
        let handle = world.handle().await;
        if handle.pid() == before.pid() { Err("the same process".into()) } else { Ok(()) }
    })
    .await;
    assert_eq!(ask().await, "hello");
    world.route(&routes).await;
    let closed = async || tokio::net::TcpStream::connect(at_port).await.is_err();
    eventually(|| async { if closed().await { Ok(()) } else { Err("open".to_owned()) } }).await;
    world.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_table_by_name() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let other = std::net::TcpListener::bind(any).unwrap();
    let port = other.local_addr().unwrap().port();
    let pid = world.handle().await.pid();
    let mut table = world.table(&[]);
    table.listeners = vec![ExtraListener { port, scheme: Scheme::Http }];
    let error = world.supervisor.set_routes(&table).await.unwrap_err();
    assert!(matches!(error, Error::Port { .. }), "{error}");
    assert!(error.to_string().contains(&format!("port {port} cannot be opened")), "{error}");
    assert_eq!(world.handle().await.pid(), pid);
    assert_eq!(world.ask(GET).await.text(), "hello");
    world.end().await;
}

#[tokio::test]
async fn a_full_process_lets_go_of_a_port_that_its_successor_does_not_have() {
    let app = app("hello").await;
    let config = quick(|config| (config.threads, config.max_connections) = (1, 1));
    let world = World::start_with(config).await;
    let port = free_port();
    let routes = [("shop.test", live(&[app.address]))];
    let mut table = world.table(&routes);
    table.listeners = vec![ExtraListener { port, scheme: Scheme::Http }];
    world.supervisor.set_routes(&table).await.unwrap();
    let mut socket = open_socket(&world).await;
    world.route(&routes).await;
    let at_port = SocketAddr::from(([127, 0, 0, 1], port));
    let closed = async || tokio::net::TcpStream::connect(at_port).await.is_err();
    eventually(|| async { if closed().await { Ok(()) } else { Err("open".to_owned()) } }).await;
    echoes(&mut socket, "served still").await;
    world.end().await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_waits_for_any_more_is_not_made() {
    let app = app("hello").await;
    let world = World::with_app(&app).await;
    let port = free_port();
    let at_port = SocketAddr::from(([127, 0, 0, 1], port));
    let world = world.restart(|spec| spec.config.http_listen = vec![at_port]).await;
    let first = world.handle().await;
    signal(first.pid(), "-STOP");
    // The supervisor is busy with one that cannot come about, and the next two wait.
    let impatient = Duration::from_millis(100);
    for _ in 0..3 {
        tokio::time::timeout(impatient, world.supervisor.upgrade()).await.unwrap_err();
    }
    signal(first.pid(), "-CONT");
    eventually(|| async {
        let pid = world.handle().await.pid();
        if pid == first.pid() { Err("the first upgrade".to_owned()) } else { Ok(()) }
    })
    .await;
    let second = world.handle().await.pid();
    assert_eq!(world.supervisor.upgrade().await.unwrap().before, second);
    world.end().await;
}

#[tokio::test]
async fn what_outlives_the_deadline_is_cut() {
    let app = app("hello").await;
    let config: Config = quick(|config| config.upgrade_drain_timeout_ms = millis(50));
    let world = World::start_with(config).await;
    world.route(&[("shop.test", live(&[app.address]))]).await;
    let mut socket = open_socket(&world).await;
    world.supervisor.upgrade().await.unwrap();
    assert_eq!(socket.rest().await, b"");
    until_generations(&world.supervisor, 1).await;
    let handle = ProxyHandle::connect(&world.spec.run_dir).await.unwrap();
    assert_eq!(handle.pid(), world.handle().await.pid());
    world.end().await;
}
