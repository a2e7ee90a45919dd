//! Passive health: an instance that fails one request after another is left alone for a while.
//!
//! ```text
//!   well ── FAILURES in a row ──► ejected for 5 s ──► on trial ── a failure ──► ejected for 10 s …
//!    ▲                                                   │
//!    └──────────────────── an answer ────────────────────┘
//! ```
//!
//! An ejected instance is only asked when there is no other: a bad answer is better than none, and
//! an app with one instance fares as without all this. What counts is that it takes no connection or
//! hangs up without an answer; what it answers is the app's own business.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Failures in a row that make it ill. One that restarts refuses a few at once.
const FAILURES: u32 = 5;

/// The first ejection; each further one without an answer in between takes twice as long.
const FIRST: Duration = Duration::from_secs(5);

/// The longest ejection: whoever repairs an instance should not wait for us.
const LONGEST: Duration = Duration::from_secs(120);

/// An instance's health, as all cores see it. Written by failures, and by the first answer after
/// one: the usual path only reads.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: AtomicU32,
    ejections: AtomicU32,
    /// In milliseconds of the caller's clock; 0: never.
    ejected_until: AtomicU64,
}

impl Health {
    /// It answered.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// It failed at `now_ms`. Returns whether it is ejected by that.
    pub(super) fn failed(&self, now_ms: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Failures of requests that were under way at the ejection say nothing new.
        if failures < FAILURES || self.is_ejected(now_ms) {
            return false;
        }
        let before = self.ejections.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST.saturating_mul(1 << before.min(16)).min(LONGEST);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(now_ms.saturating_add(pause), Ordering::Relaxed);
        true
    }

    /// Whether it is to be left alone at `now_ms`.
    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && now_ms < until
    }

    /// Whether there is anything to ask the clock for.
    pub(super) fn was_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(health: &Health, times: u32, now_ms: u64) -> u32 {
        (0..times).map(|_| u32::from(health.failed(now_ms))).sum()
    }

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let health = Health::default();
        assert_eq!(fail(&health, FAILURES - 1, 1000), 0);
        health.succeeded();
        assert_eq!(fail(&health, FAILURES - 1, 1000), 0);
        assert!(!health.is_ejected(1000));
        assert_eq!(fail(&health, 3, 1000), 1, "one ejection, however many requests were open");
        assert!(health.is_ejected(1000) && health.is_ejected(5999) && !health.is_ejected(6000));
        // On trial: the next failure is enough, and costs more.
        assert_eq!(fail(&health, 1, 6000), 1);
        assert!(health.is_ejected(15_999) && !health.is_ejected(16_000));
        health.succeeded();
        assert!(!health.was_ejected());
        assert_eq!(fail(&health, FAILURES, 20_000), 1);
        assert!(!health.is_ejected(25_000));
    }

    #[test]
    fn no_ejection_is_longer_than_the_longest() {
        let health = Health::default();
        let mut now = 1;
        for _ in 0..40 {
            fail(&health, FAILURES, now);
            assert!(!health.is_ejected(now + 120_000), "at {now}");
            now += 120_000;
        }
    }
}
