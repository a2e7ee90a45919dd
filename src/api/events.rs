//! `/events`.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use super::stream;
use crate::domain::Event;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Query;
use crate::web::Refusal;
use crate::web::routing::Watched;
use crate::wire::EventQuery;

pub(super) async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Result<Watched<Vec<Event>>, Refusal> {
    let filter = query.filter(caller.grants.event_sight());
    if query.follow {
        let events = stream::values(platform.follow_events(filter, query.limit()).await?);
        return Ok(Watched::new(events.into_response()));
    }
    let events = platform.events(&filter, query.limit()).await?;
    Ok(Watched::new(Json(events).into_response()))
}
