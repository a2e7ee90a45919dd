//! Logs: what is asked of them.

use serde::{Deserialize, Serialize};

use crate::domain::{LogCursor, LogLevel, LogSources, LogTime, ReleaseVersion};

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
