//! Credentials: who a process is, what it may do, and what it can never do again.

use std::io;

use nix::unistd::{Gid, Uid};

use super::mount::check;

/// setgroups(2).
///
/// # Errors
/// Of the system call.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    Ok(nix::unistd::setgroups(&groups)?)
}

/// setresgid(2) of all three ids.
///
/// # Errors
/// Of the system call.
pub fn set_group(gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    Ok(nix::unistd::setresgid(gid, gid, gid)?)
}

/// setresuid(2) of all three ids.
///
/// # Errors
/// Of the system call.
pub fn set_user(uid: u32) -> io::Result<()> {
    let uid = Uid::from_raw(uid);
    Ok(nix::unistd::setresuid(uid, uid, uid)?)
}

/// prctl(PR_SET_KEEPCAPS): permitted capabilities survive the next change of user id.
///
/// # Errors
/// Of the system call.
pub fn keep_capabilities() -> io::Result<()> {
    Ok(nix::sys::prctl::set_keepcaps(true)?)
}

/// prctl(PR_SET_NO_NEW_PRIVS): no program executed from now on gains anything by it.
///
/// # Errors
/// Of the system call.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// A set of capabilities by their numbers, capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Names in the order of their numbers in <linux/capability.h>.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// The set of these names, with or without `CAP_`; else the first unknown name.
    ///
    /// # Errors
    /// The name that is none.
    pub fn parse(names: &[String]) -> Result<Self, String> {
        names.iter().try_fold(Self::default(), |set, name| {
            let bare = name.strip_prefix("CAP_").unwrap_or(name);
            let number = NAMES.iter().position(|known| *known == bare).ok_or(name.clone())?;
            Ok(Self(set.0 | 1 << number))
        })
    }

    fn numbers(self) -> impl Iterator<Item = u64> {
        (0..64).filter(move |number| self.0 & (1 << number) != 0)
    }
}

/// prctl(PR_CAPBSET_DROP) of all but `kept`, up to the last one the kernel knows.
///
/// # Errors
/// Of the system call.
pub fn bound_capabilities(kept: Capabilities) -> io::Result<()> {
    for number in 0..64_u64 {
        if kept.0 & (1 << number) != 0 {
            continue;
        }
        // SAFETY: takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match check(result.into()) {
            // Beyond the kernel's last capability.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// capset(2): permitted, effective and inheritable become exactly `set`.
///
/// # Errors
/// Of the system call; EPERM for one that is not permitted.
pub fn set_capabilities(set: Capabilities) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3, which takes two structs of 32 bits each.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |bits: u64| {
        let bits = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Data { effective: bits, permitted: bits, inheritable: bits }
    };
    let data = [half(set.0), half(set.0 >> 32)];
    // SAFETY: header and the two data structs are laid out as in <linux/capability.h>.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// prctl(PR_CAP_AMBIENT): these survive execve(2) without being uid 0. They must be permitted and
/// inheritable.
///
/// # Errors
/// Of the system call.
pub fn raise_ambient(set: Capabilities) -> io::Result<()> {
    for number in set.numbers() {
        // SAFETY: takes integers only.
        let result =
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        check(result.into())?;
    }
    Ok(())
}

/// seccomp(2) with SECCOMP_SET_MODE_FILTER: from now on every system call passes this program of
/// `struct sock_filter` instructions. Needs [`no_new_privileges`].
///
/// # Errors
/// EINVAL for bytes that are no program; else of the system call.
pub fn filter_system_calls(program: &[u8]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let len = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    check(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_with_or_without_prefix() {
        let names = ["CAP_CHOWN".to_owned(), "BPF".to_owned()];
        assert_eq!(Capabilities::parse(&names), Ok(Capabilities(1 | 1 << 39)));
        assert_eq!(Capabilities::parse(&["cap_chown".to_owned()]), Err("cap_chown".to_owned()));
    }
}
