//! How often sign-ins may fail: delays that grow, for each user and each address.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::Timestamp;

/// Failures that cost nothing: people mistype.
const FREE: u32 = 4;
/// The first delay; it doubles with each failure.
const FIRST: Duration = Duration::from_secs(5);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After how long without a failure it is forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// The most users and addresses remembered. Beyond it the longest quiet are forgotten.
const MOST: usize = 10_000;

/// The failures of late. In memory: a restart needs root, who is let in anyway.
#[derive(Debug, Default)]
pub(in crate::platform) struct LockOut(Mutex<HashMap<String, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    fn delay(self) -> Option<Duration> {
        let over = self.count.checked_sub(FREE + 1)?;
        let factor = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
        Some(FIRST.saturating_mul(factor).min(LONGEST))
    }

    fn wait(self, now: Timestamp) -> Option<Duration> {
        let wait = self.delay()?.checked_sub(now.since(self.last))?;
        (!wait.is_zero()).then_some(wait)
    }
}

fn keys(user: Option<&str>, address: Option<&str>) -> impl Iterator<Item = String> {
    let user = user.map(|user| format!("user {user}"));
    user.into_iter().chain(address.map(|address| format!("address {address}")))
}

impl LockOut {
    /// How long the next try must wait, if it must.
    pub(super) fn wait(
        &self,
        user: Option<&str>,
        address: Option<&str>,
        now: Timestamp,
    ) -> Option<Duration> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys(user, address).filter_map(|key| known.get(&key)?.wait(now)).max()
    }

    /// Counts a failure; says how long the next try must wait, if it must.
    pub(super) fn fail(
        &self,
        user: Option<&str>,
        address: Option<&str>,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, failures| now.since(failures.last) < FORGET);
        }
        while known.len() >= MOST {
            let oldest = known.iter().min_by_key(|(_, failures)| failures.last);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            known.remove(&key);
        }
        let mut waits = Vec::new();
        for key in keys(user, address) {
            let failures = known.entry(key).or_insert(Failures { count: 0, last: now });
            if now.since(failures.last) >= FORGET {
                failures.count = 0;
            }
            *failures = Failures { count: failures.count.saturating_add(1), last: now };
            waits.extend(failures.wait(now));
        }
        waits.into_iter().max()
    }

    /// Forgets the failures of a user who has come in, and of the address.
    pub(super) fn forget(&self, user: &str, address: Option<&str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(Some(user), address) {
            known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn delays_grow_and_end() {
        let lockout = LockOut::default();
        let waits: Vec<_> = (0..16)
            .map(|_| lockout.fail(Some("ada"), Some("192.0.2.1"), at(0)).map(|w| w.as_secs()))
            .collect();
        let expected = [
            None,
            None,
            None,
            None,
            Some(5),
            Some(10),
            Some(20),
            Some(40),
            Some(80),
            Some(160),
            Some(320),
            Some(640),
            Some(900),
            Some(900),
            Some(900),
            Some(900),
        ];
        assert_eq!(waits, expected);
        assert!(lockout.wait(Some("ada"), None, at(899)).is_some(), "the user, from elsewhere");
        assert!(lockout.wait(None, Some("192.0.2.1"), at(899)).is_some(), "the address");
        assert!(lockout.wait(Some("ada"), Some("192.0.2.1"), at(900)).is_none());
        assert!(lockout.wait(Some("bob"), Some("192.0.2.2"), at(0)).is_none());
        lockout.forget("ada", Some("192.0.2.1"));
        assert!(lockout.wait(Some("ada"), Some("192.0.2.1"), at(1)).is_none());
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let lockout = LockOut::default();
        for number in 0..MOST + 10 {
            let second = i64::try_from(number).unwrap() / 100;
            lockout.fail(None, Some(&number.to_string()), at(second));
        }
        assert_eq!(lockout.0.lock().unwrap().len(), MOST);
    }
}
