//! An app at a glance: how it stands, what runs, what was deployed, what happened.

use axum::extract::State;
use serde_json::{Value, json};

use super::{deployments, metrics};
use crate::dashboard::{Dashboard, Done, Page};
use crate::domain::access::{
    BUILDS_LIST, ENTER_START, EVENTS_LIST, METRICS_REPORT, PS_REBUILD, PS_RESTART, PS_START,
    PS_STOP,
};
use crate::domain::{AppName, EventFilter, RunState};
use crate::web::{App, Caller, Refusal};
use crate::wire::{AppReport, InstanceReport, InstanceStatus};

/// How many deployments and events are shown; their own pages have more.
const SHOWN: usize = 5;

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    let report = dashboard.app(&app).await?;
    let may = |verb| caller.may(verb, Some(&app)).is_ok();
    let mut builds = Vec::new();
    if may(BUILDS_LIST) {
        let reports = dashboard.build_reports(&app, SHOWN).await?;
        builds = reports.iter().map(deployments::row).collect::<Vec<_>>();
    }
    let mut events = Vec::new();
    if may(EVENTS_LIST) {
        let sight = caller.grants.event_sight();
        let filter = EventFilter { app: Some(app.clone()), sight, ..EventFilter::default() };
        events = dashboard.events(&filter, SHOWN).await?;
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
    }
    let mut figures = Vec::new();
    if may(METRICS_REPORT) && report.app.current_release.is_some() {
        let lines = dashboard.sparklines(std::slice::from_ref(&app))?;
        figures = lines.first().map(metrics::sparks).unwrap_or_default();
    }
    let stopped = report.app.run_state == RunState::Stopped;
    let deployed = report.app.current_release.is_some();
    let context = json!({
        "name": app,
        "status": report.status,
        "urls": report.urls,
        "release": report.app.current_release.map(|version| version.to_string()),
        "git_remote": report.git_remote,
        "created_at": report.app.created_at,
        "deployed": deployed,
        "instances": instances(&report),
        "ready": ready(&report),
        "figures": figures,
        "builds": builds,
        "events": events,
        "can_start": stopped && deployed && may(PS_START),
        "can_stop": !stopped && deployed && may(PS_STOP),
        "can_restart": !stopped && deployed && may(PS_RESTART),
        "can_rebuild": deployed && may(PS_REBUILD),
        "can_enter": may(ENTER_START),
    });
    let page = Page::of_app("app/overview", &app, "overview", context);
    Ok(page.script("refresh.js").style("live.css"))
}

fn ready(report: &AppReport) -> usize {
    report.instances.iter().filter(|one| one.status == InstanceStatus::Running).count()
}

fn instances(report: &AppReport) -> Vec<Value> {
    report.instances.iter().map(instance).collect()
}

fn instance(one: &InstanceReport) -> Value {
    json!({
        "name": one.name,
        "status": one.status,
        "release": one.release.to_string(),
        "started_at": one.started_at,
        "restarts": one.restarts,
        "last_exit": one.last_exit,
        "memory_bytes": one.memory_bytes,
        "cpu_ms": one.cpu_ms,
        "throttled_ms": one.throttled_ms.filter(|held| *held > 0),
    })
}

fn back(app: &AppName, sentence: &str) -> Done {
    Done::to(format!("/apps/{app}")).say(sentence)
}

pub(super) async fn restart(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Done, Refusal> {
    // These go on by themselves; the page shows how they end.
    drop(dashboard.restart(&caller.actor, &app).await?);
    Ok(back(&app, "The instances are being replaced, one release with itself."))
}

pub(super) async fn stop(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Done, Refusal> {
    drop(dashboard.stop(&caller.actor, &app).await?);
    Ok(back(&app, "The app is being stopped."))
}

pub(super) async fn start(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Done, Refusal> {
    drop(dashboard.start(&caller.actor, &app).await?);
    Ok(back(&app, "The app is being started."))
}
