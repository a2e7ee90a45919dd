//! The services that an app is linked to.

use axum::extract::State;
use serde_json::{Value, json};

use crate::dashboard::fields::can;
use crate::dashboard::{Dashboard, Page, services};
use crate::domain::AppName;
use crate::domain::access::{SERVICES_CREATE, SERVICES_LINK, SERVICES_LIST, SERVICES_UNLINK};
use crate::web::{App, Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

pub(in crate::dashboard) async fn page(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
) -> Result<Page, Refusal> {
    let links = dashboard.app_services(app).await?;
    let may_list = can(caller, SERVICES_LIST, None);
    let (types, all) = match may_list {
        true => services::all(dashboard, caller).await?,
        false => Default::default(),
    };
    let rows: Vec<Value> = links
        .iter()
        .map(|link| {
            let path = format!("{}/{}", link.kind, link.service);
            let service = all.iter().find(|row| row["path"] == path.as_str());
            json!({
                "path": path,
                "type": link.kind,
                "name": link.service,
                "variable": link.variable,
                "service": service,
            })
        })
        .collect();
    let linked = |row: &&Value| !rows.iter().any(|link| link["path"] == row["path"]);
    let free: Vec<_> = all.iter().filter(linked).cloned().collect();
    let context = json!({
        "links": rows,
        "free": free,
        "types": types,
        "may_list": may_list,
        "may_link": can(caller, SERVICES_LINK, None),
        "may_unlink": can(caller, SERVICES_UNLINK, None),
        "may_create": can(caller, SERVICES_CREATE, None),
    });
    Ok(Page::of_app("app/services", app, "services", context).style("forms.css"))
}
