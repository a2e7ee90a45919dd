//! Keeps a proxy running: adopts the one there is, starts one where there is none.
//!
//! ```text
//!             adopt or start            its socket closes
//!   absent ───────────────────► running ─────────────────► absent (start again, with back-off)
//!                                  │ stop
//!                                  └──────► stopped
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::backoff::Backoff;
use crate::support::{report, tasks};

use super::process::remove_run_files;
use super::protocol::LISTENER_FILE_NAME;
use super::{Config, Drained, Error, ListenerFile, ProxyArgs, ProxyHandle, RouteTable};

/// For a new process to answer; it takes some 20 ms.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether a new process answers.
const START_POLL: Duration = Duration::from_millis(5);

/// The waits between failed starts. The first start after a death does not wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// For a process whose socket has closed to end by itself, before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// For a process that was told to end; longer than any grace that makes sense.
const REAP_TIMEOUT: Duration = Duration::from_secs(60);

/// What the proxy says of itself goes here, under the data directory: not into its own directory,
/// where a proxy that was taken over could put a link for us to write through. Set aside before a
/// start when larger than this.
const LOG_DIRECTORY: &str = "logs";
const LOG_NAME: &str = "proxy.log";
const MAX_LOG: u64 = 4 * 1024 * 1024;

/// How much of a failed start's log an error repeats.
const LOG_TAIL: u64 = 2048;

/// What the supervisor starts.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// The `staithe` executable; run as `<program> proxy` with [`ProxyArgs::to_arguments`].
    pub program: PathBuf,
    /// Exists; holds `proxy.sock` and `proxy.json`.
    pub run_dir: PathBuf,
    /// `proxy/` in it holds the routes and the access log, `logs/` what the proxy says of itself.
    pub data_dir: PathBuf,
    /// The settings.
    pub config: Config,
}

/// Keeps a proxy running. Cheap to clone. When all clones are dropped the supervision ends, and the
/// proxy goes on.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
    current: watch::Receiver<Option<ProxyHandle>>,
    /// Ends the supervision with the last clone.
    _supervision: Arc<DropGuard>,
}

#[derive(Debug)]
struct Inner {
    spec: SupervisorSpec,
    /// The last table that was set, for a successor that does not have it.
    table: Mutex<Option<RouteTable>>,
    ending: CancellationToken,
}

impl Supervisor {
    /// Adopts the proxy that runs in `spec.run_dir`, or starts one; from then on starts another
    /// whenever it dies, with the routes it had. Returns when it answers.
    ///
    /// # Errors
    /// What kept it from starting, with the words of its log (a port that is taken).
    pub async fn ensure_running(spec: SupervisorSpec) -> Result<Self, Error> {
        let (handle, child) = match ProxyHandle::connect(&spec.run_dir).await {
            Ok(handle) => {
                tracing::info!(pid = handle.pid(), "proxy adopted");
                (handle, None)
            }
            Err(Error::Connect { .. }) => {
                let (handle, child) = start(&spec).await?;
                (handle, Some(child))
            }
            Err(error) => return Err(error),
        };
        let (current_tx, current) = watch::channel(Some(handle.clone()));
        let inner =
            Arc::new(Inner { spec, table: Mutex::default(), ending: CancellationToken::new() });
        let life = Life { inner: Arc::clone(&inner), current: current_tx, child };
        tasks::spawn("proxy/supervisor", life.supervise(handle));
        let supervision = Arc::new(inner.ending.clone().drop_guard());
        Ok(Self { inner, current, _supervision: supervision })
    }

    /// The proxy now; waits for one that is being started, up to 10 s.
    ///
    /// # Errors
    /// `Timeout`, when no proxy comes up.
    pub async fn handle(&self) -> Result<ProxyHandle, Error> {
        let mut current = self.current.clone();
        let is_open =
            |handle: &Option<ProxyHandle>| handle.as_ref().is_some_and(ProxyHandle::is_open);
        let running = timeout(START_TIMEOUT, current.wait_for(is_open)).await;
        match running.map_err(|_| Error::Timeout { after: START_TIMEOUT })? {
            Ok(handle) => handle.clone().ok_or(Error::Gone),
            Err(_) => Err(Error::Gone),
        }
    }

    /// [`ProxyHandle::set_routes`] on the proxy now, and on every later one.
    ///
    /// # Errors
    /// As there; if the proxy dies meanwhile its successor is asked.
    pub async fn set_routes(&self, table: &RouteTable) -> Result<(), Error> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.handle().await?.set_routes(table).await {
                Ok(()) => break,
                // Its successor is asked, which `handle` waits for.
                Err(Error::Gone) if Instant::now() < deadline => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
        self.inner.remember(table);
        Ok(())
    }

    /// [`ProxyHandle::drain`]; a proxy that dies has nothing open.
    ///
    /// # Errors
    /// As there.
    pub async fn drain(
        &self,
        upstreams: &[SocketAddr],
        deadline: Duration,
    ) -> Result<Drained, Error> {
        match self.handle().await?.drain(upstreams, deadline).await {
            Err(Error::Gone) => Ok(Drained::default()),
            result => result,
        }
    }

    /// The settings that a proxy is started with.
    pub fn config(&self) -> &Config {
        &self.inner.spec.config
    }

    /// Where the proxy listens.
    ///
    /// # Errors
    /// If `proxy.json` cannot be read.
    pub fn listening(&self) -> Result<ListenerFile, Error> {
        let path = self.inner.spec.run_dir.join(LISTENER_FILE_NAME);
        let json = std::fs::read(&path);
        json.and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from))
            .map_err(|source| Error::Connect { path, source })
    }

    /// Ends supervision and the proxy, and removes its socket.
    ///
    /// # Errors
    /// As [`ProxyHandle::stop`].
    pub async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.ending.cancel();
        let running = self.current.borrow().clone();
        if let Some(handle) = running {
            handle.stop(deadline).await?;
        }
        remove_run_files(&self.inner.spec.run_dir);
        Ok(())
    }
}

impl Inner {
    fn remember(&self, table: &RouteTable) {
        // The value is replaced as a whole, so a panic elsewhere cannot have broken it.
        let mut kept = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| kept.version <= table.version) {
            *kept = Some(table.clone());
        }
    }

    fn table(&self) -> Option<RouteTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The task that watches.
struct Life {
    inner: Arc<Inner>,
    current: watch::Sender<Option<ProxyHandle>>,
    /// The process, if we started it: ours to reap.
    child: Option<Child>,
}

impl Life {
    async fn supervise(mut self, mut handle: ProxyHandle) {
        let ending = self.inner.ending.clone();
        loop {
            tokio::select! {
                // Both only wait. The end first: nothing is started after it.
                biased;
                () = ending.cancelled() => break,
                () = handle.closed() => {}
            }
            tracing::warn!(pid = handle.pid(), "proxy gone");
            self.current.send_replace(None);
            self.reap().await;
            let started = tokio::select! {
                // A start that is given up leaves a process that the next control plane adopts.
                biased;
                () = ending.cancelled() => break,
                started = self.start_again() => started,
            };
            handle = started;
            self.current.send_replace(Some(handle.clone()));
        }
        drop(handle);
        // Whoever ends the proxy waits for its socket; the process must be reaped all the same.
        if let Some(mut child) = self.child.take() {
            let _ = timeout(REAP_TIMEOUT, child.wait()).await;
        }
    }

    async fn reap(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        match timeout(END_TIMEOUT, child.wait()).await {
            Ok(Ok(status)) => tracing::warn!(%status, "proxy ended"),
            Ok(Err(error)) => tracing::warn!(%error, "wait for the proxy"),
            // Without its socket it is of no use, and it holds the ports.
            Err(_) => {
                if let Err(error) = child.kill().await {
                    tracing::error!(%error, "kill a proxy that does not end");
                }
            }
        }
    }

    async fn start_again(&mut self) -> ProxyHandle {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            match start(&self.inner.spec).await {
                Ok((handle, child)) => {
                    self.child = Some(child);
                    self.send_table(&handle).await;
                    return handle;
                }
                Err(error) => tracing::error!(error = report(&error), "start the proxy again"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// The new process has read the table from disk; this is for a disk that lost it.
    async fn send_table(&self, handle: &ProxyHandle) {
        let Some(table) = self.inner.table() else { return };
        if table.version > handle.routes_version()
            && let Err(error) = handle.set_routes(&table).await
        {
            tracing::error!(error = report(&error), "give the new proxy its routes");
        }
    }
}

/// Starts a process and waits until it answers.
async fn start(spec: &SupervisorSpec) -> Result<(ProxyHandle, Child), Error> {
    let spawn_error = |source| Error::Spawn { program: spec.program.clone(), source };
    let directory = spec.data_dir.join(LOG_DIRECTORY);
    let mut log = open_log(&directory).map_err(spawn_error)?;
    let log_start = log.seek(SeekFrom::End(0)).map_err(spawn_error)?;
    let args = ProxyArgs {
        run_dir: spec.run_dir.clone(),
        data_dir: spec.data_dir.clone(),
        config: spec.config.clone(),
    };
    // Not killed when dropped: the proxy outlives its control plane.
    let mut child = Command::new(&spec.program)
        .arg("proxy")
        .args(args.to_arguments())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone().map_err(spawn_error)?)
        .spawn()
        .map_err(spawn_error)?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().map_err(spawn_error)? {
            let log = log_tail(&mut log, log_start);
            return Err(Error::EndedAtStart { status: status.to_string(), log });
        }
        match ProxyHandle::connect(&spec.run_dir).await {
            Ok(handle) => {
                tracing::info!(pid = handle.pid(), "proxy started");
                return Ok((handle, child));
            }
            Err(Error::Connect { .. }) if Instant::now() < deadline => {}
            Err(error) => {
                let _ = child.start_kill();
                return Err(error);
            }
        }
        // There is no event for "a socket of this name listens now" that would be simpler.
        tokio::time::sleep(START_POLL).await;
    }
}

fn open_log(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(LOG_NAME);
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG) {
        std::fs::rename(&path, directory.join("proxy.log.1"))?;
    }
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

/// The last that a process wrote from `start` on.
fn log_tail(log: &mut File, start: u64) -> String {
    let mut read = || {
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL))))?;
        let mut tail = Vec::new();
        log.take(LOG_TAIL).read_to_end(&mut tail)?;
        io::Result::Ok(String::from_utf8_lossy(&tail).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
}
