//! Starting a process of the proxy.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::control::ProxyHandle;
use super::protocol::PROTOCOL;
use super::{Config, Error, LogSettings, ProxyArgs, Start, places};

/// For a new process to answer; it takes some 20 ms.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);

/// For one that is slower, and has taken over meanwhile: with it would go the only sockets on which
/// clients are accepted.
const LATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks whether a new process answers.
const START_POLL: Duration = Duration::from_millis(5);

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
    /// Exists; holds the sockets of the processes, and `proxy.json`.
    pub run_dir: PathBuf,
    /// `proxy/` in it holds the routes and the access log, `logs/` what the proxy says of itself.
    pub data_dir: PathBuf,
    /// The settings.
    pub config: Config,
    /// How the process logs.
    pub log: LogSettings,
}

impl SupervisorSpec {
    /// Differs between two processes that are not started alike: program, settings, log.
    pub(super) fn fingerprint(&self) -> Result<String, Error> {
        let program = self.program.clone();
        let metadata =
            std::fs::metadata(&self.program).map_err(|source| Error::Spawn { program, source })?;
        // The content would take a second to read; who replaces a program changes its time.
        let program = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let all = (PROTOCOL, env!("CARGO_PKG_VERSION"), program, &self.config, &self.log);
        // Structs of numbers, texts and lists always have a JSON form.
        let json = serde_json::to_vec(&all).unwrap_or_default();
        Ok(Sha256::digest(json).iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Starts a process as this says and as `start` adds, and waits until it takes clients.
    ///
    /// # Errors
    /// `Spawn`, `EndedAtStart`, `Timeout`; then the process is gone.
    pub(super) async fn start(&self, start: Start) -> Result<(ProxyHandle, Child), Error> {
        let spawn_error = |source| Error::Spawn { program: self.program.clone(), source };
        let directory = self.data_dir.join(LOG_DIRECTORY);
        let mut log = open_log(&directory).map_err(spawn_error)?;
        let log_start = log.seek(SeekFrom::End(0)).map_err(spawn_error)?;
        let take_over = start.take_over;
        let args = ProxyArgs {
            run_dir: self.run_dir.clone(),
            data_dir: self.data_dir.clone(),
            start: Start {
                config: self.config.clone(),
                log: self.log.clone(),
                fingerprint: self.fingerprint()?,
                ..start
            },
        };
        // Not killed when dropped: the proxy outlives its control plane.
        let mut child = Command::new(&self.program)
            .arg("proxy")
            .args(args.to_arguments())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().map_err(spawn_error)?)
            .spawn()
            .map_err(spawn_error)?;
        let pid = child.id().unwrap_or_default();
        let error = match self.await_answer(&mut child, (pid, take_over)).await {
            Ok(handle) => {
                tracing::info!(pid, "proxy started");
                return Ok((handle, child));
            }
            Err(Error::EndedAtStart { status, .. }) => {
                Error::EndedAtStart { status, log: log_tail(&mut log, log_start) }
            }
            Err(error) => error,
        };
        // It may be gone already; what cannot be killed is init's.
        let _ = child.kill().await;
        places::remove_sockets(&self.run_dir, pid);
        Err(error)
    }

    async fn await_answer(
        &self,
        child: &mut Child,
        (pid, take_over): (u32, Option<u32>),
    ) -> Result<ProxyHandle, Error> {
        let mut deadline = Instant::now() + START_TIMEOUT;
        let mut is_late = false;
        loop {
            let ended = child.try_wait();
            let ended =
                ended.map_err(|source| Error::Spawn { program: self.program.clone(), source })?;
            if let Some(status) = ended {
                let status = status.to_string();
                return Err(Error::EndedAtStart { status, log: String::new() });
            }
            match ProxyHandle::connect_to(&self.run_dir, pid).await {
                Err(Error::Connect { .. }) if Instant::now() < deadline => {}
                Err(Error::Connect { .. }) if !is_late && self.has_taken_over(take_over).await => {
                    tracing::warn!(pid, "a proxy has taken over, and does not answer yet");
                    is_late = true;
                    deadline += LATE_TIMEOUT;
                }
                result => return result,
            }
            // There is no event for "a socket of this name listens now" that would be simpler.
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Whether the process `before` serves no more new clients.
    async fn has_taken_over(&self, before: Option<u32>) -> bool {
        let Some(before) = before else { return false };
        let before = ProxyHandle::connect_to(&self.run_dir, before).await;
        match before {
            Ok(before) => before.hello().retiring,
            // It speaks another language, so this cannot be known.
            Err(Error::Protocol { .. }) => false,
            Err(_) => true,
        }
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
