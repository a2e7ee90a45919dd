//! What plugins say of routes: asked for when something about them changes, kept in the store, and
//! part of every table from then on, also while the plugin cannot be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::Plugin;
use crate::domain::{AppId, RouteChange};
use crate::platform::{Error, Kind, Platform, Result};
use crate::plugin::Hook;
use crate::support::tasks;

impl Platform {
    /// Asks a plugin about routes again, if that is its business, and puts its answer in force.
    /// Where it gives none, what it said before holds.
    ///
    /// # Errors
    /// `Failed` where it gives none; if the store or the proxy fails.
    pub(super) async fn refresh_plugin_routes(&self, plugin: &Arc<Plugin>) -> Result<()> {
        // As it is now: it may have been changed by what this follows.
        let plugin = self.find_plugin(plugin.name())?;
        if !plugin.has(Hook::Routes) {
            self.store.set_plugin_routes(plugin.name(), &[])?;
            return self.publish_routes().await;
        }
        let _turn = self.0.plugins.routing.lock().await;
        let apps = self.store.apps()?;
        let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
        let answer = self.ask_one(&plugin, Hook::Routes, None, &json!({ "apps": names })).await;
        let answer = answer.map_err(|why| {
            let message = format!("plugin `{}` does not say what routes should be", plugin.name());
            Error::new(Kind::Failed, format!("{message}: {why}")).hint(
                "what it said before holds; `staithe plugin:set` or enabling it asks it again",
            )
        })?;
        // Without a setting that it needs it has nothing to say.
        let answer = answer.unwrap_or_default();
        let mut routes: Vec<(AppId, String)> = Vec::new();
        for (name, change) in answer.change.routes {
            if let Some(app) = apps.iter().find(|app| app.name == name) {
                let body = serde_json::to_string(&change)
                    .map_err(|error| Error::internal("cannot write a plugin's routes", error))?;
                routes.push((app.id, body));
            }
        }
        self.store.set_plugin_routes(plugin.name(), &routes)?;
        self.publish_routes().await
    }

    /// Asks plugins about routes again, in the background: the apps have changed. Those that want to
    /// be told of `change` are asked once they have been: before that they know nothing of it.
    pub(in crate::platform) fn refresh_routes_later(&self, change: Hook) {
        let untold = |plugin: &Arc<Plugin>| !plugin.has(change);
        for plugin in self.0.plugins.at(Hook::Routes).into_iter().filter(untold) {
            let platform = self.clone();
            tasks::spawn("plugin-routes", async move {
                if let Err(error) = platform.refresh_plugin_routes(&plugin).await {
                    let error = crate::support::report(&error);
                    tracing::error!(
                        plugin = plugin.name().as_str(),
                        error,
                        "cannot ask for routes"
                    );
                }
            });
        }
    }

    /// What plugins that are on say of each app's routes, in the order of their names.
    pub(in crate::platform) fn plugin_route_changes(
        &self,
    ) -> Result<BTreeMap<AppId, Vec<RouteChange>>> {
        let mut changes: BTreeMap<AppId, Vec<RouteChange>> = BTreeMap::new();
        for (plugin, app, body) in self.store.plugin_routes()? {
            let known = self.find_plugin(&plugin).is_ok_and(|plugin| plugin.has(Hook::Routes));
            if !known {
                continue;
            }
            let change = serde_json::from_str(&body)
                .map_err(|error| Error::internal("a plugin's routes are damaged", error))?;
            changes.entry(app).or_default().push(change);
        }
        Ok(changes)
    }

    /// After a plugin was told of a change of the apps.
    pub(super) async fn told_of_apps(&self, plugin: &Arc<Plugin>, hook: Hook) {
        let of_apps = matches!(
            hook,
            Hook::PostCreate | Hook::PostAppRename | Hook::PostAppCloneSetup | Hook::PostDelete
        );
        if !of_apps || !plugin.has(Hook::Routes) {
            return;
        }
        if let Err(error) = self.refresh_plugin_routes(plugin).await {
            let error = crate::support::report(&error);
            tracing::error!(plugin = plugin.name().as_str(), error, "cannot ask for routes");
        }
    }

    /// After a command of a plugin's, which may have changed what it says of routes.
    pub(super) async fn command_ended(&self, plugin: &Arc<Plugin>) -> Result<()> {
        match plugin.has(Hook::Routes) {
            true => self.refresh_plugin_routes(plugin).await,
            false => Ok(()),
        }
    }
}
