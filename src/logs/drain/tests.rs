//! Drains against receivers that are slow, gone and hostile.

use std::io::Write;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::*;
use crate::support::tasks;

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    directory: tempfile::TempDir,
}

/// A drain at work.
struct Running {
    status: Arc<Mutex<DrainStatus>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("app/web.1")).unwrap();
        let world = Self { directory };
        world.write("before");
        world
    }

    fn write(&self, text: &str) {
        let path = self.directory.path().join("app/web.1/1-v1-aa.log");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
        file.write_all(format!("{now} o {text}\n").as_bytes()).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state.json")
    }

    /// Starts a drain; when this returns it has its position.
    async fn start(&self, url: &str, private: bool, max_backlog: u64) -> Running {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let drain = Drain {
            url: url.parse().unwrap(),
            private,
            app: "shop".parse().unwrap(),
            hostname: "box".into(),
            places: Places { app: self.directory.path().join("app"), router: None },
            state: self.state(),
            max_backlog,
            tls: Arc::new(tls),
        };
        let (status, cancel) = (Arc::<Mutex<DrainStatus>>::default(), CancellationToken::new());
        let _ = std::fs::rename(self.state(), self.directory.path().join("old.json"));
        if let Ok(old) = std::fs::read(self.directory.path().join("old.json")) {
            atomic_file::write_volatile(&self.state(), &old, 0o600).unwrap();
        }
        let modified = || std::fs::metadata(self.state()).ok().map(|m| FileTime::of(&m));
        let before = modified();
        let task = tasks::spawn("drain", run(drain, Arc::clone(&status), cancel.clone()));
        until("it keeps its position", || modified() != before && modified().is_some()).await;
        Running { status, cancel, task }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct FileTime(u64);

impl FileTime {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self(std::os::unix::fs::MetadataExt::ino(metadata))
    }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }

    fn status(&self) -> DrainStatus {
        lock(&self.status).clone()
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// Reads until `end` came; answers all of it.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        while !text.contains(end) {
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it closed before `{end}`: {text}");
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, read).await;
    assert!(in_time.is_ok(), "`{end}` did not come: {text}");
    text
}

/// The texts of framed messages.
fn texts(mut stream: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while !stream.is_empty() {
        let (length, rest) = stream.split_once(' ').unwrap();
        let (message, rest) = rest.split_at(length.parse().unwrap());
        let mut words = message.splitn(8, ' ');
        texts.push(words.nth(7).unwrap().to_owned());
        stream = rest;
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_also_after_the_receiver_or_the_drain_was_away() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("syslog+tcp://{address}");
    let drain = world.start(&url, true, 1 << 20).await;
    world.write("one");
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(texts(&read_until(&mut stream, "one").await), ["one"]);
    until("it was counted", || drain.status().sent == 1).await;
    drop((stream, listener));
    world.write("two");
    until("the receiver is missed", || drain.status().error.is_some()).await;
    world.write("three");
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = texts(&read_until(&mut stream, "two").await);
    if !seen.contains(&"three".to_owned()) {
        seen.extend(texts(&read_until(&mut stream, "three").await));
    }
    assert_eq!(seen, ["two", "three"]);
    until("it is well again", || drain.status().error.is_none() && drain.status().sent == 3).await;
    drain.stop().await;
    world.write("four");
    let drain = world.start(&url, true, 1 << 20).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(texts(&read_until(&mut stream, "four").await), ["four"]);
    drain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_and_what_is_left_out_is_told() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let drain = world.start(&format!("syslog+tcp://{address}"), true, 10_000).await;
    world.write("first");
    until("nobody is there", || drain.status().error.is_some()).await;
    for number in 0..2000 {
        world.write(&format!("line {number}"));
    }
    until("lines are left out", || drain.status().lost > 1000).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut stream_text = read_until(&mut stream, "left out").await;
    if !stream_text.contains("line 1999") {
        stream_text.push_str(&read_until(&mut stream, "line 1999").await);
    }
    let seen = texts(&stream_text);
    let notice = seen.iter().find(|text| text.contains("left out")).unwrap();
    let left_out: usize = notice.split(' ').next().unwrap().parse().unwrap();
    let lines = seen.iter().filter(|text| text.starts_with("line ")).count();
    assert_eq!(lines + left_out, 2000, "{notice}");
    assert_eq!(drain.status().lost, left_out as u64);
    drain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_read_holds_up_nobody_else() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("syslog+tcp://{}", listener.local_addr().unwrap());
    let drain = world.start(&url, true, 1 << 20).await;
    world.write("one");
    let (stream, _) = listener.accept().await.unwrap();
    // More than both ends' buffers hold: writing goes on all the same.
    let text = "x".repeat(10_000);
    for _ in 0..2000 {
        world.write(&text);
    }
    // And the drain ends when it is told to.
    tokio::time::timeout(PATIENCE, drain.stop()).await.unwrap();
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_sent_and_private_addresses_refused() {
    let world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("syslog+udp://{}", socket.local_addr().unwrap());
    let drain = world.start(&url, true, 1 << 20).await;
    world.write("one");
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    let message = String::from_utf8_lossy(&buffer[..length]);
    assert!(
        message.starts_with("<134>1 ") && message.ends_with(" box shop web.1 app - one"),
        "{message}"
    );
    drain.stop().await;

    let world = World::new();
    let drain = world.start(&url, false, 1 << 20).await;
    world.write("secret");
    until("it is refused", || {
        drain.status().error.is_some_and(|error| error.contains("private address 127.0.0.1"))
    })
    .await;
    drain.stop().await;
    socket.try_recv(&mut buffer).unwrap_err();
}
