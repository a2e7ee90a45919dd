//! Counters as OpenMetrics text (version 1.0.0), as Prometheus reads it.

use std::fmt::{Display, Write};

use super::Metrics;
use super::metrics::{BUCKETS_US, CountedRelease, ENDS, PROTOCOLS, ReleaseMetrics};

/// Renders `metrics`; without any, what is said of a proxy that does not answer.
pub fn render(metrics: Option<&Metrics>) -> String {
    let mut page = Page::default();
    page.family("staithe_proxy_up", "gauge", "Whether the proxy answers.");
    page.sample("", &[], u8::from(metrics.is_some()));
    if let Some(metrics) = metrics {
        page.process(metrics);
        page.releases(&metrics.releases);
    }
    page.text.push_str("# EOF\n");
    page.text
}

/// The text so far, and the family that samples are added to.
#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.line(format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.ends_with(**unit)) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn line(&mut self, line: impl Display) {
        // A String takes everything.
        let _ = writeln!(self.text, "{line}");
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let mut shown = String::new();
        for (name, value) in labels {
            let comma = if shown.is_empty() { "" } else { "," };
            let _ = write!(shown, "{comma}{name}=\"{}\"", escape(value));
        }
        let braces = if shown.is_empty() { ("", "") } else { ("{", "}") };
        let family = self.family;
        self.line(format_args!("{family}{suffix}{}{shown}{} {value}", braces.0, braces.1));
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample("_total", &[], value);
    }

    fn process(&mut self, metrics: &Metrics) {
        self.family("staithe_proxy_routes_version", "gauge", "The route table in force.");
        self.sample("", &[], metrics.routes);
        self.family("staithe_proxy_connections", "gauge", "Connections of clients now.");
        self.sample("", &[], metrics.connections);
        let handshakes = "TLS handshakes that succeeded.";
        self.counter("staithe_proxy_tls_handshakes", handshakes, metrics.tls_handshakes);
        let failures = "TLS handshakes that failed.";
        self.counter("staithe_proxy_tls_failures", failures, metrics.tls_failures);
        let bad = "Requests refused for their form.";
        self.counter("staithe_proxy_bad_requests", bad, metrics.bad_request);
        let unknown = "Requests for hosts that no app has.";
        self.counter("staithe_proxy_unknown_hosts", unknown, metrics.unknown_host);
        let ejections = "Instances left alone for a while after failures in a row.";
        self.counter("staithe_proxy_ejections", ejections, metrics.ejections);
        let dropped = "Lines of access logs lost because the disk was too slow.";
        self.counter("staithe_proxy_access_log_dropped", dropped, metrics.access_log_dropped);
        let errors = "Answers of the proxy's own by their code, and clients that left.";
        self.family("staithe_proxy_errors", "counter", errors);
        for (code, count) in &metrics.errors {
            self.sample("_total", &[("code", code)], count);
        }
    }

    fn releases(&mut self, releases: &[ReleaseMetrics]) {
        let named: Vec<_> =
            releases.iter().map(|release| (release, release_name(release.release))).collect();
        self.family("staithe_requests_open", "gauge", "Requests open now, tunnels too.");
        for (metrics, release) in &named {
            self.sample("", &whose(metrics, release), metrics.open);
        }
        let help = "Requests by the class of their status; cut off ones are aborted.";
        self.family("staithe_requests", "counter", help);
        for (metrics, release) in &named {
            for (protocol, ended) in PROTOCOLS.iter().zip(&metrics.ended) {
                for (status, count) in ENDS.iter().zip(ended).filter(|(_, count)| **count > 0) {
                    let [app, release] = whose(metrics, release);
                    let labels = [app, release, ("protocol", *protocol), ("status", *status)];
                    self.sample("_total", &labels, count);
                }
            }
        }
        self.family("staithe_received_bytes", "counter", "Bodies from clients.");
        for (metrics, release) in &named {
            self.sample("_total", &whose(metrics, release), metrics.received_bytes);
        }
        self.family("staithe_sent_bytes", "counter", "Bodies to clients.");
        for (metrics, release) in &named {
            self.sample("_total", &whose(metrics, release), metrics.sent_bytes);
        }
        let help = "From the head of a request to the end of its answer.";
        self.family("staithe_request_duration_seconds", "histogram", help);
        for (metrics, release) in &named {
            self.histogram(metrics, release);
        }
    }

    fn histogram(&mut self, metrics: &ReleaseMetrics, release: &str) {
        let [app, release] = whose(metrics, release);
        let ends = BUCKETS_US.iter().map(|end| seconds(*end)).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (end, count) in ends.zip(&metrics.latencies) {
            below += count;
            self.sample("_bucket", &[app, release, ("le", &end)], below);
        }
        self.sample("_count", &[app, release], below);
        self.sample("_sum", &[app, release], seconds(metrics.latency_us));
    }
}

fn whose<'a>(metrics: &'a ReleaseMetrics, release: &'a str) -> [(&'static str, &'a str); 2] {
    [("app", metrics.app.as_str()), ("release", release)]
}

fn release_name(release: CountedRelease) -> String {
    match release {
        CountedRelease::Older => "older".into(),
        CountedRelease::None => "none".into(),
        CountedRelease::Version(version) => version.to_string(),
    }
}

/// Microseconds as seconds, with a fraction always, as canonical numbers of buckets have it.
fn seconds(micros: u64) -> String {
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
mod tests;
