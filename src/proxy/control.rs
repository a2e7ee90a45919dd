//! The control plane's end of `proxy-<pid>.sock`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::{Framed, LinesCodec};

use crate::support::tasks;
use crate::sys;

use super::protocol::{Answer, Command, Hello, MAX_MESSAGE, PROTOCOL, Reply, Request};
use super::{Drained, Error, ListenerFile, Metrics, RouteTable, Status, places};

/// Requests that wait to be written.
const QUEUE: usize = 64;

/// For the proxy to greet, or to answer what it can answer at once.
const PROMPT: Duration = Duration::from_secs(5);

/// Between two tries to connect again.
const AGAIN_POLL: Duration = Duration::from_millis(5);

/// For a switch: it waits for the disk.
const SWITCH: Duration = Duration::from_secs(30);

type Lines = Framed<UnixStream, LinesCodec>;

/// A connection to a running proxy. Cheap to clone; requests may overlap.
#[derive(Debug, Clone)]
pub struct ProxyHandle {
    requests: mpsc::Sender<(Command, oneshot::Sender<Answer>)>,
    /// What it said of itself at the connect.
    hello: Arc<Hello>,
    /// The process, which may live on when the connection to it is lost. pidfd_open(2)
    process: Arc<OwnedFd>,
    run_dir: Arc<Path>,
}

impl ProxyHandle {
    /// Connects to the proxy in `run_dir` that takes new clients.
    ///
    /// # Errors
    /// `Connect` if none answers, `Protocol` if it is of another make.
    pub async fn connect(run_dir: &Path) -> Result<Self, Error> {
        let mut failure = None;
        for pid in places::generations(run_dir) {
            match Self::connect_to(run_dir, pid).await {
                Ok(handle) if !handle.hello.retiring => return Ok(handle),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        let path = run_dir.to_owned();
        let source = std::io::ErrorKind::NotFound.into();
        Err(failure.unwrap_or(Error::Connect { path, source }))
    }

    /// Connects to the process `pid`.
    ///
    /// # Errors
    /// As [`ProxyHandle::connect`].
    pub(super) async fn connect_to(run_dir: &Path, pid: u32) -> Result<Self, Error> {
        let (lines, hello) = greet(run_dir, pid).await?;
        if hello.protocol != PROTOCOL {
            let (theirs, ours) = (hello.protocol, PROTOCOL);
            return Err(Error::Protocol { pid, theirs, ours });
        }
        // It has just spoken, so that nobody else can have its number yet.
        let process = sys::process::open(pid).map_err(|source| {
            let path = places::seam_socket(run_dir, pid);
            Error::Connect { path, source }
        })?;
        let (requests, queue) = mpsc::channel(QUEUE);
        tasks::spawn("proxy/handle", relay(lines, queue));
        let (hello, process) = (Arc::new(hello), Arc::new(process));
        Ok(Self { requests, hello, process, run_dir: run_dir.into() })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Version of the route table that was in force at the connect; the next must not be lower.
    pub fn routes_version(&self) -> u64 {
        self.hello.routes
    }

    /// Where it listens.
    pub fn listening(&self) -> &ListenerFile {
        &self.hello.listening
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Puts `table` in force: on disk, and seen by every request that begins after this returns.
    ///
    /// # Errors
    /// `Refused` if it is stale or contradicts itself; the old table stays. `Gone`, `Timeout`.
    pub async fn set_routes(&self, table: &RouteTable) -> Result<(), Error> {
        match self.ask(Command::Routes(table.clone()), SWITCH).await? {
            Answer::Routed { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until none of `upstreams` has an open request, at most until `deadline`. Take them out
    /// of the table first.
    ///
    /// # Errors
    /// `Gone` if the proxy died, and all its requests with it.
    pub async fn drain(
        &self,
        upstreams: &[SocketAddr],
        deadline: Duration,
    ) -> Result<Drained, Error> {
        let command =
            Command::Drain { upstreams: upstreams.to_vec(), deadline_ms: deadline.into() };
        match self.ask(command, deadline + PROMPT).await? {
            Answer::Drained(drained) => Ok(drained),
            other => Err(unexpected(other)),
        }
    }

    /// The counters.
    ///
    /// # Errors
    /// `Gone`, `Timeout`.
    pub async fn status(&self) -> Result<Status, Error> {
        match self.ask(Command::Status {}, PROMPT).await? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// All counters.
    ///
    /// # Errors
    /// `Gone`, `Timeout`; `Refused` by a proxy of an earlier version.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        match self.ask(Command::Metrics {}, PROMPT).await? {
            Answer::Metrics(metrics) => Ok(metrics),
            other => Err(unexpected(other)),
        }
    }

    /// Ends the process: no new connections, requests in flight until `deadline`; returns when it
    /// is gone.
    ///
    /// # Errors
    /// `Timeout` if it outlives the deadline by more than a few seconds.
    pub async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        match self.ask(Command::Stop { deadline_ms: deadline.into() }, PROMPT).await {
            // Gone already is as good.
            Ok(Answer::Stopping {}) | Err(Error::Gone) => {}
            Ok(other) => return Err(unexpected(other)),
            Err(error) => return Err(error),
        }
        let after = deadline + PROMPT;
        tokio::time::timeout(after, self.closed()).await.map_err(|_| Error::Timeout { after })
    }

    /// Returns when the connection is. Usually the proxy is gone then; `again` knows.
    /// Cancel-safe.
    pub async fn closed(&self) {
        self.requests.closed().await;
    }

    /// A new connection to the same process, when this one is lost. `None` if the process has ended,
    /// or does not answer in time.
    pub(super) async fn again(&self) -> Option<Self> {
        let deadline = Instant::now() + PROMPT;
        loop {
            if let Ok(handle) = Self::connect_to(&self.run_dir, self.pid()).await {
                return Some(handle);
            }
            // A process that ends closes its sockets a little before it is gone.
            if self.has_ended() || Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(AGAIN_POLL).await;
        }
    }

    fn has_ended(&self) -> bool {
        // A poll that fails tells nothing of the process.
        sys::process::poll([Some(self.process.as_fd())], Some(Duration::ZERO))
            .is_ok_and(|[ended]| ended)
    }

    /// Whether the proxy is there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Whether `other` is the same connection to the same process.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.requests.same_channel(&other.requests)
    }

    async fn ask(&self, command: Command, after: Duration) -> Result<Answer, Error> {
        let (answer_tx, answer) = oneshot::channel();
        let ask = async {
            self.requests.send((command, answer_tx)).await.map_err(|_| Error::Gone)?;
            answer.await.map_err(|_| Error::Gone)
        };
        tokio::time::timeout(after, ask).await.map_err(|_| Error::Timeout { after })?
    }
}

/// Waits for the first line of the process `pid`.
async fn greet(run_dir: &Path, pid: u32) -> Result<(Lines, Hello), Error> {
    let path = places::seam_socket(run_dir, pid);
    let connect = async {
        let stream = UnixStream::connect(&path).await?;
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_MESSAGE));
        let line = lines.next().await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let hello: Hello = serde_json::from_str(&line.map_err(std::io::Error::other)?)?;
        Ok((lines, hello))
    };
    let result = tokio::time::timeout(PROMPT, connect).await;
    let result = result.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    result.map_err(|source| Error::Connect { path, source })
}

fn unexpected(answer: Answer) -> Error {
    let message = match answer {
        Answer::Error { message } => message,
        other => format!("it answered something else: {other:?}"),
    };
    Error::Refused { message }
}

/// Carries requests and answers until the proxy or the last handle is gone.
async fn relay(mut lines: Lines, mut queue: mpsc::Receiver<(Command, oneshot::Sender<Answer>)>) {
    let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut next_id = 1;
    loop {
        // Both arms are cancel-safe: a line not read whole stays in the codec.
        tokio::select! {
            request = queue.recv() => {
                let Some((command, answer)) = request else { return };
                let request = Request { id: next_id, command };
                // A struct with text keys always has a JSON form.
                let message = serde_json::to_string(&request).unwrap_or_default();
                // Forgets those who gave up waiting.
                waiting.retain(|_, answer| !answer.is_closed());
                waiting.insert(next_id, answer);
                next_id += 1;
                if lines.send(message).await.is_err() {
                    return;
                }
            }
            line = lines.next() => {
                let Some(Ok(line)) = line else { return };
                match serde_json::from_str::<Reply>(&line) {
                    Ok(Reply { id, answer }) => {
                        if let Some(waiting) = waiting.remove(&id) {
                            // Whoever asked may have given up.
                            let _ = waiting.send(answer);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "read an answer of the proxy"),
                }
            }
        }
    }
}
