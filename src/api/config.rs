//! `/apps/{app}/config`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::domain::ConfigVars;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::ConfigChange;

pub(super) async fn show(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<ConfigVars>, Refusal> {
    Ok(Json(platform.config(&app).await?))
}

pub(super) async fn change(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<ConfigChange>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.change_config(&caller.actor, &app, change).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
