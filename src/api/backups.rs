//! Backups of services: `/services/{type}/{name}/backups`, `…/restore` and `…/backup-settings`.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::caller::Caller;
use super::error::Refusal;
use super::extract::{Body, Id, Query, TypeAndName};
use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::BackupId;
use crate::platform::Platform;
use crate::wire::{
    BackupChange, BackupChoice, BackupReport, BackupRequest, BackupStatus, RestoreRequest,
};

/// Below `/services/{type}/{name}`.
pub(super) fn service_routes() -> Router<Parts> {
    Router::new()
        .route("/backups", get(list).post(backup))
        .route("/backups/verify", post(verify))
        .route("/backups/{id}", get(info).delete(remove))
        .route("/restore", post(restore))
        .route("/backup-settings", get(status).patch(set))
}

/// `/backup-settings`.
pub(super) fn settings_routes() -> MethodRouter<Parts> {
    get(global).patch(set_global)
}

async fn list(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<Vec<BackupReport>>, Refusal> {
    Ok(Json(platform.service_backups(&kind, &name).await?))
}

/// Goes on when the client goes away: whoever asked for a backup wants it.
async fn backup(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<BackupRequest>,
) -> Result<Response, Refusal> {
    let operation = platform.backup_service(&caller.actor, &kind, &name, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn info(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
    Id(id): Id<BackupId>,
) -> Result<Json<BackupReport>, Refusal> {
    Ok(Json(platform.service_backup(&kind, &name, id).await?))
}

async fn verify(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(choice): Body<BackupChoice>,
) -> Result<Response, Refusal> {
    let operation = platform.verify_backup(&caller.actor, &kind, &name, choice.id).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Id(id): Id<BackupId>,
    Query(Force { force }): Query<Force>,
) -> Result<Json<BackupReport>, Refusal> {
    Ok(Json(platform.remove_backup(&caller.actor, &kind, &name, &id, force).await?))
}

async fn restore(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<RestoreRequest>,
) -> Result<Response, Refusal> {
    let operation = platform.restore_service(&caller.actor, &kind, &name, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn status(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<BackupStatus>, Refusal> {
    Ok(Json(platform.backup_status(&kind, &name).await?))
}

async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(change): Body<BackupChange>,
) -> Result<Json<BackupStatus>, Refusal> {
    Ok(Json(platform.set_backups(&caller.actor, &kind, &name, &change).await?))
}

async fn global(State(platform): State<Platform>) -> Result<Json<BackupStatus>, Refusal> {
    Ok(Json(platform.global_backup_status().await?))
}

async fn set_global(
    State(platform): State<Platform>,
    caller: Caller,
    Body(change): Body<BackupChange>,
) -> Result<Json<BackupStatus>, Refusal> {
    Ok(Json(platform.set_global_backups(&caller.actor, &change).await?))
}
