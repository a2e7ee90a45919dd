//! What the daemon, the monitor, init and the exec parent say to each other: one JSON value per
//! packet, descriptors beside it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cgroup::View;
use super::io::Stdio;
use super::pid::ProcessId;
use super::spec::{ContainerSpec, ProcessSpec};
use super::state::ExitRecord;
use crate::sys::handover;

/// Longest message of a failure: leaves room for JSON's quoting within `handover::MAX_PACKET`.
const MAX_MESSAGE: usize = 2048;

/// Daemon → monitor, in a file in memory because environments outgrow packets. With
/// `Stdio::Pipes`, the child's ends of stdin, stdout and stderr come with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CreateJob {
    pub(super) spec: ContainerSpec,
    pub(super) stdio: Stdio,
    /// The container's state directory.
    pub(super) dir: PathBuf,
    pub(super) restraints: Restraints,
    /// Where the kernel counts processes killed for want of memory.
    pub(super) oom_file: Option<PathBuf>,
    /// Cgroup mounts shown inside.
    pub(super) views: Vec<View>,
}

/// Daemon → exec parent; descriptors as for [`CreateJob`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExecJob {
    /// PID 1 of the container.
    pub(super) init: ProcessId,
    pub(super) process: ProcessSpec,
    pub(super) stdio: Stdio,
    /// The host's id of the container's user 0.
    pub(super) host_base: u32,
    pub(super) oom_score_adj: u16,
    pub(super) capabilities: Vec<String>,
    pub(super) restraints: Restraints,
}

/// What every process of a container is put under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Restraints {
    /// Files to which pids are written to put them into the container's cgroups.
    pub(super) procs_files: Vec<PathBuf>,
    /// The compiled system call filters.
    pub(super) filter: PathBuf,
}

/// Daemon → monitor or exec parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Start,
    Signal(i32),
}

/// Monitor or exec parent → daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// Set up and waiting; the master of its terminal comes with it.
    Created {
        pid: u32,
    },
    /// The program was executed.
    Started,
    Failed {
        message: String,
    },
    Exited(ExitRecord),
}

/// Monitor → init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Ids are mapped and mounts are made: these are their numbers in the shared table.
    Go(Furniture),
    Start,
}

/// Detached mounts, as numbers of descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Furniture {
    pub(super) root: i32,
    /// As `devices::NAMES`.
    pub(super) devices: Vec<i32>,
    /// As `spec.mounts`; `None` where init makes it itself.
    pub(super) mounts: Vec<Option<i32>>,
}

/// Init → monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sign {
    /// Init has its own table of files now; the monitor may close its descriptors.
    Apart,
    /// All is set up; the master of its terminal comes with it.
    Ready,
    Started,
    Failed(String),
    /// How the process below PID 1 ended: code or signal.
    Exited(Option<i32>, Option<i32>),
}

/// A step that failed, as it is told to the daemon.
#[derive(Debug)]
pub(super) struct Failure {
    step: String,
    source: io::Error,
}

impl Failure {
    pub(super) fn new(step: impl Into<String>, source: io::Error) -> Self {
        Self { step: step.into(), source }
    }

    /// One that another process has put into words already.
    pub(super) fn told(message: String, kind: io::ErrorKind) -> Self {
        Self { step: message, source: kind.into() }
    }

    /// The step and its cause, cut to what fits a packet.
    pub(super) fn message(&self) -> String {
        // A bare kind has nothing to add: the step is a message that was told.
        let mut message =
            match self.source.raw_os_error().is_some() || self.source.get_ref().is_some() {
                true => format!("{}: {}", self.step, self.source),
                false => self.step.clone(),
            };
        let end = message.floor_char_boundary(MAX_MESSAGE);
        message.truncate(end);
        message
    }

    pub(super) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Names the step that an `io::Result` belongs to.
pub(super) trait Step<T> {
    fn step(self, step: &str) -> Result<T, Failure>;
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|source| Failure::new(step, source))
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure::new(step(), source))
    }
}

pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    handover::send(socket, &serde_json::to_vec(message)?, descriptors)
}

/// `UnexpectedEof` once the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let (packet, descriptors) = handover::receive(socket)?;
    if packet.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&packet)?, descriptors))
}

/// Writes a job into a file in memory: environments hold secrets, which belong on no disk.
pub(super) fn pack<T: Serialize>(job: &T) -> io::Result<OwnedFd> {
    let mut file = File::from(handover::memory_file(c"staithe-job")?);
    file.write_all(&serde_json::to_vec(job)?)?;
    file.rewind()?;
    Ok(file.into())
}

pub(super) fn send_job(
    socket: BorrowedFd<'_>,
    job: &OwnedFd,
    streams: &[OwnedFd],
) -> io::Result<()> {
    let mut descriptors = vec![job.as_fd()];
    descriptors.extend(streams.iter().map(AsFd::as_fd));
    handover::send(socket, b"job", &descriptors)
}

/// The job and the streams that came with it.
pub(super) fn receive_job<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let (_, mut descriptors) = handover::receive(socket)?;
    if descriptors.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut text = Vec::new();
    File::from(descriptors.remove(0)).read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, descriptors))
}
