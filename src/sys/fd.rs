//! File descriptors as such.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

/// Makes reads and writes return `WouldBlock` instead of waiting. The flag belongs to the open file
/// description (fcntl(2), `F_SETFL`): whoever shares it is affected as well.
///
/// # Errors
/// What fcntl(2) says.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Has tokio watch a pipe, socket or terminal for readiness (epoll(7)). The caller makes it
/// non-blocking.
///
/// # Errors
/// If epoll cannot watch what the descriptor stands for, as a regular file.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor and answers the same one until it is dropped, and
    // `AsyncFd` deregisters it before it drops the file.
    unsafe { AsyncFd::register(File::from(fd)) }.map_err(Into::into)
}
