//! Plugins: what is asked about them and what is told.

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, PluginName, Secret, Timestamp};

/// A plugin, for `plugin:list` and `plugin:info`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginReport {
    /// The name it goes by.
    pub name: PluginName,
    /// Its version.
    pub version: String,
    /// What it is, one sentence.
    pub description: String,
    /// Whether it is run.
    pub enabled: bool,
    /// Whether it is part of Staithe.
    pub bundled: bool,
    /// Where it came from.
    pub source: String,
    /// When it was installed or last updated; none for a bundled one.
    pub installed_at: Option<Timestamp>,
    /// What kind of services it makes: `PostgreSQL`.
    pub service: Option<String>,
    /// Its own commands.
    pub commands: Vec<PluginCommand>,
    /// The hooks it wants to be run at.
    pub hooks: Vec<PluginHook>,
    /// Whether it asks to reach the outside.
    pub asks_network: bool,
    /// Whether it may.
    pub network: bool,
    /// Why it cannot be used.
    pub damaged: Option<String>,
    /// How it has done.
    pub record: PluginRecord,
}

/// One of a plugin's commands.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginCommand {
    /// What follows the colon.
    pub name: String,
    /// What its arguments are.
    pub usage: String,
    /// What it does.
    pub description: String,
    /// The setting that it sets, if that is all it does.
    pub sets: Option<String>,
}

/// One of a plugin's hooks.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginHook {
    /// `post-deploy`.
    pub name: String,
    /// After how many seconds it is stopped.
    pub timeout_s: u64,
    /// Its place among those of other plugins.
    pub order: u16,
}

/// How a plugin has done since the control plane was started.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginRecord {
    /// How often a hook of its was run.
    pub runs: u64,
    /// How often that failed.
    pub failures: u64,
    /// What it was not told of, since it was too slow.
    pub dropped: u64,
    /// When a hook was last run.
    pub last_run: Option<Timestamp>,
    /// When that last failed.
    pub last_failure: Option<Timestamp>,
    /// Why that failed.
    pub last_failure_reason: Option<String>,
}

/// One of a plugin's settings, for `plugin:report`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginSetting {
    /// Its name.
    pub key: String,
    /// `app`, `global`, `both` or `service`.
    pub scope: String,
    /// What it is for.
    pub description: String,
    /// What is in force; of a secret one, stars.
    pub value: Option<String>,
    /// Whether that is its default.
    pub default: bool,
}

/// `plugin:report`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PluginSettings {
    /// The plugin.
    pub plugin: PluginReport,
    /// Its settings as they are for the app that was asked about, or for all.
    pub settings: Vec<PluginSetting>,
}

/// `POST /plugins`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallPlugin {
    /// Where it is to be had.
    pub source: PluginSource,
    /// The name it is to go by, in place of its own.
    #[serde(default)]
    pub name: Option<PluginName>,
    /// Whether it may reach the outside, if it asks for that.
    #[serde(default)]
    pub network: bool,
    /// Replaces the installed plugin of that name, and only that.
    #[serde(default)]
    pub update: bool,
}

/// Where a plugin is to be had.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PluginSource {
    /// A tar archive, plain or gzip.
    Archive {
        /// Its bytes in base64.
        base64: String,
        /// What it was made of, for people.
        label: String,
    },
    /// A git repository.
    Git {
        /// Its URL.
        url: String,
        /// A branch, tag or commit.
        committish: Option<String>,
    },
}

/// `PATCH /plugins/{id}/settings`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlugin {
    /// The app it is set for; none: all.
    #[serde(default)]
    pub app: Option<AppName>,
    /// The setting.
    pub key: String,
    /// Its value; none goes back to the default.
    #[serde(default)]
    pub value: Option<Secret>,
}

/// The query of `GET /plugins/{id}/settings`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginQuery {
    /// The app whose settings are asked for.
    #[serde(default)]
    pub app: Option<AppName>,
}

/// `POST /plugin-triggers`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerPlugins {
    /// The hook.
    pub hook: String,
    /// The app it is about.
    #[serde(default)]
    pub app: Option<AppName>,
    /// Only this plugin's.
    #[serde(default)]
    pub plugin: Option<PluginName>,
    /// What the plugin is told.
    #[serde(default)]
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// What a plugin said when a hook was triggered by hand.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TriggerReport {
    /// The plugin.
    pub plugin: PluginName,
    /// `silent`, `message`, `veto`, `change`, `skipped` or `failed`.
    pub outcome: String,
    /// The message, the reason of the veto or of the failure, or what was changed.
    pub detail: String,
    /// How long it took.
    pub duration_ms: u64,
}
