//! `/users`, `/me`, `/access`, `/tokens`, and `/apps/{app}/access`.

use axum::Json;
use axum::extract::State;

use super::router::Parts;
use crate::domain::access::*;
use crate::domain::{TokenId, UserName};
use crate::platform::{Error, Kind, Platform, UserSwitch};
use crate::web::routing::{delete, get, post, put};
use crate::web::{App, Body, Caller, Id, Query, Refusal, Routes};
use crate::wire::{
    AccessChanged, AccessReport, CreatedToken, Me, NewAccess, NewPassword, NewToken, NewUser,
    RoleChange, TokenQuery, TokenReport, UserRename, UserReport,
};

type Answer<T> = Result<Json<T>, Refusal>;

/// What concerns the machine as a whole.
pub(super) fn machine_routes() -> Routes<Parts> {
    Routes::new()
        .at(USERS_LIST, "/users", get(users))
        .at(USERS_ADD, "/users", post(add_user))
        .at(USERS_INFO, "/users/{id}", get(user))
        .at(USERS_REMOVE, "/users/{id}", delete(remove_user))
        .at(USERS_SET_ROLE, "/users/{id}/role", put(set_role))
        .at(USERS_RENAME, "/users/{id}/rename", post(rename_user))
        .at(USERS_DISABLE, "/users/{id}/disable", post(disable))
        .at(USERS_ENABLE, "/users/{id}/enable", post(enable))
        .at(USERS_SET_PASSWORD, "/users/{id}/password", put(set_password))
        .at(USERS_ME, "/me", get(me))
        .at(USERS_SET_OWN_PASSWORD, "/me/password", put(set_own_password))
        .at(ACCESS_LIST_GLOBAL, "/access", get(all_access))
        .at(ACCESS_ADD_GLOBAL, "/access", post(add_role))
        .at(ACCESS_REMOVE_GLOBAL, "/access/{id}", delete(remove_role))
        .at(TOKENS_LIST, "/tokens", get(tokens))
        .at(TOKENS_CREATE, "/tokens", post(create_token))
        .at(TOKENS_REVOKE, "/tokens/{id}", delete(revoke_token))
}

/// What concerns one app, below `/apps/{app}`.
pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(ACCESS_LIST, "/access", get(access))
        .at(ACCESS_ADD, "/access", post(add_access))
        .at(ACCESS_REMOVE, "/access/{id}", delete(remove_access))
}

async fn users(State(platform): State<Platform>) -> Answer<Vec<UserReport>> {
    Ok(Json(platform.users().await?))
}

async fn add_user(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Answer<UserReport> {
    Ok(Json(platform.add_user(&caller.actor, &new.name, new.role).await?))
}

async fn user(State(platform): State<Platform>, Id(name): Id<UserName>) -> Answer<UserReport> {
    Ok(Json(platform.user(&name).await?))
}

async fn remove_user(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.remove_user(&caller.actor, &name).await?))
}

async fn set_role(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
    Body(change): Body<RoleChange>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.set_user_role(&caller.actor, &name, change.role).await?))
}

async fn rename_user(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
    Body(rename): Body<UserRename>,
) -> Answer<UserReport> {
    Ok(Json(platform.rename_user(&caller.actor, &name, &rename.name).await?))
}

async fn disable(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.switch_user(&caller.actor, &name, UserSwitch::Disabled).await?))
}

async fn enable(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.switch_user(&caller.actor, &name, UserSwitch::Enabled).await?))
}

async fn set_password(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
    Body(new): Body<NewPassword>,
) -> Answer<()> {
    Ok(Json(platform.set_password(&caller.actor, &name, new.password).await?))
}

async fn me(State(platform): State<Platform>, caller: Caller) -> Answer<Me> {
    Ok(Json(platform.me(&caller.actor, &caller.grants)))
}

async fn set_own_password(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewPassword>,
) -> Answer<()> {
    let name = own_name(&caller)?;
    Ok(Json(platform.set_password(&caller.actor, &name, new.password).await?))
}

async fn all_access(State(platform): State<Platform>) -> Answer<Vec<AccessReport>> {
    Ok(Json(platform.access(None).await?))
}

async fn add_role(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewAccess>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.set_user_role(&caller.actor, &new.user, Some(new.role)).await?))
}

async fn remove_role(
    State(platform): State<Platform>,
    caller: Caller,
    Id(name): Id<UserName>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.set_user_role(&caller.actor, &name, None).await?))
}

async fn access(State(platform): State<Platform>, App(app): App) -> Answer<Vec<AccessReport>> {
    Ok(Json(platform.access(Some(&app)).await?))
}

async fn add_access(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(new): Body<NewAccess>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.add_access(&caller.actor, &app, &new.user, new.role).await?))
}

async fn remove_access(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Id(name): Id<UserName>,
) -> Answer<AccessChanged> {
    Ok(Json(platform.remove_access(&caller.actor, &app, &name).await?))
}

async fn tokens(
    State(platform): State<Platform>,
    caller: Caller,
    Query(query): Query<TokenQuery>,
) -> Answer<Vec<TokenReport>> {
    if query.all {
        caller.may(TOKENS_OF_OTHERS, None)?;
        return Ok(Json(platform.tokens(None).await?));
    }
    let user = owner(&caller, query.user)?;
    Ok(Json(platform.tokens(Some(&user)).await?))
}

async fn create_token(
    State(platform): State<Platform>,
    caller: Caller,
    Body(mut new): Body<NewToken>,
) -> Answer<CreatedToken> {
    let user = owner(&caller, new.user.take())?;
    Ok(Json(platform.create_token(&caller.actor, &caller.grants, &user, new).await?))
}

async fn revoke_token(
    State(platform): State<Platform>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Answer<()> {
    let owner = match caller.may(TOKENS_OF_OTHERS, None) {
        Ok(()) => None,
        Err(_) => Some(own_name(&caller)?),
    };
    Ok(Json(platform.revoke_token(&caller.actor, &id, owner.as_ref()).await?))
}

/// Whose tokens are meant: the caller's own, unless another user is named by who may manage theirs.
fn owner(caller: &Caller, named: Option<UserName>) -> Result<UserName, Error> {
    match named {
        Some(user) if user.as_str() == caller.actor.name => Ok(user),
        Some(user) => caller.may(TOKENS_OF_OTHERS, None).map(|()| user),
        None => own_name(caller),
    }
}

fn own_name(caller: &Caller) -> Result<UserName, Error> {
    caller.actor.name.parse().map_err(|_| {
        let message = format!("`{}` is no user of Staithe's", caller.actor.name);
        Error::new(Kind::Invalid, message).hint("name the user who is meant: `--user <name>`")
    })
}
