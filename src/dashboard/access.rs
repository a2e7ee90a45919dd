//! Who may come in: users and their roles, SSH keys, tokens.

use std::fmt::Display;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Dashboard, Done, Form, Page};
use crate::domain::UserName;
use crate::domain::access::*;
use crate::platform::{Error, UserSwitch};
use crate::web::{Caller, Refusal};
use crate::wire::{AccessChanged, NewSshKey, NewToken};

const DAY_S: u64 = 24 * 3600;

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller).await
}

/// The page with what the caller may see of it.
async fn page(dashboard: &Dashboard, caller: &Caller) -> Result<Page, Refusal> {
    let may = |verb| caller.grants.allow(verb, None).is_ok();
    let own = caller.actor.name.parse::<UserName>().ok();
    let users = if may(USERS_LIST) { Some(dashboard.users().await?) } else { None };
    let keys = if may(SSH_KEYS_LIST) { Some(dashboard.ssh_keys().await?) } else { None };
    let all = may(TOKENS_OF_OTHERS);
    let tokens = match (&own, all) {
        (_, true) => dashboard.tokens(None).await?,
        (Some(own), false) => dashboard.tokens(Some(own)).await?,
        (None, false) => Vec::new(),
    };
    let users: Option<Value> = users.map(|users| {
        let row = |user: &crate::wire::UserReport| {
            let choices =
                Role::ALL.map(|role| json!({ "role": role, "is": user.role == Some(role) }));
            let apps = user.access.iter().filter(|grant| grant.app.is_some()).count();
            json!({ "user": user, "roles": choices, "apps": apps })
        };
        users.iter().map(row).collect()
    });
    let context = json!({
        "users": users, "keys": keys, "tokens": tokens, "all_tokens": all,
        "roles": Role::ALL, "may_edit": may(USERS_ADD),
    });
    Ok(Page::new("access", "Access", "access", context))
}

/// Back to the page: with a sentence, or with why not.
async fn outcome<E: Into<Error>>(
    dashboard: &Dashboard,
    caller: &Caller,
    result: Result<String, E>,
    fields: Value,
) -> Result<Response, Refusal> {
    match result {
        Ok(text) => Ok(Done::to("/access").say(text).into_response()),
        Err(error) => {
            Ok(page(dashboard, caller).await?.refused(&error.into(), fields).into_response())
        }
    }
}

fn with_warnings(text: impl Display, changed: &AccessChanged) -> String {
    let warnings: String =
        changed.warnings.iter().map(|text| format!(" {}", super::page::sentence(text))).collect();
    format!("{text}{warnings}")
}

/// A user with, maybe, a role.
#[derive(Debug, Deserialize)]
pub(super) struct UserFields {
    name: String,
    #[serde(default)]
    role: String,
}

impl UserFields {
    fn name(&self) -> Result<UserName, Error> {
        Ok(self.name.trim().parse::<UserName>()?)
    }

    fn role(&self) -> Result<Option<Role>, Error> {
        Ok(Some(self.role.trim()).filter(|role| !role.is_empty()).map(str::parse).transpose()?)
    }
}

pub(super) async fn add_user(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<UserFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let user = dashboard.add_user(&caller.actor, &fields.name()?, fields.role()?).await?;
        Ok::<_, Error>(format!("User {} was added.", user.name))
    };
    let result = result.await;
    outcome(&dashboard, &caller, result, json!({ "user": fields.name })).await
}

pub(super) async fn set_role(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<UserFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let name = fields.name()?;
        let changed = dashboard.set_user_role(&caller.actor, &name, fields.role()?).await?;
        Ok::<_, Error>(with_warnings(format!("The role of {name} was changed."), &changed))
    };
    let result = result.await;
    outcome(&dashboard, &caller, result, json!({})).await
}

pub(super) async fn remove_user(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<UserFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let name = fields.name()?;
        let changed = dashboard.remove_user(&caller.actor, &name).await?;
        Ok::<_, Error>(with_warnings(format!("User {name} was removed."), &changed))
    };
    let result = result.await;
    outcome(&dashboard, &caller, result, json!({})).await
}

pub(super) async fn disable(
    state: State<Dashboard>,
    caller: Caller,
    form: Form<UserFields>,
) -> Result<Response, Refusal> {
    switch(state, caller, form, UserSwitch::Disabled).await
}

pub(super) async fn enable(
    state: State<Dashboard>,
    caller: Caller,
    form: Form<UserFields>,
) -> Result<Response, Refusal> {
    switch(state, caller, form, UserSwitch::Enabled).await
}

async fn switch(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<UserFields>,
    to: UserSwitch,
) -> Result<Response, Refusal> {
    let word = if to == UserSwitch::Disabled { "kept out" } else { "let in again" };
    let result = async {
        let name = fields.name()?;
        let changed = dashboard.switch_user(&caller.actor, &name, to).await?;
        Ok::<_, Error>(with_warnings(format!("{name} is {word}."), &changed))
    };
    let result = result.await;
    outcome(&dashboard, &caller, result, json!({})).await
}

/// A key.
#[derive(Debug, Deserialize)]
pub(super) struct KeyFields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    public_key: String,
    #[serde(default)]
    user: String,
}

pub(super) async fn add_key(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<KeyFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let user = Some(fields.user.trim()).filter(|user| !user.is_empty());
        let new = NewSshKey {
            name: fields.name.trim().to_owned(),
            public_key: fields.public_key.trim().to_owned(),
            user: user.map(|user| user.parse::<UserName>()).transpose()?,
            role: None,
        };
        let key = dashboard.add_ssh_key(&caller.actor, new).await?;
        Ok::<_, Error>(format!("Key {} was added: {}.", key.name, key.fingerprint))
    };
    let result = result.await;
    let shown = json!({ "key": fields.name, "public_key": fields.public_key });
    outcome(&dashboard, &caller, result, shown).await
}

pub(super) async fn remove_key(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<KeyFields>,
) -> Result<Response, Refusal> {
    let result = dashboard.remove_ssh_key(&caller.actor, &fields.name).await;
    let result = result.map(|()| format!("Key {} was removed.", fields.name));
    outcome(&dashboard, &caller, result, json!({})).await
}

/// A token to make, or to revoke.
#[derive(Debug, Deserialize)]
pub(super) struct TokenFields {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    apps: String,
    #[serde(default)]
    verbs: String,
    #[serde(default)]
    days: String,
}

impl TokenFields {
    fn read(&self) -> Result<NewToken, Error> {
        let words = |text: &str| -> Vec<String> {
            let words = text.split([',', ' ', '\n']).map(str::trim);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let (apps, verbs) = (words(&self.apps), words(&self.verbs));
        let apps: Result<Vec<_>, _> = apps.iter().map(|app| app.parse()).collect();
        let days = match self.days.trim() {
            "" => None,
            days => Some(days.parse::<u64>().map_err(|_| {
                let message = format!("`{}` is no number of days", days.escape_debug());
                Error::new(crate::platform::Kind::Invalid, message)
            })?),
        };
        Ok(NewToken {
            name: self.name.trim().to_owned(),
            user: None,
            apps: Some(apps?).filter(|apps| !apps.is_empty()),
            verbs: Some(verbs).filter(|verbs| !verbs.is_empty()),
            expires_in_s: days.map(|days| days.saturating_mul(DAY_S)),
        })
    }
}

/// Makes a token and shows it, once.
pub(super) async fn create_token(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<TokenFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let own = caller.actor.name.parse::<UserName>()?;
        dashboard.create_token(&caller.actor, &caller.grants, &own, fields.read()?).await
    };
    let created = result.await;
    let mut shown = page(&dashboard, &caller).await?;
    Ok(match created {
        Ok(created) => {
            shown.context["created"] =
                json!({ "token": created.token.expose(), "name": created.report.name });
            shown.into_response()
        }
        Err(error) => {
            let fields = json!({
                "token": fields.name, "apps": fields.apps, "verbs": fields.verbs,
            });
            shown.refused(&error, fields).into_response()
        }
    })
}

pub(super) async fn revoke_token(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<TokenFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let own = caller.actor.name.parse::<UserName>()?;
        let others = caller.grants.allow(TOKENS_OF_OTHERS, None).is_ok();
        let owner = (!others).then_some(&own);
        dashboard.revoke_token(&caller.actor, &fields.id.parse()?, owner).await?;
        Ok::<_, Error>("The token was revoked.".to_owned())
    };
    let result = result.await;
    outcome(&dashboard, &caller, result, json!({})).await
}
