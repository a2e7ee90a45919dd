//! What is set about apps' logs.

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_json, to_json};
use crate::domain::{AppId, LogSettings};

impl Store {
    /// What is set about the app's log.
    pub fn log_settings(&self, app: AppId) -> Result<LogSettings> {
        let body: Option<String> = self
            .lock()
            .query_row("select body from log_settings where app = ?", [app.0], |row| row.get(0))
            .optional()
            .map_err(failed("read log settings"))?;
        Ok(body.map(|body| from_json("log settings", &body)).transpose()?.unwrap_or_default())
    }

    /// Replaces it.
    pub fn set_log_settings(&self, app: AppId, settings: &LogSettings) -> Result<()> {
        self.lock()
            .execute(
                "insert into log_settings (app, body) values (?1, ?2) on conflict (app) do update set body = ?2",
                params![app.0, to_json(settings)],
            )
            .map_err(failed("write log settings"))?;
        Ok(())
    }
}
