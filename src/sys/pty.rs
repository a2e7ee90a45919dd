//! Terminals.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::mount::{check, owned};

/// ioctl(TIOCSPTLCK): unlocks the slave of this master.
///
/// # Errors
/// Of the system call.
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives across the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) }.into())
}

/// ioctl(TIOCGPTPEER) (4.13): the slave of this master, without looking up any path, which could
/// lead elsewhere inside a container.
///
/// # Errors
/// Of the system call.
pub fn slave(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    owned(fd.into())
}

/// ioctl(TIOCSWINSZ) on either side; the foreground processes are sent SIGWINCH.
///
/// # Errors
/// Of the system call.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives across the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
}

/// ioctl(TIOCSCTTY): makes it the terminal of this session, whose leader the caller is.
///
/// # Errors
/// Of the system call.
pub fn make_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value; 0 never steals a terminal.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())
}
