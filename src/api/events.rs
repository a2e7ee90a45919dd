//! `/events`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::stream;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Query;
use crate::web::Refusal;
use crate::wire::EventQuery;

pub(super) async fn list(
    State(platform): State<Platform>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Result<Response, Refusal> {
    let filter = query.filter(caller.grants.event_sight());
    if query.follow {
        return Ok(
            stream::values(platform.follow_events(filter, query.limit()).await?).into_response()
        );
    }
    Ok(Json(platform.events(&filter, query.limit()).await?).into_response())
}
