//! `/apps/{app}/domains`, and `/domains` for the global ones.

use axum::Json;
use axum::extract::State;
use axum::routing::{MethodRouter, get};

use super::caller::Caller;
use super::error::Refusal;
use super::extract::{App, Body};
use super::router::Parts;
use crate::platform::Platform;
use crate::wire::{DomainList, DomainReport};

type Report = Result<Json<DomainReport>, Refusal>;

pub(super) fn routes() -> MethodRouter<Parts> {
    get(report).post(add).delete(remove).put(set)
}

async fn report(State(platform): State<Platform>, App(app): App) -> Report {
    Ok(Json(platform.domains(&app).await?))
}

async fn add(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(list): Body<DomainList>,
) -> Report {
    Ok(Json(platform.add_domains(&caller.actor, &app, list.domains).await?))
}

async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(list): Body<DomainList>,
) -> Report {
    Ok(Json(platform.remove_domains(&caller.actor, &app, list.domains).await?))
}

async fn set(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(list): Body<DomainList>,
) -> Report {
    Ok(Json(platform.set_domains(&caller.actor, &app, list.domains).await?))
}

pub(super) async fn global(State(platform): State<Platform>) -> Result<Json<DomainList>, Refusal> {
    Ok(Json(DomainList { domains: platform.global_domains().await? }))
}

pub(super) async fn set_global(
    State(platform): State<Platform>,
    caller: Caller,
    Body(list): Body<DomainList>,
) -> Result<Json<DomainList>, Refusal> {
    platform.set_global_domains(&caller.actor, list.domains).await?;
    global(State(platform)).await
}
