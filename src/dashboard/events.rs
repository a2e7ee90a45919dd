//! What happened: a page of events with filters, and a stream of new ones for pages that are open.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Dashboard, Page};
use crate::domain::{Event, EventFilter};
use crate::web::{Caller, Query, Refusal};

/// Events of one page.
const PER_PAGE: usize = 50;
/// Between two signs of life, so that proxies do not hang up.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long one stream lasts; the browser connects again, and whoever was signed out does not.
const LIFETIME: Duration = Duration::from_secs(300);

/// What the filter has; empty fields are those that were not filled in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    app: String,
    kind: String,
    actor: String,
    before: Option<i64>,
}

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Refusal> {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = EventFilter {
        app: given(&wanted.app).map(|app| app.parse()).transpose()?,
        kind: given(&wanted.kind),
        actor: given(&wanted.actor),
        before: wanted.before,
        sight: caller.grants.event_sight(),
        ..EventFilter::default()
    };
    let mut events = dashboard.events(&filter, PER_PAGE + 1).await?;
    let more = events.len() > PER_PAGE;
    if more {
        events.remove(0);
    }
    let older = events.first().filter(|_| more).map(|event| event.id);
    let rows: Vec<Value> = events.iter().rev().map(row).collect();
    let context = json!({
        "events": rows,
        "older": older,
        "newest": wanted.before.is_none(),
        "app": wanted.app, "kind": wanted.kind, "actor": wanted.actor,
    });
    Ok(Page::new("events", "Events", "events", context))
}

fn row(event: &Event) -> Value {
    let pretty = |value: &Option<Value>| {
        value.as_ref().and_then(|value| serde_json::to_string_pretty(value).ok())
    };
    let last = event.kind.rsplit('.').next().unwrap_or_default();
    let tone = match last {
        "failed" | "crashed" | "oom" | "locked" => "bad",
        "deployed" | "created" | "added" | "enabled" => "ok",
        "removed" | "destroyed" | "disabled" | "canceled" | "stopped" => "warn",
        _ => "idle",
    };
    json!({
        "event": event, "tone": tone,
        "before": pretty(&event.before), "after": pretty(&event.after),
    })
}

/// `/live`: the kind and app of each event that the visitor may see. Pages ask anew for what they
/// show, through the same guards as before.
pub(super) async fn live(
    State(dashboard): State<Dashboard>,
    caller: Caller,
) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let sight = caller.grants.event_sight();
    let receiver = dashboard.event_stream();
    let end = tokio::time::Instant::now() + LIFETIME;
    let stream = futures_util::stream::unfold(receiver, move |mut receiver| {
        let sight = sight.clone();
        async move {
            loop {
                let received = tokio::time::timeout_at(end, receiver.recv()).await.ok()?;
                let message = match received {
                    Ok(event) if sight.shows(&event) => {
                        let told = json!({ "id": event.id, "kind": event.kind, "app": event.app });
                        Message::default().event("event").data(told.to_string())
                    }
                    Ok(_) => continue,
                    // What was missed is in the pages that are asked for anew.
                    Err(RecvError::Lagged(_)) => Message::default().event("event").data("{}"),
                    Err(RecvError::Closed) => return None,
                };
                return Some((Ok(message), receiver));
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}
