//! An interactive process: a one-off (`run`) or a guest in an instance (`enter`).

use std::os::fd::OwnedFd;

use super::Error;

/// A running process whose input and output belong to the caller.
///
/// With a terminal, `input` and `output` are the two ends of the pty master and `errors` is none.
/// Dropping the session ends the process.
#[derive(Debug)]
pub struct Session {
    /// Writes reach the process's standard input; dropping it is end of file (pipes only).
    pub input: Option<OwnedFd>,
    /// The process's standard output, or the terminal.
    pub output: OwnedFd,
    /// The process's standard error, without a terminal.
    pub errors: Option<OwnedFd>,
}

impl Session {
    /// Tells the terminal its new size in characters; nothing without a terminal.
    ///
    /// # Errors
    /// If the kernel refuses the size.
    pub fn resize(&self, _columns: u16, _rows: u16) -> Result<(), Error> {
        todo!()
    }

    /// The process's exit code (128 + signal if it was killed).
    ///
    /// # Errors
    /// If the process's end cannot be learned.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        todo!()
    }
}
