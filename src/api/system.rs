//! `/version` and `/gc`.

use axum::Json;
use axum::extract::State;

use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::wire::{GarbageReport, VersionReport};

pub(super) async fn version() -> Json<VersionReport> {
    Json(VersionReport { version: env!("CARGO_PKG_VERSION").to_owned() })
}

pub(super) async fn collect_garbage(
    State(platform): State<Platform>,
    caller: Caller,
) -> Result<Json<GarbageReport>, Refusal> {
    Ok(Json(GarbageReport { freed_bytes: platform.collect_garbage(&caller.actor).await? }))
}
