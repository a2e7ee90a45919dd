//! What is told of builds, and of the difference between two releases.

use serde::{Deserialize, Serialize};

use crate::domain::{Build, BuildStages, Command, EnvKey, ProcessType, ReleaseVersion};

/// A build with how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BuildReport {
    /// The build.
    #[serde(flatten)]
    pub build: Build,
    /// The first line of the commit's message.
    pub subject: String,
    /// Its stages so far.
    pub stages: BuildStages,
    /// What can be done about its failure.
    pub hint: Option<String>,
}

/// With what a release is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DiffQuery {
    /// The earlier release; the last one that served before it if none.
    pub before: Option<String>,
}

/// What is different between two releases; of config vars only names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReleaseDiff {
    /// The release compared with; none for the first one.
    pub before: Option<ReleaseVersion>,
    /// The commit, where it is another.
    pub commit: Option<Change<Option<String>>>,
    /// The image's digest, where it is another.
    pub image: Option<Change<String>>,
    /// Config vars that are new.
    pub config_added: Vec<EnvKey>,
    /// Config vars with another value.
    pub config_changed: Vec<EnvKey>,
    /// Config vars that are gone.
    pub config_removed: Vec<EnvKey>,
    /// Process types that run something else, are new (nothing before) or gone (nothing after).
    pub processes: Vec<ProcessChange>,
    /// Process types with another count of instances.
    pub formation: Vec<CountChange>,
    /// Whether the quotas are others.
    pub resources: bool,
    /// Whether the volumes are others.
    pub mounts: bool,
    /// Whether what runs on a schedule is another.
    pub cron: bool,
}

impl ReleaseDiff {
    /// Whether both releases run the same.
    pub fn is_empty(&self) -> bool {
        *self == Self { before: self.before, ..Self::default() }
    }
}

/// A value then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change<T> {
    /// In the earlier release.
    pub before: T,
    /// In the later release.
    pub after: T,
}

/// What a process type runs, then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProcessChange {
    /// Which.
    pub process_type: ProcessType,
    /// In the earlier release.
    pub before: Option<Command>,
    /// In the later release.
    pub after: Option<Command>,
}

/// How many instances a process type has, then and now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CountChange {
    /// Which.
    pub process_type: ProcessType,
    /// In the earlier release.
    pub before: u32,
    /// In the later release.
    pub after: u32,
}
