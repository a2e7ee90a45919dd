//! Namespaces: what a process can see.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;

/// A set of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// User and group ids, capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER.cast_unsigned() as u64);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS.cast_unsigned() as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID.cast_unsigned() as u64);
    /// Network devices, addresses, routes.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET.cast_unsigned() as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC.cast_unsigned() as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS.cast_unsigned() as u64);
    /// Root of the cgroup view.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP.cast_unsigned() as u64);
    /// Boot and monotonic clocks (5.6).
    pub const TIME: Self = Self(libc::CLONE_NEWTIME.cast_unsigned() as u64);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }
}

/// unshare(2) of namespaces.
///
/// # Errors
/// Of the system call.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    let bits = libc::c_int::try_from(namespaces.bits()).map_err(io::Error::other)?;
    Ok(nix::sched::unshare(CloneFlags::from_bits_retain(bits))?)
}

/// unshare(2) of the table of open files.
///
/// # Errors
/// Of the system call.
pub fn unshare_files() -> io::Result<()> {
    Ok(nix::sched::unshare(CloneFlags::CLONE_FILES)?)
}

/// setns(2) with a process descriptor (5.8): into these namespaces of that process, all or none.
///
/// # Errors
/// Of the system call.
pub fn enter(process: BorrowedFd<'_>, namespaces: Namespaces) -> io::Result<()> {
    let bits = libc::c_int::try_from(namespaces.bits()).map_err(io::Error::other)?;
    Ok(nix::sched::setns(process, CloneFlags::from_bits_retain(bits))?)
}

/// sethostname(2).
///
/// # Errors
/// Of the system call.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(nix::unistd::sethostname(name)?)
}

/// ioctl(SIOCSIFFLAGS) on `lo` of this network namespace, netdevice(7).
///
/// # Errors
/// Of socket(2) or ioctl(2).
pub fn bring_loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain integers, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = up.try_into().map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives across the call.
    let result = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    super::mount::check(result.into())
}
