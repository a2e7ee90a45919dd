//! `/events`.

use axum::Json;
use axum::extract::State;

use crate::domain::Event;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Query;
use crate::web::Refusal;
use crate::wire::EventQuery;

pub(super) async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<Event>>, Refusal> {
    let filter = query.filter(caller.grants.event_sight());
    Ok(Json(platform.events(&filter, query.limit()).await?))
}
