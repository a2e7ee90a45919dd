//! How many instances of what, and how much they may use, with what they use now behind it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::{PS_SCALE, RESOURCE_LIMIT};
use crate::domain::{AppName, ProcessType, Resources};
use crate::platform::{Error, ProcessReport, ResourceChange, ResourceReport, ResourceScope};
use crate::web::{App, Caller, Refusal};
use crate::wire::{InstanceReport, InstanceStatus};

/// The slider's end if few instances are wanted; the field beside it takes more.
const SLIDER: u32 = 10;

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

async fn page(dashboard: &Dashboard, caller: &Caller, app: &AppName) -> Result<Page, Refusal> {
    let processes = dashboard.processes(app).await?;
    let resources = dashboard.resources(app).await?;
    let types: Vec<_> = processes
        .scale
        .iter()
        .map(|(kind, count)| of_type(kind, *count, &processes, &resources))
        .collect();
    let context = json!({
        "types": types,
        "status": processes.status,
        "limits": limits(&resources),
        "instances": processes.instances.iter().map(instance).collect::<Vec<_>>(),
        "may_scale": can(caller, PS_SCALE, Some(app)),
        "may_limit": can(caller, RESOURCE_LIMIT, Some(app)),
    });
    Ok(Page::of_app("app/scale", app, "scale", context).style("forms.css").script("scale.js"))
}

/// A process type's row: what is wanted, what is there, what it takes.
fn of_type(
    kind: &ProcessType,
    count: u32,
    processes: &ProcessReport,
    resources: &ResourceReport,
) -> Value {
    let mine: Vec<_> =
        processes.instances.iter().filter(|one| one.name.process_type == *kind).collect();
    let limit = resources.settings.instance(kind);
    let used: u64 = mine.iter().filter_map(|one| one.memory_bytes).sum();
    // Of all its instances together; a type that is scaled to zero has the bar of one.
    let most = limit.memory.map(|memory| memory.0.saturating_mul(u64::from(count.max(1))));
    json!({
        "name": kind,
        "count": count,
        "slider": count.saturating_mul(2).max(SLIDER),
        "ready": mine.iter().filter(|one| one.status == InstanceStatus::Running).count(),
        "memory_used": used,
        "memory_most": most,
        "cpu_most": limit.cpu.map(|cpu| u64::from(cpu.0) * u64::from(count.max(1))),
        "cpu_text": limit.cpu.map(|cpu| cpu.to_string()),
    })
}

/// An instance and what it uses.
fn instance(report: &InstanceReport) -> Value {
    json!({
        "name": report.name,
        "type": report.name.process_type,
        "status": report.status,
        "memory_bytes": report.memory_bytes,
        "cpu_ms": report.cpu_ms,
        "throttled_ms": report.throttled_ms,
        "restarts": report.restarts,
        "last_exit": report.last_exit,
        "started_at": report.started_at,
    })
}

/// The rows of quotas: each type, builds, the app as a whole. What is set, and what is in force.
fn limits(report: &ResourceReport) -> Vec<Value> {
    let row = |name: &str, label: &str, set: Resources, force: Resources| {
        let values = |from: Resources| {
            json!({
                "memory": from.memory.map(|memory| memory.to_string()),
                "cpu": from.cpu.map(|cpu| cpu.to_string()),
                "pids": from.pids,
            })
        };
        json!({ "name": name, "label": label, "set": values(set), "force": values(force) })
    };
    let mut rows = Vec::new();
    for (kind, force) in &report.effective {
        let set = report.settings.by_type.get(kind).copied().unwrap_or_default();
        let label = if kind.as_str() == "build" { "builds" } else { kind.as_str() };
        rows.push(row(kind.as_str(), label, set, *force));
    }
    rows.push(row("_app", "whole app", report.settings.app, report.effective_app));
    rows
}

/// What the instances use, for the bars.
pub(super) async fn usage(
    State(dashboard): State<Dashboard>,
    App(app): App,
) -> Result<Json<Value>, Refusal> {
    let report = dashboard.processes(&app).await?;
    let instances: Vec<_> = report.instances.iter().map(instance).collect();
    Ok(Json(json!({ "status": report.status, "instances": instances })))
}

pub(super) async fn scale(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = change_scale(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/scale"), page, &fields).await
}

async fn change_scale(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    let mut counts: Vec<(ProcessType, u32)> = Vec::new();
    for (kind, _) in fields.below("scale.") {
        counts.push((kind.parse()?, fields.need(&format!("scale.{kind}"))?));
    }
    let words: Vec<_> = counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect();
    let operation = dashboard.scale(&caller.actor, app, counts).await?;
    settled(operation, |_| format!("Scaled to {}.", words.join(", "))).await
}

pub(super) async fn limit(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = change_limits(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/scale"), page, &fields).await
}

async fn change_limits(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    let report = dashboard.resources(app).await?;
    // All are read before any is set: a wrong one leaves everything as it was.
    let mut changes = Vec::new();
    for (name, _) in fields.below("memory.") {
        let (scope, set) = match name {
            "_app" => (ResourceScope::App, report.settings.app),
            name => {
                let kind: ProcessType = name.parse()?;
                let set = report.settings.by_type.get(&kind).copied().unwrap_or_default();
                (ResourceScope::Type(kind), set)
            }
        };
        let change = difference(name, set, fields)?;
        if change != ResourceChange::default() {
            changes.push((scope, change));
        }
    }
    let count = changes.len();
    for (scope, change) in changes {
        dashboard.set_limits(&caller.actor, app, scope, change).await?;
    }
    Ok(match count {
        0 => "The quotas are as they were.".to_owned(),
        _ => "The quotas are changed; what runs has them already.".to_owned(),
    })
}

/// What the row `name` changes of what is `set`: an empty field goes back to the default.
fn difference(name: &str, set: Resources, fields: &Fields) -> Result<ResourceChange, Error> {
    let wanted = Resources {
        memory: fields.maybe(&format!("memory.{name}"))?,
        cpu: fields.maybe(&format!("cpu.{name}"))?,
        pids: fields.maybe(&format!("pids.{name}"))?,
    };
    Ok(ResourceChange {
        memory: (wanted.memory != set.memory).then_some(wanted.memory),
        cpu: (wanted.cpu != set.cpu).then_some(wanted.cpu),
        pids: (wanted.pids != set.pids).then_some(wanted.pids),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Bytes, MilliCpus};

    #[test]
    fn only_fields_that_differ_are_changed() {
        let pairs = [("memory.web", "512m"), ("cpu.web", ""), ("pids.web", "100")];
        let fields: Fields =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let set =
            Resources { memory: Some(Bytes(512 << 20)), cpu: Some(MilliCpus(500)), pids: None };
        let change = difference("web", set, &fields).unwrap();
        let expected = ResourceChange { memory: None, cpu: Some(None), pids: Some(Some(100)) };
        assert_eq!(change, expected);
        let error = difference(
            "web",
            set,
            &[("cpu.web".to_owned(), "much".to_owned())].into_iter().collect(),
        );
        assert!(error.unwrap_err().to_string().contains("much"));
    }
}
