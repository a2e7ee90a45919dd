//! What an authority says of a certificate after it was issued (OCSP, RFC 6960), and when it is
//! asked again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The first wait after a failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(5 * 60);
/// The longest wait after failures, and between questions about a revoked certificate.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest between two questions, however long an answer holds: a revocation is to be seen.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time in which an answer may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OcspSpan {
    /// `thisUpdate`.
    pub from: Timestamp,
    /// `nextUpdate`: no more from then on.
    pub until: Timestamp,
}

impl OcspSpan {
    /// Half of it is over then, and the next answer is asked for.
    fn renewed_at(self) -> Timestamp {
        self.from.after((self.until.since(self.from) / 2).min(LONGEST))
    }
}

/// How a certificate stands, for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum OcspStatus {
    /// The certificate names no responder, or its issuer is not in the chain.
    NotOffered,
    /// The operator's file says that nobody is asked.
    Off,
    /// Not asked yet.
    Waiting,
    /// The authority vouches for it, which visitors are shown.
    Good {
        /// Until when the answer holds.
        until: Timestamp,
        /// Why a newer answer is not there, if it is due.
        last_failure: Option<String>,
    },
    /// There is no answer that holds.
    Failed {
        /// Why.
        why: String,
        /// When the next attempt is made.
        next_attempt: Timestamp,
    },
    /// The authority has declared it void.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

/// What is remembered between two questions about one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OcspProgress {
    good: Option<OcspSpan>,
    revoked: Option<Timestamp>,
    failures: u32,
    last_failure: Option<String>,
    next: Option<Timestamp>,
}

impl OcspProgress {
    /// Of an answer that is there already.
    pub fn kept(span: OcspSpan) -> Self {
        Self { good: Some(span), next: Some(span.renewed_at()), ..Self::default() }
    }

    /// Of an answer that has just come. Responders hand out answers that they made long ago: one
    /// that is past its half would be asked for without end.
    pub fn fresh(span: OcspSpan, now: Timestamp) -> Self {
        let half = span.renewed_at();
        let next = if half > now { half } else { now.after(FIRST_WAIT) };
        Self { next: Some(next), ..Self::kept(span) }
    }

    /// When it is asked next; none: at once.
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// After a revocation was told; whether that is news.
    pub fn revoked(&mut self, at: Timestamp, now: Timestamp) -> bool {
        let news = self.revoked != Some(at);
        *self = Self { revoked: Some(at), next: Some(now.after(DAY)), ..Self::default() };
        news
    }

    /// After an attempt without an answer; whether it is the first in a row.
    pub fn failed(&mut self, why: String, now: Timestamp) -> bool {
        let wait = FIRST_WAIT * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(why);
        self.next = Some(now.after(wait.min(DAY)));
        self.failures == 1
    }

    /// For reports.
    pub fn status(&self, now: Timestamp) -> OcspStatus {
        if let Some(at) = self.revoked {
            return OcspStatus::Revoked { at };
        }
        match (self.good, &self.last_failure) {
            (Some(span), last_failure) if now < span.until => {
                OcspStatus::Good { until: span.until, last_failure: last_failure.clone() }
            }
            (_, Some(why)) => {
                OcspStatus::Failed { why: why.clone(), next_attempt: self.next.unwrap_or(now) }
            }
            _ => OcspStatus::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Timestamp = Timestamp(1_767_323_045_000);

    #[test]
    fn an_answer_is_renewed_at_half_of_its_time_and_shown_until_its_end() {
        let until = NOW.after(8 * HOUR);
        let progress = OcspProgress::kept(OcspSpan { from: NOW, until });
        assert_eq!(progress.next(), Some(NOW.after(4 * HOUR)));
        let good = OcspStatus::Good { until, last_failure: None };
        assert_eq!(progress.status(NOW.after(7 * HOUR)), good);
        assert_eq!(progress.status(until), OcspStatus::Waiting);
        let long = OcspProgress::kept(OcspSpan { from: NOW, until: NOW.after(DAY * 365) });
        assert_eq!(long.next(), Some(NOW.after(LONGEST)));
        let late = NOW.after(5 * HOUR);
        let stale = OcspProgress::fresh(OcspSpan { from: NOW, until }, late);
        assert_eq!(stale.next(), Some(late.after(FIRST_WAIT)));
    }

    #[test]
    fn waits_double_from_five_minutes_to_a_day() {
        let mut progress = OcspProgress::default();
        assert_eq!(progress.next(), None);
        for minutes in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440, 1440] {
            assert_eq!(progress.failed("no".into(), NOW), minutes == 5);
            assert_eq!(progress.next(), Some(NOW.after(Duration::from_secs(minutes * 60))));
        }
        let next_attempt = NOW.after(DAY);
        assert_eq!(progress.status(NOW), OcspStatus::Failed { why: "no".into(), next_attempt });
    }

    #[test]
    fn a_failure_leaves_an_answer_that_holds_and_a_revocation_does_not() {
        let until = NOW.after(HOUR);
        let mut progress = OcspProgress::kept(OcspSpan { from: NOW, until });
        progress.failed("no".into(), NOW);
        let good = OcspStatus::Good { until, last_failure: Some("no".into()) };
        assert_eq!(progress.status(NOW), good);
        assert!(progress.revoked(NOW, NOW), "news");
        assert!(!progress.revoked(NOW, NOW.after(HOUR)), "known");
        assert_eq!(progress.status(NOW), OcspStatus::Revoked { at: NOW });
        progress.failed("no".into(), NOW);
        assert_eq!(progress.status(NOW), OcspStatus::Revoked { at: NOW }, "still void");
    }
}
