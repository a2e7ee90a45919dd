//! `/events`.

use axum::Json;
use axum::extract::State;

use super::error::Refusal;
use super::extract::Query;
use crate::domain::Event;
use crate::platform::Platform;
use crate::wire::EventQuery;

pub(super) async fn list(
    State(platform): State<Platform>,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<Event>>, Refusal> {
    Ok(Json(platform.events(query.app.as_ref(), query.limit()).await?))
}
