//! `/dashboard`: where it answers, and codes that let people in.

use axum::Json;
use axum::extract::State;

use crate::domain::access::DASHBOARD_LOGIN_AS;
use crate::platform::Platform;
use crate::web::{Body, Caller, Refusal};
use crate::wire::{DashboardDomain, DashboardReport, LoginCode, NewLoginCode};

pub(super) async fn make_code(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewLoginCode>,
) -> Result<Json<LoginCode>, Refusal> {
    if new.user.as_ref().is_some_and(|user| *user != caller.actor.name) {
        caller.may(DASHBOARD_LOGIN_AS, None)?;
    }
    Ok(Json(platform.make_login_code(&caller.actor, new.user.as_deref()).await?))
}

pub(super) async fn report(
    State(platform): State<Platform>,
) -> Result<Json<DashboardReport>, Refusal> {
    Ok(Json(platform.dashboard_report().await?))
}

pub(super) async fn set_domain(
    State(platform): State<Platform>,
    caller: Caller,
    Body(change): Body<DashboardDomain>,
) -> Result<Json<DashboardReport>, Refusal> {
    Ok(Json(platform.set_dashboard_domain(&caller.actor, change.domain).await?))
}
