//! `/apps/{app}/logs`.

use axum::extract::State;
use axum::response::Response;

use super::error::Refusal;
use super::extract::{App, Query};
use super::stream;
use crate::platform::Platform;
use crate::wire::LogQuery;

pub(super) async fn logs(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    Ok(stream::log_lines(platform.logs(&app, query).await?))
}
