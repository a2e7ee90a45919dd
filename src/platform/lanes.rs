//! One lane for each app: deploys pass one at a time, and of the builds that wait only the newest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use crate::domain::AppId;

/// The lanes of all apps.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<AppId, Arc<Lane>>>);

/// An app's lane. The async mutexes are held across awaits on purpose: they are the queue.
#[derive(Debug)]
pub(super) struct Lane {
    deploy: Arc<AsyncMutex<()>>,
    build: Arc<AsyncMutex<()>>,
    newest: watch::Sender<u64>,
}

/// Held while a deploy, a start, a stop or a removal of the app goes on.
#[derive(Debug)]
pub(super) struct DeployGuard(
    #[allow(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>,
);

/// Held while a build of the app goes on.
#[derive(Debug)]
pub(super) struct BuildGuard(#[allow(dead_code, reason = "held for its drop")] OwnedMutexGuard<()>);

/// A newer push took the place in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Superseded;

impl Lanes {
    /// The lane of `app`.
    pub(super) fn lane(&self, app: AppId) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(app).or_default())
    }
}

impl Default for Lane {
    fn default() -> Self {
        let (newest, _) = watch::channel(0);
        Self { deploy: Arc::default(), build: Arc::default(), newest }
    }
}

impl Lane {
    /// Waits for the running deploy, if any. Cancel-safe.
    pub(super) async fn deploy(&self) -> DeployGuard {
        DeployGuard(Arc::clone(&self.deploy).lock_owned().await)
    }

    /// Whether a deploy is going on now.
    pub(super) fn is_deploying(&self) -> bool {
        self.deploy.try_lock().is_err()
    }

    /// Waits for the running build, if any. Cancel-safe.
    ///
    /// # Errors
    /// [`Superseded`] when a newer build asks while this one still waits.
    pub(super) async fn build(&self) -> Result<BuildGuard, Superseded> {
        let mut ticket = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            ticket = *newest;
        });
        let mut newest = self.newest.subscribe();
        tokio::select! {
            biased;
            // Cancel-safe: a mutex that is not acquired is not held.
            guard = Arc::clone(&self.build).lock_owned() => Ok(BuildGuard(guard)),
            // Cancel-safe: only observes.
            _ = newest.wait_for(|newest| *newest > ticket) => Err(Superseded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_waiting_builds_the_newest_wins_the_place() {
        let lanes = Lanes::default();
        let lane = lanes.lane(AppId(1));
        let running = lane.build().await.unwrap();
        let waiting = Arc::clone(&lane);
        let second =
            crate::support::tasks::spawn("second", async move { waiting.build().await.map(drop) });
        while lane.newest.borrow().to_owned() < 2 {
            tokio::task::yield_now().await;
        }
        let third = {
            let lane = Arc::clone(&lane);
            crate::support::tasks::spawn("third", async move { lane.build().await.map(drop) })
        };
        assert_eq!(second.await.unwrap(), Err(Superseded));
        drop(running);
        assert_eq!(third.await.unwrap(), Ok(()));
    }
}
