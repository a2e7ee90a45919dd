//! `/apps/{app}/checks`.

use axum::Json;
use axum::extract::State;

use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::{CheckChange, CheckReport, CheckResult};

pub(super) async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<CheckReport>, Refusal> {
    Ok(Json(platform.checks(&app).await?))
}

pub(super) async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<CheckChange>,
) -> Result<Json<CheckReport>, Refusal> {
    let CheckChange { key, value } = change;
    Ok(Json(platform.set_check(&caller.actor, &app, &key, value.as_deref()).await?))
}

pub(super) async fn run(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<Vec<CheckResult>>, Refusal> {
    Ok(Json(platform.run_checks(&app).await?))
}
