//! The visitor's own password, and the platform's settings.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Dashboard, Done, Form, Page};
use crate::domain::access::DOMAINS_SET_GLOBAL;
use crate::domain::{Hostname, Secret, UserName};
use crate::platform::{Error, Kind};
use crate::web::{Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller).await
}

async fn page(dashboard: &Dashboard, caller: &Caller) -> Result<Page, Refusal> {
    let domains = match caller.grants.allow(DOMAINS_SET_GLOBAL, None) {
        Ok(()) => Some(dashboard.global_domains().await?),
        Err(_) => None,
    };
    let context = json!({ "domains": domains, "address": dashboard.dashboard_url() });
    Ok(Page::new("settings", "Settings", "settings", context))
}

/// A new password.
#[derive(Deserialize)]
pub(super) struct PasswordFields {
    #[serde(default)]
    password: String,
    #[serde(default)]
    again: String,
}

pub(super) async fn set_password(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<PasswordFields>,
) -> Result<Response, Refusal> {
    let result = async {
        if fields.password != fields.again {
            return Err(Error::new(Kind::Invalid, "the two passwords differ"));
        }
        let own = caller.actor.name.parse::<UserName>()?;
        let password = Some(Secret::new(fields.password.clone()));
        dashboard.set_password(&caller.actor, &own, password).await
    };
    let text = "Your password was set. Your other sessions go on; end them under your name.";
    outcome(&dashboard, &caller, result.await.map(|()| text.to_owned())).await
}

/// The domains, one on each line.
#[derive(Debug, Deserialize)]
pub(super) struct DomainFields {
    #[serde(default)]
    domains: String,
}

pub(super) async fn set_domains(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(fields): Form<DomainFields>,
) -> Result<Response, Refusal> {
    let result = async {
        let words = fields.domains.split_whitespace().map(str::parse::<Hostname>);
        let domains = words.collect::<Result<Vec<_>, _>>()?;
        dashboard.set_global_domains(&caller.actor, domains).await
    };
    let text = "The global domains were set.";
    outcome(&dashboard, &caller, result.await.map(|()| text.to_owned())).await
}

pub(super) async fn collect_garbage(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let result = dashboard.collect_garbage(&caller.actor).await;
    let text = |bytes| format!("{} freed.", super::helpers::bytes(bytes));
    outcome(&dashboard, &caller, result.map(text)).await
}

async fn outcome(
    dashboard: &Dashboard,
    caller: &Caller,
    result: Result<String, Error>,
) -> Result<Response, Refusal> {
    match result {
        Ok(text) => Ok(Done::to("/settings").say(text).into_response()),
        Err(error) => Ok(page(dashboard, caller).await?.refused(&error, json!({})).into_response()),
    }
}
