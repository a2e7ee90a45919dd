//! `plugin:*`, and the commands that plugins add: `<plugin>:<command>`.

use std::io::Read;
use std::path::Path;

use base64ct::{Base64, Encoding};
use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::client::escape;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, Table, time};
use super::run::{attach, terminal_size};
use super::{argv, command};
use crate::domain::{AppName, PluginName, Secret};
use crate::wire::{
    InstallPlugin, PluginReport, PluginSettings, PluginSource, RunRequest, SetPlugin,
    TriggerPlugins, TriggerReport,
};

/// The largest archive that is sent.
const MAX_ARCHIVE: u64 = 16 << 20;

/// `plugin:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists the plugins
    List(FormatArg),
    /// Shows a plugin: its commands, its hooks, what it may do
    Info(Info),
    /// Shows a plugin's settings and how it has done
    Report(Settings),
    /// Installs a plugin from a folder, a tar archive (`-`: from standard input) or a git URL
    Install(Install),
    /// Replaces an installed plugin by another version of it
    Update(Update),
    /// Removes an installed plugin with its settings
    Uninstall(Named),
    /// Switches a plugin on
    Enable(Named),
    /// Switches a plugin off; its services go on
    Disable(Named),
    /// Sets one of a plugin's settings for an app or for all; no value goes back to the default
    Set(Set),
    /// Runs a hook by hand and shows what plugins answer; nothing that they want is done
    Trigger(Trigger),
}

/// A plugin.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The plugin
    plugin: PluginName,
}

/// `plugin:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    format: FormatArg,
}

/// `plugin:report`.
#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(flatten)]
    named: Named,
    /// The app whose settings are shown; those for all if none
    app: Option<AppName>,
    /// Only this label's value; what `--<label>` becomes
    #[arg(long, hide = true)]
    field: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// What a plugin may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Grant {
    /// To reach the outside
    Network,
}

/// How a plugin is fetched and what it may do.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// A branch, tag or commit of the git repository
    #[arg(long)]
    committish: Option<String>,
    /// What the plugin may do, if it asks for it
    #[arg(long, value_enum)]
    grant: Vec<Grant>,
}

/// `plugin:install`.
#[derive(Debug, Args)]
pub(super) struct Install {
    /// The folder, archive or URL
    source: String,
    /// Another name than the plugin's own
    #[arg(long)]
    name: Option<PluginName>,
    #[command(flatten)]
    terms: Terms,
}

/// `plugin:update`.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    named: Named,
    /// The folder, archive or URL
    source: String,
    #[command(flatten)]
    terms: Terms,
}

/// `plugin:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    named: Named,
    /// For all apps
    #[arg(long)]
    global: bool,
    /// The app (unless `--global`), the setting and its value; a value of `-` is read from standard
    /// input
    #[arg(required = true, num_args = 1..=3, value_name = "app|key|value")]
    words: Vec<String>,
}

/// `plugin:trigger`.
#[derive(Debug, Args)]
pub(super) struct Trigger {
    /// The hook
    hook: String,
    /// The app it is about
    app: Option<AppName>,
    /// Only this plugin's
    #[arg(long)]
    plugin: Option<PluginName>,
    /// What the plugin is told, a JSON object
    #[arg(long)]
    data: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(format) => list(context, format).await,
            Self::Info(args) => info(context, args).await,
            Self::Report(args) => report(context, args).await,
            Self::Install(args) => {
                let Install { source, name, terms } = args;
                install(context, &source, name, terms, false).await
            }
            Self::Update(args) => {
                let Update { named, source, terms } = args;
                install(context, &source, Some(named.plugin), terms, true).await
            }
            Self::Uninstall(Named { plugin }) => {
                context.out.step(&format!("Uninstalling {plugin}"))?;
                context.client.send(Method::DELETE, &format!("/plugins/{plugin}"), &()).await
            }
            Self::Enable(Named { plugin }) => {
                let path = format!("/plugins/{plugin}/enable");
                let _: PluginReport = context.operation(Method::POST, &path, &()).await?;
                Ok(())
            }
            Self::Disable(Named { plugin }) => {
                let path = format!("/plugins/{plugin}/disable");
                let _: PluginReport = context.client.send(Method::POST, &path, &()).await?;
                context.out.step(&format!("Plugin {plugin} is off"))
            }
            Self::Set(args) => set(context, args).await,
            Self::Trigger(args) => trigger(context, args).await,
        }
    }
}

async fn list(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let plugins: Vec<PluginReport> = context.client.get("/plugins").await?;
    if format.format == Format::Json {
        return context.out.json(&plugins);
    }
    let mut table = Table::new(&["PLUGIN", "VERSION", "STATE", "FROM", "WHAT IT IS"]);
    for plugin in plugins {
        let state = state(&plugin).to_owned();
        let name = plugin.name.to_string();
        let what = plugin.damaged.unwrap_or(plugin.description);
        table.row([name, plugin.version, state, plugin.source, what]);
    }
    context.out.text(&table.render())
}

fn state(plugin: &PluginReport) -> &'static str {
    match (&plugin.damaged, plugin.enabled) {
        (Some(_), _) => "damaged",
        (None, true) => "on",
        (None, false) => "off",
    }
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let plugin: PluginReport =
        context.client.get(&format!("/plugins/{}", args.named.plugin)).await?;
    match args.format.format {
        Format::Json => context.out.json(&plugin),
        Format::Text => {
            context.out.text(&about(&plugin).render())?;
            context.out.text(&commands(&plugin))
        }
    }
}

fn about(plugin: &PluginReport) -> Report {
    let mut report = Report::new(format!("{} plugin information", plugin.name));
    report.row("Plugin version", &plugin.version);
    report.row("Plugin description", &plugin.description);
    report.row("Plugin state", state(plugin));
    report.row("Plugin source", &plugin.source);
    report.row("Plugin installed at", plugin.installed_at.map(time).unwrap_or_default());
    report.row("Plugin service", plugin.service.clone().unwrap_or_default());
    let network = match (plugin.asks_network, plugin.network) {
        (true, true) => "granted",
        (true, false) => "not granted",
        (false, _) => "not asked for",
    };
    report.row("Plugin network", network);
    let hooks: Vec<_> = plugin.hooks.iter().map(|hook| hook.name.as_str()).collect();
    report.row("Plugin hooks", hooks.join(" "));
    if let Some(why) = &plugin.damaged {
        report.row("Plugin damaged", why);
    }
    report
}

fn commands(plugin: &PluginReport) -> String {
    let lines = plugin.commands.iter().map(|one| {
        let usage = format!("{}:{} {}", plugin.name, one.name, one.usage);
        format!("  {:<44}{}", usage.trim_end(), one.description)
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn report(context: &mut Context, args: Settings) -> Result<(), Failure> {
    let mut path = format!("/plugins/{}/settings", args.named.plugin);
    if let Some(app) = &args.app {
        path.push_str(&format!("?app={}", escape(app.as_str())));
    }
    let found: PluginSettings = context.client.get(&path).await?;
    if args.format.format == Format::Json {
        return context.out.json(&found);
    }
    let record = &found.plugin.record;
    let mut report = about(&found.plugin);
    report.row("Plugin runs", record.runs);
    report.row("Plugin failures", record.failures);
    report.row("Plugin dropped", record.dropped);
    report.row("Plugin last run", record.last_run.map(time).unwrap_or_default());
    report.row("Plugin last failure", record.last_failure.map(time).unwrap_or_default());
    let why = record.last_failure_reason.clone().unwrap_or_default();
    report.row("Plugin last failure reason", why);
    for setting in &found.settings {
        let value = setting.value.clone().unwrap_or_default();
        report.row(format!("Setting {}", setting.key), value);
    }
    report.print(&mut context.out, args.field.as_deref())
}

async fn install(
    context: &mut Context,
    source: &str,
    name: Option<PluginName>,
    terms: Terms,
    update: bool,
) -> Result<(), Failure> {
    let request = InstallPlugin {
        source: read_source(context, source, terms.committish)?,
        name,
        network: terms.grant.contains(&Grant::Network),
        update,
    };
    let plugin: PluginReport = context.operation(Method::POST, "/plugins", &request).await?;
    match plugin.commands.is_empty() {
        true => Ok(()),
        false => context.out.text(&commands(&plugin)),
    }
}

fn read_source(
    context: &Context,
    source: &str,
    committish: Option<String>,
) -> Result<PluginSource, Failure> {
    if source.contains("://") {
        return Ok(PluginSource::Git { url: source.to_owned(), committish });
    }
    if committish.is_some() {
        return Err(Failure::usage("--committish is for git URLs"));
    }
    let path = Path::new(source);
    let (bytes, label) = match source {
        "-" => (archive(std::io::stdin().lock(), "standard input")?, "standard input".to_owned()),
        _ if context.settings.is_remote() => {
            let message = format!("`{source}` would be a file of the server");
            return Err(Failure::new(Exit::Refused, message)
                .hint("over SSH, give an archive: `tar c -C plugin . | ssh … plugin:install -`"));
        }
        _ if path.is_dir() => (folder(path)?, source.to_owned()),
        _ => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::new(Exit::Failed, format!("read {source}: {error}")))?;
            (archive(file, source)?, source.to_owned())
        }
    };
    Ok(PluginSource::Archive { base64: Base64::encode_string(&bytes), label })
}

fn archive(reader: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_ARCHIVE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("read {name}: {error}")))?;
    match bytes.len() as u64 > MAX_ARCHIVE {
        true => Err(Failure::usage(format!("{name} is larger than {} MiB", MAX_ARCHIVE >> 20))),
        false => Ok(bytes),
    }
}

/// A folder as an archive. Links stay links, which the server refuses.
fn folder(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("read {}: {error}", path.display()))
    };
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut builder = tar::Builder::new(gzip);
    builder.follow_symlinks(false);
    builder.append_dir_all(".", path).map_err(failed)?;
    let bytes = builder.into_inner().and_then(|gzip| gzip.finish()).map_err(failed)?;
    archive(bytes.as_slice(), &path.display().to_string())
}

async fn set(context: &mut Context, args: Set) -> Result<(), Failure> {
    let Set { named: Named { plugin }, global, words } = args;
    let mut words = words.into_iter();
    let app = match global {
        true => None,
        false => words.next().map(|word| word.parse::<AppName>()).transpose()?,
    };
    let key = words.next().ok_or_else(|| {
        Failure::usage("the setting is missing")
            .hint("usage: staithe plugin:set <plugin> [--global|<app>] <key> [<value>]")
    })?;
    let value = words.next();
    if words.next().is_some() {
        return Err(Failure::usage("with `--global` there is a setting and a value, and no app"));
    }
    send_setting(context, &plugin, SetPlugin { app, key, value: value_of(value)? }).await
}

/// `-` keeps a secret out of the shell's history and of the list of processes.
fn value_of(word: Option<String>) -> Result<Option<Secret>, Failure> {
    match word.as_deref() {
        Some("-") => {
            let bytes = archive(std::io::stdin().lock(), "standard input")?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Failure::usage("standard input is no UTF-8 text"))?;
            Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
        }
        other => Ok(other.map(Secret::new)),
    }
}

async fn send_setting(
    context: &mut Context,
    plugin: &PluginName,
    change: SetPlugin,
) -> Result<(), Failure> {
    let verb = if change.value.is_some() { "Setting" } else { "Unsetting" };
    let whose = change.app.as_ref().map_or("all apps".to_owned(), ToString::to_string);
    let step = format!("{verb} {} of {plugin} for {whose}", change.key);
    let path = format!("/plugins/{plugin}/settings");
    let _: PluginSettings = context.client.send(Method::PATCH, &path, &change).await?;
    context.out.step(&step)
}

async fn trigger(context: &mut Context, args: Trigger) -> Result<(), Failure> {
    let data = match &args.data {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("--data is no JSON object: {error}")))?,
        None => serde_json::Map::new(),
    };
    let Trigger { hook, app, plugin, format, .. } = args;
    let request = TriggerPlugins { hook, app, plugin, data };
    let reports: Vec<TriggerReport> =
        context.client.send(Method::POST, "/plugin-triggers", &request).await?;
    if format.format == Format::Json {
        return context.out.json(&reports);
    }
    let mut table = Table::new(&["PLUGIN", "OUTCOME", "TIME", "DETAIL"]);
    for report in reports {
        let took = super::output::span(std::time::Duration::from_millis(report.duration_ms));
        table.row([report.plugin.to_string(), report.outcome, took, report.detail]);
    }
    context.out.text(&table.render())
}

/// A command that is none of ours: `<plugin>:<command>`.
#[derive(Debug, Args)]
pub(super) struct Foreign {
    /// The plugin
    plugin: PluginName,
    /// Its command
    command: String,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Foreign {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self { plugin, command, args } = self;
        let path = format!("/plugins/{plugin}");
        let known: PluginReport = match context.client.get(&path).await {
            Err(Failure::Told { exit: Exit::NotFound, .. }) => {
                let name = format!("{plugin}:{command}");
                return Err(argv::unknown(&name, &command::tree()));
            }
            other => other?,
        };
        if known.service.is_some() && known.commands.iter().all(|own| own.name != command) {
            return super::services::run_other(context, &plugin, command, args).await;
        }
        if command == "help" {
            return context.out.text(&commands(&known));
        }
        let own = known.commands.iter().find(|own| own.name == command);
        match own.and_then(|own| own.sets.clone()) {
            Some(key) => {
                set_directly(context, &plugin, key, args).await?;
                match known.enabled {
                    true => Ok(()),
                    false => context.out.progress(&format!(
                        " !     {plugin} is off; `staithe plugin:enable {plugin}` switches it on"
                    )),
                }
            }
            None => {
                let terminal = terminal_size(false);
                let term = terminal.and_then(|_| context.settings.term.clone());
                let args = std::iter::once(command).chain(args).collect();
                let request = RunRequest { args, terminal, term, ..RunRequest::default() };
                attach(context, &format!("/plugins/{plugin}/command"), &request).await
            }
        }
    }
}

/// A command that only sets a setting: `slack-webhook:set shop https://…`.
async fn set_directly(
    context: &mut Context,
    plugin: &PluginName,
    key: String,
    args: Vec<String>,
) -> Result<(), Failure> {
    let mut args = args.into_iter();
    let whose = args.next().ok_or_else(|| {
        Failure::usage("the app is missing").hint("name an app, or `--global` for all")
    })?;
    let app = if whose == "--global" { None } else { Some(whose.parse()?) };
    let value = value_of(args.next())?;
    if args.next().is_some() {
        return Err(Failure::usage("there is one value too many"));
    }
    send_setting(context, plugin, SetPlugin { app, key, value }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plugin_can_take_the_name_of_a_command() {
        // The tree of `postgres` stands for every type of services, and that name is a plugin's.
        let is_ours = |name: &&str| *name != "postgres";
        for name in command::tree().get_subcommands().map(clap::Command::get_name).filter(is_ours) {
            let taken = name.parse::<PluginName>();
            assert!(taken.is_err(), "add `{name}` to the reserved names of domain/plugin.rs");
        }
    }

    #[test]
    fn a_folder_becomes_an_archive_with_its_links_as_links() {
        let directory = tempfile::tempdir().unwrap();
        let write = crate::support::atomic_file::write;
        write(&directory.path().join("plugin.toml"), b"x", 0o644).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", directory.path().join("link")).unwrap();
        let bytes = folder(directory.path()).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let kinds = entries.map(|entry| {
            let header = entry.header();
            (entry.path().unwrap().display().to_string(), header.entry_type().is_symlink())
        });
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort();
        let expected =
            [("./".to_owned(), false), ("link".into(), true), ("plugin.toml".into(), false)];
        assert_eq!(kinds, expected);
    }
}
