//! Which stage a build is in: noted by whoever does the work, read by whoever watches.
//!
//! The build that goes on is known to its task, so that a deploy, which also happens without a
//! build, needs not be told of one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock;
use crate::domain::{BuildStages, Stage};

tokio::task_local! {
    static CURRENT: Stages;
}

/// The stages of a build that goes on; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Stages(Arc<Mutex<BuildStages>>);

impl Stages {
    fn lock(&self) -> MutexGuard<'_, BuildStages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with its stages noted here.
    pub(super) async fn noting<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// The stages so far.
    pub(super) fn so_far(&self) -> BuildStages {
        self.lock().clone()
    }

    /// The stages of a build that has ended.
    pub(super) fn closed(&self, canceled: bool) -> BuildStages {
        let mut stages = self.lock();
        stages.close(canceled, clock::now());
        stages.clone()
    }
}

/// Does `work` as `stage` of the build that goes on in this task, if one does.
pub(super) async fn stage<T, E>(
    stage: Stage,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let current = CURRENT.try_with(Stages::clone).ok();
    if let Some(stages) = &current {
        stages.lock().begin(stage, clock::now());
    }
    let result = work.await;
    if let Some(stages) = &current {
        stages.lock().end(stage, result.is_ok(), clock::now());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_are_noted_with_the_build_of_the_task_and_nowhere_else() {
        let stages = Stages::default();
        let work = async {
            stage(Stage::Source, async { Ok::<_, ()>(()) }).await?;
            stage(Stage::Build, async { Err::<(), _>(()) }).await
        };
        assert!(stages.noting(work).await.is_err());
        let alone = stage(Stage::Switch, async { Ok::<_, ()>(1) }).await;
        assert_eq!(alone, Ok(1));
        assert_eq!(stages.so_far().iter().count(), 2);
        assert_eq!(stages.closed(false).broken(), Some(Stage::Build));
    }
}
