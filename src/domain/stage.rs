//! Stages of a build: how far it has come, how long each part took.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// One part of the way from a commit to a release that serves, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Waiting for the build before it and for a free place.
    Queue,
    /// Reading the source tree out of the repository.
    Source,
    /// Choosing buildpacks and getting what they need.
    Prepare,
    /// Asking the buildpacks which of them take the app.
    Detect,
    /// Running the buildpacks.
    Build,
    /// Writing the image.
    Image,
    /// The app's own `release` process.
    ReleaseCommand,
    /// Starting instances and waiting until all are ready.
    Start,
    /// Giving the requests to the new instances.
    Switch,
}

impl Stage {
    /// For people, in two or three words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Queue => "Wait for a place",
            Self::Source => "Read the source",
            Self::Prepare => "Prepare buildpacks",
            Self::Detect => "Detect",
            Self::Build => "Build",
            Self::Image => "Write the image",
            Self::ReleaseCommand => "Release command",
            Self::Start => "Start instances",
            Self::Switch => "Switch requests",
        }
    }
}

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageStatus {
    /// Going on.
    Running,
    /// Done.
    Succeeded,
    /// The build ended here.
    Failed,
    /// Somebody stopped the build here.
    Canceled,
}

impl StageStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// A stage that a build has entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BuildStage {
    /// Which.
    pub stage: Stage,
    /// How it stands.
    pub status: StageStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// The stages of one build so far. Each is entered at most once; a build that ends leaves none
/// running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct BuildStages(Vec<BuildStage>);

impl BuildStages {
    /// Notes that `stage` begins.
    pub fn begin(&mut self, stage: Stage, now: Timestamp) {
        let begun =
            BuildStage { stage, status: StageStatus::Running, started_at: now, finished_at: None };
        self.0.push(begun);
    }

    /// Notes how `stage` ended.
    pub fn end(&mut self, stage: Stage, succeeded: bool, now: Timestamp) {
        let status = if succeeded { StageStatus::Succeeded } else { StageStatus::Failed };
        let running = self.0.iter_mut().rev().find(|known| known.stage == stage);
        if let Some(known) = running {
            (known.status, known.finished_at) = (status, Some(now));
        }
    }

    /// Closes what was going on when the build ended; where it was stopped, nothing has failed.
    pub fn close(&mut self, canceled: bool, now: Timestamp) {
        let stopped = if canceled { StageStatus::Canceled } else { StageStatus::Failed };
        for stage in &mut self.0 {
            if matches!(stage.status, StageStatus::Running | StageStatus::Failed) {
                stage.status = stopped;
                stage.finished_at.get_or_insert(now);
            }
        }
    }

    /// In the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &BuildStage> {
        self.0.iter()
    }

    /// The stage in which the build ended early, if it did.
    pub fn broken(&self) -> Option<Stage> {
        let ended = |stage: &&BuildStage| {
            matches!(stage.status, StageStatus::Failed | StageStatus::Canceled)
        };
        self.0.iter().rev().find(ended).map(|stage| stage.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_where_it_happened_and_what_goes_on_ends_with_the_build() {
        let mut stages = BuildStages::default();
        stages.begin(Stage::Source, Timestamp(1));
        stages.end(Stage::Source, true, Timestamp(2));
        stages.begin(Stage::Build, Timestamp(2));
        assert_eq!(stages.broken(), None);
        stages.end(Stage::Build, false, Timestamp(9));
        stages.close(false, Timestamp(10));
        assert_eq!(stages.broken(), Some(Stage::Build));
        let text = serde_json::to_value(&stages).unwrap();
        assert_eq!(text[0]["status"], "succeeded");
        assert_eq!(text[1]["finished_at"], 9);
    }

    #[test]
    fn what_somebody_stops_is_canceled_not_failed() {
        let mut stages = BuildStages::default();
        stages.begin(Stage::Queue, Timestamp(1));
        stages.close(true, Timestamp(5));
        let stage = stages.iter().next().unwrap();
        assert_eq!((stage.status, stage.finished_at), (StageStatus::Canceled, Some(Timestamp(5))));
    }
}
