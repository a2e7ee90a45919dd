//! `/apps/{app}/cron`, and `/cron` for all apps.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{get, patch, post, put};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::access::*;
use crate::domain::{CronRun, CronTaskId};
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body, Id, Query};
use crate::wire::{
    CronChange, CronHistoryQuery, CronReport, CronRunRequest, GlobalCronReport, Switch,
};

/// Runs shown unless told otherwise.
const DEFAULT_RUNS: usize = 20;

pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(CRON_REPORT, "/cron", get(report))
        .at(CRON_SET, "/cron", patch(set))
        .at(CRON_RUNS, "/cron/runs", get(runs))
        .at(CRON_RUN, "/cron/{id}/run", post(run))
        .at(CRON_SWITCH, "/cron/{id}/active", put(switch))
}

async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<CronReport>, Refusal> {
    Ok(Json(platform.cron(&app).await?))
}

async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<CronChange>,
) -> Result<Json<CronReport>, Refusal> {
    let CronChange { key, value } = change;
    platform.set_cron(&caller.actor, Some(&app), &key, value.as_deref()).await?;
    report(State(platform), App(app)).await
}

async fn runs(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<CronHistoryQuery>,
) -> Result<Json<Vec<CronRun>>, Refusal> {
    let limit = query.num.unwrap_or(DEFAULT_RUNS);
    Ok(Json(platform.cron_runs(&app, query.task.as_ref(), limit).await?))
}

async fn run(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Id(id): Id<CronTaskId>,
    Body(request): Body<CronRunRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.run_cron(&caller.actor, &app, &id, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn switch(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Id(id): Id<CronTaskId>,
    Body(switch): Body<Switch>,
) -> Result<Json<CronReport>, Refusal> {
    Ok(Json(platform.suspend_cron(&caller.actor, &app, &id, !switch.enabled).await?))
}

pub(super) async fn global(
    State(platform): State<Platform>,
) -> Result<Json<GlobalCronReport>, Refusal> {
    Ok(Json(GlobalCronReport { maintenance: platform.global_cron().await? }))
}

pub(super) async fn set_global(
    State(platform): State<Platform>,
    caller: Caller,
    Body(change): Body<CronChange>,
) -> Result<Json<GlobalCronReport>, Refusal> {
    let CronChange { key, value } = change;
    platform.set_cron(&caller.actor, None, &key, value.as_deref()).await?;
    global(State(platform)).await
}
