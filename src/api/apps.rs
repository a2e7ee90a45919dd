//! `/apps`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::domain;
use crate::domain::access::APPS_CREATE;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::{AppReport, CloneApp, DeployBranch, NewApp, RenameApp};

pub(super) async fn list(
    State(platform): State<Platform>,
    caller: Caller,
) -> Result<Json<Vec<AppReport>>, Refusal> {
    let mut apps = platform.apps().await?;
    apps.retain(|report| caller.grants.sees(&report.app.name));
    Ok(Json(apps))
}

pub(super) async fn create(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewApp>,
) -> Result<Json<domain::App>, Refusal> {
    Ok(Json(platform.create_app(&caller.actor, &new.name).await?))
}

pub(super) async fn info(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<AppReport>, Refusal> {
    Ok(Json(platform.app(&app).await?))
}

pub(super) async fn destroy(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.destroy_app(&caller.actor, &app).await?))
}

pub(super) async fn rename(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<RenameApp>,
) -> Result<Json<domain::App>, Refusal> {
    Ok(Json(platform.rename_app(&caller.actor, &app, &request.to).await?))
}

pub(super) async fn clone(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<CloneApp>,
) -> Result<impl IntoApiResponse, Refusal> {
    caller.may(APPS_CREATE, None)?;
    let CloneApp { to, skip_deploy } = request;
    let operation = platform.clone_app(&caller.actor, &app, &to, skip_deploy).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn set_deploy_branch(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<DeployBranch>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.set_deploy_branch(&caller.actor, &app, request.branch).await?))
}
