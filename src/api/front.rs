//! `/proxy`, `/routes`, and below `/apps/{app}`: `/proxy`, `/ports`, `/maintenance`, `/pages`,
//! `/routes`.

use crate::web::routing::{delete, get, patch, post, put};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use crate::domain::PageOccasion;
use crate::domain::access::*;
use crate::platform::{Error, Kind, Platform};
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body, Id};
use crate::wire::{
    MaintenanceReport, NewRoute, PageContent, PageReport, PortList, PortRemoval, PortReport,
    ProxyChange, ProxyReport, ProxyUpgradeReport, RouteRemoval, RouteReport, Switch,
};

type Answer<T> = Result<Json<T>, Refusal>;

/// What is said of all apps.
pub(super) fn machine_routes() -> Routes<Parts> {
    Routes::new()
        .at(PROXY_REPORT_GLOBAL, "/proxy", get(global_proxy))
        .at(PROXY_SET_GLOBAL, "/proxy", patch(set_global_proxy))
        .at(PROXY_UPGRADE, "/proxy/upgrade", post(upgrade_proxy))
        .at(ROUTES_LIST, "/routes", get(all_routes))
}

/// What is said of one app.
pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(PROXY_REPORT, "/proxy", get(proxy))
        .at(PROXY_SET, "/proxy", patch(set_proxy))
        .at(PROXY_SWITCH, "/proxy/enabled", put(set_proxy_enabled))
        .at(PORTS_REPORT, "/ports", get(report_ports))
        .at(PORTS_ADD, "/ports", post(add_ports))
        .at(PORTS_SET, "/ports", put(set_ports))
        .at(PORTS_REMOVE, "/ports", delete(remove_ports))
        .at(MAINTENANCE_REPORT, "/maintenance", get(maintenance))
        .at(MAINTENANCE_SET, "/maintenance", put(set_maintenance))
        .at(PAGES_LIST, "/pages", get(pages))
        .at(PAGES_SET, "/pages/{id}", put(set_page))
        .at(PAGES_CLEAR, "/pages/{id}", delete(clear_page))
        .at(ROUTES_OF_APP, "/routes", get(routes))
        .at(ROUTES_ADD, "/routes", post(add_route))
        .at(ROUTES_REMOVE, "/routes", delete(remove_route))
}

async fn global_proxy(State(platform): State<Platform>) -> Answer<ProxyReport> {
    Ok(Json(platform.proxy_properties(None).await?))
}

async fn upgrade_proxy(
    State(platform): State<Platform>,
    caller: Caller,
) -> Answer<ProxyUpgradeReport> {
    Ok(Json(platform.upgrade_proxy(&caller.actor).await?))
}

async fn set_global_proxy(
    State(platform): State<Platform>,
    caller: Caller,
    Body(change): Body<ProxyChange>,
) -> Answer<ProxyReport> {
    let value = change.value.as_deref();
    Ok(Json(platform.set_proxy(&caller.actor, None, change.key, value).await?))
}

async fn proxy(State(platform): State<Platform>, App(app): App) -> Answer<ProxyReport> {
    Ok(Json(platform.proxy_properties(Some(&app)).await?))
}

async fn set_proxy(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<ProxyChange>,
) -> Answer<ProxyReport> {
    let value = change.value.as_deref();
    Ok(Json(platform.set_proxy(&caller.actor, Some(&app), change.key, value).await?))
}

async fn set_proxy_enabled(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(switch): Body<Switch>,
) -> Answer<ProxyReport> {
    Ok(Json(platform.set_proxy_enabled(&caller.actor, &app, switch).await?))
}

async fn report_ports(State(platform): State<Platform>, App(app): App) -> Answer<PortReport> {
    Ok(Json(platform.ports(&app).await?))
}

async fn add_ports(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(list): Body<PortList>,
) -> Answer<PortReport> {
    Ok(Json(platform.add_ports(&caller.actor, &app, list.mappings).await?))
}

async fn set_ports(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(list): Body<PortList>,
) -> Answer<PortReport> {
    Ok(Json(platform.set_ports(&caller.actor, &app, list.mappings).await?))
}

async fn remove_ports(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(removal): Body<PortRemoval>,
) -> Answer<PortReport> {
    Ok(Json(platform.remove_ports(&caller.actor, &app, removal.mappings).await?))
}

async fn maintenance(State(platform): State<Platform>, App(app): App) -> Answer<MaintenanceReport> {
    Ok(Json(platform.maintenance(&app).await?))
}

async fn set_maintenance(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(switch): Body<Switch>,
) -> Answer<MaintenanceReport> {
    Ok(Json(platform.set_maintenance(&caller.actor, &app, switch).await?))
}

async fn pages(State(platform): State<Platform>, App(app): App) -> Answer<PageReport> {
    Ok(Json(platform.pages(&app).await?))
}

async fn set_page(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Id(when): Id<PageOccasion>,
    Body(content): Body<PageContent>,
) -> Answer<PageReport> {
    Ok(Json(platform.set_page(&caller.actor, &app, when, &content.html).await?))
}

async fn clear_page(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Id(when): Id<PageOccasion>,
) -> Answer<PageReport> {
    Ok(Json(platform.clear_page(&caller.actor, &app, when).await?))
}

async fn all_routes(State(platform): State<Platform>) -> Answer<Vec<RouteReport>> {
    Ok(Json(platform.routes(None).await?))
}

async fn routes(State(platform): State<Platform>, App(app): App) -> Answer<Vec<RouteReport>> {
    Ok(Json(platform.routes(Some(&app)).await?))
}

async fn add_route(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(new): Body<NewRoute>,
) -> Answer<Vec<RouteReport>> {
    let owner = platform.app_of_domain(&new.route.address.domain)?;
    if let Some(owner) = owner.filter(|owner| *owner != app)
        && caller.may(ROUTES_ADD, Some(&owner)).is_err()
    {
        let message = format!("`{}` is a domain of another app", new.route.address.domain);
        return Err(Error::new(Kind::Denied, message)
            .hint("ask who operates that app to add the route")
            .into());
    }
    Ok(Json(platform.add_route(&caller.actor, &app, new.route, new.force).await?))
}

async fn remove_route(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(removal): Body<RouteRemoval>,
) -> Answer<Vec<RouteReport>> {
    Ok(Json(platform.remove_route(&caller.actor, &app, &removal.address).await?))
}
