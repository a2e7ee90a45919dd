//! `/apps/{app}/processes`, `start`, `stop`, `restart` and `rebuild`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::{ProcessReport, ScaleRequest};

pub(super) async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<ProcessReport>, Refusal> {
    Ok(Json(platform.processes(&app).await?))
}

pub(super) async fn scale(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<ScaleRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.scale(&caller.actor, &app, request.counts).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn start(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.start(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn stop(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.stop(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn restart(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.restart(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn rebuild(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.rebuild(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
