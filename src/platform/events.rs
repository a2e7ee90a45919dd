//! Events: recorded, told to those who listen, listed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::{Platform, Result, clock};
use crate::domain::{Actor, AppId, AppName, Event, EventFilter, Timestamp};
use crate::plugin::Hook;
use crate::store::{EventsKept, NewEvent};
use crate::support::report;

/// Events that a listener may be behind; it then learns how many it missed, and reads them from the
/// store.
const BEHIND: usize = 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tells listeners of each event once it is recorded.
#[derive(Debug)]
pub(super) struct Bell(broadcast::Sender<Event>);

impl Default for Bell {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
}

/// What a change was from and to; secrets only by their names.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What was there.
    pub(super) before: Option<Value>,
    /// What is there now.
    pub(super) after: Option<Value>,
}

impl Change {
    /// From `before` to `after`, either of which may be nothing.
    pub(super) fn new(before: impl serde::Serialize, after: impl serde::Serialize) -> Self {
        let value = |value: serde_json::Result<Value>| value.ok().filter(|value| !value.is_null());
        Self {
            before: value(serde_json::to_value(before)),
            after: value(serde_json::to_value(after)),
        }
    }
}

impl Platform {
    /// Records an event; a failure to do so goes to the log, since what happened happened.
    pub(super) fn note(&self, app: AppId, kind: &str, message: &str, actor: &Actor) {
        self.note_change(app, kind, message, actor, Change::default());
    }

    /// Records an event of an app that changed something.
    pub(super) fn note_change(
        &self,
        app: AppId,
        kind: &str,
        message: &str,
        actor: &Actor,
        change: Change,
    ) {
        let name = self.store.app_by_id(app).ok().flatten().map(|app| app.name);
        self.note_named_change(name.as_ref(), kind, message, actor, change);
    }

    pub(super) fn note_named(
        &self,
        app: Option<&AppName>,
        kind: &str,
        message: &str,
        actor: &Actor,
    ) {
        self.note_named_change(app, kind, message, actor, Change::default());
    }

    pub(super) fn note_named_change(
        &self,
        app: Option<&AppName>,
        kind: &str,
        message: &str,
        actor: &Actor,
        change: Change,
    ) {
        tracing::info!(app.name = app.map(AppName::as_str), kind, actor = actor.name, "{message}");
        let (at, Change { before, after }) = (clock::now(), change);
        let new = NewEvent { at, app, kind, message, actor, before, after };
        match self.store.add_event(new, self.events_kept(at)) {
            // Nobody listens: nobody to tell.
            Ok(event) => drop(self.0.events.0.send(event)),
            Err(error) => {
                tracing::error!(error = report(&error), kind, "cannot record an event");
            }
        }
        if let Some(app) = app {
            self.log_event(app, kind, &format!("{message}, by {}", actor.name));
        }
        let data = json!({ "actor": actor.name, "kind": kind, "message": message });
        self.notify(Hook::Event, app, data);
    }

    fn events_kept(&self, now: Timestamp) -> EventsKept {
        let settings = self.settings();
        let kept = i64::try_from((DAY * settings.kept_event_days).as_millis()).unwrap_or(i64::MAX);
        EventsKept {
            count: i64::from(settings.kept_events),
            since: Timestamp(now.0.saturating_sub(kept)),
        }
    }

    /// The newest events that `filter` holds, oldest first; with `filter.after` the first after it.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn events(&self, filter: &EventFilter, limit: usize) -> Result<Vec<Event>> {
        Ok(self.store.events(filter, limit)?)
    }

    /// Each event from now on, in order. Whoever listens shows what its filter holds, and reads
    /// what it lagged behind from the store by [`EventFilter::after`].
    pub fn event_stream(&self) -> broadcast::Receiver<Event> {
        self.0.events.0.subscribe()
    }
}
