//! The one place where the platform reads the clock.

use std::time::SystemTime;

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
