//! File descriptors as such.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;

use nix::errno::Errno;
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

/// Bytes written to a TCP socket that its peer has not acknowledged. tcp(7), `SIOCOUTQ`.
///
/// # Errors
/// `EINVAL` for a listening socket, `ENOTTY` for what is none.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open across the call; SIOCOUTQ, which is TIOCOUTQ, writes one int,
    // and `bytes` is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    Errno::result(result)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// A pipe, both ends non-blocking: reading end, writing end. pipe2(2).
///
/// # Errors
/// `EMFILE` and `ENFILE`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?)
}

/// Moves up to `length` bytes, of which one side is a pipe, without copying them through here; 0 at
/// the end of `from`. splice(2).
///
/// # Errors
/// `EAGAIN` where it would have to wait, and those of reading and writing.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both descriptors are open across the call, and null offsets are what it asks for where
    // there are none; it touches no memory of ours.
    let moved = unsafe { libc::splice(from, null_mut(), to, null_mut(), length, flags) };
    // What was moved is not negative, and no more than `length`.
    usize::try_from(Errno::result(moved)?).map_err(io::Error::other)
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
