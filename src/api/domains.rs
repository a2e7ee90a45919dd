//! `/apps/{app}/domains`, and `/domains` for the global ones.

use crate::web::routing::{delete, get, post, put};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body};
use crate::wire::{DomainList, DomainReport};

type Report = Result<Json<DomainReport>, Refusal>;

pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(DOMAINS_REPORT, "/domains", get(report))
        .at(DOMAINS_ADD, "/domains", post(add))
        .at(DOMAINS_REMOVE, "/domains", delete(remove))
        .at(DOMAINS_SET, "/domains", put(set))
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
