//! All apps that the visitor may see.

use axum::extract::State;
use serde_json::{Value, json};

use super::{Dashboard, Page};
use crate::web::{Caller, Refusal};
use crate::wire::{AppReport, InstanceStatus};

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Page, Refusal> {
    let mut apps = dashboard.apps().await?;
    apps.retain(|report| caller.grants.sees(&report.app.name));
    let rows: Vec<Value> = apps.iter().map(row).collect();
    Ok(Page::new("apps", "Apps", "apps", json!({ "apps": rows, "count": rows.len() })))
}

/// What one line of the table shows.
fn row(report: &AppReport) -> Value {
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
        "created_at": report.app.created_at,
    })
}
