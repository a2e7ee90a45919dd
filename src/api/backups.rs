//! Backups of services: `/services/{type}/{name}/backups`, `…/restore` and `…/backup-settings`.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{delete, get, patch, post};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::BackupId;
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{Body, Id, Query, TypeAndName};
use crate::wire::{
    BackupChange, BackupChoice, BackupReport, BackupRequest, BackupStatus, RestoreRequest,
};

/// Below `/services/{type}/{name}`.
pub(super) fn service_routes() -> Routes<Parts> {
    Routes::new()
        .at(SERVICES_BACKUP_LIST, "/backups", get(list))
        .at(SERVICES_BACKUP, "/backups", post(backup))
        .at(SERVICES_BACKUP_VERIFY, "/backups/verify", post(verify))
        .at(SERVICES_BACKUP_INFO, "/backups/{id}", get(info))
        .at(SERVICES_BACKUP_REMOVE, "/backups/{id}", delete(remove))
        .at(SERVICES_RESTORE, "/restore", post(restore))
        .at(SERVICES_BACKUP_STATUS, "/backup-settings", get(status))
        .at(SERVICES_BACKUP_SET, "/backup-settings", patch(set))
}

/// `/backup-settings`.
pub(super) fn machine_routes() -> Routes<Parts> {
    Routes::new().at(SERVICES_BACKUP_REPORT_GLOBAL, "/backup-settings", get(global)).at(
        SERVICES_BACKUP_SET_GLOBAL,
        "/backup-settings",
        patch(set_global),
    )
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
) -> Result<impl IntoApiResponse, Refusal> {
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
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.verify_backup(&caller.actor, &kind, &name, choice.id).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
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
) -> Result<impl IntoApiResponse, Refusal> {
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
