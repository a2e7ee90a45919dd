//! What commands print: results on standard output, in Dokku's shapes.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::{Exit, Failure};
use crate::domain::Timestamp;

/// The width of a report's label column, as in Dokku.
const LABEL_WIDTH: usize = 31;

/// How a list or report is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    #[value(name = "stdout", alias = "text")]
    Text,
    /// For programs.
    Json,
}

/// `--format`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct FormatArg {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Standard output. Not locked between lines: a session writes to it from a thread of its own.
#[derive(Debug)]
pub(super) struct Out {
    /// `--quiet` was given.
    quiet: bool,
    /// Somebody looks.
    terminal: bool,
}

impl Out {
    /// Standard output; `quiet` leaves away everything but results.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, terminal: io::stdout().is_terminal() }
    }

    /// A line of the result.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.write_all(b"\n"))
            .and_then(|()| stdout.flush())
            .map_err(|error| unwritten(&error))
    }

    /// Several lines of the result.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        text.lines().try_for_each(|line| self.line(line))
    }

    /// A value for programs.
    pub(super) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// A value for programs, on one line: one of many.
    pub(super) fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// Whether `--quiet` was given.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// `=====> text` over a list; not when a program reads (as Dokku does).
    pub(super) fn header(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet || !self.terminal {
            return Ok(());
        }
        self.line(&format!("=====> {text}"))
    }

    /// `-----> text`: what is being done.
    pub(super) fn step(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        self.line(&format!("-----> {text}"))
    }

    /// A detail of a step.
    pub(super) fn detail(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        self.line(&format!("       {text}"))
    }

    /// A line of an operation: warnings and errors go to standard error, as in Dokku.
    pub(super) fn progress(&mut self, text: &str) -> Result<(), Failure> {
        if text.starts_with(" !  ") {
            // If standard error is closed there is nobody to warn.
            let _ = writeln!(io::stderr(), "{text}");
            return Ok(());
        }
        if self.quiet { Ok(()) } else { self.line(text) }
    }
}

/// A reader that has seen enough (`| head`) is no failure.
fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Silent(0),
        _ => Failure::new(Exit::Failed, format!("write to standard output: {error}")),
    }
}

/// Rows under a line of headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// An empty table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self(vec![headings.iter().map(|heading| (*heading).to_owned()).collect()])
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// The table as text.
    pub(super) fn render(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Labels and values about one thing.
#[derive(Debug)]
pub(super) struct Report {
    title: String,
    rows: Vec<(String, String)>,
}

impl Report {
    /// An empty report; `title` is what follows `=====>`.
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, label: impl Into<String>, value: impl ToString) {
        self.rows.push((label.into(), printable(&value.to_string())));
    }

    /// Prints the report, or the value that `field` (a label's flag form) asks for.
    pub(super) fn print(&self, out: &mut Out, field: Option<&str>) -> Result<(), Failure> {
        match field {
            None => out.text(&self.render()),
            Some(field) => out.line(self.value(field)?),
        }
    }

    /// The report as text.
    pub(super) fn render(&self) -> String {
        let mut text = format!("=====> {}", self.title);
        for (label, value) in &self.rows {
            // A label that fills its column is still told from its value.
            let line = format!(
                "\n       {:<width$} {value}",
                format!("{label}:"),
                width = LABEL_WIDTH - 1
            );
            text.push_str(line.trim_end_matches(' '));
        }
        text
    }

    fn value(&self, field: &str) -> Result<&str, Failure> {
        let row = self.rows.iter().find(|(label, _)| flag(label) == field);
        row.map(|(_, value)| value.as_str()).ok_or_else(|| {
            let valid: Vec<_> =
                self.rows.iter().map(|(label, _)| format!("--{}", flag(label))).collect();
            Failure::usage(format!("invalid flag passed, valid flags: {}", valid.join(", ")))
        })
    }
}

/// `App created at` → `app-created-at`.
fn flag(label: &str) -> String {
    label.to_lowercase().replace(' ', "-")
}

/// Vars as `KEY:  value` with the values in one column, as `config:show` prints them.
pub(super) fn key_values<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<String> {
    let width = pairs.clone().map(|(key, _)| key.chars().count() + 1).max().unwrap_or(0);
    pairs.map(|(key, value)| format!("{:width$}  {value}", format!("{key}:"))).collect()
}

/// Text on one line, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// A point in time as RFC 3339, UTC, to the second.
pub(super) fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.0.div_euclid(1000)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// Bytes in the largest binary unit that leaves a whole part: `40.2 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    match unit {
        "B" => format!("{count} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// A span for people: `2h 3m`, `41s`, `0.4s`.
pub(super) fn span(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{}.{}s", seconds, span.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_aligned_and_terminal_codes_disarmed() {
        let mut table = Table::new(&["ID", "STATUS", "WHY"]);
        table.row(["7".into(), "failed".into(), "\x1b[31mred".into()]);
        table.row(["12".into(), "ok".into(), String::new()]);
        let expected = "ID  STATUS  WHY\n7   failed  \\u{1b}[31mred\n12  ok";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_report_has_dokkus_shape_and_gives_single_values() {
        let mut report = Report::new("shop app information");
        report.row("App created at", "2026-01-02T03:04:05Z");
        report.row("App locked", "");
        let expected = "=====> shop app information\n       \
            App created at:                2026-01-02T03:04:05Z\n       App locked:";
        assert_eq!(report.render(), expected);
        assert_eq!(report.value("app-created-at"), Ok("2026-01-02T03:04:05Z"));
        let failure = report.value("nope").unwrap_err();
        assert_eq!(
            failure,
            Failure::usage("invalid flag passed, valid flags: --app-created-at, --app-locked")
        );
    }

    #[test]
    fn times_sizes_and_spans_are_for_people() {
        assert_eq!(time(Timestamp(1_767_323_045_678)), "2026-01-02T03:04:05Z");
        assert_eq!([bytes(12), bytes(1536), bytes(42_152_755)], ["12 B", "1.5 KiB", "40.1 MiB"]);
        let spans = [400, 41_000, 125_000, 7_380_000, 90_000_000].map(Duration::from_millis);
        assert_eq!(spans.map(span), ["0.4s", "41s", "2m 5s", "2h 3m", "1d 1h"]);
    }

    #[test]
    fn values_share_a_column() {
        let lines = key_values([("A", "1"), ("LONG", "2")].into_iter());
        assert_eq!(lines, ["A:     1", "LONG:  2"]);
    }
}
