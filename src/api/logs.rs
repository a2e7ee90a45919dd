//! `/apps/{app}/logs` and `/apps/{app}/access-log`.

use crate::web::routing::IntoApiResponse;
use axum::extract::State;

use super::stream;
use crate::platform::Platform;
use crate::web::Refusal;
use crate::web::{App, Query};
use crate::wire::{AccessLogQuery, LogQuery};

pub(super) async fn logs(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<LogQuery>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::log_lines(platform.logs(&app, query).await?))
}

pub(super) async fn access_log(
    State(platform): State<Platform>,
    App(app): App,
    Query(query): Query<AccessLogQuery>,
) -> Result<impl IntoApiResponse, Refusal> {
    Ok(stream::texts(platform.access_log(&app, &query)?))
}
