//! The daemon's side of a conversation with a monitor or an exec parent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::Error;
use super::protocol::{self, Order, Report};
use crate::sys::handover;

/// A packet socket. Dropping it tells the other side that we have gone.
#[derive(Debug)]
pub(super) struct Channel {
    id: String,
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    pub(super) fn new(id: &str, socket: OwnedFd) -> Result<Self, Error> {
        let watch = || {
            crate::sys::fd::set_nonblocking(socket.as_fd())?;
            handover::watch(socket, Interest::READABLE)
        };
        let socket = watch().map_err(|source| Error::System {
            id: id.to_owned(),
            operation: "watch the channel to its monitor",
            source,
        })?;
        Ok(Self { id: id.to_owned(), socket })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Gives the job and the child's ends of its streams away.
    pub(super) fn send_job<T: Serialize>(
        &self,
        job: &T,
        streams: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let file = protocol::pack(job).map_err(|source| self.system("pack its job", source))?;
        protocol::send_job(self.socket.as_fd(), &file, &streams).map_err(|_| self.ended())
    }

    /// The socket's buffer holds many orders; one that does not fit means a monitor that hangs.
    pub(super) fn send(&self, order: &Order) -> Result<(), Error> {
        protocol::send(self.socket.as_fd(), order, &[]).map_err(|_| self.ended())
    }

    pub(super) async fn receive(
        &self,
        operation: &'static str,
        limit: Duration,
    ) -> Result<(Report, Vec<OwnedFd>), Error> {
        tokio::time::timeout(limit, self.next())
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { id: self.id.clone(), operation, limit }))
    }

    /// The next report, however long it takes. Cancel-safe: a packet is taken whole or not at all.
    pub(super) async fn next(&self) -> Result<(Report, Vec<OwnedFd>), Error> {
        let read = |socket: &OwnedFd| protocol::receive(socket.as_fd());
        match self.socket.async_io(Interest::READABLE, read).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.ended()),
            Err(source) => Err(self.system("hear from its monitor", source)),
            Ok(report) => Ok(report),
        }
    }

    pub(super) fn unexpected(&self, report: Report) -> Error {
        match report {
            Report::Failed { message } => Error::Setup { id: self.id.clone(), message },
            _ => Error::Monitor { id: self.id.clone(), problem: "spoke out of turn" },
        }
    }

    fn ended(&self) -> Error {
        Error::Monitor { id: self.id.clone(), problem: "ended unexpectedly" }
    }

    fn system(&self, operation: &'static str, source: io::Error) -> Error {
        Error::System { id: self.id.clone(), operation, source }
    }
}
