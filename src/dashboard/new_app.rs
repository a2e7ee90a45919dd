//! A new app: what to push where. The page waits for the push and goes on to its deployment.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Dashboard, Done, Form, Page};
use crate::domain::AppName;
use crate::platform::Error;
use crate::web::{Caller, Query, Refusal};

/// Which app the instructions are for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    name: String,
    /// Not only shown: made, without a release.
    create: String,
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    Query(named): Query<Named>,
) -> Result<Page, Refusal> {
    match app_name(&named.name) {
        Ok(name) => Ok(page(&dashboard, name.as_ref())),
        Err(error) => Ok(page(&dashboard, None).refused(&error, json!({ "name": named.name }))),
    }
}

pub(super) async fn create(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(named): Form<Named>,
) -> Result<Response, Refusal> {
    let created = match named.name.trim().parse::<AppName>() {
        Ok(name) if named.create.is_empty() => {
            return Ok(Done::to(format!("/new?name={name}")).into_response());
        }
        Ok(name) => dashboard.create_app(&caller.actor, &name).await,
        Err(error) => Err(error.into()),
    };
    Ok(match created {
        Ok(app) => {
            let text = format!("App {} was made. Push to it, or set its config first.", app.name);
            Done::to(format!("/new?name={}", app.name)).say(text).into_response()
        }
        Err(error) => {
            page(&dashboard, None).refused(&error, json!({ "name": named.name })).into_response()
        }
    })
}

fn app_name(text: &str) -> Result<Option<AppName>, Error> {
    match text.trim() {
        "" => Ok(None),
        name => Ok(Some(name.parse::<AppName>()?)),
    }
}

fn page(dashboard: &Dashboard, name: Option<&AppName>) -> Page {
    let example: Option<AppName> = "my-app".parse().ok();
    let remote: Value = name.or(example.as_ref()).map(|app| dashboard.git_remote(app)).into();
    let context = json!({ "name": name, "remote": remote });
    Page::new("new-app", "New app", "apps", context).script("new-app.js")
}
