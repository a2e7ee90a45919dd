//! `plugin:*`.

use std::sync::Arc;
use std::time::Instant;

use base64ct::{Base64, Encoding};
use serde_json::json;

use super::Plugin;
use crate::build::Output;
use crate::domain::{Actor, AppName, PluginName};
use crate::platform::pipeline::blocking;
use crate::platform::services::ImageFor;
use crate::platform::{Error, Journal, Kind, Operation, Platform, Result, clock};
use crate::plugin::{Answer, Folder, Hook, Incoming, Scope};
use crate::store::StoredPlugin;
use crate::support::report;
use crate::wire::{
    InstallPlugin, PluginCommand, PluginHook, PluginRecord, PluginReport, PluginSetting,
    PluginSettings, PluginSource, SetPlugin, TriggerPlugins, TriggerReport,
};

/// The longest value of a setting: it is part of every request to the plugin.
const MAX_VALUE: usize = 4096;

impl Platform {
    /// All plugins by name, those of the bundle and those that were installed.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn plugin_list(&self) -> Result<Vec<PluginReport>> {
        let known = self.0.plugins.known();
        let mut reports: Vec<_> =
            known.plugins.values().map(|plugin| self.report_plugin(plugin)).collect();
        reports.extend(known.damaged.iter().map(|(stored, why)| damaged(stored, why)));
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(reports)
    }

    /// One plugin.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn plugin_info(&self, name: &PluginName) -> Result<PluginReport> {
        let known = self.0.plugins.known();
        if let Some((stored, why)) = known.damaged.iter().find(|(stored, _)| stored.name == *name) {
            return Ok(damaged(stored, why));
        }
        Ok(self.report_plugin(&*self.find_plugin(name)?))
    }

    fn report_plugin(&self, plugin: &Plugin) -> PluginReport {
        let (manifest, stored) = (plugin.manifest(), &plugin.stored);
        let commands = manifest.commands.iter().map(|command| PluginCommand {
            name: command.name.clone(),
            usage: command.usage.clone(),
            description: command.description.clone(),
            sets: command.sets.clone(),
        });
        let hooks = manifest.hooks.iter().map(|(hook, entry)| PluginHook {
            name: hook.to_string(),
            timeout_s: entry.timeout.as_secs(),
            order: entry.order,
        });
        PluginReport {
            name: stored.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            enabled: stored.enabled,
            bundled: plugin.bundled,
            source: stored.source.clone(),
            installed_at: (!plugin.bundled).then_some(stored.installed_at),
            service: manifest.service.as_ref().map(|service| service.title.clone()),
            commands: commands.collect(),
            hooks: hooks.collect(),
            asks_network: manifest.permissions.network,
            network: stored.network,
            damaged: None,
            record: self.plugin_record(&stored.name),
        }
    }

    fn plugin_record(&self, name: &PluginName) -> PluginRecord {
        let record = self.0.plugins.record_of(name);
        let (last_failure, last_failure_reason) = record.last_failure.unzip();
        PluginRecord {
            runs: record.runs,
            failures: record.failures,
            dropped: record.dropped,
            last_run: record.last_run,
            last_failure,
            last_failure_reason,
        }
    }

    /// A plugin with its settings for an app, or for all. Secret values are not told.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn plugin_settings(
        &self,
        name: &PluginName,
        app: Option<&AppName>,
    ) -> Result<PluginSettings> {
        let plugin = self.find_plugin(name)?;
        let app = app.map(|app| self.find_app(app)).transpose()?;
        let in_force = self.settings_in_force(&plugin, app.as_ref())?;
        let settings = plugin.manifest().settings.iter().map(|setting| {
            let value = in_force.get(&setting.key);
            PluginSetting {
                key: setting.key.clone(),
                scope: scope(setting.scope).to_owned(),
                description: setting.description.clone(),
                value: value
                    .map(|text| if setting.secret { "********".into() } else { text.clone() }),
                default: value == setting.default.as_ref(),
            }
        });
        Ok(PluginSettings { settings: settings.collect(), plugin: self.report_plugin(&plugin) })
    }

    /// Sets one of a plugin's settings, for an app or for all.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a setting that does not exist or not there.
    pub async fn set_plugin(
        &self,
        actor: &Actor,
        name: &PluginName,
        change: SetPlugin,
    ) -> Result<PluginSettings> {
        let plugin = self.find_plugin(name)?;
        let SetPlugin { app, key, value } = change;
        let setting = plugin.manifest().setting(&key).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("plugin `{name}` has no setting `{key}`"))
                .hint(format!("run `staithe plugin:report {name}` to see its settings"))
        })?;
        let why = match (setting.scope, &app) {
            (Scope::App, None) => Some("is set for each app: name one"),
            (Scope::Global, Some(_)) => Some("is set for all apps: use `--global`"),
            (Scope::Service, _) => Some("is of services: use the plugin's own `set`"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Error::new(Kind::Invalid, format!("setting `{key}` {why}")));
        }
        let value = value.as_ref().map(crate::domain::Secret::expose);
        if value.is_some_and(|value| value.len() > MAX_VALUE || value.contains('\0')) {
            let message =
                format!("the value of `{key}` is longer than {MAX_VALUE} bytes, or no text");
            return Err(Error::new(Kind::Invalid, message));
        }
        let found = app.as_ref().map(|app| self.find_app(app)).transpose()?;
        self.store.set_plugin_setting(name, found.as_ref().map(|app| app.id), &key, value)?;
        let verb = if value.is_some() { "set" } else { "unset" };
        let message = format!("setting `{key}` of plugin `{name}` {verb}");
        self.note_named(app.as_ref(), "plugin.set", &message, actor);
        self.refresh_plugin_routes(&plugin).await?;
        self.plugin_settings(name, app.as_ref()).await
    }

    /// Installs a plugin, or replaces one. Nothing is changed where that fails.
    ///
    /// # Errors
    /// The operation fails with `Invalid` where it breaks a rule, `Denied` where it asks for what it
    /// was not granted, `Conflict` where the name is taken.
    pub async fn install_plugin(
        &self,
        actor: &Actor,
        request: InstallPlugin,
    ) -> Result<Operation<PluginReport>> {
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let _turn = platform.0.plugins.changing.lock().await;
            let (incoming, source) = platform.receive_plugin(&request, &output).await?;
            let name = request.name.clone().unwrap_or_else(|| incoming.manifest.name.clone());
            let before = platform.may_install(&name, request.update)?;
            let asks = incoming.manifest.permissions.network;
            let granted = request.network || before.as_ref().is_some_and(|old| old.network);
            if asks && !granted {
                return Err(Error::new(
                    Kind::Denied,
                    format!("plugin `{name}` asks for the network"),
                )
                .hint("if you trust it with that, add `--grant network`"));
            }
            platform.prepare_plugin(&name, &incoming.manifest, &output).await?;
            let (folder, path) = platform.keep_plugin(incoming, name.clone()).await?;
            let stored = StoredPlugin {
                name: name.clone(),
                enabled: before.as_ref().is_none_or(|old| old.enabled),
                folder: Some(path),
                source,
                network: asks && granted,
                installed_at: clock::now(),
            };
            platform.store.set_plugin(&stored)?;
            platform.load_plugins()?;
            let version = &folder.manifest.version;
            let (hook, verb) = match request.update {
                true => (Hook::Update, "updated"),
                false => (Hook::Install, "installed"),
            };
            output.step(&format!("Plugin {name} {version} {verb}"));
            platform.plugin_changed(&actor, &name, hook, verb).await
        }))
    }

    async fn receive_plugin(
        &self,
        request: &InstallPlugin,
        output: &Output,
    ) -> Result<(Incoming, String)> {
        let (archive, source) = match &request.source {
            PluginSource::Archive { base64, label } => {
                output.step(&format!("Reading {label}"));
                let bytes = Base64::decode_vec(base64)
                    .map_err(|error| Error::new(Kind::Invalid, format!("no base64: {error}")))?;
                (bytes, label.clone())
            }
            PluginSource::Git { url, committish } => {
                output.step(&format!("Fetching {}", committish.as_deref().unwrap_or("HEAD")));
                let fetched = self.repositories.snapshot(url, committish.as_deref()).await;
                let tar = fetched.map_err(|error| Error::new(Kind::Failed, report(&error)))?;
                // Without what may be a password.
                let shown = url.rsplit_once('@').map_or(url.as_str(), |(_, host)| host);
                (tar, shown.to_owned())
            }
        };
        let platform = self.clone();
        let received = blocking(move || platform.plugins.receive(archive.as_slice())).await?;
        Ok((received?, source.chars().filter(|c| !c.is_control()).take(200).collect()))
    }

    /// What is installed under the name now.
    fn may_install(&self, name: &PluginName, update: bool) -> Result<Option<StoredPlugin>> {
        let installed = self.store.plugins()?.into_iter().find(|plugin| plugin.name == *name);
        let installed = installed.filter(|plugin| plugin.folder.is_some());
        if self.plugins.is_bundled(name) {
            return Err(Error::new(Kind::Conflict, format!("plugin `{name}` is part of Staithe"))
                .hint("install this one under another name: `--name <name>`"));
        }
        match (&installed, update) {
            (Some(_), false) => {
                Err(Error::new(Kind::Conflict, format!("plugin `{name}` is installed already"))
                    .hint(format!("to replace it: `staithe plugin:update {name} <source>`")))
            }
            (None, true) => {
                Err(Error::new(Kind::NotFound, format!("plugin `{name}` is not installed"))
                    .hint("run `staithe plugin:install <source>`"))
            }
            _ => Ok(installed),
        }
    }

    async fn keep_plugin(&self, incoming: Incoming, name: PluginName) -> Result<(Folder, String)> {
        let platform = self.clone();
        Ok(blocking(move || platform.plugins.keep(&incoming, &name)).await??)
    }

    /// What follows every change of a plugin.
    async fn plugin_changed(
        &self,
        actor: &Actor,
        name: &PluginName,
        hook: Hook,
        verb: &str,
    ) -> Result<PluginReport> {
        let plugin = self.find_plugin(name)?;
        let kind = format!("plugin.{verb}");
        self.note_named(None, &kind, &format!("plugin `{name}` {verb}"), actor);
        let told = json!({ "actor": actor.name, "version": plugin.manifest().version });
        self.notify_one(&plugin, hook, None, &told);
        self.refresh_plugin_routes(&plugin).await?;
        self.plugin_info(name).await
    }

    /// Switches a plugin on.
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `Failed` where its image cannot be made.
    pub async fn enable_plugin(
        &self,
        actor: &Actor,
        name: &PluginName,
    ) -> Result<Operation<PluginReport>> {
        let plugin = self.find_plugin(name)?;
        let (actor, name) = (actor.clone(), name.clone());
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let _turn = platform.0.plugins.changing.lock().await;
            platform.prepare_plugin(&name, plugin.manifest(), &output).await?;
            let stored = StoredPlugin { enabled: true, ..plugin.stored.clone() };
            platform.store.set_plugin(&stored)?;
            platform.load_plugins()?;
            output.step(&format!("Plugin {name} is on"));
            platform.plugin_changed(&actor, &name, Hook::Enable, "enabled").await
        }))
    }

    /// Switches a plugin off: its hooks are not run and its commands refused. Services go on.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn disable_plugin(&self, actor: &Actor, name: &PluginName) -> Result<PluginReport> {
        let _turn = self.0.plugins.changing.lock().await;
        let plugin = self.find_plugin(name)?;
        self.store.set_plugin(&StoredPlugin { enabled: false, ..plugin.stored.clone() })?;
        self.load_plugins()?;
        self.plugin_changed(actor, name, Hook::Disable, "disabled").await
    }

    /// Removes an installed plugin with its settings. What it kept stays on disk until a plugin of
    /// the same name is installed.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for one that is part of Staithe or has services.
    pub async fn uninstall_plugin(&self, actor: &Actor, name: &PluginName) -> Result<()> {
        let _turn = self.0.plugins.changing.lock().await;
        let known = self.plugin_info(name).await?;
        if known.bundled {
            return Err(Error::new(Kind::Conflict, format!("plugin `{name}` is part of Staithe"))
                .hint(format!("switch it off instead: `staithe plugin:disable {name}`")));
        }
        if let Some(service) = self.store.services()?.into_iter().find(|one| one.kind == *name) {
            let message = format!("service `{}` was made by plugin `{name}`", service.name);
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("destroy it first: `staithe {name}:destroy {}`", service.name)));
        }
        if let Ok(plugin) = self.find_plugin(name) {
            self.notify_one(&plugin, Hook::Uninstall, None, &json!({ "actor": actor.name }));
        }
        self.store.remove_plugin(name)?;
        self.load_plugins()?;
        // What it ran on is collected like any image without a name.
        let prefix = format!("plugin/{name}:");
        for (tag, _) in self.images.list().into_iter().filter(|(tag, _)| tag.starts_with(&prefix)) {
            self.images.untag(&tag)?;
        }
        self.note_named(None, "plugin.uninstalled", &format!("plugin `{name}` uninstalled"), actor);
        self.publish_routes().await
    }

    /// Runs a hook by hand and tells what the plugins said. Nothing that they want is done.
    ///
    /// # Errors
    /// `Invalid` for a hook that does not exist; `NotFound`.
    pub async fn trigger_plugins(&self, request: TriggerPlugins) -> Result<Vec<TriggerReport>> {
        let hook: Hook = request.hook.parse().map_err(|why: String| {
            let names: Vec<_> = Hook::ALL.iter().map(|hook| hook.as_str()).collect();
            Error::new(Kind::Invalid, why).hint(format!("hooks: {}", names.join(", ")))
        })?;
        let plugins = match &request.plugin {
            Some(name) => vec![self.enabled_plugin(name)?],
            None => self.0.plugins.at(hook),
        };
        let data = serde_json::Value::Object(request.data);
        let mut reports = Vec::new();
        for plugin in plugins {
            let started = Instant::now();
            let answer = self.ask_one(&plugin, hook, request.app.as_ref(), &data).await;
            let (outcome, detail) = describe(answer);
            reports.push(TriggerReport {
                plugin: plugin.name().clone(),
                outcome: outcome.to_owned(),
                detail,
                duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        }
        Ok(reports)
    }

    /// Makes what a plugin's programs run on, if it needs an image of its own.
    async fn prepare_plugin(
        &self,
        name: &PluginName,
        manifest: &crate::plugin::Manifest,
        output: &Arc<Output>,
    ) -> Result<()> {
        let packages = &manifest.runtime.packages;
        if !packages.is_empty() {
            self.ensure_image(ImageFor::Plugin, name, packages, output).await?;
        }
        Ok(())
    }
}

fn describe(answer: std::result::Result<Option<Answer>, String>) -> (&'static str, String) {
    let answer = match answer {
        Err(why) => return ("failed", why),
        Ok(None) => return ("skipped", "it has no such hook, or lacks a setting for it".into()),
        Ok(Some(answer)) => answer,
    };
    let keys = |vars: &std::collections::BTreeMap<crate::domain::EnvKey, _>| {
        vars.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut changed = keys(&answer.change.env);
    changed.extend(keys(&answer.change.config));
    changed.extend(answer.change.routes.keys().map(ToString::to_string));
    match (answer.veto, answer.message) {
        (Some(why), _) => ("veto", why),
        (None, _) if !changed.is_empty() => ("change", changed.join(", ")),
        (None, Some(message)) => ("message", message),
        (None, None) => ("silent", String::new()),
    }
}

fn damaged(stored: &StoredPlugin, why: &str) -> PluginReport {
    PluginReport {
        name: stored.name.clone(),
        version: String::new(),
        description: String::new(),
        enabled: false,
        bundled: false,
        source: stored.source.clone(),
        installed_at: Some(stored.installed_at),
        service: None,
        commands: Vec::new(),
        hooks: Vec::new(),
        asks_network: false,
        network: stored.network,
        damaged: Some(why.to_owned()),
        record: PluginRecord::default(),
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::App => "app",
        Scope::Global => "global",
        Scope::Both => "both",
        Scope::Service => "service",
    }
}
