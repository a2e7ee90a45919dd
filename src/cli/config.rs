//! `config:*`.

use std::io::Read;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::context::{AppArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, key_values};
use crate::domain::{AppName, ConfigVars, EnvKey, ReleaseVersion, Secret};
use crate::wire::ConfigChange;

mod base64;
mod formats;

/// The largest file that `config:import` reads; larger than all vars together may be.
const MAX_IMPORT: u64 = 4 << 20;

/// `config:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows an app's config vars
    Show(Show),
    /// Shows the value of one config var
    Get(Get),
    /// Sets config vars, as a new release
    Set(Set),
    /// Removes config vars, as a new release
    Unset(Unset),
    /// Lists the names of config vars
    Keys(Show),
    /// Writes config vars for other programs
    Export(Export),
    /// Sets config vars from a file or standard input, as a new release
    Import(Import),
    /// Removes all config vars, as a new release
    Clear(Clear),
}

/// `config:show` and `config:keys`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    format: FormatArg,
    /// Accepted for Dokku's sake: there are no global vars to merge
    #[arg(long, hide = true)]
    merged: bool,
}

/// `config:get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    app: AppArg,
    /// The var's name
    key: EnvKey,
    /// In single quotes, as a shell reads it
    #[arg(long)]
    quoted: bool,
}

/// Whether the change is deployed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct NoRestart {
    /// Leaves what runs as it is; the next release has the change
    #[arg(long)]
    no_restart: bool,
}

/// `config:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    app: AppArg,
    /// `KEY=value`, one or more
    #[arg(required = true, value_name = "KEY=value")]
    pairs: Vec<String>,
    /// The values are in base64
    #[arg(long)]
    encoded: bool,
    #[command(flatten)]
    no_restart: NoRestart,
}

/// `config:unset`.
#[derive(Debug, Args)]
pub(super) struct Unset {
    #[command(flatten)]
    app: AppArg,
    /// The vars' names
    #[arg(required = true)]
    key: Vec<EnvKey>,
    #[command(flatten)]
    no_restart: NoRestart,
}

/// `config:export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    app: AppArg,
    /// How to write them
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    /// Accepted for Dokku's sake: there are no global vars to merge
    #[arg(long, hide = true)]
    merged: bool,
}

/// Dokku's export formats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ExportFormat {
    /// `export KEY='value'` lines
    #[default]
    Exports,
    /// `KEY="value"` lines, as dotenv files have them
    Envfile,
    /// One JSON object
    Json,
    /// A JSON list of names and values
    JsonList,
    /// `KEY:  value` lines
    Pretty,
    /// `KEY='value'` on one line
    Shell,
    /// `--env=KEY='value'` on one line
    DockerArgs,
    /// `--env=KEY` on one line
    DockerArgsKeys,
    /// `--env KEY` on one line
    PackKeys,
}

/// `config:import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    app: AppArg,
    /// The file; standard input if none or `-`
    file: Option<String>,
    /// How the file is written
    #[arg(long, value_enum, default_value_t)]
    format: ImportFormat,
    /// Removes all vars that the file does not set
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    no_restart: NoRestart,
}

/// What `config:import` reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ImportFormat {
    /// `KEY=value` lines, as dotenv files have them
    #[default]
    Envfile,
    /// One JSON object
    Json,
}

/// `config:clear`.
#[derive(Debug, Args)]
pub(super) struct Clear {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    no_restart: NoRestart,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Show(args) => show(context, &args).await,
            Self::Get(args) => get(context, &args).await,
            Self::Set(args) => set(context, &args).await,
            Self::Unset(args) => unset(context, args).await,
            Self::Keys(args) => keys(context, &args).await,
            Self::Export(args) => export(context, &args).await,
            Self::Import(args) => import(context, &args).await,
            Self::Clear(args) => clear(context, args).await,
        }
    }
}

async fn vars(context: &Context, app: &AppName) -> Result<ConfigVars, Failure> {
    context.client.get(&format!("/apps/{app}/config")).await
}

fn pairs(vars: &ConfigVars) -> impl Iterator<Item = (&str, &str)> + Clone {
    let pairs: Vec<_> = vars.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    pairs.into_iter()
}

async fn show(context: &mut Context, args: &Show) -> Result<(), Failure> {
    let vars = vars(context, &args.app.app).await?;
    if args.format.format == Format::Json {
        return context.out.json(&vars);
    }
    context.out.header(&format!("{} env vars", args.app.app))?;
    key_values(pairs(&vars)).iter().try_for_each(|line| context.out.line(line))
}

async fn keys(context: &mut Context, args: &Show) -> Result<(), Failure> {
    let vars = vars(context, &args.app.app).await?;
    let keys: Vec<_> = vars.iter().map(|(key, _)| key.as_str()).collect();
    match args.format.format {
        Format::Json => context.out.json(&keys),
        Format::Text => keys.iter().try_for_each(|key| context.out.line(key)),
    }
}

/// A var that is not set is no output and exit code 1, as in Dokku.
async fn get(context: &mut Context, args: &Get) -> Result<(), Failure> {
    let vars = vars(context, &args.app.app).await?;
    let value = vars.get(&args.key).ok_or(Failure::Silent(Exit::Failed as u8))?.expose();
    match args.quoted {
        true => context.out.line(&formats::quoted(value)),
        false => context.out.line(value),
    }
}

async fn set(context: &mut Context, args: &Set) -> Result<(), Failure> {
    let set = args
        .pairs
        .iter()
        .map(|pair| parse_pair(pair, args.encoded))
        .collect::<Result<Vec<_>, _>>()?;
    context.out.step("Setting config vars")?;
    let shown = key_values(set.iter().map(|(key, value)| (key.as_str(), value.expose())));
    for line in shown.iter().flat_map(|line| line.lines()) {
        context.out.detail(line)?;
    }
    let change = ConfigChange { set, ..ConfigChange::default() };
    send(context, &args.app.app, change, args.no_restart).await
}

fn parse_pair(pair: &str, encoded: bool) -> Result<(EnvKey, Secret), Failure> {
    let (key, value) = pair.split_once('=').ok_or_else(|| {
        // The word may be a value typed in the wrong place, so it is not repeated.
        Failure::usage("each var must be written `KEY=value`")
    })?;
    let key: EnvKey = key.parse()?;
    if !encoded {
        return Ok((key, Secret::new(value)));
    }
    let decoded = base64::decode(value).and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded {
        Some(value) => Ok((key, Secret::new(value))),
        None => Err(Failure::usage(format!("the value of {key} is not UTF-8 text in base64"))),
    }
}

async fn unset(context: &mut Context, args: Unset) -> Result<(), Failure> {
    let change = ConfigChange { unset: args.key, ..ConfigChange::default() };
    send(context, &args.app.app, change, args.no_restart).await
}

async fn clear(context: &mut Context, args: Clear) -> Result<(), Failure> {
    let change = ConfigChange { replace: true, ..ConfigChange::default() };
    send(context, &args.app.app, change, args.no_restart).await
}

async fn export(context: &mut Context, args: &Export) -> Result<(), Failure> {
    let vars = vars(context, &args.app.app).await?;
    let list: Vec<_> = pairs(&vars).collect();
    match args.format {
        ExportFormat::Json => context.out.json(&vars),
        ExportFormat::JsonList => {
            let list: Vec<_> = list
                .iter()
                .map(|(name, value)| serde_json::json!({ "name": name, "value": value }))
                .collect();
            context.out.json(&list)
        }
        format => context.out.text(&formats::export(&list, format)),
    }
}

async fn import(context: &mut Context, args: &Import) -> Result<(), Failure> {
    let text = read_input(context, args.file.as_deref())?;
    let set = match args.format {
        ImportFormat::Envfile => formats::parse_envfile(&text)?,
        ImportFormat::Json => parse_json(&text)?,
    };
    let change = ConfigChange { set, replace: args.replace, ..ConfigChange::default() };
    send(context, &args.app.app, change, args.no_restart).await
}

fn parse_json(text: &str) -> Result<Vec<(EnvKey, Secret)>, Failure> {
    let vars: ConfigVars = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // serde's sentence may repeat a value.
        Failure::usage(format!(
            "line {line}, column {column}: not a JSON object of names and strings"
        ))
    })?;
    Ok(vars.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The text of `file`, or of standard input.
pub(super) fn read_input(context: &Context, file: Option<&str>) -> Result<String, Failure> {
    let file = file.filter(|name| *name != "-");
    if let Some(name) = file
        && context.settings.is_remote()
    {
        return Err(Failure::new(Exit::Refused, format!("`{name}` would be a file of the server"))
            .hint("over SSH, give the file on standard input: `… < file`"));
    }
    let name = file.unwrap_or("standard input");
    let failed = |error| Failure::new(Exit::Failed, format!("read {name}: {error}"));
    let mut text = String::new();
    let count = match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_IMPORT).read_to_string(&mut text)),
        None => std::io::stdin().take(MAX_IMPORT).read_to_string(&mut text),
    };
    match u64::try_from(count.map_err(failed)?) {
        Ok(count) if count < MAX_IMPORT => Ok(text),
        _ => Err(Failure::usage(format!("{name} is larger than 4 MiB"))),
    }
}

async fn send(
    context: &mut Context,
    app: &AppName,
    mut change: ConfigChange,
    no_restart: NoRestart,
) -> Result<(), Failure> {
    change.no_restart = no_restart.no_restart;
    let path = format!("/apps/{app}/config");
    let _: Option<ReleaseVersion> = context.operation(Method::PATCH, &path, &change).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign_and_may_be_encoded() {
        let (key, value) = parse_pair("A=b=c", false).unwrap();
        assert_eq!((key.as_str(), value.expose()), ("A", "b=c"));
        let (_, value) = parse_pair("A=aGkK", true).unwrap();
        assert_eq!(value.expose(), "hi\n");
        for bad in [("A", false), ("1A=x", false), ("A=%%", true)] {
            assert!(parse_pair(bad.0, bad.1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_failed_json_import_repeats_no_value() {
        let failure = parse_json(r#"{"A": 42}"#).unwrap_err();
        let Failure::Told { message, .. } = failure else { panic!("silent") };
        assert!(!message.contains("42"), "{message}");
    }
}
