//! `/apps/{app}/builds`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream;
use crate::domain::{Build, BuildId};
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body, Id, Query};
use crate::wire::{BuildReport, CancelBuild, ListQuery};

pub(super) async fn list(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<BuildReport>>, Refusal> {
    Ok(Json(platform.build_reports(&app, query.limit()).await?))
}

pub(super) async fn info(
    State(platform): State<Platform>,
    App(app): App,
    Id(id): Id<BuildId>,
) -> Result<Json<BuildReport>, Refusal> {
    Ok(Json(platform.build_report(&app, id).await?))
}

pub(super) async fn output(
    State(platform): State<Platform>,
    App(app): App,
    Id(id): Id<BuildId>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::journal(&platform.build_output(&app, id).await?))
}

pub(super) async fn cancel(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<CancelBuild>,
) -> Result<Json<Build>, Refusal> {
    Ok(Json(platform.cancel_build(&caller.actor, &app, request.id).await?))
}
