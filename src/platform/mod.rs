//! The product's rules: one method for each user verb, composed from the mechanisms.

mod error;
mod journal;
mod session;
mod verbs;

pub use error::Error;
pub use journal::{Follower, Journal};
pub use session::Session;

pub use crate::wire::{
    AppReport, AppStatus, CheckReport, CheckResult, ConfigChange, DomainReport, InstanceReport,
    InstanceStatus, Kind, LogLine, LogQuery, ProcessReport, PushOutcome, PushRequest, RefUpdate,
    ResourceChange, ResourceReport, ResourceScope, RunRequest, SshKey, StackReport, TerminalSize,
};

/// The control plane's state and verbs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform {}

/// A verb that takes a while: lines as they happen, then its outcome. It goes on when the caller
/// goes away; a push is canceled by `cancel`.
#[derive(Debug)]
pub struct Operation<T> {
    /// What it prints (Heroku's grammar), from its first line.
    pub journal: Journal,
    /// Its end.
    pub outcome: tokio::task::JoinHandle<Result<T, Error>>,
    /// Asks it to stop before its next irreversible step.
    pub cancel: tokio_util::sync::CancellationToken,
}
