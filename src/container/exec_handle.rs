//! The daemon's side of an exec'd process.

use std::io;

use super::channel::Channel;
use super::error::Error;
use super::io::{Io, Terminal};
use super::protocol::{Order, Report};
use super::spec::{Signal, WindowSize};
use super::state::ExitRecord;

/// A process that was added to a running container. Dropping the handle kills it.
#[derive(Debug)]
pub struct ExecHandle {
    /// The caller's ends of its standard input and output; take it to use it.
    pub io: Option<Io>,
    channel: Channel,
    /// For [`ExecHandle::resize`], when `io` was taken.
    terminal: Option<Terminal>,
    record: Option<ExitRecord>,
}

impl ExecHandle {
    pub(super) fn new(channel: Channel, io: Io) -> Result<Self, Error> {
        let terminal = match &io {
            Io::Terminal(terminal) => {
                let copy =
                    terminal.as_fd().try_clone_to_owned().map_err(|source| Error::System {
                        id: channel.id().into(),
                        operation: "copy its terminal",
                        source,
                    })?;
                Some(Terminal::new(copy))
            }
            _ => None,
        };
        Ok(Self { io: Some(io), channel, terminal, record: None })
    }

    /// Waits for its end. Cancel-safe; may be called again.
    ///
    /// # Errors
    /// `Monitor` if its parent was killed.
    pub async fn wait(&mut self) -> Result<ExitRecord, Error> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        match self.channel.next().await?.0 {
            Report::Exited(record) => Ok(self.record.insert(record).clone()),
            other => Err(self.channel.unexpected(other)),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.channel.send(&Order::Signal(signal.0))
    }

    /// Kills it and its process group; `wait` then tells.
    ///
    /// # Errors
    /// If it has ended.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// Resizes its terminal; see also [`super::TerminalStream::resize`].
    ///
    /// # Errors
    /// If it has none.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        let result = match &self.terminal {
            Some(terminal) => terminal.resize(size),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it has no terminal")),
        };
        result.map_err(|source| Error::System {
            id: self.channel.id().into(),
            operation: "resize its terminal",
            source,
        })
    }
}
