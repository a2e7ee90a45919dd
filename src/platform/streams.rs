//! A session's descriptors as async streams, for doors that know no descriptors.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use super::{Error, Result, Session};
use crate::sys;

/// One end of a pipe, or a terminal.
#[derive(Debug)]
pub struct SessionStream(AsyncFd<File>);

/// What a session's process reads and writes.
#[derive(Debug)]
pub struct SessionStreams {
    /// Its input; none if it was taken before.
    pub input: Option<SessionStream>,
    /// Its output, or its terminal's.
    pub output: SessionStream,
    /// Its errors, unless it has a terminal.
    pub errors: Option<SessionStream>,
}

impl Session {
    /// The process's streams. The process still ends when the session is dropped.
    ///
    /// # Errors
    /// If the kernel does not watch them.
    pub fn streams(&mut self) -> Result<SessionStreams> {
        let unwatched = |error| Error::internal("watch a session's streams", error);
        let open = |fd: OwnedFd| {
            sys::fd::set_nonblocking(fd.as_fd())
                .and_then(|()| sys::fd::watch(fd))
                .map(SessionStream)
                .map_err(unwatched)
        };
        let output = self.output.try_clone().map_err(unwatched)?;
        Ok(SessionStreams {
            input: self.input.take().map(open).transpose()?,
            output: open(output)?,
            errors: self.errors.take().map(open).transpose()?,
        })
    }
}

impl SessionStream {
    /// Reads what is there; 0 at the end. Cancel-safe.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|stream| stream.get_ref().read(buffer)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pty's master reports EIO when nobody has the other end open (pty(7)).
                Ok(Err(error)) if error.raw_os_error() == Some(EIO) => return Ok(0),
                Ok(result) => return result,
                // Not ready after all; wait again.
                Err(_) => {}
            }
        }
    }

    /// Writes as much of `data` as there is room for. Cancel-safe: nothing is written when it is
    /// dropped before it returns.
    ///
    /// # Errors
    /// What the kernel says: the process may have closed its input.
    pub async fn write(&self, data: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|stream| stream.get_ref().write(data)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_) => {}
            }
        }
    }
}

/// errno(3); the same on every Linux.
const EIO: i32 = 5;
