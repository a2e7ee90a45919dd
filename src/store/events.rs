//! Events, the newest of them.

use rusqlite::params;

use super::{Result, Store, failed, from_json, from_text, to_json};
use crate::domain::{Actor, AppName, Event, Timestamp};

/// How many events are kept; older ones go, a hundred at a time.
const KEPT: i64 = 50_000;

impl Store {
    /// Records an event.
    pub fn add_event(
        &self,
        at: Timestamp,
        app: Option<&AppName>,
        kind: &str,
        message: &str,
        actor: &Actor,
    ) -> Result<()> {
        let connection = self.lock();
        connection
            .execute(
                "insert into events (at, app, kind, message, actor) values (?, ?, ?, ?, ?)",
                params![at.0, app.map(AppName::as_str), kind, message, to_json(actor)],
            )
            .map_err(failed("insert event"))?;
        let id = connection.last_insert_rowid();
        if id % 100 == 0 {
            connection
                .execute("delete from events where id <= ?", [id - KEPT])
                .map_err(failed("prune events"))?;
        }
        Ok(())
    }

    /// The last `limit` events, oldest first; of one app if given.
    pub fn events(&self, app: Option<&AppName>, limit: usize) -> Result<Vec<Event>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select * from (select id, at, app, kind, message, actor from events
                 where ?1 is null or app = ?1 order by id desc limit ?2) order by id",
            )
            .map_err(failed("list events"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![app.map(AppName::as_str), limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })
            .map_err(failed("list events"))?;
        rows.map(|row| event_from(row.map_err(failed("list events"))?)).collect()
    }
}

type Columns = (i64, i64, Option<String>, String, String, String);

fn event_from((id, at, app, kind, message, actor): Columns) -> Result<Event> {
    Ok(Event {
        id,
        at: Timestamp(at),
        app: app.map(|name| from_text("app name", name)).transpose()?,
        kind,
        message,
        actor: from_json("actor", &actor)?,
    })
}
