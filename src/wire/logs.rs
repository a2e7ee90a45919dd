//! Logs: what is asked of them, what is set about them.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Bytes, LogAge, LogCursor, LogLevel, LogSources, LogTime, ReleaseVersion, Timestamp,
};

/// Which log lines to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// Only this process type or instance (`web`, `web.2`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// How many of the last lines; a default if none. With `after`: all, up to a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num: Option<usize>,
    /// Goes on with new lines as they come.
    pub tail: bool,
    /// Whose lines: `app,router,platform` or `all`. Without: the app's and the platform's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<LogSources>,
    /// Only lines at least as grave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Only lines that have this text, in whatever case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether `text` is a regular expression, which minds case.
    pub regex: bool,
    /// Only lines of processes of this release, or of requests that it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseVersion>,
    /// Not older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<LogTime>,
    /// Not younger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<LogTime>,
    /// Only lines before this one: the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<LogCursor>,
    /// Only lines after this one: goes on where a reader was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<LogCursor>,
}

/// `PATCH /apps/{app}/logs/settings`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// `max-size`, `max-age` or `drain`.
    pub key: String,
    /// The new value; several for `drain`; none: the default.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What is kept of an app's log, and where it is sent to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogReport {
    /// Bytes kept at most.
    pub max_size: Bytes,
    /// What was set of it for the app.
    pub app_max_size: Option<Bytes>,
    /// How long lines are kept.
    pub max_age: LogAge,
    /// What was set of it for the app.
    pub app_max_age: Option<LogAge>,
    /// Bytes that are there.
    pub size: Bytes,
    /// Where it is sent to.
    pub drains: Vec<DrainReport>,
}

/// How a drain does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReport {
    /// Where it leads; credentials and query are not shown.
    pub url: String,
    /// Whether it may lead to private addresses: an admin of the platform set it.
    pub private: bool,
    /// When it was set.
    pub since: Timestamp,
    /// How it stands.
    pub state: DrainState,
    /// Lines that were taken, since the server's start.
    pub sent: u64,
    /// Lines that were left out, since the server's start, because more waited than is kept for it.
    pub lost: u64,
    /// Bytes of log that wait to be sent.
    pub backlog: u64,
    /// When lines were last taken.
    pub last_sent_at: Option<Timestamp>,
    /// What went wrong at last, if it has not gone well since.
    pub error: Option<String>,
}

/// How a drain stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainState {
    /// Nothing was to be sent yet.
    #[default]
    Idle,
    /// What was sent last was taken.
    Sending,
    /// What was sent last was not taken; it will be sent again.
    Failing,
}
