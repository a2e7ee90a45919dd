//! What is said about cron tasks.

use serde::{Deserialize, Serialize};

use crate::domain::{CronRun, CronTask, CronTaskId, Timestamp};

/// An app's cron tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CronReport {
    /// Whether none of the app's tasks runs by schedule.
    pub maintenance: bool,
    /// Whether no task of any app does.
    pub global_maintenance: bool,
    /// The tasks, in the order of `app.json`.
    pub tasks: Vec<CronTaskReport>,
}

/// A task and how it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CronTaskReport {
    /// Its id.
    pub id: CronTaskId,
    /// What the source says.
    #[serde(flatten)]
    pub task: CronTask,
    /// Whether it does not run by schedule, for whatever reason.
    pub suspended: bool,
    /// When it runs next.
    pub next_run: Option<Timestamp>,
    /// How often it was due while the control plane was away.
    pub missed: u32,
    /// Its last run.
    pub last_run: Option<CronRun>,
}

/// `PATCH /apps/{app}/cron` and `PATCH /cron`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CronChange {
    /// `maintenance`.
    pub key: String,
    /// `true` or `false`; none: the default.
    pub value: Option<String>,
}

/// `GET /cron`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GlobalCronReport {
    /// Whether no task of any app runs by schedule.
    pub maintenance: bool,
}

/// `POST /apps/{app}/cron/{id}/run`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CronRunRequest {
    /// Does not wait for its end.
    pub detach: bool,
    /// How long it may take, in place of what the task says.
    pub ttl_seconds: Option<u32>,
}

/// Which runs to show, as the query of `GET /apps/{app}/cron/runs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CronHistoryQuery {
    /// Of one task.
    pub task: Option<CronTaskId>,
    /// How many at most.
    pub num: Option<usize>,
}
