//! `/apps/{app}/pushes`: for the git hook.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::platform::{Error, Kind, Platform};
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body, Id, Text};
use crate::wire::{PushOutcome, PushRequest};

pub(super) async fn push(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(push): Body<PushRequest>,
) -> Result<impl IntoApiResponse, Refusal> {
    if push.app != app {
        let message = format!("the path names app `{app}`, the push app `{}`", push.app);
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let operation = platform.push(&caller.actor, push).await?;
    Ok(stream::operation(operation, OnDrop::Cancel, caller.request_id))
}

pub(super) async fn outcome(
    State(platform): State<Platform>,
    App(_): App,
    Id(Text(id)): Id<Text>,
) -> Result<Json<PushOutcome>, Refusal> {
    Ok(Json(platform.push_outcome(&id).await?))
}
