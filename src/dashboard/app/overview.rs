//! An app at a glance.

use axum::extract::State;
use serde_json::json;

use crate::dashboard::{Dashboard, Page};
use crate::web::{App, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    App(app): App,
) -> Result<Page, Refusal> {
    let report = dashboard.app(&app).await?;
    Ok(Page::of_app("app/overview", &app, "overview", json!({ "report": report })))
}
