//! All apps that the visitor may see.

use std::collections::BTreeMap;

use axum::extract::State;
use serde_json::{Value, json};

use super::{Dashboard, Page};
use crate::domain::AppName;
use crate::web::{Caller, Refusal};
use crate::wire::{AppReport, InstanceStatus, Sparkline};

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Page, Refusal> {
    let mut apps = dashboard.apps().await?;
    apps.retain(|report| caller.grants.sees(&report.app.name));
    let names: Vec<AppName> = apps.iter().map(|report| report.app.name.clone()).collect();
    let lines: BTreeMap<AppName, Sparkline> =
        dashboard.sparklines(&names)?.into_iter().map(|line| (line.app.clone(), line)).collect();
    let rows: Vec<Value> =
        apps.iter().map(|report| row(report, lines.get(&report.app.name))).collect();
    Ok(Page::new("apps", "Apps", "apps", json!({ "apps": rows, "count": rows.len() })))
}

/// What one line of the table shows.
fn row(report: &AppReport, line: Option<&Sparkline>) -> Value {
    let ready = report.instances.iter().filter(|i| i.status == InstanceStatus::Running).count();
    let memory: u64 = report.instances.iter().filter_map(|i| i.memory_bytes).sum();
    json!({
        "name": report.app.name,
        "status": report.status,
        "url": report.urls.first(),
        "more_urls": report.urls.len().saturating_sub(1),
        "release": report.app.current_release,
        "instances": ready,
        "memory_bytes": memory,
        "cpu": line.and_then(|line| spark(&line.cpu)),
        "memory": line.and_then(|line| spark(&line.memory)),
        "requests": line.and_then(|line| spark(&line.requests)),
        "cpu_now": line.and_then(|line| last(&line.cpu)).map(|cpu| format!("{cpu:.2}")),
        "requests_now": line.and_then(|line| last(&line.requests)).map(|rate| format!("{rate:.1}")),
    })
}

/// Width and height of a sparkline, in the units of its picture.
const SPARK: (f32, f32) = (96.0, 22.0);

fn last(values: &[Option<f32>]) -> Option<f32> {
    values.iter().rev().find_map(|value| *value)
}

/// The points of an SVG polyline, from zero to the highest; none where nothing was measured.
fn spark(values: &[Option<f32>]) -> Option<String> {
    let highest = values.iter().flatten().copied().fold(0.0_f32, f32::max);
    let known = values.iter().filter(|value| value.is_some()).count();
    if known < 2 {
        return None;
    }
    let (width, height) = SPARK;
    let count = u16::try_from(values.len().saturating_sub(1).max(1)).unwrap_or(u16::MAX);
    let step = width / f32::from(count);
    let mut points = String::new();
    for (place, value) in (0_u16..).zip(values) {
        let Some(value) = value else { continue };
        let part = if highest > 0.0 { value / highest } else { 0.0 };
        let (x, y) = (f32::from(place) * step, height - 1.5 - part * (height - 3.0));
        points.push_str(&format!("{x:.1},{y:.1} "));
    }
    Some(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_leaves_gaps_out() {
        assert_eq!(spark(&[None, Some(1.0)]), None);
        let line = spark(&[Some(0.0), None, Some(2.0)]).unwrap();
        assert_eq!(line, "0.0,20.5 96.0,1.5 ");
    }
}
