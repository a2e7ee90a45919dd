//! One deadline for each connection, moved often and seldom reached.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that moves with every step of a connection.
///
/// Moving it later costs one store: the runtime's timer is left where it is, and set again only when
/// it fires too early. A timeout for each step would go through the runtime's timer wheel several
/// times for each request.
#[derive(Debug)]
pub(super) struct Timer {
    deadline: Cell<Instant>,
    /// Set since the last look, and not a deadline yet: a step that needs no waiting asks no clock.
    after: Cell<Option<Duration>>,
    sleep: RefCell<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(super) fn new(after: Duration) -> Self {
        let deadline = Instant::now() + after;
        Self {
            deadline: Cell::new(deadline),
            after: Cell::new(None),
            sleep: RefCell::new(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// The deadline is `after` from now, whatever it was. The clock is read when the task is about to
    /// wait, which is in the same turn of its loop.
    pub(super) fn set(&self, after: Duration) {
        self.after.set(Some(after));
    }

    /// Ready when the deadline has passed.
    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleep = self.sleep.borrow_mut();
        if let Some(after) = self.after.take() {
            self.deadline.set(Instant::now() + after);
        }
        let deadline = self.deadline.get();
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }

    /// Runs `step` until it is done or the deadline has passed. The step may move the deadline.
    pub(super) async fn limit<F: Future>(&self, step: F) -> Option<F::Output> {
        let mut step = std::pin::pin!(step);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = step.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.poll_expired(cx).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_deadline_that_moves_later_is_not_reached_early() {
        let timer = Timer::new(STEP);
        let start = Instant::now();
        timer.set(STEP * 3);
        assert_eq!(timer.limit(std::future::pending::<()>()).await, None);
        assert!(start.elapsed() >= STEP * 3);
    }

    #[tokio::test]
    async fn a_deadline_that_moves_earlier_is_reached_on_time() {
        let timer = Timer::new(Duration::from_secs(3600));
        timer.set(STEP);
        assert_eq!(timer.limit(std::future::pending::<()>()).await, None);
    }
}
