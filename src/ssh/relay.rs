//! Sessions that come through the system's sshd: the control plane's end.
//!
//! The forced command asks with `POST /api/v1/ssh/exec`; the API upgrades the connection and
//! relays the streams of what is opened here.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::Interest;
use tokio::process::{Child, Command};

use super::connection::{Resolved, is_plain, may_set, resolve};
use super::{Commands, Refused};
use crate::domain::Actor;
use crate::support::tasks;
use crate::sys::session::{
    GroupGuard, GroupSignal, WindowSize, lead_terminal_session, open_terminal, signal_group,
};
use crate::sys::{fd, pty};
use crate::wire::ExecRequest;

/// The longest greeting, well below what a pipe holds.
const MAX_GREETING: usize = 16 * 1024;

/// Something to relay: a child and the other ends of its streams.
#[derive(Debug)]
pub struct Opened {
    /// Its standard input.
    pub input: Option<OwnedFd>,
    /// Its standard output, or its terminal.
    pub output: OwnedFd,
    /// Its standard error, unless it has a terminal.
    pub errors: Option<OwnedFd>,
    /// The child.
    pub child: Relayed,
}

/// A child that is relayed. Dropped before it has ended, it gets a hang-up, and is killed after
/// the grace time; needs a runtime then.
#[derive(Debug)]
pub struct Relayed {
    child: Option<Child>,
    terminal: Option<OwnedFd>,
    /// With a child that is to end by itself: its output, to be read when the client is gone.
    output: Option<OwnedFd>,
    grace: Duration,
}

/// Why there is nothing to relay.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The request is not granted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The command cannot be started.
    #[error("the command cannot be started")]
    Start(#[source] io::Error),
}

/// Starts what `request` asks for on behalf of `actor`. The child has `grace` to end after its
/// client has gone.
///
/// # Errors
/// The request is refused, or the child cannot be started.
pub async fn open<C: Commands>(
    commands: &C,
    actor: &Actor,
    request: ExecRequest,
    grace: Duration,
) -> Result<Opened, OpenError> {
    let size = request.terminal.map(|size| WindowSize { rows: size.rows, columns: size.columns });
    let mut environment = request.environment;
    environment.retain(|(name, value)| (may_set(name) || name == "TERM") && is_plain(name, value));
    let line = request.command.as_bytes();
    match resolve(commands, actor, line, size.is_some(), environment).await? {
        Resolved::Greeting(text) => greeting(&text, size.is_some()).map_err(OpenError::Start),
        Resolved::Command { command, terminal, gentle } => {
            let started = match size.filter(|_| terminal) {
                Some(size) => start_in_terminal(command, size, grace),
                None => start_with_pipes(command, gentle, grace),
            };
            started.map_err(OpenError::Start)
        }
    }
}

/// A text in a pipe, which holds it: a greeting is far below its 64 KiB (pipe(7)).
fn greeting(text: &str, terminal: bool) -> io::Result<Opened> {
    // A client with a terminal has it in raw mode, where a line feed only goes down.
    let text = if terminal { text.replace('\n', "\r\n") } else { text.to_owned() };
    let (reader, mut writer) = io::pipe()?;
    let size = text.len().min(MAX_GREETING);
    writer.write_all(&text.as_bytes()[..size])?;
    let child = Relayed { child: None, terminal: None, output: None, grace: Duration::ZERO };
    Ok(Opened { input: None, output: reader.into(), errors: None, child })
}

fn start_with_pipes(mut command: Command, gentle: bool, grace: Duration) -> io::Result<Opened> {
    let (stdin, input): (PipeReader, PipeWriter) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let (errors, stderr) = io::pipe()?;
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    // Without the command, only the child holds its ends.
    let child = command.spawn();
    drop(command);
    let output = OwnedFd::from(output);
    let spare = gentle.then(|| output.try_clone()).transpose()?;
    let child = Relayed { child: Some(child?), terminal: None, output: spare, grace };
    let errors = Some(errors.into());
    Ok(Opened { input: Some(input.into()), output, errors, child })
}

fn start_in_terminal(
    mut command: Command,
    size: WindowSize,
    grace: Duration,
) -> io::Result<Opened> {
    let (master, slave) = open_terminal(size)?;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    lead_terminal_session(command.as_std_mut());
    let child = command.spawn();
    drop(command);
    let terminal = Some(master.try_clone()?);
    let child = Relayed { child: Some(child?), terminal, output: None, grace };
    Ok(Opened { input: Some(master.try_clone()?), output: master, errors: None, child })
}

impl Relayed {
    /// Tells the terminal its new size in characters; nothing without a terminal.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => pty::set_size(terminal.as_fd(), rows, columns),
            None => Ok(()),
        }
    }

    /// The child's exit code, 128 + n when signal n ended it. Ends what is left of its process
    /// group. Cancel-safe.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn wait(&mut self) -> io::Result<i32> {
        let Some(child) = &mut self.child else { return Ok(0) };
        let group = child.id();
        let status = child.wait().await?;
        drop(group.map(GroupGuard::new));
        self.child = None;
        Ok(exit_code(status))
    }
}

/// Reads and drops what still comes, so that the child does not fail for want of a reader; never
/// returns.
async fn discard(output: OwnedFd) -> bool {
    let mut buffer = vec![0; 32 * 1024];
    // Without a watch the child may fail, and leave its temporary files for the sweep.
    let watched = fd::set_nonblocking(output.as_fd()).and_then(|()| fd::watch(output));
    while let Ok(output) = &watched {
        let read = output.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await;
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    std::future::pending().await
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(group) = child.id() else { return };
        let guard = GroupGuard::new(group);
        let (grace, output) = (self.grace, self.output.take());
        let end = async move {
            if let Some(output) = output {
                // Cancel-safe: both arms only read on or wait.
                let ended = tokio::select! {
                    ended = tokio::time::timeout(grace, child.wait()) => ended.is_ok(),
                    never = discard(output) => never,
                };
                if ended {
                    return;
                }
            }
            if let Err(error) = signal_group(group, GroupSignal::HangUp) {
                tracing::debug!(%error, "cannot hang up on a session's processes");
            }
            // Either way the guard kills what is left.
            let _ = tokio::time::timeout(grace, child.wait()).await;
            drop(guard);
            let _ = child.wait().await;
        };
        // Nobody is left to own it; it ends after the grace time.
        drop(tasks::spawn("ssh/hang-up", end));
    }
}

#[cfg(test)]
mod tests;
