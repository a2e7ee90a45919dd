//! Standard input and output of containers and exec'd processes, as the caller holds them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::spec::WindowSize;
use crate::sys::{handover, pty};

/// What standard input and output are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// stdin is /dev/null, stdout and stderr go to the spec's log; for exec: all are /dev/null.
    Log,
    /// Three pipes, whose other ends the caller gets.
    Pipes,
    /// A terminal of the container's own devpts, whose master the caller gets.
    Terminal,
}

/// The caller's ends; all close-on-exec and blocking.
#[derive(Debug)]
pub enum Io {
    /// Nothing to hold.
    Log,
    /// Pipes.
    Pipes {
        /// Write end.
        stdin: OwnedFd,
        /// Read end.
        stdout: OwnedFd,
        /// Read end.
        stderr: OwnedFd,
    },
    /// The master of the terminal.
    Terminal(Terminal),
}

/// The master side of a terminal.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
}

/// A terminal as an asynchronous stream: what is written is typed, what is read was printed.
/// Reading ends (0 bytes) once the last process on it has gone.
#[derive(Debug)]
pub struct TerminalStream {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> Self {
        Self { master }
    }

    /// Tells the processes that the window has this size now.
    ///
    /// # Errors
    /// Of ioctl(TIOCSWINSZ).
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        pty::set_size(self.master.as_fd(), size.rows, size.columns)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// The bare master, blocking.
    pub fn into_fd(self) -> OwnedFd {
        self.master
    }

    /// For use within a tokio runtime; `tokio::io::split` gives the two directions.
    ///
    /// # Errors
    /// If the master cannot be made non-blocking or registered with the runtime.
    pub fn into_stream(self) -> io::Result<TerminalStream> {
        crate::sys::fd::set_nonblocking(self.master.as_fd())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(TerminalStream { master: handover::watch(self.master, interest)? })
    }
}

impl TerminalStream {
    /// As [`Terminal::resize`].
    ///
    /// # Errors
    /// Of ioctl(TIOCSWINSZ).
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        pty::set_size(self.master.as_fd(), size.rows, size.columns)
    }
}

impl AsyncRead for TerminalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.master.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|master| handover::read(master.as_fd(), unfilled)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if handover::is_hangup(&error) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Not ready after all; poll again, which registers the waker.
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for TerminalStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|master| handover::write(master.as_fd(), buffer)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no half-close; type Ctrl-D instead.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Both ends of the streams for a new process.
#[derive(Debug)]
pub(super) struct Ends {
    /// To be sent along; empty but for pipes.
    pub(super) theirs: Vec<OwnedFd>,
    /// `None` for a terminal, whose master is made inside.
    pub(super) ours: Option<Io>,
}

impl Stdio {
    pub(super) fn make(self) -> io::Result<Ends> {
        match self {
            Self::Log => Ok(Ends { theirs: Vec::new(), ours: Some(Io::Log) }),
            Self::Terminal => Ok(Ends { theirs: Vec::new(), ours: None }),
            Self::Pipes => {
                let (their_stdin, stdin) = io::pipe()?;
                let (stdout, their_stdout) = io::pipe()?;
                let (stderr, their_stderr) = io::pipe()?;
                let theirs = vec![their_stdin.into(), their_stdout.into(), their_stderr.into()];
                let (stdin, stdout, stderr) = (stdin.into(), stdout.into(), stderr.into());
                Ok(Ends { theirs, ours: Some(Io::Pipes { stdin, stdout, stderr }) })
            }
        }
    }
}
