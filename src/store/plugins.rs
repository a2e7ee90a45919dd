//! Plugins: what the operator decided about them, their settings, and what they say of routes.

use std::collections::BTreeMap;

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Result, Store, failed, from_json, from_text, to_json};
use crate::domain::{AppId, PluginName, Timestamp};

/// What the operator decided about a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlugin {
    /// The name it goes by.
    pub name: PluginName,
    /// Whether it is run.
    pub enabled: bool,
    /// The folder that holds it; none for one that is part of Staithe.
    pub folder: Option<String>,
    /// Where it came from: `folder`, `archive` or a git URL.
    pub source: String,
    /// Whether it may reach the outside.
    pub network: bool,
    /// When it was installed or last updated.
    pub installed_at: Timestamp,
}

impl Store {
    /// All plugins that something was decided about, by name.
    pub fn plugins(&self) -> Result<Vec<StoredPlugin>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select body from plugins order by name")
            .map_err(failed("list plugins"))?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(failed("list plugins"))?;
        rows.map(|row| from_json("plugin", &row.map_err(failed("list plugins"))?)).collect()
    }

    /// Keeps what was decided about a plugin, in place of what was before.
    pub fn set_plugin(&self, plugin: &StoredPlugin) -> Result<()> {
        self.lock()
            .execute(
                "insert into plugins (name, body) values (?1, ?2) on conflict (name) do update set body = ?2",
                params![plugin.name.as_str(), to_json(plugin)],
            )
            .map_err(failed("write plugin"))?;
        Ok(())
    }

    /// Forgets a plugin with its settings and what it said of routes.
    pub fn remove_plugin(&self, name: &PluginName) -> Result<()> {
        let mut connection = self.lock();
        let operation = "remove plugin";
        let transaction = connection.transaction().map_err(failed(operation))?;
        for statement in [
            "delete from plugins where name = ?",
            "delete from plugin_settings where plugin = ?",
            "delete from plugin_routes where plugin = ?",
        ] {
            transaction.execute(statement, [name.as_str()]).map_err(failed(operation))?;
        }
        transaction.commit().map_err(failed(operation))
    }

    /// A plugin's settings for an app, or those for all.
    pub fn plugin_settings(
        &self,
        plugin: &PluginName,
        app: Option<AppId>,
    ) -> Result<BTreeMap<String, String>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select key, value from plugin_settings where plugin = ?1 and app is ?2",
            )
            .map_err(failed("read plugin settings"))?;
        let rows = statement
            .query_map(params![plugin.as_str(), app.map(|app| app.0)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .map_err(failed("read plugin settings"))?;
        rows.map(|row| row.map_err(failed("read plugin settings"))).collect()
    }

    /// Sets one of a plugin's settings for an app or for all; no value removes it.
    pub fn set_plugin_setting(
        &self,
        plugin: &PluginName,
        app: Option<AppId>,
        key: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let operation = "write plugin setting";
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed(operation))?;
        let app = app.map(|app| app.0);
        transaction
            .execute(
                "delete from plugin_settings where plugin = ?1 and app is ?2 and key = ?3",
                params![plugin.as_str(), app, key],
            )
            .map_err(failed(operation))?;
        if let Some(value) = value {
            transaction
                .execute(
                    "insert into plugin_settings (plugin, app, key, value) values (?, ?, ?, ?)",
                    params![plugin.as_str(), app, key, value],
                )
                .map_err(failed(operation))?;
        }
        transaction.commit().map_err(failed(operation))
    }

    /// What plugins say of each app's routes, in JSON, by plugin's name.
    pub fn plugin_routes(&self) -> Result<Vec<(PluginName, AppId, String)>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select plugin, app, body from plugin_routes order by plugin, app")
            .map_err(failed("list plugins' routes"))?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?, row.get(2)?)))
            .map_err(failed("list plugins' routes"))?;
        rows.map(|row| {
            let (plugin, app, body) = row.map_err(failed("list plugins' routes"))?;
            Ok((from_text("plugin name", plugin)?, AppId(app), body))
        })
        .collect()
    }

    /// Replaces what a plugin says of routes.
    pub fn set_plugin_routes(&self, plugin: &PluginName, routes: &[(AppId, String)]) -> Result<()> {
        let operation = "write a plugin's routes";
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed(operation))?;
        transaction
            .execute("delete from plugin_routes where plugin = ?", [plugin.as_str()])
            .map_err(failed(operation))?;
        for (app, body) in routes {
            transaction
                .execute(
                    // The app may have gone meanwhile.
                    "insert into plugin_routes (plugin, app, body)
                     select ?1, id, ?3 from apps where id = ?2",
                    params![plugin.as_str(), app.0, body],
                )
                .map_err(failed(operation))?;
        }
        transaction.commit().map_err(failed(operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewApp;

    #[test]
    fn settings_of_an_app_go_with_it_and_all_go_with_the_plugin() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        let name = "shop".parse().unwrap();
        let new = NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) };
        let app = store.create_app(&new).unwrap().id;
        let plugin: PluginName = "slack-webhook".parse().unwrap();
        for (app, value) in [(None, "all"), (Some(app), "one"), (Some(app), "two")] {
            store.set_plugin_setting(&plugin, app, "url", Some(value)).unwrap();
        }
        let read = |app| store.plugin_settings(&plugin, app).unwrap().remove("url");
        assert_eq!(read(Some(app)).as_deref(), Some("two"));
        assert_eq!(read(None).as_deref(), Some("all"));
        store.set_plugin_routes(&plugin, &[(app, "{}".into()), (AppId(99), "{}".into())]).unwrap();
        assert_eq!(store.plugin_routes().unwrap().len(), 1);
        store.remove_app(app).unwrap();
        assert_eq!(read(Some(app)), None);
        assert_eq!(store.plugin_routes().unwrap(), []);
        store.remove_plugin(&plugin).unwrap();
        assert_eq!(read(None), None);
    }
}
