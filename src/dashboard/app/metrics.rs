//! An app's figures over time.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboard::helpers::bytes;
use crate::dashboard::{Dashboard, Page};
use crate::domain::AppName;
use crate::web::{App, Query, Refusal};
use crate::wire::{
    MetricName, MetricSeries, MetricsBy, MetricsQuery, MetricsRange, MetricsReport, Sparkline,
};

/// Which picture is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    range: MetricsRange,
}

/// A chart: its title, its unit, and the series in it.
struct Chart {
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    series: &'static [(MetricName, &'static str)],
}

const CHARTS: &[Chart] = &[
    Chart {
        key: "requests",
        title: "Requests",
        unit: "per second",
        series: &[
            (MetricName::Requests2xx, "2xx"),
            (MetricName::Requests3xx, "3xx"),
            (MetricName::Requests4xx, "4xx"),
            (MetricName::Requests5xx, "5xx"),
        ],
    },
    Chart {
        key: "latency",
        title: "Latency",
        unit: "seconds",
        series: &[
            (MetricName::LatencyP50, "p50"),
            (MetricName::LatencyP95, "p95"),
            (MetricName::LatencyP99, "p99"),
        ],
    },
    Chart {
        key: "cpu",
        title: "CPU against quota",
        unit: "processors",
        series: &[(MetricName::Cpu, "used"), (MetricName::CpuLimit, "quota")],
    },
    Chart {
        key: "throttled",
        title: "Held back by the quota",
        unit: "share",
        series: &[(MetricName::CpuThrottled, "throttled")],
    },
    Chart {
        key: "memory",
        title: "Memory against limit",
        unit: "bytes",
        series: &[(MetricName::Memory, "used"), (MetricName::MemoryLimit, "limit")],
    },
    Chart {
        key: "instances",
        title: "Instances and restarts",
        unit: "count",
        series: &[(MetricName::Instances, "ready"), (MetricName::Restarts, "restarts")],
    },
    Chart {
        key: "network",
        title: "Network",
        unit: "bytes per second",
        series: &[(MetricName::NetworkReceived, "in"), (MetricName::NetworkSent, "out")],
    },
    Chart {
        key: "open",
        title: "Open requests",
        unit: "count",
        series: &[(MetricName::RequestsOpen, "open")],
    },
];

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Refusal> {
    let report = picture(&dashboard, &app, wanted.range).await?;
    let charts: Vec<Value> = CHARTS
        .iter()
        .map(|chart| json!({ "key": chart.key, "title": chart.title, "unit": chart.unit }))
        .collect();
    let ranges: Vec<Value> = MetricsRange::ALL
        .iter()
        .map(|range| json!({ "range": range.as_str(), "current": *range == wanted.range }))
        .collect();
    let marks: Vec<Value> = report
        .marks
        .iter()
        .rev()
        .take(12)
        .map(|mark| json!({ "at": mark.at, "kind": mark.kind, "text": mark.text }))
        .collect();
    let context = json!({
        "range": wanted.range.as_str(),
        "ranges": ranges,
        "charts": charts,
        "marks": marks,
        "figures": totals(&report),
    });
    let page = Page::of_app("app/metrics", &app, "metrics", context);
    Ok(page.script("metrics.js").style("vendor/uplot.css").style("live.css"))
}

async fn picture(
    dashboard: &Dashboard,
    app: &AppName,
    range: MetricsRange,
) -> Result<MetricsReport, Refusal> {
    let query = MetricsQuery { range, by: MetricsBy::App, ..MetricsQuery::default() };
    Ok(dashboard.app_metrics(app, &query).await?)
}

/// The charts' data, aligned as the page's script draws it.
pub(super) async fn data(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Refusal> {
    let report = picture(&dashboard, &app, wanted.range).await?;
    let times: Vec<i64> = (0..report.points)
        .map(|n| (report.from.0 + i64::try_from(n).unwrap_or(0) * report.step_ms) / 1000)
        .collect();
    let charts: Vec<Value> = CHARTS.iter().map(|chart| drawn(chart, &report)).collect();
    let marks: Vec<Value> = report
        .marks
        .iter()
        .map(|mark| json!({ "at": mark.at.0 / 1000, "kind": mark.kind, "text": mark.text }))
        .collect();
    Ok(Json(json!({ "times": times, "charts": charts, "marks": marks })))
}

fn drawn(chart: &Chart, report: &MetricsReport) -> Value {
    let series: Vec<Value> = chart
        .series
        .iter()
        .filter_map(|(name, label)| {
            let series = report.series(*name)?;
            let values: Vec<Option<f64>> = series.values.iter().map(|v| v.map(brief)).collect();
            Some(json!({ "label": label, "values": values }))
        })
        .collect();
    json!({ "key": chart.key, "unit": chart.unit, "series": series })
}

/// Four digits are more than a picture shows.
fn brief(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    #[allow(clippy::cast_possible_truncation, reason = "a logarithm of a float fits")]
    let digits = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * digits).round() / digits
}

/// What a person wants to know without a picture.
fn totals(report: &MetricsReport) -> Vec<Value> {
    let series = |name| report.series(name);
    let known = |series: &MetricSeries| series.values.iter().flatten().copied().collect::<Vec<_>>();
    let mean = |name| {
        let values = series(name).map(known)?;
        // The number of points is far from what a float cannot count.
        #[allow(clippy::cast_precision_loss, reason = "a few hundred points")]
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let most = |name| {
        let found = series(name)?;
        let values = if found.highest.is_empty() { &found.values } else { &found.highest };
        values.iter().flatten().copied().reduce(f64::max)
    };
    let sum = |name| series(name).map(|series| known(series).iter().sum::<f64>());
    let errors = match (mean(MetricName::Requests5xx), mean(MetricName::Requests)) {
        (Some(errors), Some(all)) if all > 0.0 => Some(format!("{:.2} %", 100.0 * errors / all)),
        _ => None,
    };
    let figure = |title: &str, value: Option<String>| json!({ "title": title, "value": value.unwrap_or_else(|| "–".into()) });
    let per_second = |value: f64| format!("{value:.2} /s");
    let seconds = |value: f64| format!("{:.0} ms", value * 1000.0);
    vec![
        figure("Requests, mean", mean(MetricName::Requests).map(per_second)),
        figure("Errors (5xx)", errors),
        figure("Latency p95, highest", most(MetricName::LatencyP95).map(seconds)),
        figure("CPU, mean", mean(MetricName::Cpu).map(|value| format!("{value:.2}"))),
        figure("Memory, highest", most(MetricName::Memory).map(size)),
        figure("Out of memory", sum(MetricName::OomKills).map(|sum| format!("{sum:.0}"))),
    ]
}

fn size(value: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    bytes(value.clamp(0.0, 1e18) as u64)
}

/// The last hour as small pictures, for the overview.
pub(super) fn sparks(line: &Sparkline) -> Vec<Value> {
    let spark = |title: &str, values: &[Option<f32>], text: fn(f64) -> String| {
        let last = values.iter().rev().flatten().next().copied();
        let (path, area) = paths(values);
        json!({
            "title": title,
            "value": last.map_or("–".into(), |value| text(value.into())),
            "path": path,
            "area": area,
        })
    };
    vec![
        spark("Requests", &line.requests, |value| format!("{value:.1} /s")),
        spark("CPU", &line.cpu, |value| format!("{value:.2}")),
        spark("Memory", &line.memory, size),
    ]
}

/// A line and the area below it, in a box of 120 by 32; gaps are gaps.
fn paths(values: &[Option<f32>]) -> (String, String) {
    use std::fmt::Write;
    let most = values.iter().flatten().copied().fold(0.0_f32, f32::max);
    if values.len() < 2 || most <= 0.0 {
        return (String::new(), String::new());
    }
    let (mut line, mut area) = (String::new(), String::new());
    let mut begun: Option<f32> = None;
    #[allow(clippy::cast_precision_loss, reason = "a few hundred points")]
    let at = |index: usize| 120.0 * index as f32 / (values.len() - 1) as f32;
    for (index, value) in values.iter().enumerate() {
        let x = at(index);
        let Some(value) = value else {
            if begun.take().is_some() {
                let _ = write!(area, "L{:.1} 32Z", at(index.saturating_sub(1)));
            }
            continue;
        };
        let y = 30.0 - 28.0 * value / most;
        // Writing to a string cannot fail.
        let _ = match begun {
            Some(_) => write!(line, "L{x:.1} {y:.1}").and_then(|()| write!(area, "L{x:.1} {y:.1}")),
            None => write!(line, "M{x:.1} {y:.1}")
                .and_then(|()| write!(area, "M{x:.1} 32L{x:.1} {y:.1}")),
        };
        begun.get_or_insert(x);
    }
    if begun.is_some() {
        area.push_str("L120 32Z");
    }
    (line, area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_picture_has_gaps_where_nothing_is_known() {
        let (line, area) = paths(&[Some(1.0), Some(2.0), None, Some(0.0)]);
        assert_eq!(line, "M0.0 16.0L40.0 2.0M120.0 30.0");
        assert_eq!(area, "M0.0 32L0.0 16.0L40.0 2.0L40.0 32ZM120.0 32L120.0 30.0L120 32Z");
        assert_eq!(paths(&[None, None]), (String::new(), String::new()));
        assert_eq!(paths(&[]), (String::new(), String::new()));
    }

    #[test]
    fn numbers_of_a_picture_are_brief() {
        assert_eq!(brief(1234.567), 1235.0);
        assert_eq!(brief(0.001_234_56), 0.001_235);
        assert_eq!(brief(f64::NAN), 0.0);
    }
}
