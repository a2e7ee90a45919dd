//! What Ctrl-K finds: pages, apps and their pages, services.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Dashboard, layout};
use crate::domain::access::APPS_CREATE;
use crate::web::{Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let grants = &caller.grants;
    let allowed = layout::RAIL.iter().filter(|entry| grants.allow(entry.verb, None).is_ok());
    let mut found: Vec<Value> = allowed
        .map(|entry| json!({ "title": entry.title, "href": entry.path, "kind": "page" }))
        .collect();
    found.push(json!({ "title": "Your sessions", "href": "/sessions", "kind": "page" }));
    if grants.allow(APPS_CREATE, None).is_ok() {
        found.push(json!({ "title": "New app", "href": "/new", "kind": "action" }));
    }
    for app in dashboard.app_names().await?.iter().filter(|app| grants.sees(app)) {
        for tab in layout::TABS.iter().filter(|tab| grants.allow(tab.verb, Some(app)).is_ok()) {
            let title = match tab.path {
                "" => app.to_string(),
                _ => format!("{app} · {}", tab.title),
            };
            let href = format!("/apps/{app}{}", tab.path);
            found.push(json!({ "title": title, "href": href, "kind": "app" }));
        }
    }
    Ok(Json(Value::Array(found)))
}
