//! Builds: the records of turning source into an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Actor, AppId, Invalid, ReleaseVersion, Timestamp};

/// A build's number, unique on the machine.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct BuildId(pub i64);

impl FromStr for BuildId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .map(Self)
            .map_err(|_| Invalid::new("build", text, "must be a number; `builds:list` shows them"))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    /// Waiting for the one before it.
    Queued,
    /// Building or deploying.
    Running,
    /// Its release serves or served.
    Succeeded,
    /// The build or the deploy failed.
    Failed,
    /// Stopped by a user, or its client went away.
    Canceled,
}

impl BuildStatus {
    /// Whether nothing more will happen to it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// One build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Build {
    /// Its number.
    pub id: BuildId,
    /// The app it is for.
    pub app: AppId,
    /// The commit built.
    pub commit: String,
    /// Who pushed.
    pub actor: Actor,
    /// How it stands.
    pub status: BuildStatus,
    /// Why it failed or was canceled, in one sentence.
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The release it became.
    pub release: Option<ReleaseVersion>,
}
