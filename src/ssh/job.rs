//! A child process whose streams belong to a client.
//!
//! ```text
//!  spawn ── running ── exited ── drained ── Ended
//!              │ client gone: hang-up to the group, then after the grace time a kill
//!              │ client of git gone: first the grace time to notice that by itself
//! ```

use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::gate::Input;
use crate::sys::session::{
    GroupGuard, GroupSignal, Terminal, WindowSize, lead_terminal_session, open_terminal,
    signal_group,
};

/// One read of a child's output; a packet of SSH's and a frame of the relay's hold it.
const CHUNK: usize = 32 * 1024;
/// How long output is waited for after the child has ended and its process group was killed:
/// somebody who left the group may hold the other end open for good.
const LINGER: Duration = Duration::from_secs(2);
/// What a terminal's line discipline takes for the end of the input: Control-D.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// Where a child's output goes. Both wait until the client can take more.
pub(super) trait Sink: Send + Sync + 'static {
    /// Standard output, or the terminal's.
    fn output(&self, data: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Standard error.
    fn errors(&self, data: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
}

/// The client is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// What a client does to a running child, beside sending it data.
#[derive(Debug)]
pub(super) struct Control {
    /// Signals for its process group.
    pub(super) signals: mpsc::Receiver<GroupSignal>,
    /// The size of the client's window.
    pub(super) window: watch::Receiver<WindowSize>,
    /// Canceled when the client is gone.
    pub(super) hang_up: CancellationToken,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// How to run a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether its streams are a terminal.
    pub(super) terminal: bool,
    /// Whether it is given time to end by itself when its client has gone, with nobody at its
    /// input and error stream and its output dropped: `git receive-pack` leaves its quarantine
    /// behind when a signal ends it.
    pub(super) gentle: bool,
    /// How long it may go on after its client has gone.
    pub(super) grace: Duration,
}

/// Runs `command` to its end, feeds it with `input`, and passes everything between it and the client.
///
/// # Errors
/// It cannot be started, or waited for.
///
/// # Cancellation
/// Dropped, the child and its process group are killed.
pub(super) async fn run<S: Sink>(
    command: Command,
    manner: Manner,
    input: &Input,
    control: Control,
    sink: &S,
) -> io::Result<Ended> {
    if manner.terminal {
        run_in_terminal(command, manner, input, control, sink).await
    } else {
        run_with_pipes(command, manner, input, control, sink).await
    }
}

async fn run_with_pipes<S: Sink>(
    mut command: Command,
    manner: Manner,
    input: &Input,
    control: Control,
    sink: &S,
) -> io::Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    let exited = CancellationToken::new();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let hang_up = control.hang_up.clone();
    let end = Reading { exited: &exited, hang_up: &hang_up };
    let outputs = async {
        let output = async {
            let mut stdout = stdout;
            end.pump(stdout.as_mut(), |data| sink.output(data)).await;
            if manner.gentle {
                end.discard(stdout.as_mut()).await;
            }
        };
        let errors = end.pump(stderr, |data| sink.errors(data));
        tokio::join!(output, errors)
    };
    let feed = async {
        // Cancel-safe: a client that is gone has sent nothing that is still of interest.
        tokio::select! {
            () = feed_pipe(input, stdin) => {}
            () = hang_up.cancelled() => input.discard(),
        }
    };
    let supervise = supervise(child, manner, control, &exited, None);
    until_both(supervise, outputs, feed).await
}

async fn run_in_terminal<S: Sink>(
    mut command: Command,
    manner: Manner,
    input: &Input,
    control: Control,
    sink: &S,
) -> io::Result<Ended> {
    let size = *control.window.borrow();
    let (master, slave) = open_terminal(size)?;
    let terminal = Terminal::watch(master)?;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    lead_terminal_session(command.as_std_mut());
    let child = command.kill_on_drop(true).spawn()?;
    // It holds the slave; the master only tells its end when no one does.
    drop(command);
    let exited = CancellationToken::new();
    let hang_up = control.hang_up.clone();
    let end = Reading { exited: &exited, hang_up: &hang_up };
    let output = end.pump(Some(&terminal), |data| sink.output(data));
    let feed = feed_terminal(input, &terminal);
    let supervise = supervise(child, manner, control, &exited, Some(&terminal));
    until_both(supervise, output, feed).await
}

/// Until the child has ended and its output is passed on; feeding goes on beside it.
async fn until_both<O>(
    supervise: impl Future<Output = io::Result<Ended>>,
    outputs: impl Future<Output = O>,
    feed: impl Future<Output = ()>,
) -> io::Result<Ended> {
    let feed = async {
        feed.await;
        std::future::pending::<io::Result<Ended>>().await
    };
    let work = async { tokio::join!(supervise, outputs).0 };
    // Cancel-safe: what is fed after the work is done has no reader.
    tokio::select! {
        ended = work => ended,
        never = feed => never,
    }
}

/// Passes signals and sizes on until the child has ended, then ends its process group.
async fn supervise(
    mut child: Child,
    manner: Manner,
    control: Control,
    exited: &CancellationToken,
    terminal: Option<&Terminal>,
) -> io::Result<Ended> {
    let group = child.id().ok_or(io::ErrorKind::NotFound)?;
    let guard = GroupGuard::new(group);
    let status = wait(&mut child, group, manner, control, terminal).await;
    drop(guard);
    exited.cancel();
    status.map(Ended::from)
}

async fn wait(
    child: &mut Child,
    group: u32,
    manner: Manner,
    mut control: Control,
    terminal: Option<&Terminal>,
) -> io::Result<ExitStatus> {
    loop {
        // All arms are cancel-safe: they wait for a child, for a token, or take from a channel
        // only what they return.
        tokio::select! {
            status = child.wait() => return status,
            () = control.hang_up.cancelled() => break,
            Some(signal) = control.signals.recv() => pass(group, signal),
            Ok(()) = control.window.changed(), if terminal.is_some() => {
                let size = *control.window.borrow_and_update();
                if let Some(Err(error)) = terminal.map(|terminal| terminal.resize(size)) {
                    tracing::debug!(%error, "cannot set the size of a session's terminal");
                }
            }
        }
    }
    if manner.gentle
        && let Ok(status) = tokio::time::timeout(manner.grace, child.wait()).await
    {
        return status;
    }
    pass(group, GroupSignal::HangUp);
    match tokio::time::timeout(manner.grace, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            pass(group, GroupSignal::Kill);
            child.wait().await
        }
    }
}

fn pass(group: u32, signal: GroupSignal) {
    if let Err(error) = signal_group(group, signal) {
        tracing::debug!(%error, ?signal, "cannot signal a session's processes");
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signal(signal),
            // The kernel keeps eight bits; see exit(3).
            None => {
                Self::Code(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
            }
        }
    }
}

/// When reading a child's output ends.
struct Reading<'a> {
    exited: &'a CancellationToken,
    hang_up: &'a CancellationToken,
}

impl Reading<'_> {
    /// Passes everything from `source` on, until its end or the client's.
    async fn pump<R, F>(&self, source: Option<R>, mut write: impl FnMut(Bytes) -> F)
    where
        R: AsyncRead + Unpin,
        F: Future<Output = Result<(), Gone>>,
    {
        let Some(mut source) = source else { return };
        loop {
            let mut buffer = BytesMut::with_capacity(CHUNK);
            // Cancel-safe: the read returns its data or has taken none.
            let read = tokio::select! {
                read = source.read_buf(&mut buffer) => read,
                () = self.lingered() => return,
                () = self.hang_up.cancelled() => return,
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            // What is not written when the client is gone, nobody misses.
            let written = tokio::select! {
                written = write(buffer.freeze()) => written,
                () = self.hang_up.cancelled() => return,
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// Reads and drops what still comes, so that the child does not fail for want of a reader.
    async fn discard<R: AsyncRead + Unpin>(&self, source: Option<R>) {
        let Some(mut source) = source else { return };
        let mut nowhere = tokio::io::sink();
        // Cancel-safe: what is read is dropped anyway.
        tokio::select! {
            _ = tokio::io::copy(&mut source, &mut nowhere) => {}
            () = self.lingered() => {}
        }
    }

    async fn lingered(&self) {
        self.exited.cancelled().await;
        tokio::time::sleep(LINGER).await;
    }
}

async fn feed_pipe(input: &Input, stdin: Option<ChildStdin>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(data) = input.next().await {
        // A child that has closed its input must not block those who send.
        if stdin.write_all(&data).await.is_err() {
            break;
        }
    }
    drop(stdin);
    input.discard();
}

async fn feed_terminal(input: &Input, terminal: &Terminal) {
    while let Some(data) = input.next().await {
        if terminal.write_all(&data).await.is_err() {
            return input.discard();
        }
    }
    // There is no half-closed terminal; this is what a user would type.
    let _ = terminal.write_all(END_OF_TRANSMISSION).await;
}

#[cfg(test)]
mod tests;
