//! Named tasks: everything that runs has a name, a span and an owner.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns `future` as a task named `name`; its log lines carry the name.
///
/// The handle is the owner's: dropping it detaches the task, so keep it where the task must be
/// stopped or awaited. A panic is reported by tokio to whoever awaits the handle, and by the
/// process's panic hook to the log.
#[allow(clippy::disallowed_methods, reason = "the one place that may spawn")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::info_span!("task", task = name)))
}
