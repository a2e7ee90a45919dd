//! Stacks and the platform's own settings.

use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Result, Store, failed, from_json, to_json};
use crate::domain::{Hostname, Timestamp};

/// A stack's two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredStack {
    /// `debian-13`.
    pub name: String,
    /// The run image's manifest digest.
    pub run_image: String,
    /// The build image's manifest digest.
    pub build_image: String,
    /// Size of the run image, bytes.
    pub run_bytes: u64,
    /// Size of the build image, bytes.
    pub build_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

const GLOBAL_DOMAINS: &str = "global-domains";

impl Store {
    /// Keeps a stack, in place of one of the same name.
    pub fn set_stack(&self, stack: &StoredStack) -> Result<()> {
        self.lock()
            .execute(
                "insert into stacks (name, body) values (?1, ?2) on conflict (name) do update set body = ?2",
                params![stack.name, to_json(stack)],
            )
            .map_err(failed("write stack"))?;
        Ok(())
    }

    /// All stacks by name.
    pub fn stacks(&self) -> Result<Vec<StoredStack>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select body from stacks order by name")
            .map_err(failed("list stacks"))?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(failed("list stacks"))?;
        rows.map(|row| from_json("stack", &row.map_err(failed("list stacks"))?)).collect()
    }

    /// The stack of that name.
    pub fn stack(&self, name: &str) -> Result<Option<StoredStack>> {
        Ok(self.stacks()?.into_iter().find(|stack| stack.name == name))
    }

    /// Forgets a stack; says whether there was one.
    pub fn remove_stack(&self, name: &str) -> Result<bool> {
        self.lock()
            .execute("delete from stacks where name = ?", [name])
            .map(|count| count > 0)
            .map_err(failed("remove stack"))
    }

    /// The domains under which every app answers; none if never set.
    pub fn global_domains(&self) -> Result<Option<Vec<Hostname>>> {
        self.setting(GLOBAL_DOMAINS, "global domains")
    }

    /// Replaces the global domains.
    pub fn set_global_domains(&self, domains: &[Hostname]) -> Result<()> {
        self.set_setting(GLOBAL_DOMAINS, domains, "write global domains")
    }

    /// One of the platform's own settings.
    pub(super) fn setting<T: DeserializeOwned>(
        &self,
        key: &str,
        what: &'static str,
    ) -> Result<Option<T>> {
        let text: Option<String> = self
            .lock()
            .query_row("select value from settings where key = ?", [key], |row| row.get(0))
            .optional()
            .map_err(failed("read a setting"))?;
        text.map(|text| from_json(what, &text)).transpose()
    }

    pub(super) fn set_setting<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        operation: &'static str,
    ) -> Result<()> {
        self.lock()
            .execute(
                "insert into settings (key, value) values (?1, ?2) on conflict (key) do update set value = ?2",
                params![key, to_json(&value)],
            )
            .map_err(failed(operation))?;
        Ok(())
    }
}
