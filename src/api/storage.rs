//! `/volumes`, and `/apps/{app}/mounts`.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{delete, get, patch, post};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::VolumeName;
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body, Id};
use crate::wire::{
    MountRequest, StorageReport, UnmountRequest, VolumeReport, VolumeRequest, VolumeResize,
};

pub(super) fn machine_routes() -> Routes<Parts> {
    Routes::new()
        .at(STORAGE_LIST, "/volumes", get(list))
        .at(STORAGE_CREATE, "/volumes", post(create))
        .at(STORAGE_INFO, "/volumes/{id}", get(info))
        .at(STORAGE_DESTROY, "/volumes/{id}", delete(destroy))
        .at(STORAGE_RESIZE, "/volumes/{id}", patch(resize))
}

pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(STORAGE_REPORT, "/mounts", get(report))
        .at(STORAGE_MOUNT, "/mounts", post(mount))
        .at(STORAGE_UNMOUNT, "/mounts", delete(unmount))
}

async fn list(State(platform): State<Platform>) -> Result<Json<Vec<VolumeReport>>, Refusal> {
    Ok(Json(platform.volumes().await?))
}

async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Body(request): Body<VolumeRequest>,
) -> Result<Json<VolumeReport>, Refusal> {
    Ok(Json(platform.create_volume(&caller.actor, request).await?))
}

async fn info(
    State(platform): State<Platform>,
    Id(name): Id<VolumeName>,
) -> Result<Json<VolumeReport>, Refusal> {
    Ok(Json(platform.volume(&name).await?))
}

async fn destroy(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<VolumeName>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.destroy_volume(&caller.actor, &name).await?))
}

async fn resize(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<VolumeName>,
    Body(request): Body<VolumeResize>,
) -> Result<Json<VolumeReport>, Refusal> {
    Ok(Json(platform.resize_volume(&caller.actor, &name, request.size).await?))
}

async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<StorageReport>, Refusal> {
    Ok(Json(platform.storage(&app).await?))
}

async fn mount(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<MountRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    // Who sees no volumes must not reach one, which another app may have, by guessing its name.
    caller.may(STORAGE_LIST, None)?;
    let operation = platform.mount(&caller.actor, &app, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn unmount(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<UnmountRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.unmount(&caller.actor, &app, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
