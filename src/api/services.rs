//! `/services/{type}` and `/services/{type}/{name}`.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{delete, get, patch, post};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use super::session::{Sessions, Upgrade};
use super::stream::{self, OnDrop};
use crate::domain::ExposedPort;
use crate::domain::access::*;
use crate::platform::{LogQuery, Platform, RunRequest};
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body, Query, Type, TypeAndName};
use crate::wire::{
    CloneService, ExposeService, LinkReport, LinkService, NewService, ServiceReport, SetService,
    UnlinkService,
};

/// What is below `/services`.
pub(super) fn routes() -> Routes<Parts> {
    Routes::new()
        .at(SERVICES_LIST, "/{type}", get(list))
        .at(SERVICES_CREATE, "/{type}", post(create))
        .at(SERVICES_INFO, "/{type}/{name}", get(info))
        .at(SERVICES_DESTROY, "/{type}/{name}", delete(destroy))
        .at(SERVICES_CLONE, "/{type}/{name}/clone", post(clone))
        .at(SERVICES_LINKS, "/{type}/{name}/links", get(links))
        .at(SERVICES_LINK, "/{type}/{name}/links", post(link))
        .at(SERVICES_UNLINK, "/{type}/{name}/links/{app}", delete(unlink))
        .at(SERVICES_PROMOTE, "/{type}/{name}/links/{app}/promote", post(promote))
        .at(SERVICES_EXPOSE, "/{type}/{name}/expose", post(expose))
        .at(SERVICES_UNEXPOSE, "/{type}/{name}/expose", delete(unexpose))
        .at(SERVICES_START, "/{type}/{name}/start", post(start))
        .at(SERVICES_STOP, "/{type}/{name}/stop", post(stop))
        .at(SERVICES_RESTART, "/{type}/{name}/restart", post(restart))
        .at(SERVICES_UPGRADE, "/{type}/{name}/upgrade", post(upgrade))
        .at(SERVICES_PAUSE, "/{type}/{name}/pause", post(pause))
        .at(SERVICES_SET, "/{type}/{name}/settings", patch(set))
        .at(SERVICES_LOGS, "/{type}/{name}/logs", get(logs))
        .at(SERVICES_CONNECT, "/{type}/{name}/connect", post(connect))
        .at(SERVICES_ENTER, "/{type}/{name}/enter", post(enter))
        .at(SERVICES_EXPORT, "/{type}/{name}/export", post(export))
        .at(SERVICES_IMPORT, "/{type}/{name}/import", post(import))
}

/// What makes the image of a type, below `/service-types`.
pub(super) fn type_routes() -> Routes<Parts> {
    Routes::new().at(SERVICES_INSTALL_TYPE, "/{type}/install", post(install))
}

async fn list(
    State(platform): State<Platform>,
    Type(kind): Type,
) -> Result<Json<Vec<ServiceReport>>, Refusal> {
    Ok(Json(platform.services_of(&kind).await?))
}

async fn install(
    State(platform): State<Platform>,
    caller: Caller,
    Type(kind): Type,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.install_service_type(&kind).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Type(kind): Type,
    Body(new): Body<NewService>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.create_service(&caller.actor, &kind, new).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn info(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<ServiceReport>, Refusal> {
    Ok(Json(platform.service(&kind, &name).await?))
}

async fn destroy(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.destroy_service(&caller.actor, &kind, &name).await?))
}

async fn clone(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<CloneService>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.clone_service(&caller.actor, &kind, &name, request.to).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn links(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<Vec<LinkReport>>, Refusal> {
    Ok(Json(platform.service(&kind, &name).await?.links))
}

async fn link(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<LinkService>,
) -> Result<impl IntoApiResponse, Refusal> {
    caller.may(SERVICES_LINK_APP, Some(&request.app))?;
    let operation = platform.link_service(&caller.actor, &kind, &name, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn unlink(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    App(app): App,
    Body(request): Body<UnlinkService>,
) -> Result<impl IntoApiResponse, Refusal> {
    caller.may(SERVICES_LINK_APP, Some(&app))?;
    let operation =
        platform.unlink_service(&caller.actor, &kind, &name, &app, request.no_restart).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn promote(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    caller.may(SERVICES_LINK_APP, Some(&app))?;
    let operation = platform.promote_service(&caller.actor, &kind, &name, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn expose(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<ExposeService>,
) -> Result<Json<Vec<ExposedPort>>, Refusal> {
    Ok(Json(platform.expose_service(&caller.actor, &kind, &name, request.ports).await?))
}

async fn unexpose(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.unexpose_service(&caller.actor, &kind, &name).await?))
}

async fn start(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.start_service(&caller.actor, &kind, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn stop(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.stop_service(&caller.actor, &kind, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn restart(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.restart_service(&caller.actor, &kind, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn upgrade(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.upgrade_service(&caller.actor, &kind, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn pause(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.pause_service(&caller.actor, &kind, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    Body(request): Body<SetService>,
) -> Result<Json<()>, Refusal> {
    let SetService { key, value } = request;
    platform.set_service(&caller.actor, &kind, &name, &key, value.as_deref()).await?;
    Ok(Json(()))
}

async fn logs(
    State(platform): State<Platform>,
    TypeAndName(kind, name): TypeAndName,
    Query(query): Query<LogQuery>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::log_lines(platform.service_logs(&kind, &name, query).await?))
}

async fn connect(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    upgrade: Upgrade,
    Body(request): Body<RunRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let session = platform.connect_service(&caller.actor, &kind, &name, request).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

async fn enter(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    upgrade: Upgrade,
    Body(request): Body<RunRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let session = platform.enter_service(&caller.actor, &kind, &name, request).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

async fn export(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    upgrade: Upgrade,
) -> Result<impl IntoApiResponse, Refusal> {
    let session = platform.export_service(&caller.actor, &kind, &name).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

async fn import(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
    upgrade: Upgrade,
) -> Result<impl IntoApiResponse, Refusal> {
    let session = platform.import_service(&caller.actor, &kind, &name).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

/// `/apps/{app}/services`.
pub(super) async fn of_app(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<Vec<LinkReport>>, Refusal> {
    Ok(Json(platform.app_services(&app).await?))
}
