//! The terminal that a person sits at.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Width and height of the terminal in characters (ioctl_tty(2), `TIOCGWINSZ`).
///
/// # Errors
/// If `fd` is no terminal.
pub fn window_size(fd: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as it is borrowed; TIOCGWINSZ writes one
    // `struct winsize` to the pointer, which points to a whole one that outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    match result {
        0 => Ok((size.ws_col, size.ws_row)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A terminal in raw mode: every key goes to the reader as it is pressed, nothing is echoed
/// (termios(3), `cfmakeraw`). Dropping it puts the terminal back as it was.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal `fd` to raw mode.
    ///
    /// # Errors
    /// If `fd` is no terminal.
    pub fn enter(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = fd.try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone by now (hangup); then there is nothing to restore.
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
