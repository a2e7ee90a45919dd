//! Counters as OpenMetrics text (version 1.0.0), as Prometheus reads it.

use super::Metrics;
use super::metrics::{BUCKETS_US, CountedRelease, ENDS, PROTOCOLS, ReleaseMetrics};
use crate::support::openmetrics::{Kind, Page, seconds};

/// The whole text of `metrics` alone.
pub fn render(metrics: Option<&Metrics>) -> String {
    let mut page = Page::default();
    write(&mut page, metrics.is_some(), metrics);
    page.finish()
}

/// Adds `metrics` to `page`, and whether the proxy answers.
pub fn write(page: &mut Page, answers: bool, metrics: Option<&Metrics>) {
    page.gauge("staithe_proxy_up", "Whether the proxy answers.", u8::from(answers));
    if let Some(metrics) = metrics {
        process(page, metrics);
        by_release(page, &metrics.releases);
    }
}

fn process(page: &mut Page, metrics: &Metrics) {
    page.family("staithe_proxy_routes_version", Kind::Gauge, "The route table in force.");
    page.sample("", &[], metrics.routes);
    page.family("staithe_proxy_connections", Kind::Gauge, "Connections of clients now.");
    page.sample("", &[], metrics.connections);
    let handshakes = "TLS handshakes that succeeded.";
    page.counter("staithe_proxy_tls_handshakes", handshakes, metrics.tls_handshakes);
    let failures = "TLS handshakes that failed.";
    page.counter("staithe_proxy_tls_failures", failures, metrics.tls_failures);
    let bad = "Requests refused for their form.";
    page.counter("staithe_proxy_bad_requests", bad, metrics.bad_request);
    let unknown = "Requests for hosts that no app has.";
    page.counter("staithe_proxy_unknown_hosts", unknown, metrics.unknown_host);
    let ejections = "Instances left alone for a while after failures in a row.";
    page.counter("staithe_proxy_ejections", ejections, metrics.ejections);
    let dropped = "Lines of access logs lost because the disk was too slow.";
    page.counter("staithe_proxy_access_log_dropped", dropped, metrics.access_log_dropped);
    let errors = "Answers of the proxy's own by their code, and clients that left.";
    page.family("staithe_proxy_errors", Kind::Counter, errors);
    for (code, count) in &metrics.errors {
        page.sample("_total", &[("code", code)], count);
    }
}

fn by_release(page: &mut Page, releases: &[ReleaseMetrics]) {
    let named: Vec<_> =
        releases.iter().map(|release| (release, release_name(release.release))).collect();
    page.family("staithe_requests_open", Kind::Gauge, "Requests open now, tunnels too.");
    for (metrics, release) in &named {
        page.sample("", &whose(metrics, release), metrics.open);
    }
    let help = "Requests by the class of their status; cut off ones are aborted.";
    page.family("staithe_requests", Kind::Counter, help);
    for (metrics, release) in &named {
        for (protocol, ended) in PROTOCOLS.iter().zip(&metrics.ended) {
            for (status, count) in ENDS.iter().zip(ended).filter(|(_, count)| **count > 0) {
                let [app, release] = whose(metrics, release);
                let labels = [app, release, ("protocol", *protocol), ("status", *status)];
                page.sample("_total", &labels, count);
            }
        }
    }
    page.family("staithe_received_bytes", Kind::Counter, "Bodies from clients.");
    for (metrics, release) in &named {
        page.sample("_total", &whose(metrics, release), metrics.received_bytes);
    }
    page.family("staithe_sent_bytes", Kind::Counter, "Bodies to clients.");
    for (metrics, release) in &named {
        page.sample("_total", &whose(metrics, release), metrics.sent_bytes);
    }
    let help = "From the head of a request to the end of its answer.";
    page.family("staithe_request_duration_seconds", Kind::Histogram, help);
    for (metrics, release) in &named {
        histogram(page, metrics, release);
    }
}

fn histogram(page: &mut Page, metrics: &ReleaseMetrics, release: &str) {
    let [app, release] = whose(metrics, release);
    let ends = BUCKETS_US.iter().map(|end| seconds(*end)).chain(["+Inf".to_owned()]);
    let mut below = 0;
    for (end, count) in ends.zip(&metrics.latencies) {
        below += count;
        page.sample("_bucket", &[app, release, ("le", &end)], below);
    }
    page.sample("_count", &[app, release], below);
    page.sample("_sum", &[app, release], seconds(metrics.latency_us));
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

#[cfg(test)]
mod tests;
