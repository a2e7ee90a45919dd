//! Network namespaces of the calling thread.
//!
//! A thread that entered another namespace must end there: threads of a pool would carry the
//! namespace into unrelated work.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sched::{CloneFlags, setns, unshare};

/// setns(2) with `CLONE_NEWNET`: moves the calling thread, and no other, into a network namespace.
/// Sockets opened before stay in the namespace they were opened in.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// unshare(2) with `CLONE_NEWNET`: moves the calling thread into a new, empty network namespace,
/// which lives as long as a thread, a socket or a descriptor of it does.
pub fn unshare_network() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}
