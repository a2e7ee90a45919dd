//! Text for monitoring systems: OpenMetrics 1.0.0, as Prometheus reads it.

use std::fmt::{Display, Write};

/// What a family's samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A level.
    Gauge,
    /// A sum that only grows, but for a restart of who counts.
    Counter,
    /// How many values there are up to each of several bounds.
    Histogram,
    /// One of several states: 1 for that, 0 for the others.
    StateSet,
    /// Facts as labels.
    Info,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::StateSet => "stateset",
            Self::Info => "info",
        }
    }
}

/// Names with their values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// The text so far, and the family that samples are added to.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Begins a family; `help` is a sentence. Its unit is what its name ends with.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        self.line(format_args!("# TYPE {name} {}", kind.name()));
        if let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.ends_with(**unit)) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    /// Adds a sample to the family; `suffix` is what its kind asks for: `_total`, `_bucket`.
    pub fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let mut shown = String::new();
        for (name, value) in labels {
            let comma = if shown.is_empty() { "" } else { "," };
            // A String takes everything.
            let _ = write!(shown, "{comma}{name}=\"{}\"", escape(value));
        }
        let braces = if shown.is_empty() { ("", "") } else { ("{", "}") };
        let family = self.family;
        self.line(format_args!("{family}{suffix}{}{shown}{} {value}", braces.0, braces.1));
    }

    /// A family that is one counter.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help);
        self.sample("_total", &[], value);
    }

    /// A family that is one level.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample("", &[], value);
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }

    fn line(&mut self, line: impl Display) {
        // A String takes everything.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Microseconds as seconds, with a fraction always, as canonical numbers of buckets have it.
pub fn seconds(micros: u64) -> String {
    let fraction = format!("{:06}", micros % 1_000_000);
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{}.{fraction}", micros / 1_000_000)
}

/// A label's value inside its quotes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_cannot_break_out() {
        let mut page = Page::default();
        page.family("x_seconds", Kind::Gauge, "X.");
        page.sample("", &[("a", "\"\\\n")], 1);
        let text = "# TYPE x_seconds gauge\n# UNIT x_seconds seconds\n# HELP x_seconds X.\n\
                    x_seconds{a=\"\\\"\\\\\\n\"} 1\n# EOF\n";
        assert_eq!(page.finish(), text);
    }

    #[test]
    fn seconds_always_have_a_fraction() {
        assert_eq!([5_000, 1_000_000, 20_011_000].map(seconds), ["0.005", "1.0", "20.011"]);
    }
}
