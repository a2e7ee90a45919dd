//! Sessions, process groups and their terminals.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::OFlag;
use nix::pty::posix_openpt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

use super::{fd, pty};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The signals that sessions pass on, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSignal {
    /// The user has gone away.
    HangUp,
    /// Control-C.
    Interrupt,
    /// Control-\.
    Quit,
    /// Please end.
    Terminate,
    /// End, without being asked.
    Kill,
    /// Meant for the program.
    User1,
    /// Meant for the program.
    User2,
}

impl GroupSignal {
    /// The signal with this number of signal(7), if it is one of these.
    pub fn by_number(number: u8) -> Option<Self> {
        let all = [
            Self::HangUp,
            Self::Interrupt,
            Self::Quit,
            Self::Terminate,
            Self::Kill,
            Self::User1,
            Self::User2,
        ];
        all.into_iter().find(|signal| i32::from(number) == signal.signal() as i32)
    }

    fn signal(self) -> Signal {
        match self {
            Self::HangUp => Signal::SIGHUP,
            Self::Interrupt => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
            Self::Terminate => Signal::SIGTERM,
            Self::Kill => Signal::SIGKILL,
            Self::User1 => Signal::SIGUSR1,
            Self::User2 => Signal::SIGUSR2,
        }
    }
}

/// Sends `signal` to every process of the group `leader`, see killpg(3). A group that has ended
/// is not an error.
///
/// # Errors
/// The caller may not signal any of the processes.
pub fn signal_group(leader: u32, signal: GroupSignal) -> io::Result<()> {
    // 0 and 1 have meanings of their own in kill(2); no child of ours has them.
    let leader = i32::try_from(leader).ok().filter(|id| *id > 1);
    let leader = leader.ok_or(io::ErrorKind::InvalidInput)?;
    match killpg(Pid::from_raw(leader), signal.signal()) {
        Err(nix::Error::ESRCH) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

/// Kills a process group when it is dropped, so that no helper of a child outlives its purpose.
#[derive(Debug)]
pub struct GroupGuard(u32);

impl GroupGuard {
    /// Guards the group whose leader is `leader`.
    pub fn new(leader: u32) -> Self {
        Self(leader)
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = signal_group(self.0, GroupSignal::Kill);
    }
}

/// A new pseudo-terminal: master and slave, both close-on-exec; see pty(7).
///
/// # Errors
/// There are no terminals left, or no devpts.
pub fn open_terminal(size: WindowSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    pty::unlock(master.as_fd())?;
    let slave = pty::slave(master.as_fd())?;
    pty::set_size(master.as_fd(), size.rows, size.columns)?;
    Ok((master.into(), slave))
}

/// The master side of a pseudo-terminal, for asynchronous reading and writing.
#[derive(Debug)]
pub struct Terminal(AsyncFd<File>);

impl Terminal {
    /// Takes the master. Needs a runtime.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn watch(master: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(master.as_fd())?;
        fd::watch(master).map(Self)
    }

    /// Tells the terminal its size; the foreground process group gets `SIGWINCH`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        pty::set_size(self.0.get_ref().as_fd(), size.rows, size.columns)
    }

    /// Writes all of `data`, as if it were typed.
    ///
    /// # Errors
    /// The slave side is gone.
    ///
    /// # Cancellation
    /// Dropped, a part may have been written.
    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |mut file| file.write(data)).await?;
            data = data.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Linux says `EIO` when the last slave is closed; that is the end, not a failure.
impl AsyncRead for &Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let read = ready.try_io(|file| file.get_ref().read(buffer.initialize_unfilled()));
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Not ready after all; the flag is cleared.
                Err(_) => {}
            }
        }
    }
}

/// Whether the other side of a socket will send nothing more, even where what it has sent is not
/// read yet; see `POLLRDHUP` in poll(2).
///
/// # Errors
/// The descriptor cannot be polled.
pub fn peer_has_closed(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let found = poll(socket, libc::POLLRDHUP)?;
    Ok(found & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0)
}

/// Whether nobody can read any more what is written to a pipe, a socket or a terminal; see
/// `POLLERR` and `POLLHUP` in poll(2).
///
/// # Errors
/// The descriptor cannot be polled.
pub fn reader_is_gone(output: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(poll(output, 0)? & (libc::POLLHUP | libc::POLLERR) != 0)
}

fn poll(descriptor: BorrowedFd<'_>, events: i16) -> io::Result<i16> {
    let mut entry = libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 };
    // SAFETY: poll(2) writes to the one pollfd it is given, which lives until the call returns;
    // with a timeout of zero it does not block.
    let result = unsafe { libc::poll(&raw mut entry, 1, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(entry.revents) }
}

/// Makes the child the leader of a new session whose controlling terminal is its standard input,
/// so that Control-C, changes of size and a hang-up reach it. See setsid(2), tty_ioctl(4).
pub fn lead_terminal_session(command: &mut std::process::Command) {
    let enter = || {
        nix::unistd::setsid()?;
        // SAFETY: the closure runs in the child after its standard input was put in place, and
        // nothing closes descriptor 0 while it is borrowed.
        let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
        pty::make_controlling(stdin)
    };
    // SAFETY: the closure runs between fork(2) and exec(2) of a process that may have other
    // threads, where only async-signal-safe functions may be called: it makes two system calls,
    // allocates nothing and takes no lock (an io::Error of an error number holds no allocation).
    // std has no call for TIOCSCTTY, and a helper program in between would cost every session one
    // more exec.
    unsafe { command.pre_exec(enter) };
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_terminal_session_has_its_size_and_a_controlling_terminal() {
        let (master, slave) = open_terminal(WindowSize { rows: 33, columns: 44 }).unwrap();
        let terminal = Terminal::watch(master).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "stty size; : </dev/tty && echo tty"]);
        command.stdin(slave.try_clone().unwrap()).stdout(slave).stderr(Stdio::null());
        lead_terminal_session(&mut command);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut output = String::new();
        (&terminal).read_to_string(&mut output).await.unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(output, "33 44\r\ntty\r\n");
    }

    #[test]
    fn a_dropped_guard_kills_the_whole_group() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & echo started; wait"]).process_group(0);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut [0; 8]).unwrap();
        drop(GroupGuard::new(child.id()));
        // The end of the pipe comes when both have gone.
        assert_eq!(output.read(&mut [0; 8]).unwrap(), 0);
        assert!(!child.wait().unwrap().success());
        signal_group(child.id(), GroupSignal::HangUp).unwrap();
    }
}
