//! `/events`.

use axum::Json;
use axum::extract::State;

use crate::domain::Event;
use crate::platform::Platform;
use crate::web::Query;
use crate::web::Refusal;
use crate::wire::EventQuery;

pub(super) async fn list(
    State(platform): State<Platform>,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<Event>>, Refusal> {
    Ok(Json(platform.events(query.app.as_ref(), query.limit()).await?))
}
