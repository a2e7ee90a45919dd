//! How often a request is tried, and what is said when no instance took it; the same for every
//! protocol on either side.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::page::Page;
use super::router::Target;

/// Connections tried for one request: a stale one from the pool, and two instances that refuse.
pub(super) const MAX_ATTEMPTS: usize = 3;

/// Interim answers (1xx) passed on for one request; an app that sends more is broken.
pub(super) const MAX_INTERIM: usize = 32;

/// An attempt that left the client without an answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) target: Arc<Target>,
    pub(super) address: SocketAddr,
    kind: FailureKind,
}

#[derive(Debug)]
enum FailureKind {
    Unreachable,
    ConnectTimeout,
    Closed,
}

impl Failure {
    /// The instance took no connection.
    pub(super) fn connect(target: Arc<Target>, address: SocketAddr, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => FailureKind::ConnectTimeout,
            _ => FailureKind::Unreachable,
        };
        Self { target, address, kind }
    }

    /// The instance closed a connection before the request that was sent on it.
    pub(super) fn closed(target: Arc<Target>, address: SocketAddr) -> Self {
        Self { target, address, kind: FailureKind::Closed }
    }

    /// What is said when no other attempt is possible.
    pub(super) fn page(&self) -> Page {
        match self.kind {
            FailureKind::Unreachable => Page::Unreachable,
            FailureKind::ConnectTimeout => Page::Timeout,
            FailureKind::Closed => Page::Closed,
        }
    }
}
