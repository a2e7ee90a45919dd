//! Events, the newest of them.

use rusqlite::{Row, params};
use serde_json::Value;

use super::{Result, Store, failed, from_json, from_text, to_json};
use crate::domain::{Actor, AppName, Event, EventFilter, Timestamp};

/// How many events are added between two looks for those that are too many or too old.
const PRUNE_EVERY: i64 = 100;

const COLUMNS: &str = "id, at, app, kind, message, actor, before, after";

/// An event that has no number yet.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// When.
    pub at: Timestamp,
    /// The app it concerns.
    pub app: Option<&'a AppName>,
    /// What kind.
    pub kind: &'a str,
    /// One sentence for people.
    pub message: &'a str,
    /// Who caused it.
    pub actor: &'a Actor,
    /// What was there before.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
}

/// How many events are kept, and from when on.
#[derive(Debug, Clone, Copy)]
pub struct EventsKept {
    /// The most of them.
    pub count: i64,
    /// The oldest.
    pub since: Timestamp,
}

impl Store {
    /// Records an event. Now and then those that `kept` does not hold go.
    pub fn add_event(&self, new: NewEvent<'_>, kept: EventsKept) -> Result<Event> {
        let connection = self.lock();
        let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        let (app, actor) = (new.app.map(AppName::as_str), to_json(new.actor));
        connection
            .prepare_cached(
                "insert into events (at, app, kind, message, actor, before, after)
                 values (?, ?, ?, ?, ?, ?, ?)",
            )
            .and_then(|mut insert| {
                let (before, after) = (json(&new.before), json(&new.after));
                insert.execute(params![new.at.0, app, new.kind, new.message, actor, before, after])
            })
            .map_err(failed("insert event"))?;
        let id = connection.last_insert_rowid();
        if id % PRUNE_EVERY == 0 {
            connection
                .execute(
                    "delete from events where id <= ? or at < ?",
                    params![id - kept.count, kept.since.0],
                )
                .map_err(failed("prune events"))?;
        }
        Ok(Event {
            id,
            at: new.at,
            app: new.app.cloned(),
            kind: new.kind.to_owned(),
            message: new.message.to_owned(),
            actor: new.actor.clone(),
            before: new.before,
            after: new.after,
        })
    }

    /// The newest `limit` events that `filter` holds, oldest first; with `filter.after` the first
    /// ones after it instead.
    pub fn events(&self, filter: &EventFilter, limit: usize) -> Result<Vec<Event>> {
        let order = if filter.after.is_some() { "asc" } else { "desc" };
        // Whoever may see an app sees no events of another that had its name before.
        let query = format!(
            "select * from (
                select {COLUMNS} from events where
                    (?1 is null or app = ?1)
                    and (?2 is null or substr(kind, 1, length(?2)) = ?2)
                    and (?3 is null or json_extract(actor, '$.name') = ?3)
                    and at >= ?4 and at < ?5 and id < ?6 and id > ?7
                    and case when app is null
                        then ?8 and (?9 or not (kind like 'user.%' or kind like 'token.%'
                            or kind like 'ssh-key.%' or kind like 'access.%'
                            or kind like 'session.%'))
                        else ?10 is null or exists (
                            select 1 from apps where apps.name = events.app
                            and events.at >= apps.created_at
                            and apps.name in (select value from json_each(?10)))
                        end
                order by id {order} limit ?11
            ) order by id"
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&query).map_err(failed("list events"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(
                params![
                    filter.app.as_ref().map(AppName::as_str),
                    filter.kind,
                    filter.actor,
                    filter.since.map_or(i64::MIN, |since| since.0),
                    filter.until.map_or(i64::MAX, |until| until.0),
                    filter.before.unwrap_or(i64::MAX),
                    filter.after.unwrap_or(i64::MIN),
                    filter.sight.platform,
                    filter.sight.access,
                    filter.sight.apps.as_ref().map(to_json),
                    limit,
                ],
                columns,
            )
            .map_err(failed("list events"))?;
        rows.map(|row| event_from(row.map_err(failed("list events"))?)).collect()
    }
}

type Columns = (i64, i64, Option<String>, String, String, String, Option<String>, Option<String>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    let (id, at, app, kind) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok((id, at, app, kind, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
}

fn event_from(columns: Columns) -> Result<Event> {
    let (id, at, app, kind, message, actor, before, after) = columns;
    let value = |text: Option<String>| text.map(|text| from_json("event", &text)).transpose();
    Ok(Event {
        id,
        at: Timestamp(at),
        app: app.map(|name| from_text("app name", name)).transpose()?,
        kind,
        message,
        actor: from_json("actor", &actor)?,
        before: value(before)?,
        after: value(after)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EventSight;
    use crate::store::NewApp;

    const ALL_KEPT: EventsKept = EventsKept { count: i64::MAX, since: Timestamp(0) };

    fn note(store: &Store, at: i64, app: Option<&str>, kind: &str, kept: EventsKept) -> Event {
        let app = app.map(|app| app.parse().unwrap());
        let new = NewEvent {
            at: Timestamp(at),
            app: app.as_ref(),
            kind,
            message: "m",
            actor: &Actor::new("alice", "ssh").at(Some("192.0.2.7".into())),
            before: None,
            after: Some(serde_json::json!({ "web": 2 })),
        };
        store.add_event(new, kept).unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        (directory, store)
    }

    fn ids(store: &Store, filter: EventFilter) -> Vec<i64> {
        store.events(&filter, 2).unwrap().iter().map(|event| event.id).collect()
    }

    fn all() -> EventFilter {
        EventFilter { sight: EventSight::everything(), ..EventFilter::default() }
    }

    /// The store chooses the same events as the filter itself does for those who listen.
    #[test]
    fn what_is_listed_is_what_the_filter_holds() {
        let (_directory, store) = store();
        for name in ["shop", "blog"] {
            let name = name.parse().unwrap();
            let new = NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) };
            store.create_app(&new).unwrap();
        }
        let apps = [Some("shop"), None, Some("blog")];
        let kinds = ["release.deployed", "token.created", "stack.built", "user.added"];
        let events: Vec<_> = (0..12)
            .map(|i| note(&store, 10 + i as i64, apps[i % 3], kinds[i % 4], ALL_KEPT))
            .collect();
        let shop =
            EventSight { apps: Some(vec!["shop".parse().unwrap()]), ..EventSight::default() };
        let viewer = EventSight { apps: None, platform: true, access: false };
        let filters = [
            all(),
            EventFilter::default(),
            EventFilter { sight: shop, ..all() },
            EventFilter { sight: viewer, ..all() },
            EventFilter { app: Some("blog".parse().unwrap()), ..all() },
            EventFilter { kind: Some("token".into()), ..all() },
            EventFilter { actor: Some("bob".into()), ..all() },
            EventFilter { actor: Some("alice".into()), ..all() },
            EventFilter { since: Some(Timestamp(13)), until: Some(Timestamp(17)), ..all() },
            EventFilter { before: Some(5), ..all() },
            EventFilter { after: Some(5), ..all() },
        ];
        for filter in filters {
            let held: Vec<_> = events.iter().filter(|event| filter.holds(event)).cloned().collect();
            assert_eq!(store.events(&filter, 100).unwrap(), held, "{filter:?}");
        }
        assert_eq!(ids(&store, all()), [11, 12]);
        assert_eq!(ids(&store, EventFilter { before: Some(11), ..all() }), [9, 10]);
        assert_eq!(ids(&store, EventFilter { after: Some(3), ..all() }), [4, 5]);
    }

    #[test]
    fn an_app_has_no_past_of_another_that_had_its_name() {
        let (_directory, store) = store();
        let name: AppName = "shop".parse().unwrap();
        note(&store, 5, Some("shop"), "app.destroyed", ALL_KEPT);
        let new = NewApp { name: &name, stack: "debian-13", created_at: Timestamp(6) };
        store.create_app(&new).unwrap();
        note(&store, 6, Some("shop"), "app.created", ALL_KEPT);
        let sight = EventSight { apps: Some(vec![name]), ..EventSight::default() };
        assert_eq!(ids(&store, EventFilter { sight, ..all() }), [2]);
        assert_eq!(ids(&store, all()), [1, 2]);
    }

    #[test]
    fn what_is_too_many_or_too_old_goes() {
        let (_directory, store) = store();
        for at in 1..=99 {
            note(&store, at, None, "a.b", ALL_KEPT);
        }
        note(&store, 100, None, "a.b", EventsKept { count: 40, since: Timestamp(90) });
        assert_eq!(store.events(&all(), 1000).unwrap().len(), 11);
        for at in 101..=199 {
            note(&store, at, None, "a.b", ALL_KEPT);
        }
        note(&store, 200, None, "a.b", EventsKept { count: 40, since: Timestamp(0) });
        assert_eq!(store.events(&all(), 1000).unwrap().len(), 40);
    }
}
