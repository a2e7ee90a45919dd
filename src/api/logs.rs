//! `/apps/{app}/logs`, what is set about them, and `/apps/{app}/access-log`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream;
use crate::domain::access::LOGS_DRAIN_PRIVATE;
use crate::platform::Platform;
use crate::web::{App, Body, Caller, Query, Refusal};
use crate::wire::{AccessLogQuery, LogChange, LogQuery, LogReport};

pub(super) async fn logs(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<LogQuery>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::log_lines(platform.logs(&app, query).await?))
}

pub(super) async fn access_log(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<AccessLogQuery>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::texts(platform.access_log(&app, &query)?))
}

pub(super) async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<LogReport>, Refusal> {
    Ok(Json(platform.log_report(&app).await?))
}

pub(super) async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<LogChange>,
) -> Result<Json<LogReport>, Refusal> {
    // A drain to a private address reaches what only this machine reaches.
    let private = caller.may(LOGS_DRAIN_PRIVATE, None).is_ok();
    platform.set_logs(&caller.actor, &app, change, private).await?;
    report(State(platform), App(app)).await
}
