//! Log lines: where they come from, how grave they are, and where each one is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ReleaseVersion;
use super::invalid::{Invalid, text_serde};

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogLine {
    /// When, as RFC 3339 in UTC with microseconds.
    pub at: String,
    /// Whose it is: the app's own, the proxy's about a request, the platform's about the app.
    pub source: LogSource,
    /// `web.1`, `cron.1234`; `router` and `platform` for what no process of the app's wrote.
    pub process: String,
    /// The release that the process, or the route, was of.
    pub release: Option<ReleaseVersion>,
    /// Where the process wrote it.
    pub stream: LogStream,
    /// How grave it is, as far as can be guessed.
    pub level: LogLevel,
    /// The text, without its line feed. Whatever the app wrote: control characters too.
    pub text: String,
    /// Where it is in the log: what `before` and `after` of a query take.
    pub cursor: LogCursor,
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogSource {
    /// A process of the app's.
    App,
    /// The proxy: one line for each request.
    Router,
    /// The platform: deploys, crashes, changes.
    Platform,
}

impl LogSource {
    const ALL: [Self; 3] = [Self::App, Self::Router, Self::Platform];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Router => "router",
            Self::Platform => "platform",
        }
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogSource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|source| source.as_str() == text);
        found.ok_or_else(|| Invalid::new("source", text, "must be app, router or platform"))
    }
}

text_serde!(LogSource);

/// Several sources: `app,router`, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSources {
    app: bool,
    router: bool,
    platform: bool,
}

impl LogSources {
    /// All there are.
    pub const ALL: Self = Self { app: true, router: true, platform: true };

    /// Whether lines of `source` are among them.
    pub fn has(self, source: LogSource) -> bool {
        match source {
            LogSource::App => self.app,
            LogSource::Router => self.router,
            LogSource::Platform => self.platform,
        }
    }
}

/// What the app and the platform say. Requests are so many that nothing else would be seen.
impl Default for LogSources {
    fn default() -> Self {
        Self { router: false, ..Self::ALL }
    }
}

impl FromStr for LogSources {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        let mut sources = Self { app: false, router: false, platform: false };
        for word in text.split(',') {
            match word.trim().parse()? {
                LogSource::App => sources.app = true,
                LogSource::Router => sources.router = true,
                LogSource::Platform => sources.platform = true,
            }
        }
        Ok(sources)
    }
}

impl fmt::Display for LogSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = LogSource::ALL.into_iter().filter(|source| self.has(*source));
        let words: Vec<_> = words.map(LogSource::as_str).collect();
        f.write_str(&words.join(","))
    }
}

text_serde!(LogSources);

/// Where a process wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How grave a line is, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What goes on.
    Info,
    /// Not as it should be.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::Debug, Self::Info, Self::Warn, Self::Error];
        let found = all.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| Invalid::new("level", text, "must be debug, info, warn or error"))
    }
}

text_serde!(LogLevel);

/// The place of a line among all of an app's, in their order: by time, then by file. It stays what
/// it is when files are rotated and when the server starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogCursor {
    /// Microseconds since the Unix epoch.
    pub at: i64,
    /// The file's number.
    pub file: u32,
    /// Where in the file.
    pub offset: u64,
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.at, self.file, self.offset)
    }
}

impl FromStr for LogCursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let mut parts = text.split('-');
            let at = i64::from_str_radix(parts.next()?, 16).ok()?;
            let file = u32::from_str_radix(parts.next()?, 16).ok()?;
            let offset = u64::from_str_radix(parts.next()?, 16).ok()?;
            parts.next().is_none().then_some(Self { at, file, offset })
        };
        parse().ok_or_else(|| {
            Invalid::new("cursor", text, "is none; take it from the `cursor` of a line")
        })
    }
}

text_serde!(LogCursor);

/// A point in time: RFC 3339, or how long ago: `2h`, `15m`, `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTime {
    /// Microseconds since the Unix epoch.
    At(i64),
    /// Before now.
    Ago(Duration),
}

impl LogTime {
    /// In microseconds since the Unix epoch, where it is `now`.
    pub fn resolve(self, now: i64) -> i64 {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => {
                now.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// A span in words: `90s`, `15m`, `2h`, `30d`, `4w`.
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let whole = digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = whole.then(|| digits.parse::<u64>().ok()).flatten()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// The span in the largest unit that is whole.
pub(super) fn write_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds != 0 && seconds.is_multiple_of(*unit));
    unit.map_or(format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

impl FromStr for LogTime {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(span) = parse_span(text) {
            return Ok(Self::Ago(span));
        }
        let at = text.parse::<jiff::Timestamp>();
        at.map(|at| Self::At(at.as_microsecond())).map_err(|_| {
            Invalid::new("time", text, "must look like `2h`, `15m` or `2026-01-31T12:00:00Z`")
        })
    }
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(span) => f.write_str(&write_span(*span)),
            Self::At(at) => match jiff::Timestamp::from_microsecond(*at) {
                Ok(at) => write!(f, "{at}"),
                Err(_) => write!(f, "{at}"),
            },
        }
    }
}

text_serde!(LogTime);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_text_and_ordered_by_time() {
        let cursor = LogCursor { at: 1_767_323_045_000_006, file: 0xab, offset: 70_000 };
        assert_eq!(cursor.to_string().parse::<LogCursor>().unwrap(), cursor);
        assert!(cursor < LogCursor { at: cursor.at + 1, file: 0, offset: 0 });
        for bad in ["", "1", "1-2", "1-2-3-4", "x-1-2", "1-100000000-2"] {
            bad.parse::<LogCursor>().unwrap_err();
        }
    }

    #[test]
    fn times_are_points_or_spans_before_now() {
        let time = |text: &str| text.parse::<LogTime>().unwrap().resolve(10_000_000_000);
        assert_eq!(time("2h"), 10_000_000_000 - 7_200_000_000);
        assert_eq!(time("0s"), 10_000_000_000);
        assert_eq!(time("1970-01-01T00:00:01.5Z"), 1_500_000);
        assert_eq!(time("1970-01-01T01:00:01+01:00"), 1_000_000);
        for bad in ["", "h", "-2h", "2", "+2h", "yesterday", "99999999999999999999w"] {
            bad.parse::<LogTime>().unwrap_err();
        }
        assert_eq!("48h".parse::<LogTime>().unwrap().to_string(), "2d");
    }

    #[test]
    fn requests_are_shown_when_asked_for() {
        let default = LogSources::default();
        assert!(default.has(LogSource::App) && default.has(LogSource::Platform));
        assert!(!default.has(LogSource::Router));
        assert_eq!("all".parse::<LogSources>().unwrap(), LogSources::ALL);
        assert_eq!("router, app".parse::<LogSources>().unwrap().to_string(), "app,router");
        "heroku".parse::<LogSources>().unwrap_err();
        "".parse::<LogSources>().unwrap_err();
    }
}
