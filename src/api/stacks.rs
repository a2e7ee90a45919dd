//! `/stacks`.

use crate::web::routing::IntoApiResponse;
use axum::Json;
use axum::extract::State;

use super::stream::{self, OnDrop};
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{Body, Id, Text};
use crate::wire::{NewStack, StackReport};

pub(super) async fn list(
    State(platform): State<Platform>,
) -> Result<Json<Vec<StackReport>>, Refusal> {
    Ok(Json(platform.stacks().await?))
}

pub(super) async fn info(
    State(platform): State<Platform>,
    Id(Text(name)): Id<Text>,
) -> Result<Json<StackReport>, Refusal> {
    Ok(Json(platform.stack(&name).await?))
}

pub(super) async fn build(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewStack>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.build_stack(&caller.actor, &new.name).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

pub(super) async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    Id(Text(name)): Id<Text>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.remove_stack(&caller.actor, &name).await?))
}
