//! `/apps/{app}/releases` and `rollback`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::domain::ReleaseVersion;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body, Id, Query};
use crate::wire::{DiffQuery, ListQuery, ReleaseDiff, ReleaseReport, RollbackRequest};

pub(super) async fn list(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<ReleaseReport>>, Refusal> {
    let releases = platform.releases(&app, query.limit()).await?;
    Ok(Json(releases.into_iter().map(ReleaseReport::from).collect()))
}

pub(super) async fn info(
    State(platform): State<Platform>,
    App(app): App,
    Id(version): Id<ReleaseVersion>,
) -> Result<Json<ReleaseReport>, Refusal> {
    Ok(Json(platform.release(&app, version).await?.into()))
}

pub(super) async fn diff(
    State(platform): State<Platform>,
    App(app): App,
    Id(version): Id<ReleaseVersion>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<ReleaseDiff>, Refusal> {
    let before = query.before.as_deref().map(str::parse).transpose()?;
    Ok(Json(platform.release_diff(&app, version, before).await?))
}

pub(super) async fn rollback(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<RollbackRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.rollback(&caller.actor, &app, request.version).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
