//! The product's rules: one method for each user verb, composed from the mechanisms.

mod error;
mod journal;
mod reports;
mod requests;
mod session;
mod verbs;

pub use error::{Error, Kind};
pub use journal::{Follower, Journal};
pub use reports::*;
pub use requests::*;
pub use session::Session;

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
