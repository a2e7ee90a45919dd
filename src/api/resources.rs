//! `/apps/{app}/resources`.

use axum::Json;
use axum::extract::State;

use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::{QuotaRequest, ResourceReport};

type Report = Result<Json<ResourceReport>, Refusal>;

pub(super) async fn report(State(platform): State<Platform>, App(app): App) -> Report {
    Ok(Json(platform.resources(&app).await?))
}

pub(super) async fn limit(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<QuotaRequest>,
) -> Report {
    let QuotaRequest { scope, change } = request;
    Ok(Json(platform.set_limits(&caller.actor, &app, scope, change).await?))
}

pub(super) async fn reserve(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<QuotaRequest>,
) -> Report {
    let QuotaRequest { scope, change } = request;
    Ok(Json(platform.set_reservations(&caller.actor, &app, scope, change).await?))
}
