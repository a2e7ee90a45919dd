//! A number that nobody else on the machine has, and the names, addresses and ports made of it.
//!
//! Test processes of several checkouts run side by side on one machine, which has one name space of
//! links and one of addresses. The lock files are therefore the machine's and no checkout's.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// As many as there are /20 networks in 10.212.0.0 to 10.255.255.255.
const NUMBERS: u32 = 44 * 16;

/// Ports begin below those that the kernel gives to outgoing connections (ip_local_port_range): a
/// proxy that was killed must come back where it was.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 3;

/// A number, until it is dropped. If the test is killed instead, until no process holds it any more.
#[derive(Debug)]
pub(crate) struct Number {
    number: u32,
    lock: File,
}

impl Number {
    /// A free number. Not the one just given back: what a failed test left behind is in the way of
    /// few others then.
    pub(crate) fn take() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let first = std::process::id().wrapping_mul(31);
        for _ in 0..NUMBERS {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let number = first.wrapping_add(count) % NUMBERS;
            if let Some(lock) = lock(number) {
                let taken = Self { number, lock };
                if taken.listen().iter().all(|address| TcpListener::bind(address).is_ok()) {
                    return taken;
                }
            }
        }
        panic!("all {NUMBERS} numbers of test Staithes are taken: see {}", lock_path(0).display());
    }

    pub(crate) fn get(&self) -> u32 {
        self.number
    }

    /// Of links.
    pub(crate) fn link_prefix(&self) -> String {
        format!("it{}-", self.number)
    }

    pub(crate) fn ipv4_pool(&self) -> String {
        format!("10.{}.{}.0/20", 212 + self.number / 16, self.number % 16 * 16)
    }

    /// The first address of the pool, which is the host's.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        let [second, third] = [212 + self.number / 16, self.number % 16 * 16];
        Ipv4Addr::new(10, u8::try_from(second).unwrap(), u8::try_from(third).unwrap(), 1)
    }

    pub(crate) fn ipv6_pool(&self) -> String {
        format!("fd53:7463:{:x}::/64", self.number)
    }

    /// Where HTTP, HTTPS and SSH are spoken.
    pub(crate) fn listen(&self) -> [SocketAddr; PORTS as usize] {
        let first = FIRST_PORT + u16::try_from(self.number).unwrap() * PORTS;
        [first, first + 1, first + 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// An empty input for a process; the number is taken as long as that process lives.
    pub(crate) fn hold(&self) -> Stdio {
        self.lock.try_clone().unwrap().into()
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // Before the lock is let go, so that nobody else's file is removed.
        let _ = std::fs::remove_file(lock_path(self.number));
    }
}

fn lock_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/run/staithe-test-{number}.lock"))
}

/// The lock of a number, if nobody has it. flock(2): the kernel lets go of it with the last process
/// that has the file open.
fn lock(number: u32) -> Option<File> {
    let path = lock_path(number);
    let file = File::options().create(true).append(true).read(true).open(&path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return None,
        Err(std::fs::TryLockError::Error(error)) => panic!("{}: {error}", path.display()),
    }
    // Whoever had it may have removed the file between our two steps; the next makes another.
    let there = std::fs::metadata(&path).ok()?;
    let ours = file.metadata().unwrap();
    ((there.dev(), there.ino()) == (ours.dev(), ours.ino())).then_some(file)
}

#[test]
fn two_staithes_have_nothing_in_common() {
    let (one, two) = (Number::take(), Number::take());
    assert_ne!(one.link_prefix(), two.link_prefix());
    assert_ne!(one.ipv4_pool(), two.ipv4_pool());
    assert_ne!(one.ipv6_pool(), two.ipv6_pool());
    assert!(one.listen().iter().all(|address| !two.listen().contains(address)));
}

#[test]
fn a_number_is_nobody_elses_until_it_is_dropped() {
    let number = Number::take();
    let taken = number.get();
    // As another process would: the lock is the open file's, not the process's.
    assert!(lock(taken).is_none());
    let file = File::open(lock_path(taken)).unwrap();
    drop(number);
    assert_eq!(file.metadata().unwrap().nlink(), 0, "it leaves no file");
}
