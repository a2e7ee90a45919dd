//! Which system calls a container may make.
//!
//! Two filters, compiled once when the runtime opens (a start only loads the bytes): the first
//! lets pass what is listed and answers ENOSYS to the rest, as a kernel without them would, which
//! makes programs fall back; the second, whose answer wins, says EPERM to what programs expect to
//! be privileged and to the dangerous arguments of calls that are otherwise allowed. Calls of
//! another architecture kill the process.

use std::io;

use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

/// What apps use. From Docker's well-tried default this leaves out what an app never needs and
/// what has been a way into kernels: `io_uring` and `userfaultfd`, tracing (`ptrace`,
/// `process_vm_*`, `pidfd_getfd`, `kcmp`, `perf_event_open`), key rings, `bpf`, `modify_ldt`,
/// `fanotify_mark`. `clone3` hides its flags behind a pointer, where no filter can look; libc
/// falls back to `clone`.
const ALLOWED: &str = "
    accept accept4 adjtimex bind brk cachestat capget capset chdir clock_adjtime clock_getres
    clock_gettime clock_nanosleep clone close close_range connect copy_file_range dup dup3
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 execve execveat exit exit_group
    faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
    futex_requeue futex_wait futex_waitv futex_wake get_mempolicy get_robust_list getcpu getcwd
    getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpid getppid
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
    gettid gettimeofday getuid getxattr inotify_add_watch inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lgetxattr linkat listen
    listxattr llistxattr lremovexattr lseek lsetxattr madvise membarrier memfd_create memfd_secret
    mincore mkdirat mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat openat openat2 personality
    pidfd_open pidfd_send_signal pipe2 pkey_alloc pkey_free pkey_mprotect ppoll prctl pread64
    preadv preadv2 prlimit64 process_madvise process_mrelease pselect6 pwrite64 pwritev pwritev2
    read readahead readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr renameat
    renameat2 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto
    set_robust_list set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd4 socket socketpair splice statfs statx
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
    times tkill truncate umask uname unlinkat utimensat vmsplice wait4 waitid write writev";

/// Older spellings of the above that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &str = "
    access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat
    getdents getpgrp get_thread_area inotify_init lchown link lstat map_shadow_stack mkdir mknod
    open pause pipe poll readlink rename rmdir select set_thread_area signalfd stat symlink time
    unlink uretprobe utime utimes vfork";
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &str = "";

/// Known to need privileges nobody has here: EPERM tells more than ENOSYS would.
const REFUSED: &str = "
    acct add_key bpf chroot clock_settime delete_module fanotify_init fanotify_mark finit_module
    fsconfig fsmount fsopen fspick init_module kcmp kexec_file_load kexec_load keyctl mbind
    migrate_pages mount mount_setattr move_mount move_pages open_by_handle_at open_tree
    perf_event_open pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace quotactl
    quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node setdomainname sethostname
    setns settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup";

/// All CLONE_NEW* flags of clone(2).
const NEW_NAMESPACES: [u64; 7] = [
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // UTS
    0x0800_0000, // IPC
    0x1000_0000, // user
    0x2000_0000, // PID
    0x4000_0000, // network
];
/// ioctl(2) requests that type into another's terminal: TIOCSTI, TIOCLINUX.
const TERMINAL_INJECTION: [u64; 2] = [0x5412, 0x541C];
/// Unix, IPv4, IPv6, netlink. Not: packet, vsock, AF_ALG, and the many that nobody watches.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];
const FAMILY_NETLINK: u64 = 16;
/// Without audit, netfilter, uevents: what `getifaddrs` needs.
const NETLINK_ROUTE: u64 = 0;
/// Linux and 32-bit Linux, each with and without UNAME26; the query. Not READ_IMPLIES_EXEC, nor
/// ADDR_NO_RANDOMIZE.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `struct sock_filter` in bytes.
const INSTRUCTION: usize = 8;

/// Compiles both filters to the bytes that [`parse`] takes apart.
pub(super) fn compile() -> io::Result<Vec<u8>> {
    let programs = [allowing(), refusing()].map(|policy| to_program(&policy));
    let mut bytes = Vec::new();
    for program in programs {
        let program = program?;
        let count = u32::try_from(program.len()).map_err(io::Error::other)?;
        bytes.extend(count.to_ne_bytes());
        for instruction in program {
            bytes.extend(instruction.code.to_ne_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_ne_bytes());
        }
    }
    Ok(bytes)
}

/// The programs in the order in which they must be loaded.
pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Vec<&[u8]>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "truncated system call filter");
    let mut programs = Vec::new();
    while !bytes.is_empty() {
        let (count, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
        let length = u32::from_ne_bytes(*count) as usize * INSTRUCTION;
        let (program, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        programs.push(program);
        bytes = rest;
    }
    Ok(programs)
}

fn allowing() -> Value {
    let rules: Vec<Value> = ALLOWED
        .split_whitespace()
        .chain(ALLOWED_HERE.split_whitespace())
        .map(|name| json!({ "syscall": name }))
        .collect();
    json!({ "main": {
        "mismatch_action": { "errno": ENOSYS }, "match_action": "allow", "filter": rules,
    }})
}

fn refusing() -> Value {
    let mut rules: Vec<Value> =
        REFUSED.split_whitespace().map(|name| json!({ "syscall": name })).collect();
    for flag in NEW_NAMESPACES {
        rules.push(rule("clone", &[(0, json!({ "masked_eq": flag }), flag)]));
    }
    for request in TERMINAL_INJECTION {
        rules.push(rule("ioctl", &[(1, json!("eq"), request)]));
    }
    rules.push(rule("socket", &FAMILIES.map(|family| (0, json!("ne"), family))));
    let other_netlink = [(0, json!("eq"), FAMILY_NETLINK), (2, json!("ne"), NETLINK_ROUTE)];
    rules.push(rule("socket", &other_netlink));
    rules.push(rule("personality", &PERSONALITIES.map(|value| (0, json!("ne"), value))));
    json!({ "main": {
        "mismatch_action": "allow", "match_action": { "errno": EPERM }, "filter": rules,
    }})
}

/// One rule: all conditions (argument, operator, value) hold. The kernel reads 32 bits of each of
/// these arguments, so the filter must not be led astray by the upper half.
fn rule(name: &str, conditions: &[(u8, Value, u64)]) -> Value {
    let args: Vec<Value> = conditions
        .iter()
        .map(|(index, op, val)| json!({ "index": index, "type": "dword", "op": op, "val": val }))
        .collect();
    json!({ "syscall": name, "args": args })
}

fn to_program(policy: &Value) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let text = policy.to_string();
    let mut programs =
        seccompiler::compile_from_json(text.as_bytes(), arch).map_err(io::Error::other)?;
    programs.remove("main").ok_or_else(|| io::Error::other("filter without program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_survive_being_stored() {
        let bytes = compile().unwrap();
        let programs = parse(&bytes).unwrap();
        assert_eq!(programs.len(), 2);
        assert!(programs.iter().all(|program| program.len() / INSTRUCTION > 20));
        assert!(parse(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        let allowed: Vec<_> =
            ALLOWED.split_whitespace().chain(ALLOWED_HERE.split_whitespace()).collect();
        for name in REFUSED.split_whitespace().chain(["clone3", "io_uring_setup", "modify_ldt"]) {
            assert!(!allowed.contains(&name), "{name}");
        }
    }
}
