//! What the process can do once it serves strangers: no other file, no other program.
//!
//! Landlock leaves it three directories: its own, certificates, pages. A system call filter leaves
//! it what a server needs; the rest is refused with EPERM, and what only an intruder would try ends
//! the process, so that the attempt is seen and its memory is gone.

use std::io;
use std::os::fd::BorrowedFd;

use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

use crate::sys;
use crate::sys::landlock::{Ruleset, Use};

/// Sockets, timers, threads, memory, and files below the three directories.
const ALLOWED: &str = "
    accept4 brk clock_getres clock_gettime clock_nanosleep close close_range connect
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 exit exit_group fchmod fcntl
    fdatasync fstat fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getpeername
    getpid getppid getrandom getrlimit getsockname getsockopt gettid gettimeofday getuid listen
    lseek madvise membarrier mkdirat mmap mprotect mremap munmap nanosleep newfstatat openat pipe2 ppoll
    pread64 prlimit64 pwrite64 read readv recvfrom recvmsg renameat renameat2 restart_syscall rseq
    rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendfile sendmsg sendto
    set_robust_list set_tid_address setsockopt shutdown sigaltstack socketpair splice statx tgkill
    timerfd_create timerfd_settime uname unlinkat write writev";

/// Older spellings of the above that only this architecture has, and libc uses.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &str = "accept epoll_wait lstat mkdir poll rename stat unlink";
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &str = "accept";

/// CLONE_THREAD, clone(2): threads, and no processes.
const CLONE_THREAD: u64 = 0x0001_0000;
/// IPv4 and IPv6, socket(2).
const FAMILIES: [u64; 2] = [2, 10];
/// FIONREAD, FIONBIO, ioctl_list(2).
const IOCTLS: [u64; 2] = [0x541B, 0x5421];
/// PR_SET_NAME, prctl(2): of threads.
const SET_NAME: u64 = 15;

/// Nothing here calls these. `io_uring` would do I/O past the filter.
const FATAL: &str = "
    add_key bpf chroot delete_module execve execveat finit_module fsmount fsopen fspick init_module
    io_uring_setup kexec_file_load kexec_load keyctl mount mount_setattr move_mount open_tree
    perf_event_open pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace request_key
    setns umount2 unshare userfaultfd";

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Leaves the calling thread, and those it starts, the directories: `own` to work in, `readable` to
/// read. A kernel without Landlock leaves it what its user may.
///
/// # Errors
/// Of the kernel.
pub(super) fn confine_files(own: BorrowedFd<'_>, readable: &[BorrowedFd<'_>]) -> io::Result<()> {
    let version = match sys::landlock::version() {
        Ok(version) => version,
        Err(error) => {
            tracing::warn!(%error, "the kernel has no Landlock; the user's rights are the limit");
            return Ok(());
        }
    };
    let rules = Ruleset::new(version)?;
    rules.allow(own, Use::Files)?;
    for directory in readable {
        rules.allow(*directory, Use::Read)?;
    }
    rules.restrict()
}

/// Filters system calls of the calling thread and those it starts.
///
/// # Errors
/// Of the kernel.
pub(super) fn confine_calls() -> io::Result<()> {
    // Of several answers the strictest wins. The list comes last: seccomp(2) is not on it.
    let programs = [fatal(), older(), allowing()].map(|policy| compile(&policy));
    for program in programs {
        sys::credentials::filter_system_calls(&program?)?;
    }
    Ok(())
}

fn allowing() -> Value {
    let names = ALLOWED.split_whitespace().chain(ALLOWED_HERE.split_whitespace()).chain(["clone3"]);
    let mut rules: Vec<Value> = names.map(|name| json!({ "syscall": name })).collect();
    let threads = json!({ "masked_eq": CLONE_THREAD });
    rules.push(argument("clone", 0, &threads, CLONE_THREAD));
    rules.extend(FAMILIES.map(|family| argument("socket", 0, &json!("eq"), family)));
    rules.extend(IOCTLS.map(|request| argument("ioctl", 1, &json!("eq"), request)));
    rules.push(argument("prctl", 0, &json!("eq"), SET_NAME));
    policy(&json!({ "errno": EPERM }), &json!("allow"), &rules)
}

/// `clone3` hides its flags behind a pointer; libc falls back to `clone` where there is none. The
/// list lets it pass, so that this answer holds.
fn older() -> Value {
    let rules = [json!({ "syscall": "clone3" })];
    policy(&json!("allow"), &json!({ "errno": ENOSYS }), &rules)
}

fn fatal() -> Value {
    let rules: Vec<Value> =
        FATAL.split_whitespace().map(|name| json!({ "syscall": name })).collect();
    policy(&json!("allow"), &json!("kill_process"), &rules)
}

fn policy(mismatch: &Value, matching: &Value, rules: &[Value]) -> Value {
    json!({ "main": {
        "mismatch_action": mismatch, "match_action": matching, "filter": rules,
    }})
}

fn argument(name: &str, index: u8, op: &Value, val: u64) -> Value {
    let argument = json!({ "index": index, "type": "dword", "op": op, "val": val });
    json!({ "syscall": name, "args": [argument] })
}

fn compile(policy: &Value) -> io::Result<Vec<u8>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let text = policy.to_string();
    let mut programs =
        seccompiler::compile_from_json(text.as_bytes(), arch).map_err(io::Error::other)?;
    let program: BpfProgram =
        programs.remove("main").ok_or_else(|| io::Error::other("filter without program"))?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const PROBE: &str = "STAITHE_TEST_PROBE";

    /// SIGSYS, signal(7).
    const SIGSYS: i32 = 31;

    #[allow(clippy::disallowed_methods, reason = "a file that nothing depends on")]
    fn write(path: &std::path::Path, text: &str) -> io::Result<()> {
        std::fs::write(path, text)
    }

    /// Not a test by itself: [`machine_an_intruder_has_no_program_and_no_other_socket`] runs it in
    /// a process of its own, which the filter may end.
    #[test]
    fn probe() {
        let Ok(what) = std::env::var(PROBE) else { return };
        sys::credentials::no_new_privileges().unwrap();
        confine_calls().unwrap();
        match what.as_str() {
            "execute" => {
                let error = sys::process::execute(c"/bin/true", &[c"true".into()], &[]);
                panic!("{error}");
            }
            "socket" => {
                let unix = std::os::unix::net::UnixStream::connect("/nowhere").unwrap_err();
                assert_eq!(unix.kind(), io::ErrorKind::PermissionDenied);
                let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap_err();
                assert_eq!(bound.kind(), io::ErrorKind::PermissionDenied);
                let refused = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
                assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn machine_an_intruder_has_no_program_and_no_other_socket() {
        let run = |what| {
            let test = "proxy::confine::tests::probe";
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(PROBE, what);
            command.output().unwrap()
        };
        assert_eq!(run("execute").status.signal(), Some(SIGSYS));
        let output = run("socket");
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn machine_files_elsewhere_are_out_of_reach() {
        let directory = tempfile::tempdir().unwrap();
        let (own, readable) = (directory.path().join("own"), directory.path().join("readable"));
        for path in [&own, &readable] {
            std::fs::create_dir(path).unwrap();
            write(&path.join("file"), "text").unwrap();
        }
        let outside = directory.path().join("outside");
        write(&outside, "secret").unwrap();
        // The rules are a thread's.
        let thread = std::thread::spawn(move || {
            sys::credentials::no_new_privileges().unwrap();
            let open = |path| sys::fs::open_directory(path).unwrap();
            confine_files(open(&own).as_fd(), &[open(&readable).as_fd()]).unwrap();
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            crate::support::atomic_file::write(&own.join("file"), b"new", 0o600).unwrap();
            std::fs::remove_file(own.join("file")).unwrap();
            assert_eq!(std::fs::read_to_string(readable.join("file")).unwrap(), "text");
            denied(write(&readable.join("file"), "mine"));
            denied(std::fs::read(&outside).map(|_| ()));
            denied(std::fs::read("/etc/passwd").map(|_| ()));
            denied(std::fs::rename(readable.join("file"), own.join("file")));
        });
        thread.join().unwrap();
    }

    #[test]
    fn nothing_is_both_allowed_and_fatal() {
        let allowed: Vec<_> =
            ALLOWED.split_whitespace().chain(ALLOWED_HERE.split_whitespace()).collect();
        assert!(FATAL.split_whitespace().all(|name| !allowed.contains(&name)));
        assert!(!allowed.contains(&"bind") && !allowed.contains(&"seccomp"));
    }
}
