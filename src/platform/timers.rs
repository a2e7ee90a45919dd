//! What is done on a schedule: cron tasks of apps, backups of services.
//!
//! A timer is a key, a schedule and what to do. Which there are follows from what is stored; only
//! how far each has come is kept, and it is kept before anything is done: what was due is done once
//! or missed, never twice. What was due while the control plane was away is counted and reported;
//! it is still done if that was a moment ago, as after a restart.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{Platform, Result, clock};
use crate::domain::{Actor, AppName, Schedule, Timestamp};
use crate::store::TimerState;
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::{report, tasks};

/// The longest between two looks: clocks are set, and what is stored may change without a word.
const LONGEST: Duration = Duration::from_secs(60);
/// The shortest, so that a fault cannot make it spin.
const SHORTEST: Duration = Duration::from_millis(20);
/// What was due this long ago at most is done late rather than not at all.
const GRACE: Duration = Duration::from_secs(60);
/// A clock that was set back further than this makes a timer begin anew.
const SET_BACK: Duration = Duration::from_secs(3600);
/// Up to how many missed points are counted; a week of one each minute.
const MAX_MISSED: u32 = 10_080;

/// What a timer does when it is due. It is given the moment.
pub(super) type Job =
    Box<dyn FnOnce(Platform, Timestamp) -> BoxFuture<'static, ()> + Send + 'static>;

/// Something done on a schedule.
pub(super) struct Timer {
    /// Its name, such as `cron/7/0a1b2c3d`: what its state is kept under.
    pub(super) key: String,
    /// Whose events tell of it.
    pub(super) app: Option<AppName>,
    /// Said of it in events, such as ``cron task `rake tidy` of `shop` ``.
    pub(super) what: String,
    /// When.
    pub(super) schedule: Schedule,
    /// What is done.
    pub(super) job: Job,
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer")
            .field("key", &self.key)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

/// Wakes whoever waits for the next timer.
#[derive(Debug, Default)]
pub(super) struct Clock(Notify);

impl Clock {
    /// Which timers there are has changed.
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

/// What a look at one timer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// The point that is to be seen to now.
    due: Option<Timestamp>,
    /// How many were missed.
    missed: u32,
    /// Up to where everything has been seen to after this look.
    handled_until: Timestamp,
}

/// What is due of `schedule` at `now`, of which everything up to `handled_until` has been seen to.
fn look(schedule: &Schedule, handled_until: Timestamp, now: Timestamp) -> Look {
    if handled_until > now {
        let set_back = handled_until.since(now) > SET_BACK;
        let handled_until = if set_back { now } else { handled_until };
        return Look { due: None, missed: 0, handled_until };
    }
    let points = schedule.count_between(handled_until, now, MAX_MISSED);
    if points == 0 {
        return Look { due: None, missed: 0, handled_until };
    }
    let recent = Timestamp(now.0 - i64::try_from(GRACE.as_millis()).unwrap_or(0));
    let mut from = recent.max(handled_until);
    let mut due = None;
    while let Some(next) = schedule.next_after(from).filter(|next| *next <= now) {
        (due, from) = (Some(next), next);
    }
    let missed = points.saturating_sub(u32::from(due.is_some()));
    Look { due, missed, handled_until: now }
}

impl Platform {
    /// Does what is due, until the shutdown begins. What has begun then goes on.
    pub async fn keep_timers(&self, mut shutdown: Shutdown) {
        loop {
            let now = clock::now();
            let pause = match self.look_at_timers(now) {
                Ok(Some(next)) => next.since(clock::now()).clamp(SHORTEST, LONGEST),
                Ok(None) => LONGEST,
                Err(error) => {
                    tracing::error!(error = report(&error), "cannot look at timers");
                    LONGEST
                }
            };
            tokio::select! {
                // Cancel-safe: observe only.
                () = shutdown.reached(Phase::Draining) => return,
                () = tokio::time::sleep(pause) => {}
                // Cancel-safe: a call is kept until the next wait.
                () = self.0.clock.0.notified() => {}
            }
        }
    }

    /// All timers there are.
    fn timers(&self) -> Result<Vec<Timer>> {
        let mut timers = self.cron_timers()?;
        timers.extend(self.backup_timers()?);
        Ok(timers)
    }

    /// Starts what is due; answers when the next is.
    fn look_at_timers(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let timers = self.timers()?;
        self.forget_timers(&timers)?;
        let mut next: Option<Timestamp> = None;
        for timer in timers {
            let at = timer.schedule.next_after(now);
            next = next.into_iter().chain(at).min();
            let Some(state) = self.store.timer(&timer.key)? else {
                self.store.set_timer(&timer.key, TimerState { handled_until: now, missed: 0 })?;
                continue;
            };
            let look = look(&timer.schedule, state.handled_until, now);
            if look.handled_until == state.handled_until {
                continue;
            }
            let missed = state.missed.saturating_add(look.missed);
            let handled_until = look.handled_until;
            self.store.set_timer(&timer.key, TimerState { handled_until, missed })?;
            if look.missed > 0 {
                let times = if look.missed == 1 { "once" } else { "several times" };
                let message = format!(
                    "{} was due {times} ({}) while the control plane was away",
                    timer.what, look.missed
                );
                self.note_named(timer.app.as_ref(), "timer.missed", &message, &Actor::platform());
            }
            if let Some(due) = look.due {
                tasks::spawn("timer", (timer.job)(self.clone(), due));
            }
        }
        Ok(next)
    }

    /// A timer that is gone begins anew if it comes back: what it was due meanwhile is not missed.
    fn forget_timers(&self, timers: &[Timer]) -> Result<()> {
        let known: HashSet<&str> = timers.iter().map(|timer| timer.key.as_str()).collect();
        for (key, _) in self.store.timers()? {
            if !known.contains(key.as_str()) {
                self.store.remove_timer(&key)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(minutes: i64, millis: i64) -> Timestamp {
        // A whole hour.
        Timestamp(1_800_000_000_000 + minutes * MINUTE + millis)
    }

    fn every(minutes: u32) -> Schedule {
        format!("*/{minutes} * * * *").parse().unwrap()
    }

    #[test]
    fn what_is_due_is_done_once() {
        let first = look(&every(5), at(4, 59_000), at(5, 3));
        assert_eq!(first, Look { due: Some(at(5, 0)), missed: 0, handled_until: at(5, 3) });
        let second = look(&every(5), first.handled_until, at(5, 4));
        assert_eq!((second.due, second.missed), (None, 0));
        assert_eq!(second.handled_until, first.handled_until);
    }

    #[test]
    fn a_short_absence_makes_it_late_and_a_long_one_is_counted() {
        let late = look(&every(5), at(4, 0), at(5, 50_000));
        assert_eq!((late.due, late.missed), (Some(at(5, 0)), 0));
        let long = look(&every(5), at(0, 1), at(18, 0));
        assert_eq!((long.due, long.missed), (None, 3));
        let just = look(&every(5), at(0, 1), at(15, 10_000));
        assert_eq!((just.due, just.missed), (Some(at(15, 0)), 2));
    }

    #[test]
    fn a_clock_that_is_set_back_does_nothing_twice() {
        let seen = at(5, 10);
        assert_eq!(look(&every(5), seen, at(4, 59_990)).handled_until, seen);
        let far = look(&every(5), at(600, 0), at(5, 0));
        assert_eq!((far.due, far.handled_until), (None, at(5, 0)));
    }

    #[test]
    fn years_of_absence_are_counted_up_to_a_limit() {
        let look = look(&every(1), at(0, 0), at(5_000_000, 30_000));
        assert_eq!(look.due, Some(at(5_000_000, 0)));
        assert_eq!(look.missed, MAX_MISSED - 1);
    }
}
