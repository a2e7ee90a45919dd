//! The one place where the platform reads the clock.

use std::time::{Instant, SystemTime};

use crate::domain::Timestamp;

/// Now.
pub(super) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A point of the system's clock as the domain has it.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Now, in microseconds since the Unix epoch, as log lines have it.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Does `work`, one phase of a push, and logs how long it took: what `script/bench push` reads.
pub(super) async fn timed<T>(phase: &'static str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = work.await;
    let duration_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(phase, duration_us, "a phase of a push ended");
    result
}
