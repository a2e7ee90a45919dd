//! Who may do what with an app: roles held on it, and those held on the whole platform.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::dashboard::fields::{Fields, answer, can};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::{ACCESS_ADD, ACCESS_REMOVE, Role, USERS_LIST};
use crate::domain::{AppName, UserName};
use crate::platform::Error;
use crate::web::{App, Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

async fn page(dashboard: &Dashboard, caller: &Caller, app: &AppName) -> Result<Page, Refusal> {
    let access = dashboard.access(Some(app)).await?;
    let row = |entry: &crate::wire::AccessReport| -> Value {
        json!({ "user": entry.user, "role": entry.role, "platform": entry.app.is_none() })
    };
    let users = match can(caller, USERS_LIST, None) {
        true => dashboard.users().await?.into_iter().map(|user| user.name.to_string()).collect(),
        false => Vec::new(),
    };
    let context = json!({
        "access": access.iter().map(row).collect::<Vec<_>>(),
        "roles": Role::ALL,
        "users": users,
        "may_add": can(caller, ACCESS_ADD, Some(app)),
        "may_remove": can(caller, ACCESS_REMOVE, Some(app)),
    });
    Ok(Page::of_app("app/access", app, "access", context).style("forms.css"))
}

pub(super) async fn add(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let user: UserName = fields.need("user")?;
        let role: Role = fields.need("role")?;
        let changed = dashboard.add_access(&caller.actor, &app, &user, role).await?;
        Ok::<_, Error>(said(format!("{user} has the role {role} on {app}."), changed.warnings))
    };
    let outcome = outcome.await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/access"), page, &fields).await
}

pub(super) async fn remove(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let user: UserName = fields.need("user")?;
        let changed = dashboard.remove_access(&caller.actor, &app, &user).await?;
        let text = format!("{user} has no role of their own on {app} any more.");
        Ok::<_, Error>(said(text, changed.warnings))
    };
    let outcome = outcome.await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/access"), page, &fields).await
}

fn said(text: String, warnings: Vec<String>) -> String {
    std::iter::once(text).chain(warnings).collect::<Vec<_>>().join(" ")
}
