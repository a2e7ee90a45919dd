//! `logs` and `logs:*`.

use std::fmt::Write;

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::escape;
use super::context::{AppArg, Context, LogArgs, ReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report};
use crate::domain::{AppName, LogLevel, LogSource, LogSources, LogTime, ReleaseVersion};
use crate::wire::{DrainReport, DrainState, LogChange, LogLine, LogReport};

/// `logs:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows what an app's processes print and what happens to it; `logs` alone does so too
    Show(Show),
    /// Shows what is kept of an app's log, and how its drains do
    Report(ReportArgs),
    /// Sets a property: max-size, max-age or drain (syslog+tls://host, syslog+tcp://, syslog+udp:// or
    /// https:// URLs, all that there shall be); without a value, its default
    Set(Set),
}

/// `logs:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    app: AppArg,
    /// The property
    key: String,
    /// The new value
    value: Vec<String>,
}

/// `logs:show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    log: LogArgs,
    /// Only this process type or instance: `web`, `web.2`
    #[arg(long, short, value_name = "process")]
    ps: Option<String>,
    /// Whose lines: `app`, `router` (one for each request), `platform`, several with commas, or `all`
    /// [default: app,platform; with --quiet app]
    #[arg(long, value_name = "source")]
    source: Option<LogSources>,
    /// Only lines at least as grave as `debug`, `info`, `warn` or `error`
    #[arg(long, value_name = "level")]
    level: Option<LogLevel>,
    /// Only lines with this text, in whatever case
    #[arg(long, value_name = "text")]
    grep: Option<String>,
    /// Takes --grep as a regular expression, which minds case
    #[arg(long, short = 'E')]
    regex: bool,
    /// Only lines of this release
    #[arg(long, value_name = "release")]
    release: Option<ReleaseVersion>,
    /// Not older than this: `2h`, `30m`, `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "time")]
    since: Option<LogTime>,
    /// Not younger than this
    #[arg(long, value_name = "time")]
    until: Option<LogTime>,
    /// Only the text, without time and instance (as --quiet)
    #[arg(short = 'q')]
    raw: bool,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(context).await,
            Self::Report(args) => context.report(&args, "/logs/settings", report).await,
            Self::Set(set) => set.run(context).await,
        }
    }
}

impl Set {
    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self { app: AppArg { app }, key, value } = self;
        let doing = if value.is_empty() { "Unsetting" } else { "Setting" };
        context.out.step(&format!("{doing} {key} of {app}'s log"))?;
        let path = format!("/apps/{app}/logs/settings");
        let change = LogChange { key, values: value };
        let _: LogReport = context.client.send(Method::PATCH, &path, &change).await?;
        Ok(())
    }
}

fn report(app: &AppName, log: &LogReport) -> Report {
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut report = Report::new(format!("{app} logs information"));
    report.row("Logs max size", log.app_max_size.map_or(String::new(), |size| size.to_string()));
    report.row("Logs computed max size", log.max_size);
    report.row("Logs max age", text(log.app_max_age.map(|age| age.to_string())));
    report.row("Logs computed max age", log.max_age);
    report.row("Logs size", log.size);
    for drain in &log.drains {
        report.row("Logs drain", drain_text(drain));
    }
    report
}

/// `syslog+tls://logs.example:6514 failing, 12 sent, 0 lost, 300 bytes waiting: connect to …`.
fn drain_text(drain: &DrainReport) -> String {
    let state = match drain.state {
        DrainState::Idle => "idle",
        DrainState::Sending => "sending",
        DrainState::Failing => "failing",
    };
    let DrainReport { url, sent, lost, backlog, .. } = drain;
    let error = drain.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    format!("{url} {state}, {sent} sent, {lost} lost, {backlog} bytes waiting{error}")
}

impl Show {
    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let raw = self.raw || context.out.is_quiet();
        let path = self.path(raw);
        let (out, format) = (&mut context.out, self.format.format);
        let print = |line: LogLine| match format {
            Format::Json => out.json_line(&line),
            Format::Text => out.line(&text(&line, raw)),
        };
        context.client.values(&path, print).await
    }

    fn path(&self, raw: bool) -> String {
        let mut path = self.log.path("logs");
        // As in Dokku, text alone is what the app printed.
        let source = if raw { Some("app".to_owned()) } else { None };
        let parameters = [
            ("process", self.ps.clone()),
            ("source", self.source.map(|source| source.to_string()).or(source)),
            ("level", self.level.map(|level| level.to_string())),
            ("text", self.grep.clone()),
            ("regex", self.regex.then(|| "true".to_owned())),
            ("release", self.release.map(|release| release.0.to_string())),
            ("since", self.since.map(|since| since.to_string())),
            ("until", self.until.map(|until| until.to_string())),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                // A String takes everything.
                let _ = write!(path, "&{name}={}", escape(&value));
            }
        }
        path
    }
}

fn text(line: &LogLine, raw: bool) -> String {
    let text = harmless(&line.text);
    let LogLine { at, process, .. } = line;
    match (raw, line.source) {
        (true, _) => text,
        (false, LogSource::App) => format!("{at} app[{process}]: {text}"),
        (false, _) => format!("{at} staithe[{process}]: {text}"),
    }
}

/// The text with its colors, and nothing else that a terminal obeys: an app, and whoever makes it
/// print something, is not the person who reads.
fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = color(rest).unwrap_or(0);
        clean.push_str(&rest[..length]);
        rest = &rest[length..];
        if length == 0 {
            let mut chars = rest.chars();
            // A carriage return before the line's end is what Windows leaves there.
            match chars.next() {
                Some('\r') if chars.as_str().is_empty() => {}
                _ => clean.push('\u{fffd}'),
            }
            rest = chars.as_str();
        }
    }
    clean.push_str(rest);
    if clean.contains('\u{1b}') {
        // A color that is not taken back would be that of all that follows.
        clean.push_str("\u{1b}[0m");
    }
    clean
}

/// The length of a sequence that sets colors, at the beginning of `text`.
fn color(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    rest[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LogCursor, LogStream};

    fn line(source: LogSource, process: &str, text: &str) -> LogLine {
        LogLine {
            at: "2026-01-02T03:04:05.123456Z".into(),
            source,
            process: process.into(),
            release: None,
            stream: LogStream::Stdout,
            level: LogLevel::Info,
            text: text.into(),
            cursor: LogCursor { at: 0, file: 0, offset: 0 },
        }
    }

    #[test]
    fn lines_say_when_and_who_unless_they_are_raw() {
        let of_app = line(LogSource::App, "web.1", "listening");
        assert_eq!(text(&of_app, false), "2026-01-02T03:04:05.123456Z app[web.1]: listening");
        assert_eq!(text(&of_app, true), "listening");
        let request = line(LogSource::Router, "router", "method=GET");
        let expected = "2026-01-02T03:04:05.123456Z staithe[router]: method=GET";
        assert_eq!(text(&request, false), expected);
    }

    #[test]
    fn terminals_obey_colors_and_nothing_else() {
        assert_eq!(harmless("\u{1b}[1;31mred\u{1b}[0m\r"), "\u{1b}[1;31mred\u{1b}[0m\u{1b}[0m");
        assert_eq!(harmless("a\tb\u{fc}"), "a\tb\u{fc}");
        for hostile in [
            "\u{1b}[2J",
            "\u{1b}]0;title\u{7}",
            "\u{1b}c",
            "\u{9b}2J",
            "a\rb",
            "\u{1b}[",
            "\u{1b}[31",
        ] {
            let clean = harmless(hostile);
            assert!(!clean.contains(|c: char| c.is_control()), "{hostile:?} {clean:?}");
        }
    }
}
