//! `plugin.toml`: what a plugin is, offers and asks for. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Hook, Result};
use crate::domain::{EnvKey, PluginName};

/// The manifest's name in a plugin's folder.
pub const MANIFEST: &str = "plugin.toml";
/// Manifests are written by people; the longest of ours has 3 KiB.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// The only protocol so far.
pub(super) const PROTOCOL: u32 = 1;
/// Commands, settings, packages of one plugin.
const MAX_ENTRIES: usize = 64;
const DEFAULT_TIMEOUT_S: u64 = 10;
const MAX_TIMEOUT_S: u64 = 120;
const DEFAULT_ORDER: u16 = 50;
const MAX_ORDER: u16 = 100;

/// A plugin as its `plugin.toml` describes it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its name, which is the noun of its commands and, for a service, its type.
    pub name: PluginName,
    /// Its version, for people.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// What its commands and hooks run on.
    pub runtime: Runtime,
    /// `<name>:<command>`.
    pub commands: Vec<Command>,
    /// What it wants to be run at.
    pub hooks: BTreeMap<Hook, HookEntry>,
    /// What may be set.
    pub settings: Vec<Setting>,
    /// What it asks for.
    pub permissions: Permissions,
    /// Databases of this type can be made.
    pub service: Option<Service>,
}

/// What a plugin's own commands and hooks run on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Debian packages added to a slim image; none: the default stack's run image.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// A command of a plugin's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What follows the colon.
    pub name: String,
    /// What its arguments are: `<app> <url>`.
    #[serde(default)]
    pub usage: String,
    /// What it does, one sentence.
    pub description: String,
    /// The program, relative to the folder.
    pub run: Option<String>,
    /// The setting that it sets instead of running a program.
    pub sets: Option<String>,
}

/// How a hook is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEntry {
    /// The program, relative to the folder.
    pub run: String,
    /// After this long it is killed.
    pub timeout: Duration,
    /// Lower ones run first; then by name.
    pub order: u16,
    /// What it counts as if it gives no answer.
    pub on_failure: OnFailure,
    /// Settings without which it is not run.
    pub needs: Vec<String>,
}

/// What a hook that crashes, hangs or talks nonsense counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Consent, with a warning.
    Allow,
    /// A veto.
    Refuse,
}

/// Something that may be set by `plugin:set`, or for services by `<type>:set`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// What it is set for.
    pub scope: Scope,
    /// Whether its value is never shown.
    #[serde(default)]
    pub secret: bool,
    /// What it is for, one sentence.
    pub description: String,
    /// Its value where none was set.
    pub default: Option<String>,
}

impl Setting {
    /// The variable that scripts find it in: `STAITHE_SET_<KEY>`.
    pub fn variable(&self) -> String {
        format!("STAITHE_SET_{}", self.key.to_ascii_uppercase().replace('-', "_"))
    }
}

/// What a setting is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Each app.
    App,
    /// All at once.
    Global,
    /// An app; where it is not, what is set for all.
    Both,
    /// Each service of a plugin that has some.
    Service,
}

/// What a plugin asks for; the operator grants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// To reach the outside.
    pub network: bool,
}

/// A port number; never 0.
pub type PortNumber = std::num::NonZeroU16;

/// Databases of one type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// `PostgreSQL`.
    pub title: String,
    /// Debian packages of its image.
    pub packages: Vec<String>,
    /// Where it listens.
    pub port: PortNumber,
    /// Where it listens beside that.
    #[serde(default)]
    pub more: Vec<PortNumber>,
    /// `DATABASE` for `DATABASE_URL`.
    pub variable: EnvKey,
    /// `postgres://postgres:{password}@{host}:{port}/{database}`.
    pub url: String,
    /// Default limit of its container, MiB.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u32,
    /// The signal that asks it to end, without `SIG`.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: String,
    /// How long it may take to end, seconds.
    #[serde(default = "default_stop_grace_s")]
    pub stop_grace_s: u32,
    /// `dump`: what files of its exports end with; none: it cannot be exported.
    pub backup_extension: Option<String>,
}

fn default_memory_mb() -> u32 {
    256
}

fn default_stop_signal() -> String {
    "TERM".into()
}

fn default_stop_grace_s() -> u32 {
    30
}

impl Service {
    /// The URL that apps are given.
    pub fn url(&self, password: &str, host: &str, port: u16, database: &str) -> String {
        // One pass: a password that looks like a placeholder stays what it is.
        let mut url = String::new();
        let mut rest = self.url.as_str();
        while let Some((before, name, after)) = placeholder(rest) {
            url.push_str(before);
            match name {
                "password" => url.push_str(password),
                "host" => url.push_str(host),
                "port" => url.push_str(&port.to_string()),
                _ => url.push_str(database),
            }
            rest = after;
        }
        url + rest
    }

    /// The number of the signal that asks it to end.
    pub fn stop_signal_number(&self) -> i32 {
        signal(&self.stop_signal).unwrap_or(15)
    }

    /// How long it may take to end.
    pub fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_s.into())
    }

    /// Default limit of its container, bytes.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mb) << 20
    }

    fn check(&self) -> std::result::Result<(), String> {
        sentence("service.title", &self.title)?;
        if self.packages.is_empty() {
            return Err("service.packages names no package".into());
        }
        packages("service.packages", &self.packages)?;
        let mut rest = self.url.as_str();
        while let Some((_, name, after)) = placeholder(rest) {
            if !["password", "host", "port", "database"].contains(&name) {
                return Err(format!(
                    "service.url may hold {{password}}, {{host}}, {{port}} and {{database}}, not \
                     `{{{}}}`",
                    name.escape_default()
                ));
            }
            rest = after;
        }
        if self.url.len() > 256 || !self.url.contains("://") || !printable(&self.url) {
            return Err("service.url must be a URL of at most 256 characters".into());
        }
        if !(16..=1 << 20).contains(&self.memory_mb) {
            return Err("service.memory_mb must be from 16 to 1048576".into());
        }
        if signal(&self.stop_signal).is_none() {
            return Err("service.stop_signal must be TERM, INT, QUIT, HUP, USR1 or USR2".into());
        }
        if !(1..=600).contains(&self.stop_grace_s) {
            return Err("service.stop_grace_s must be from 1 to 600".into());
        }
        match &self.backup_extension {
            Some(text) if !is_word(text, b".") || text.starts_with('.') => {
                Err("service.backup_extension must be letters, digits and dots".into())
            }
            _ => Ok(()),
        }
    }
}

/// Text before the first placeholder, its name, and text after it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

/// Linux's numbers, signal(7).
fn signal(name: &str) -> Option<i32> {
    let known = [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("TERM", 15)];
    known.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: PluginName,
    version: String,
    #[serde(rename = "protocol")]
    _protocol: u32,
    description: String,
    #[serde(default)]
    runtime: Runtime,
    #[serde(default)]
    commands: Vec<Command>,
    #[serde(default)]
    hooks: BTreeMap<String, HookFile>,
    #[serde(default)]
    settings: Vec<Setting>,
    #[serde(default)]
    permissions: Permissions,
    service: Option<Service>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookFile {
    run: String,
    timeout_s: Option<u64>,
    order: Option<u16>,
    on_failure: Option<OnFailure>,
    #[serde(default)]
    needs: Vec<String>,
}

/// What is looked at first, so that a manifest of another protocol is refused by that.
#[derive(Deserialize)]
struct Probe {
    protocol: Option<u32>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Manifest`] with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|why| Error::Manifest { why })
    }

    fn read(text: &str) -> std::result::Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it is larger than {} KiB", MAX_BYTES >> 10));
        }
        let syntax = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        match toml::from_str::<Probe>(text).map_err(syntax)?.protocol {
            Some(PROTOCOL) => {}
            Some(other) => {
                return Err(format!(
                    "it speaks protocol {other}, and this Staithe {PROTOCOL}; another version of \
                     one of them is needed"
                ));
            }
            None => return Err(format!("`protocol = {PROTOCOL}` is missing")),
        }
        let file: File = toml::from_str(text).map_err(syntax)?;
        file.check()?;
        let hooks = file.hooks.into_iter().map(|(name, entry)| hook(&name, entry));
        Ok(Self {
            name: file.name,
            version: file.version,
            description: file.description,
            runtime: file.runtime,
            commands: file.commands,
            hooks: hooks.collect::<std::result::Result<_, _>>()?,
            settings: file.settings,
            permissions: file.permissions,
            service: file.service,
        })
    }

    /// The command `<plugin>:<name>`.
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// The setting of that name.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// All programs that the manifest names, which must be there.
    pub fn programs(&self) -> Vec<&str> {
        let commands = self.commands.iter().filter_map(|command| command.run.as_deref());
        let hooks = self.hooks.values().map(|entry| entry.run.as_str());
        let mut programs: Vec<_> = commands.chain(hooks).collect();
        if let Some(service) = &self.service {
            programs.extend(["bin/start", "bin/ready"]);
            if service.backup_extension.is_some() {
                programs.extend(["bin/export", "bin/import", "bin/check"]);
            }
        }
        programs.sort_unstable();
        programs.dedup();
        programs
    }
}

impl File {
    fn check(&self) -> std::result::Result<(), String> {
        if !is_word(&self.version, b".+-") {
            return Err("version must be letters, digits, dots, `+` and `-`".into());
        }
        sentence("description", &self.description)?;
        packages("runtime.packages", &self.runtime.packages)?;
        let counts = [self.commands.len(), self.settings.len(), self.hooks.len()];
        if counts.into_iter().any(|count| count > MAX_ENTRIES) {
            return Err(format!("more than {MAX_ENTRIES} entries of a kind"));
        }
        unique("command", self.commands.iter().map(|command| command.name.as_str()))?;
        for command in &self.commands {
            name("command", &command.name)?;
            sentence("a command's description", &command.description)?;
            if command.usage.len() > 200 || !printable(&command.usage) {
                return Err(format!("the usage of command `{}` is no line", command.name));
            }
            self.check_action(command)?;
        }
        unique("setting", self.settings.iter().map(|setting| setting.key.as_str()))?;
        for setting in &self.settings {
            name("setting", &setting.key)?;
            sentence("a setting's description", &setting.description)?;
            if setting.default.as_ref().is_some_and(|text| text.len() > 4096) {
                return Err(format!("the default of setting `{}` is too long", setting.key));
            }
            if setting.scope == Scope::Service && self.service.is_none() {
                return Err(format!(
                    "setting `{}` is of services, and there are none",
                    setting.key
                ));
            }
        }
        for key in self.hooks.values().flat_map(|hook| &hook.needs) {
            self.has_setting(key)?;
        }
        self.service.as_ref().map_or(Ok(()), Service::check)
    }

    fn check_action(&self, command: &Command) -> std::result::Result<(), String> {
        match (&command.run, &command.sets) {
            (Some(run), None) => program(run),
            (None, Some(key)) => self.has_setting(key),
            _ => Err(format!("command `{}` must have one of `run` and `sets`", command.name)),
        }
    }

    fn has_setting(&self, key: &str) -> std::result::Result<(), String> {
        match self.settings.iter().any(|setting| setting.key == key) {
            true => Ok(()),
            false => Err(format!("there is no setting `{}`", key.escape_default())),
        }
    }
}

fn hook(name: &str, entry: HookFile) -> std::result::Result<(Hook, HookEntry), String> {
    let hook: Hook = name.parse()?;
    program(&entry.run)?;
    let timeout = entry.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S);
    if !(1..=MAX_TIMEOUT_S).contains(&timeout) {
        return Err(format!("timeout_s of hook `{hook}` must be from 1 to {MAX_TIMEOUT_S}"));
    }
    let order = entry.order.unwrap_or(DEFAULT_ORDER);
    if order > MAX_ORDER {
        return Err(format!("order of hook `{hook}` must be from 0 to {MAX_ORDER}"));
    }
    if entry.on_failure.is_some() && !hook.may_veto() {
        return Err(format!("hook `{hook}` cannot refuse, so `on_failure` means nothing"));
    }
    let on_failure = entry.on_failure.unwrap_or(hook.default_on_failure());
    let timeout = Duration::from_secs(timeout);
    Ok((hook, HookEntry { run: entry.run, timeout, order, on_failure, needs: entry.needs }))
}

/// Names of commands and settings: words of the command line.
fn name(what: &str, text: &str) -> std::result::Result<(), String> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
    let good = (1..=32).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_lowercase();
    match good {
        true => Ok(()),
        false => Err(format!(
            "{what} `{}` must be 1 to 32 lowercase letters, digits, `-` and `_`",
            text.escape_default()
        )),
    }
}

/// One line for people.
fn sentence(what: &str, text: &str) -> std::result::Result<(), String> {
    match !text.is_empty() && text.len() <= 400 && printable(text) {
        true => Ok(()),
        false => Err(format!("{what} must be one line of 1 to 400 characters")),
    }
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn is_word(text: &str, more: &[u8]) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
}

/// Names of Debian packages (Debian policy §5.6.1), which become arguments of apt.
fn packages(what: &str, names: &[String]) -> std::result::Result<(), String> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c);
    let good = |name: &String| {
        (2..=64).contains(&name.len())
            && name.bytes().all(allowed)
            && name.as_bytes()[0].is_ascii_alphanumeric()
    };
    if names.len() > MAX_ENTRIES {
        return Err(format!("{what} has more than {MAX_ENTRIES} packages"));
    }
    match names.iter().find(|name| !good(name)) {
        Some(name) => Err(format!("{what}: `{}` is no package name", name.escape_default())),
        None => Ok(()),
    }
}

/// A program's path cannot leave the plugin's folder.
fn program(path: &str) -> std::result::Result<(), String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let segment =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed);
    match path.len() <= 200 && path.split('/').all(segment) {
        true => Ok(()),
        false => Err(format!(
            "`{}` must be the path of a program in the plugin's folder, such as `bin/notify`",
            path.escape_default()
        )),
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> std::result::Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("{what} `{}` is there twice", name.escape_default()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
