//! Plugins: which there are, when they are run, and what becomes of their answers.
//!
//! ```text
//!  notify ─► one queue for each plugin ─► cage ─► log, report          never waited for
//!  ask ────► in order ──────────────────► cage ─► veto or change       waited for, with a deadline
//!  routes ─► after a change of the plugin ► cage ─► store ─► route table
//!  command ─────────────────────────────► cage ─► the caller's terminal
//! ```
//!
//! **Invariant.** A plugin's program runs in a container of its own, as a user that is nothing
//! elsewhere, and is gone when its call has ended. Nothing waits for one longer than its deadline.

mod asking;
mod cage;
mod commands;
mod notices;
mod routing;
mod verbs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, Kind, Platform, Result, clock};
use crate::domain::{App, PluginName, Timestamp};
use crate::plugin::{Folder, Hook, Manifest, Request, Scope};
use crate::store::StoredPlugin;
use crate::support::report;

pub(super) use commands::Running;

/// A plugin with what the operator decided about it.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    folder: Folder,
    /// Whether it is part of Staithe.
    pub(super) bundled: bool,
    /// What was decided.
    pub(super) stored: StoredPlugin,
}

impl Plugin {
    /// What it says of itself.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.folder.manifest
    }

    /// Its name.
    pub(super) fn name(&self) -> &PluginName {
        &self.folder.manifest.name
    }

    /// Its folder on the host, which never changes.
    pub(super) fn path(&self) -> &PathBuf {
        &self.folder.path
    }

    fn has(&self, hook: Hook) -> bool {
        self.stored.enabled && self.manifest().hooks.contains_key(&hook)
    }
}

/// How a plugin has done since the start of the control plane.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) runs: u64,
    pub(super) failures: u64,
    pub(super) dropped: u64,
    pub(super) last_run: Option<Timestamp>,
    pub(super) last_failure: Option<(Timestamp, String)>,
}

/// Everything about plugins that is not in the store.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    known: Mutex<Arc<Known>>,
    records: Mutex<BTreeMap<PluginName, Record>>,
    cages: cage::Cages,
    notices: notices::Notices,
    /// Serializes installing and switching: each reads what it then writes.
    changing: tokio::sync::Mutex<()>,
    /// Serializes questions about routes, so that the last answer is the one that stays.
    routing: tokio::sync::Mutex<()>,
}

/// The plugins as last loaded.
#[derive(Debug, Default)]
struct Known {
    plugins: BTreeMap<PluginName, Arc<Plugin>>,
    /// Installed ones that cannot be used, and why.
    damaged: Vec<(StoredPlugin, String)>,
}

impl Plugins {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The plugins that are to be run at `hook`, in order.
    fn at(&self, hook: Hook) -> Vec<Arc<Plugin>> {
        let known = self.known();
        let mut found: Vec<_> =
            known.plugins.values().filter(|plugin| plugin.has(hook)).cloned().collect();
        found.sort_by_key(|plugin| plugin.manifest().hooks[&hook].order);
        found
    }

    fn record(&self, name: &PluginName, change: impl FnOnce(&mut Record)) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        change(records.entry(name.clone()).or_default());
    }

    fn record_of(&self, name: &PluginName) -> Record {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(name).cloned().unwrap_or_default()
    }

    fn ran(&self, name: &PluginName, failure: Option<&str>) {
        self.record(name, |record| {
            record.runs += 1;
            record.last_run = Some(clock::now());
            if let Some(why) = failure {
                record.failures += 1;
                record.last_failure = Some((clock::now(), why.to_owned()));
            }
        });
    }
}

impl Platform {
    /// Reads which plugins there are: those of the bundle, and what the store says is installed.
    ///
    /// # Errors
    /// If the store or the bundle cannot be read. A damaged plugin is told about and left out.
    pub(super) fn load_plugins(&self) -> Result<()> {
        let mut known = Known::default();
        let stored = self.store.plugins()?;
        for folder in self.plugins.bundled()? {
            let name = folder.manifest.name.clone();
            let decided = stored.iter().find(|stored| stored.name == name).cloned();
            let stored = decided.unwrap_or_else(|| as_bundled(&folder.manifest));
            known.plugins.insert(name, Arc::new(Plugin { folder, bundled: true, stored }));
        }
        for stored in stored {
            let Some(folder) = &stored.folder else { continue };
            match self.plugins.installed(folder, &stored.name) {
                Ok(folder) => {
                    let plugin = Plugin { folder, bundled: false, stored };
                    known.plugins.insert(plugin.name().clone(), Arc::new(plugin));
                }
                Err(error) => {
                    let why = report(&error);
                    tracing::error!(
                        plugin = stored.name.as_str(),
                        error = why,
                        "cannot use a plugin"
                    );
                    known.damaged.push((stored, why));
                }
            }
        }
        *self.0.plugins.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
    }

    /// Removes what updates and removals left: nothing runs out of it any more. Call once.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn sweep_plugins(&self) -> Result<()> {
        let stored = self.store.plugins()?.into_iter();
        let known: Vec<String> = stored.filter_map(|plugin| plugin.folder).collect();
        if let Err(error) = self.plugins.sweep(&known) {
            // It only takes room.
            tracing::warn!(error = report(&error), "cannot remove old plugins' folders");
        }
        Ok(())
    }

    /// The plugin of that name, whether it is on or off.
    pub(super) fn find_plugin(&self, name: &PluginName) -> Result<Arc<Plugin>> {
        let known = self.0.plugins.known();
        if let Some(plugin) = known.plugins.get(name) {
            return Ok(Arc::clone(plugin));
        }
        if let Some((_, why)) = known.damaged.iter().find(|(stored, _)| stored.name == *name) {
            let message = format!("plugin `{name}` is damaged: {why}");
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("install it again: `staithe plugin:update {name} <source>`")));
        }
        Err(Error::new(Kind::NotFound, format!("plugin `{name}` does not exist"))
            .hint("run `staithe plugin:list` to see the plugins"))
    }

    /// A plugin that is on.
    pub(super) fn enabled_plugin(&self, name: &PluginName) -> Result<Arc<Plugin>> {
        let plugin = self.find_plugin(name)?;
        match plugin.stored.enabled {
            true => Ok(plugin),
            false => Err(Error::new(Kind::Conflict, format!("plugin `{name}` is off"))
                .hint(format!("run `staithe plugin:enable {name}`"))),
        }
    }

    /// What is in force for `app` of a plugin's settings: the app's own, those for all, defaults.
    fn settings_in_force(
        &self,
        plugin: &Plugin,
        app: Option<&App>,
    ) -> Result<BTreeMap<String, String>> {
        let global = self.store.plugin_settings(plugin.name(), None)?;
        let own = match app {
            Some(app) => self.store.plugin_settings(plugin.name(), Some(app.id))?,
            None => BTreeMap::new(),
        };
        let mut settings = BTreeMap::new();
        for setting in &plugin.manifest().settings {
            let (own, global) = (own.get(&setting.key), global.get(&setting.key));
            let set = match setting.scope {
                Scope::App => own,
                Scope::Global => global,
                Scope::Both => own.or(global),
                Scope::Service => None,
            };
            if let Some(value) = set.or(setting.default.as_ref()) {
                settings.insert(setting.key.clone(), value.clone());
            }
        }
        Ok(settings)
    }

    /// A call of `hook` about `app`.
    fn plugin_request(
        &self,
        plugin: &Plugin,
        hook: Hook,
        app: Option<&crate::domain::AppName>,
        data: &serde_json::Value,
    ) -> Result<Request> {
        let found = app.map(|name| self.store.app(name)).transpose()?.flatten();
        let mut request = Request::new(hook, plugin.manifest(), rfc3339(clock::now()));
        request.app = app.map(ToString::to_string);
        request.settings = self.settings_in_force(plugin, found.as_ref())?;
        if let serde_json::Value::Object(data) = data {
            request.data = data.clone();
        }
        Ok(request)
    }
}

/// What nobody has decided anything about: databases can be made at once, everything else is off
/// until it is wanted.
fn as_bundled(manifest: &Manifest) -> StoredPlugin {
    StoredPlugin {
        name: manifest.name.clone(),
        enabled: manifest.service.is_some(),
        folder: None,
        source: "bundled".into(),
        network: manifest.permissions.network,
        installed_at: Timestamp(0),
    }
}

/// A point in time as plugins read it.
fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| at.to_string())
}
