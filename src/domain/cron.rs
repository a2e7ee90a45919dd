//! Cron tasks: commands that an app's source wants run on a schedule, and how their runs went.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::invalid::text_serde;
use super::{AppId, Invalid, Millis, ReleaseVersion, Schedule, Timestamp};

/// A task's id: eight hexadecimal digits out of its command and schedule, so that it stays the same
/// from release to release as long as these do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CronTaskId(String);

impl CronTaskId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CronTaskId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == 8 && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new(
                "cron id",
                text,
                "must be eight hexadecimal digits, as `cron:list` shows them",
            )),
        }
    }
}

impl fmt::Display for CronTaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(CronTaskId);

/// What happens when a task is due while a run of it still goes on (Dokku's words).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one is left out.
    Forbid,
    /// The old one is ended.
    Replace,
}

/// A task of an app's `app.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CronTask {
    /// What is run, split into words as a shell does, but without one.
    pub command: String,
    /// When.
    pub schedule: Schedule,
    /// What happens when runs would overlap.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How long a run may take.
    pub timeout: Millis,
    /// Whether the source wants it suspended.
    #[serde(default)]
    pub maintenance: bool,
}

impl CronTask {
    /// Its id.
    pub fn id(&self) -> CronTaskId {
        let digest = Sha256::digest(format!("{}\0{}", self.command, self.schedule));
        CronTaskId(digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What a user has decided about an app's tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct CronSettings {
    /// Whether none runs by schedule.
    pub maintenance: bool,
    /// Single tasks that were suspended (true) or resumed (false), whatever the source says.
    pub suspended: BTreeMap<CronTaskId, bool>,
}

impl CronSettings {
    /// Whether `task` does not run by schedule.
    pub fn suspends(&self, task: &CronTask) -> bool {
        self.maintenance || self.suspended.get(&task.id()).copied().unwrap_or(task.maintenance)
    }
}

/// Who wanted a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CronTrigger {
    /// It was due.
    Schedule,
    /// `cron:run`.
    User,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CronOutcome {
    /// It goes on.
    Running,
    /// With exit code 0.
    Succeeded,
    /// With another one, or it could not be started.
    Failed,
    /// It took too long and was ended.
    TimedOut,
    /// A later run took its place, or the app was destroyed.
    Replaced,
    /// It never began, since another run went on.
    Skipped,
    /// The control plane ended meanwhile.
    Interrupted,
}

impl CronOutcome {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Replaced => "replaced",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One run of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CronRun {
    /// Its number, among all runs of all apps.
    pub id: i64,
    /// The app.
    pub app: AppId,
    /// The task.
    pub task: CronTaskId,
    /// What was run.
    pub command: String,
    /// Who wanted it.
    pub trigger: CronTrigger,
    /// The release that it ran on.
    pub release: ReleaseVersion,
    /// When it was due, or asked for.
    pub due_at: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: CronOutcome,
    /// The exit code, if it has one.
    pub exit_code: Option<i32>,
    /// What else there is to say, for people.
    pub message: Option<String>,
    /// The last lines that it printed.
    pub output: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(command: &str, schedule: &str) -> CronTask {
        CronTask {
            command: command.into(),
            schedule: schedule.parse().unwrap(),
            concurrency_policy: ConcurrencyPolicy::default(),
            timeout: Millis(1000),
            maintenance: false,
        }
    }

    #[test]
    fn an_id_follows_from_command_and_schedule_alone() {
        let first = task("rake tidy", "@daily");
        let slower = CronTask { timeout: Millis(5), ..first.clone() };
        assert_eq!(first.id(), slower.id());
        assert_ne!(first.id(), task("rake tidy", "@hourly").id());
        assert_eq!(first.id().to_string().parse::<CronTaskId>().unwrap(), first.id());
        assert!("../x".parse::<CronTaskId>().is_err());
    }

    #[test]
    fn a_users_word_outranks_the_sources() {
        let mut asleep = task("rake tidy", "@daily");
        asleep.maintenance = true;
        let mut settings = CronSettings::default();
        assert!(settings.suspends(&asleep));
        settings.suspended.insert(asleep.id(), false);
        assert!(!settings.suspends(&asleep));
        settings.maintenance = true;
        assert!(settings.suspends(&asleep));
    }
}
