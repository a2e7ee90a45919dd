//! Events: recorded, told to those who listen, listed.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc};

use super::{Platform, Result, clock};
use crate::domain::{Actor, AppId, AppName, Event, EventFilter, Timestamp};
use crate::plugin::Hook;
use crate::store::{EventsKept, NewEvent, Settings};
use crate::support::{report, tasks};

/// Events that a listener may be behind; it then learns how many it missed, and reads them from the
/// store.
const BEHIND: usize = 1024;
/// Events on their way to one reader.
const QUEUE: usize = 64;
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

impl Change {
    /// What differs between two settings of an app. Of config vars only the names: their values are
    /// secrets.
    pub(super) fn of_settings(old: &Settings, new: &Settings) -> Self {
        let (mut before, mut after) = (Map::new(), Map::new());
        let names = |own: &Settings, other: &Settings| -> Vec<String> {
            let own = own.config.iter();
            let differing = own.filter(|(key, value)| other.config.get(key) != Some(*value));
            differing.map(|(key, _)| key.to_string()).collect()
        };
        let sections = [
            ("config", json!(names(old, new)), json!(names(new, old))),
            ("formation", json!(old.formation), json!(new.formation)),
            ("resources", json!(old.resources), json!(new.resources)),
            ("checks", json!(old.checks), json!(new.checks)),
            ("mounts", json!(old.mounts), json!(new.mounts)),
        ];
        for (section, old, new) in sections {
            // A var that was there and has another value now stands on both sides.
            let told =
                if section == "config" { old != json!([]) || new != json!([]) } else { old != new };
            if told {
                before.insert(section.to_owned(), old);
                after.insert(section.to_owned(), new);
            }
        }
        Self { before: Some(before.into()), after: Some(after.into()) }
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

    /// The events that `filter` holds: the newest `limit` of those there are, or all after
    /// `filter.after`, and then each as it happens, until nobody reads any more.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn follow_events(
        &self,
        filter: EventFilter,
        limit: usize,
    ) -> Result<mpsc::Receiver<Event>> {
        // Before the list is read, so that nothing falls between the two.
        let stream = self.event_stream();
        let known = self.store.events(&filter, limit)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let follower = Follower { platform: self.clone(), filter, limit, stream, sender };
        // Detached on purpose: ends when the reader goes away.
        drop(tasks::spawn("events/follow", follower.run(known)));
        Ok(receiver)
    }

    /// Each event from now on, in order. Whoever listens shows what its filter holds, and reads
    /// what it lagged behind from the store by [`EventFilter::after`].
    pub fn event_stream(&self) -> broadcast::Receiver<Event> {
        self.0.events.0.subscribe()
    }
}

/// Passes events on to one reader.
struct Follower {
    platform: Platform,
    filter: EventFilter,
    limit: usize,
    stream: broadcast::Receiver<Event>,
    sender: mpsc::Sender<Event>,
}

impl Follower {
    async fn run(mut self, known: Vec<Event>) {
        let last = known.last().map(|event| event.id).or(self.filter.after);
        for event in known {
            if self.sender.send(event).await.is_err() {
                return;
            }
        }
        self.filter.after = last;
        loop {
            let received = tokio::select! {
                // Cancel-safe: an event that is not received stays in the channel.
                received = self.stream.recv() => received,
                // Cancel-safe: the reader stays gone.
                () = self.sender.closed() => return,
            };
            let passed = match received {
                Ok(event) => self.pass(event).await,
                Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up().await,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if passed.is_none() {
                return;
            }
        }
    }

    async fn pass(&mut self, event: Event) -> Option<()> {
        if self.filter.holds(&event) {
            self.filter.after = Some(event.id);
            self.sender.send(event).await.ok()?;
        }
        Some(())
    }

    /// What a slow reader missed is still in the store.
    async fn catch_up(&mut self) -> Option<()> {
        self.filter.after = self.filter.after.or(Some(0));
        loop {
            let missed = self.platform.store.events(&self.filter, self.limit);
            let missed = missed
                .inspect_err(|error| tracing::error!(error = report(error), "cannot read events"))
                .ok()?;
            if missed.is_empty() {
                return Some(());
            }
            for event in missed {
                self.pass(event).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_config_tells_names_and_no_values() {
        let with = |vars: &[(&str, &str)]| {
            let vars: std::collections::BTreeMap<_, _> = vars.iter().copied().collect();
            Settings { config: serde_json::from_value(json!(vars)).unwrap(), ..Settings::default() }
        };
        let old = with(&[("GONE", "hunter1"), ("SAME", "hunter2"), ("KEY", "hunter3")]);
        let new = with(&[("SAME", "hunter2"), ("KEY", "hunter4"), ("NEW", "hunter5")]);
        let change = Change::of_settings(&old, &new);
        assert_eq!(change.before, Some(json!({ "config": ["GONE", "KEY"] })));
        assert_eq!(change.after, Some(json!({ "config": ["KEY", "NEW"] })));
        assert!(!format!("{change:?}").contains("hunter"));
    }
}
