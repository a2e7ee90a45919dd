//! `proxy:*`, and the `nginx:*` that Dokku's users look for.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, GlobalReportArgs, LogArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report};
use crate::domain::{AppName, ProxyKey};
use crate::wire::{ProxyChange, ProxyProcess, ProxyReport, ProxyUpgradeReport, Switch};

/// `proxy:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows how an app's requests are treated, or what is set for all apps
    Report(GlobalReportArgs),
    /// Sets a property, at once and without a restart; without a value, its default
    Set(Set),
    /// Puts an app on the web (the default)
    Enable(AppArg),
    /// Takes an app off the web: its domains are unknown hosts
    Disable(AppArg),
    /// Shows the requests of an app's clients
    Logs(LogArgs),
    /// Replaces the proxy's process, without a refused or lost connection
    ///
    /// The new process takes the listening sockets over. The old one answers what is open, tells
    /// clients to connect anew, and keeps WebSockets until they end, at most for
    /// `proxy.upgrade_drain_timeout_ms` of the operator's file. Needed seldom: other settings,
    /// another version and other ports are put in force by themselves.
    Upgrade(Upgrade),
}

/// `proxy:upgrade`.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    format: FormatArg,
}

/// `nginx:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum NginxVerb {
    /// As `proxy:report`
    Report(GlobalReportArgs),
    /// As `proxy:set`
    Set(Set),
    /// As `proxy:logs`
    AccessLogs(LogArgs),
}

/// `proxy:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// For all apps that have no own value; no app is named then
    #[arg(long)]
    global: bool,
    /// The app
    app: String,
    /// The property, such as `client-max-body-size`; `proxy:report` shows all
    #[arg(required_unless_present = "global")]
    key: Option<String>,
    /// The value: `true`, `10m`, `90s`, addresses
    value: Vec<String>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Report(args) => show(context, &args).await,
            Self::Set(args) => set(context, args).await,
            Self::Enable(AppArg { app }) => switch(context, &app, true).await,
            Self::Disable(AppArg { app }) => switch(context, &app, false).await,
            Self::Logs(args) => logs(context, &args).await,
            Self::Upgrade(args) => upgrade(context, args).await,
        }
    }
}

impl NginxVerb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Report(args) => show(context, &args).await,
            Self::Set(args) => set(context, args).await,
            Self::AccessLogs(args) => logs(context, &args).await,
        }
    }
}

async fn logs(context: &mut Context, args: &LogArgs) -> Result<(), Failure> {
    let out = &mut context.out;
    context.client.values(&args.path("access-log"), |line: String| out.line(&line)).await
}

async fn set(context: &mut Context, args: Set) -> Result<(), Failure> {
    let (app, key, value) = operands(args)?;
    let doing = match &value {
        Some(value) => format!("Setting {key} to {value}"),
        None => format!("Unsetting {key}"),
    };
    let path = match &app {
        Some(app) => format!("/apps/{app}/proxy"),
        None => "/proxy".to_owned(),
    };
    let change = ProxyChange { key, value };
    let _: ProxyReport = context.client.send(Method::PATCH, &path, &change).await?;
    context.out.step(&doing)
}

async fn upgrade(context: &mut Context, args: Upgrade) -> Result<(), Failure> {
    if args.format.format == Format::Text {
        context.out.step("Replacing the proxy's process")?;
    }
    let report: ProxyUpgradeReport =
        context.client.send(Method::POST, "/proxy/upgrade", &()).await?;
    match args.format.format {
        Format::Json => context.out.json(&report),
        Format::Text => {
            let ProxyUpgradeReport { pid, before, .. } = report;
            context.out.line(&format!("Process {pid} took over from {before}"))
        }
    }
}

/// With `--global` no app is named, so that the property comes first.
fn operands(args: Set) -> Result<(Option<AppName>, ProxyKey, Option<String>), Failure> {
    let Set { global, app, key, value } = args;
    let (app, key, value): (_, _, Vec<String>) = match (global, key) {
        (true, first) => (None, app, first.into_iter().chain(value).collect()),
        (false, Some(key)) => (Some(app.parse()?), key, value),
        (false, None) => return Err(Failure::usage("`proxy:set` needs the name of a property")),
    };
    // Lists may be written as several words.
    let value = (!value.is_empty()).then(|| value.join(","));
    Ok((app, key.parse()?, value))
}

async fn switch(context: &mut Context, app: &AppName, enabled: bool) -> Result<(), Failure> {
    let doing = if enabled { "Enabling" } else { "Disabling" };
    context.out.step(&format!("{doing} proxy for {app}"))?;
    let path = format!("/apps/{app}/proxy/enabled");
    let _: ProxyReport = context.client.send(Method::PUT, &path, &Switch { enabled }).await?;
    Ok(())
}

async fn show(context: &mut Context, args: &GlobalReportArgs) -> Result<(), Failure> {
    context.report_or_global(args, "/proxy", report, global_report).await
}

fn global_report(proxy: &ProxyReport) -> Report {
    let mut report = Report::new("Global proxy information");
    property_rows(&mut report, proxy);
    process_rows(&mut report, &proxy.processes);
    report
}

fn report(app: &AppName, proxy: &ProxyReport) -> Report {
    let mut report = Report::new(format!("{app} proxy information"));
    report.row("Proxy enabled", proxy.enabled);
    property_rows(&mut report, proxy);
    report
}

/// One row for each process.
fn process_rows(report: &mut Report, processes: &[ProxyProcess]) {
    for process in processes {
        let label = if process.retiring { "Proxy retiring process" } else { "Proxy process" };
        let ProxyProcess { pid, version, connections, .. } = process;
        report.row(label, format!("{pid} (version {version}, {connections} connections)"));
    }
}

/// What is in force, and where it was set if it was.
fn property_rows(report: &mut Report, proxy: &ProxyReport) {
    for property in &proxy.properties {
        let label = property.key.as_str().replace('-', " ");
        report.row(format!("Proxy {label}"), property.value.as_deref().unwrap_or_default());
    }
    for property in &proxy.properties {
        let label = property.key.as_str().replace('-', " ");
        for (scope, value) in [("app", &property.app), ("global", &property.global)] {
            if let Some(value) = value {
                report.row(format!("Proxy {scope} {label}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::wire::ProxyProperty;

    #[test]
    fn properties_are_reported_with_where_they_come_from() {
        let text = |text: &str| Some(text.to_owned());
        let property = |key, value, app, global| ProxyProperty { key, value, app, global };
        let proxy = ProxyReport {
            enabled: true,
            processes: Vec::new(),
            properties: vec![
                property(ProxyKey::Hsts, text("true"), None, None),
                property(ProxyKey::ClientMaxBodySize, text("10m"), text("10m"), text("1m")),
                property(ProxyKey::Allow, None, None, None),
            ],
        };
        let expected = "\
=====> shop proxy information
       Proxy enabled:                 true
       Proxy hsts:                    true
       Proxy client max body size:    10m
       Proxy allow:
       Proxy app client max body size: 10m
       Proxy global client max body size: 1m";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &proxy)), expected);
    }

    #[test]
    fn all_apps_are_meant_without_naming_one() {
        let set = |global, words: &[&str]| {
            let mut words = words.iter().map(|word| (*word).to_owned());
            let (app, key) = (words.next().unwrap(), words.next());
            operands(Set { global, app, key, value: words.collect() })
        };
        let (app, key, value) = set(true, &["hsts", "false"]).unwrap();
        assert_eq!((app, key, value.as_deref()), (None, ProxyKey::Hsts, Some("false")));
        let (app, key, value) = set(false, &["shop", "allow", "::1", "10.0.0.0/8"]).unwrap();
        assert_eq!(app.unwrap().as_str(), "shop");
        assert_eq!((key, value.as_deref()), (ProxyKey::Allow, Some("::1,10.0.0.0/8")));
        let (_, _, value) = set(false, &["shop", "allow"]).unwrap();
        assert_eq!(value, None);
        set(false, &["shop", "proxy-buffers"]).unwrap_err();
    }
}
