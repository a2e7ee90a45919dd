//! Releases: everything that must be the same to run the same thing again.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    Actor, AppId, BuildId, Check, ConfigVars, CronTask, Formation, Invalid, ProcessType,
    ResourceSettings, Timestamp, VolumeMounts,
};

/// A release's number within its app, from 1; written `v7`.
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
pub struct ReleaseVersion(pub u32);

impl FromStr for ReleaseVersion {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix('v').unwrap_or(text);
        match digits.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(Invalid::new("release", text, "must look like `v7`")),
        }
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// How far a release has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    /// Its instances are being started; the one before it serves.
    Deploying,
    /// It served or serves.
    Succeeded,
    /// It never served; `failure` says why.
    Failed,
}

/// What a process type runs, as an argument vector, with its working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Absolute path inside the image.
    pub working_dir: String,
}

/// Image, config, formation and quotas under a number. Immutable but for `status` and `failure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Release {
    /// The app it belongs to.
    pub app: AppId,
    /// Its number.
    pub version: ReleaseVersion,
    /// The image's manifest digest.
    pub image: String,
    /// The build that made the image.
    pub build: Option<BuildId>,
    /// The commit the image was built from.
    pub commit: Option<String>,
    /// What each process type runs.
    pub processes: BTreeMap<ProcessType, Command>,
    /// Startup checks by process type, from the source's `app.json`.
    pub checks: BTreeMap<ProcessType, Vec<Check>>,
    /// The app's config vars.
    pub config: ConfigVars,
    /// What plugins add to them, or give another value. Not the app's own, and so not kept when the
    /// next release is made.
    #[serde(default)]
    pub injected: ConfigVars,
    /// The wanted instances.
    pub formation: Formation,
    /// The quotas in force.
    pub resources: ResourceSettings,
    /// The volumes in force; releases of before there were any have none.
    #[serde(default)]
    pub mounts: VolumeMounts,
    /// What is run on a schedule, from the source's `app.json`.
    #[serde(default)]
    pub cron: Vec<CronTask>,
    /// One line for people: `Deploy 1a2b3c4`, `Set FOO`, `Rollback to v3`.
    pub description: String,
    /// Who caused it.
    pub actor: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// How far it has come.
    pub status: ReleaseStatus,
    /// Why it failed, for people.
    pub failure: Option<String>,
}

impl Release {
    /// The config vars that its processes get.
    pub fn config_in_force(&self) -> ConfigVars {
        let mut config = self.config.clone();
        config.overlay(&self.injected);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_with_a_v_and_read_without_too() {
        assert_eq!("v7".parse::<ReleaseVersion>().unwrap(), ReleaseVersion(7));
        assert_eq!("7".parse::<ReleaseVersion>().unwrap().to_string(), "v7");
        assert!("v0".parse::<ReleaseVersion>().is_err());
        assert!("latest".parse::<ReleaseVersion>().is_err());
    }
}
