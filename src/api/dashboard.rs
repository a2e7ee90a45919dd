//! Codes that let people into the dashboard.

use axum::Json;
use axum::extract::State;

use crate::domain::access::DASHBOARD_LOGIN_AS;
use crate::platform::Platform;
use crate::web::{Body, Caller, Refusal};
use crate::wire::{LoginCode, NewLoginCode};

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
