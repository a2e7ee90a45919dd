//! Phases of shutdown: `Running → Draining → Stopping`.

use tokio::sync::watch;

/// How far the shutdown has come; phases only ever advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is accepted.
    Running,
    /// No new work; work in hand goes on until the deadline.
    Draining,
    /// Everything ends now.
    Stopping,
}

/// Drives the phases; owned by the daemon.
#[derive(Debug)]
pub struct Controller(watch::Sender<Phase>);

/// Observes the phases; one clone for each task.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Phase>);

/// A controller and its first observer.
pub fn channel() -> (Controller, Shutdown) {
    let (tx, rx) = watch::channel(Phase::Running);
    (Controller(tx), Shutdown(rx))
}

impl Controller {
    /// Moves on to `phase`; going back is ignored.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

impl Shutdown {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase` has been reached. Cancel-safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means the controller is gone, which is as final as the last phase.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_advance_and_waiters_see_later_ones() {
        let (controller, mut shutdown) = channel();
        controller.advance(Phase::Stopping);
        controller.advance(Phase::Draining);
        shutdown.reached(Phase::Draining).await;
        assert_eq!(shutdown.phase(), Phase::Stopping);
    }
}
