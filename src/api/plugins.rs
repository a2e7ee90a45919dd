//! `/plugins` and `/plugin-triggers`.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{delete, get, patch, post};
use axum::Json;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;

use super::router::Parts;
use super::session::{Sessions, Upgrade};
use super::stream::{self, OnDrop};
use crate::domain::PluginName;
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{Body, Id, Query};
use crate::wire::{
    API_PREFIX, InstallPlugin, PluginQuery, PluginReport, PluginSettings, RunRequest, SetPlugin,
    TriggerPlugins, TriggerReport,
};

/// The largest archive in base64, with what is around it.
const MAX_ARCHIVE: usize = 24 << 20;

/// Lets only those requests pass that no plugin objects to.
pub(super) async fn authorize(
    State(platform): State<Platform>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<impl IntoApiResponse, Refusal> {
    let path = request.uri().path();
    let path = path.strip_prefix(API_PREFIX).unwrap_or(path).to_owned();
    platform.authorize(&caller.actor, request.method().as_str(), &path).await?;
    Ok(next.run(request).await)
}

/// The paths of plugins.
pub(super) fn routes() -> Routes<Parts> {
    let install = post(install).layer(DefaultBodyLimit::max(MAX_ARCHIVE));
    Routes::new()
        .at(PLUGIN_LIST, "/plugins", get(list))
        .at(PLUGIN_INSTALL, "/plugins", install)
        .at(PLUGIN_INFO, "/plugins/{id}", get(info))
        .at(PLUGIN_UNINSTALL, "/plugins/{id}", delete(uninstall))
        .at(PLUGIN_ENABLE, "/plugins/{id}/enable", post(enable))
        .at(PLUGIN_DISABLE, "/plugins/{id}/disable", post(disable))
        .at(PLUGIN_SETTINGS, "/plugins/{id}/settings", get(settings))
        .at(PLUGIN_SET, "/plugins/{id}/settings", patch(set))
        .at(PLUGIN_COMMAND, "/plugins/{id}/command", post(command))
        .at(PLUGIN_TRIGGER, "/plugin-triggers", post(trigger))
}

async fn list(State(platform): State<Platform>) -> Result<Json<Vec<PluginReport>>, Refusal> {
    Ok(Json(platform.plugin_list().await?))
}

async fn info(
    State(platform): State<Platform>,
    Id(name): Id<PluginName>,
) -> Result<Json<PluginReport>, Refusal> {
    Ok(Json(platform.plugin_info(&name).await?))
}

async fn install(
    State(platform): State<Platform>,
    caller: Caller,
    Body(request): Body<InstallPlugin>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.install_plugin(&caller.actor, request).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn enable(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<PluginName>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.enable_plugin(&caller.actor, &name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn disable(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<PluginName>,
) -> Result<Json<PluginReport>, Refusal> {
    Ok(Json(platform.disable_plugin(&caller.actor, &name).await?))
}

async fn uninstall(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<PluginName>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.uninstall_plugin(&caller.actor, &name).await?))
}

async fn settings(
    State(platform): State<Platform>,
    Id(name): Id<PluginName>,
    Query(query): Query<PluginQuery>,
) -> Result<Json<PluginSettings>, Refusal> {
    Ok(Json(platform.plugin_settings(&name, query.app.as_ref()).await?))
}

async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<PluginName>,
    Body(change): Body<SetPlugin>,
) -> Result<Json<PluginSettings>, Refusal> {
    Ok(Json(platform.set_plugin(&caller.actor, &name, change).await?))
}

async fn command(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    Id(name): Id<PluginName>,
    upgrade: Upgrade,
    Body(request): Body<RunRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    let session = platform.plugin_command(&caller.actor, &name, request).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

async fn trigger(
    State(platform): State<Platform>,
    Body(request): Body<TriggerPlugins>,
) -> Result<Json<Vec<TriggerReport>>, Refusal> {
    Ok(Json(platform.trigger_plugins(request).await?))
}
