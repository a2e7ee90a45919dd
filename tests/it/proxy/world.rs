//! A running proxy, apps behind it, and clients in front.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use staithe::domain::{Millis, ReleaseVersion};
use staithe::proxy::{
    Config, ProxyHandle, Route, RouteState, RouteTable, Supervisor, SupervisorSpec,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest that anything here may take.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A proxy of its own directories and port; ended and cleaned up by [`World::end`].
pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) spec: SupervisorSpec,
    pub(super) address: SocketAddr,
    version: AtomicU64,
    /// Dropped after the supervisor.
    pub(super) directory: Directory,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(super) async fn start_with(config: Config) -> Self {
        let directory = Directory(tempfile::tempdir().unwrap());
        let run_dir = directory.0.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let data_dir = directory.0.path().join("data");
        std::fs::create_dir_all(data_dir.join("certificates")).unwrap();
        let any = vec!["127.0.0.1:0".parse().unwrap()];
        let config = Config { http_listen: any.clone(), https_listen: any, ..config };
        let spec = SupervisorSpec {
            program: PathBuf::from(env!("CARGO_BIN_EXE_staithe")),
            run_dir,
            data_dir,
            config,
            log: staithe::proxy::LogSettings::default(),
        };
        let supervisor = Supervisor::ensure_running(spec.clone()).await.unwrap();
        let address = supervisor.listening().unwrap().listen[0];
        Self { supervisor, spec, address, version: AtomicU64::new(0), directory }
    }

    /// Routes each domain to its state.
    pub(super) async fn route(&self, routes: &[(&str, RouteState)]) {
        self.supervisor.set_routes(&self.table(routes)).await.unwrap();
    }

    pub(super) fn table(&self, routes: &[(&str, RouteState)]) -> RouteTable {
        let route = |(domain, state): &(&str, RouteState)| {
            let app = domain.split('.').next().unwrap().parse().unwrap();
            Route::web(app, vec![domain.parse().unwrap()], state.clone())
        };
        RouteTable {
            version: self.version.fetch_add(1, Ordering::SeqCst) + 1,
            routes: routes.iter().map(route).collect(),
            ..RouteTable::default()
        }
    }

    /// A proxy with `app` as `shop.test`.
    pub(super) async fn with_app(app: &App) -> Self {
        let world = Self::start().await;
        world.route(&[("shop.test", live(&[app.address]))]).await;
        world
    }

    /// As when the control plane is started again, after `edit`.
    pub(super) async fn restart(self, edit: impl FnOnce(&mut SupervisorSpec)) -> Self {
        let Self { supervisor, mut spec, address, version, directory } = self;
        drop(supervisor);
        edit(&mut spec);
        let supervisor = Supervisor::ensure_running(spec.clone()).await.unwrap();
        Self { supervisor, spec, address, version, directory }
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends one request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }

    pub(super) async fn handle(&self) -> ProxyHandle {
        self.supervisor.handle().await.unwrap()
    }

    pub(super) async fn end(self) {
        self.supervisor.stop(Duration::from_millis(100)).await.unwrap();
        assert_eq!(std::fs::read_dir(&self.spec.run_dir).unwrap().count(), 0);
    }
}

/// The directory of a proxy; a test that fails must not leave its process behind.
pub(super) struct Directory(pub(super) tempfile::TempDir);

impl Drop for Directory {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0.path().join("run")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let pid = name.strip_prefix("proxy-").and_then(|name| name.strip_suffix(".sock"));
            let Some(pid) = pid else { continue };
            // The process may be gone and its number another's.
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            if command.is_ok_and(|command| command.contains(self.0.path().to_str().unwrap())) {
                std::process::Command::new("kill").args(["-KILL", pid]).status().unwrap();
            }
        }
    }
}

pub(super) fn live(upstreams: &[SocketAddr]) -> RouteState {
    RouteState::Live { release: ReleaseVersion(1), upstreams: upstreams.to_vec() }
}

pub(super) fn quick(edit: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    edit(&mut config);
    config
}

pub(super) fn millis(count: u64) -> Millis {
    Millis(count)
}

/// An app: a listener, and what to do with each connection.
pub(super) struct App {
    pub(super) address: SocketAddr,
    /// Connections it has taken.
    pub(super) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl App {
    /// Runs `serve` for each connection.
    pub(super) async fn raw<F, R>(serve: F) -> Self
    where
        F: Fn(Client) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                spawn(serve(Client { stream, read: Vec::new() }));
            }
        });
        Self { address, connections, task }
    }

    /// Answers each request with `answer(head, body)`, keeping connections open.
    pub(super) async fn answering<F>(answer: F) -> Self
    where
        F: Fn(&str, &[u8]) -> String + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        Self::raw(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(message) = connection.message().await {
                    connection.send(&answer(&message.head, &message.body)).await;
                }
            }
        })
        .await
    }

    /// Answers with the head it got, as the body.
    pub(super) async fn echoing_heads() -> Self {
        Self::answering(|head, _| ok(head)).await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[allow(clippy::disallowed_methods, reason = "tests need no names for their tasks")]
pub(super) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// A 200 with a body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// One end of a connection, with what was read and not used.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    pub(super) read: Vec<u8>,
}

/// A request or response, its body without framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a field; the first if there are several.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut matching = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        matching.next().map(|(_, value)| value.trim())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The next message, which must come whole.
    pub(super) async fn answer(&mut self) -> Answer {
        let message = tokio::time::timeout(SOON, self.message()).await;
        message.expect("an answer in time").expect("an answer before the end")
    }

    /// The answer to a HEAD, or an interim one.
    pub(super) async fn answer_head(&mut self) -> String {
        let head = tokio::time::timeout(SOON, self.head()).await;
        head.expect("an answer in time").expect("an answer before the end")
    }

    /// The next message; `None` if the connection ends before it is whole.
    pub(super) async fn message(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        let answer = Answer { head, body: Vec::new() };
        let body = if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            self.chunks().await?
        } else if let Some(length) = answer.field("content-length") {
            self.take(length.parse().unwrap()).await?
        } else {
            Vec::new()
        };
        Some(Answer { body, ..answer })
    }

    /// Up to the empty line, with it.
    pub(super) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.read.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            self.read_some().await?;
        }
    }

    pub(super) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.read_some().await?;
        }
    }

    pub(super) async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.read_some().await?;
        }
        Some(self.read.drain(..length).collect())
    }

    /// A chunked body whose head was read before.
    pub(super) async fn rest_of_chunks(&mut self) -> Vec<u8> {
        let chunks = tokio::time::timeout(SOON, self.chunks()).await;
        chunks.expect("the body in time").expect("the body whole")
    }

    /// A chunked body; trailers are appended as text, after `|`.
    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line().await?;
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.take(size).await?);
            assert_eq!(self.line().await?, "");
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(body);
            }
            body.extend_from_slice(format!("|{line}").as_bytes());
        }
    }

    /// Reads more; `None` at the end or a reset.
    pub(super) async fn read_some(&mut self) -> Option<()> {
        let length = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
        (length > 0).then_some(())
    }

    /// Everything until the connection ends.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let all = async { while self.read_some().await.is_some() {} };
        tokio::time::timeout(SOON, all).await.expect("the end in time");
        std::mem::take(&mut self.read)
    }
}

/// Waits until `condition` gives something; shows the last refusal if it never does.
pub(super) async fn eventually<T, F: Future<Output = Result<T, String>>>(
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(last) => assert!(tokio::time::Instant::now() < deadline, "still: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
