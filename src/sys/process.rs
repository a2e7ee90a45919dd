//! Processes: made, watched, signalled, limited, replaced.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::mount::{check, owned};
use super::namespace::Namespaces;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child, as seen from here.
        pid: u32,
        /// The child, whatever becomes of its number.
        process: OwnedFd,
    },
}

/// Whether parent and child have one table of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Each its own, as usual.
    Copied,
    /// One, until one of them calls `unshare_files`.
    Shared,
}

/// clone3(2) (5.3) as a fork into new namespaces.
///
/// # Errors
/// EDEADLK in a process with several threads, where the child could meet locks that nobody will
/// ever release; else of the system call.
pub fn fork(namespaces: Namespaces, files: Files) -> io::Result<Fork> {
    refuse_threads()?;
    let mut process: RawFd = -1;
    let shared = match files {
        Files::Copied => 0,
        Files::Shared => u64::from(libc::CLONE_FILES.cast_unsigned()),
    };
    // SAFETY: `clone_args` is plain integers, for which all zeros is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.bits() | shared | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut process).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, as after fork(2); there is
    // no other thread whose locks it could inherit; `args` and `process` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) };
    check(pid)?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: CLONE_PIDFD made the kernel store a new descriptor here, which is ours alone.
    Ok(Fork::Parent { pid, process: unsafe { OwnedFd::from_raw_fd(process) } })
}

/// fork(2) by way of the C library; the child's pid, or `None` in the child.
///
/// # Errors
/// As of [`fork`].
pub fn fork_here() -> io::Result<Option<u32>> {
    refuse_threads()?;
    // SAFETY: there is no other thread whose locks the child could inherit.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(None),
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child.as_raw().cast_unsigned())),
    }
}

fn refuse_threads() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() == 1 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EDEADLK))
    }
}

/// pidfd_open(2) (5.3).
///
/// # Errors
/// Of the system call; ESRCH if there is no such process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2) (5.1).
///
/// # Errors
/// Of the system call; ESRCH if it has ended.
pub fn signal(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    let fd = process.as_raw_fd();
    // SAFETY: a NULL info is filled in by the kernel as for kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, 0) })
}

/// kill(2) of a child, or with a negative number of its process group.
///
/// # Errors
/// Of the system call.
pub fn signal_pid(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::kill(pid, number) }.into())
}

/// _exit(2): ends a forked child without running what its parent has left to run at its end, and
/// without dropping what [`close_all_but`] has closed.
pub fn exit(code: u8) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code.into()) }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Whom to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// This one, until it ends.
    Pid(u32),
    /// Any that has ended already.
    AnyEnded,
}

/// waitpid(2): reaps a child; `None` if none has ended.
///
/// # Errors
/// Of the system call; ECHILD if there is none.
pub fn wait(child: Child) -> io::Result<Option<(u32, Exit)>> {
    let (pid, options) = match child {
        Child::Pid(pid) => (i32::try_from(pid).map_err(io::Error::other)?, 0),
        Child::AnyEnded => (-1, libc::WNOHANG),
    };
    let mut status = 0;
    let reaped = loop {
        // SAFETY: `status` is writable and outlives the call.
        let result = unsafe { libc::waitpid(pid, &raw mut status, options) };
        if result >= 0 {
            break result;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    if reaped == 0 {
        return Ok(None);
    }
    let exit = if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    Ok(Some((reaped.cast_unsigned(), exit)))
}

/// poll(2) for reading: which of the descriptors have something to read, or have ended. All false
/// once `timeout` is over.
///
/// # Errors
/// Of the system call.
pub fn poll<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut entries = descriptors.map(|fd| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let milliseconds = timeout.map_or(-1, |timeout| {
        // Rounded up: rounding down would make a busy loop of the last millisecond.
        i32::try_from(timeout.as_millis() + 1).unwrap_or(i32::MAX)
    });
    loop {
        let count = N as libc::nfds_t;
        // SAFETY: `entries` holds exactly N entries and outlives the call.
        let result = unsafe { libc::poll(entries.as_mut_ptr(), count, milliseconds) };
        match check(result.into()) {
            Ok(()) => return Ok(entries.map(|entry| entry.revents != 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// setsid(2): a session of its own, without a terminal.
///
/// # Errors
/// EPERM if it leads a process group already.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// prctl(PR_SET_PDEATHSIG): this process is sent SIGKILL when the thread that made it ends.
/// Cleared by a change of user id.
///
/// # Errors
/// Of the system call.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// prctl(PR_SET_DUMPABLE): its memory, descriptors and executable are closed to processes without
/// CAP_SYS_PTRACE over the user namespace it was executed in.
///
/// # Errors
/// Of the system call.
pub fn forbid_inspection() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// prctl(PR_SET_NAME): what ps(1) shows.
///
/// # Errors
/// Of the system call.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(nix::sys::prctl::set_name(name)?)
}

/// umask(2): which permission bits new files do not get.
pub fn set_umask(mask: u32) {
    let _ = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// close_range(2) (5.9) of all descriptors but the three standard ones and `kept`.
///
/// Their owners must be given up before, or never be dropped: for a process that is about to
/// execute another program, or to end.
///
/// # Errors
/// Of the system call.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first: u32 = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if first < fd {
            // SAFETY: closes descriptors by number, which the caller has agreed to above.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) })?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// dup3(2): makes `fd` known as `number`, close-on-exec or for the next program.
///
/// # Errors
/// Of the system call; EINVAL if it has that number already.
pub fn duplicate_to(fd: BorrowedFd<'_>, number: RawFd, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: takes integers only; `fd` is borrowed, so open.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, flags) }.into())
}

/// Takes charge of an inherited descriptor.
///
/// # Errors
/// EBADF if it is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and the caller, who knows by whom this process was started, is the only
    // one to ask for it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// execve(2). Returns only on failure.
pub fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(program, args, env) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Soft.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// The number of a resource by its name, as `nofile`.
pub fn resource(name: &str) -> Option<u32> {
    let number = match name {
        "cpu" => libc::RLIMIT_CPU,
        "fsize" => libc::RLIMIT_FSIZE,
        "data" => libc::RLIMIT_DATA,
        "stack" => libc::RLIMIT_STACK,
        "core" => libc::RLIMIT_CORE,
        "rss" => libc::RLIMIT_RSS,
        "nproc" => libc::RLIMIT_NPROC,
        "nofile" => libc::RLIMIT_NOFILE,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "as" => libc::RLIMIT_AS,
        "locks" => libc::RLIMIT_LOCKS,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        _ => return None,
    };
    Some(number)
}

/// prlimit(2): sets a limit of another process if one is given; the limit as it was.
///
/// # Errors
/// Of the system call; EPERM above the hard limit without CAP_SYS_RESOURCE.
pub fn limit(pid: u32, resource: u32, new: Option<Limit>) -> io::Result<Limit> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let new = new.map(|limit| libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard });
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `new` is NULL or points to a struct that lives across the call; `old` is writable.
    check(unsafe { libc::prlimit64(pid, resource, new, &raw mut old) }.into())?;
    Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max })
}

/// rt_sigprocmask(2): no signal is delivered until asked for with [`next_signal`].
///
/// # Errors
/// Of the system call.
pub fn block_signals() -> io::Result<()> {
    Ok(nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?)
}

/// sigwaitinfo(2): waits for any blocked signal; its number.
///
/// # Errors
/// Of the system call.
pub fn next_signal() -> io::Result<i32> {
    let set = SigSet::all();
    loop {
        // SAFETY: the set is valid and the information may be NULL.
        let number = unsafe { libc::sigwaitinfo(set.as_ref(), std::ptr::null_mut()) };
        match check(number.into()) {
            Ok(()) => return Ok(number),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Every signal does what it does by default and none is blocked, for the next program: what is
/// ignored or blocked stays so across execve(2), and Rust's runtime ignores SIGPIPE.
///
/// # Errors
/// Of rt_sigprocmask(2).
pub fn reset_signals() -> io::Result<()> {
    for number in 1..=64 {
        // SAFETY: SIG_DFL installs no code of ours. Errors are those of SIGKILL, SIGSTOP and the
        // two signals the C library keeps, which cannot be changed and are at their default.
        let _ = unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    Ok(nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
