//! Standard input and output of containers and exec'd processes, as the caller holds them.

use std::io;
use std::os::fd::OwnedFd;

use super::spec::WindowSize;

/// What standard input and output are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    master: tokio::io::unix::AsyncFd<OwnedFd>,
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
        let _ = size;
        unimplemented!()
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
        Ok(TerminalStream { master: tokio::io::unix::AsyncFd::new(self.master)? })
    }
}

impl TerminalStream {
    /// As [`Terminal::resize`].
    ///
    /// # Errors
    /// Of ioctl(TIOCSWINSZ).
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let _ = (size, &self.master);
        unimplemented!()
    }
}
