//! `checks:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, Table, span};
use crate::domain::{AppName, Check, CheckKind, Millis};
use crate::wire::{CheckChange, CheckReport, CheckResult};

/// `checks:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows how a deploy finds out that new instances are ready
    Report(ReportArgs),
    /// Sets a property: enabled, deadline, uptime, drain or stop; without a value, its default
    Set(Set),
    /// Runs the startup checks against the running instances
    Run(RunArgs),
    /// New instances get requests only when they are ready (the default)
    Enable(AppArg),
    /// New instances get requests as soon as they are started
    #[command(visible_alias = "skip")]
    Disable(AppArg),
}

/// `checks:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    app: AppArg,
    /// The property
    key: String,
    /// Seconds; true or false for `enabled`
    value: Option<String>,
}

/// `checks:run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Report(args) => context.report(&args, "/checks", report).await,
            Self::Set(args) => set(context, &args.app.app, args.key, args.value).await,
            Self::Run(args) => run(context, args).await,
            Self::Enable(AppArg { app }) => set(context, &app, "enabled".into(), None).await,
            Self::Disable(AppArg { app }) => {
                set(context, &app, "enabled".into(), Some("false".into())).await
            }
        }
    }
}

async fn set(
    context: &mut Context,
    app: &AppName,
    key: String,
    value: Option<String>,
) -> Result<(), Failure> {
    let doing = match &value {
        Some(value) => format!("Setting {key} to {value}"),
        None => format!("Unsetting {key}"),
    };
    let path = format!("/apps/{app}/checks");
    let change = CheckChange { key, value };
    let _: CheckReport = context.client.send(Method::PATCH, &path, &change).await?;
    context.out.step(&doing)
}

async fn run(context: &mut Context, args: RunArgs) -> Result<(), Failure> {
    let path = format!("/apps/{}/checks/run", args.app.app);
    let results: Vec<CheckResult> = context.client.send(Method::POST, &path, &()).await?;
    match args.format.format {
        Format::Json => context.out.json(&results)?,
        Format::Text => context.out.text(&table(&results).render())?,
    }
    match results.iter().filter(|result| result.failure.is_some()).count() {
        0 => Ok(()),
        failed => {
            let message = format!("{failed} of {} checks failed", results.len());
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

fn table(results: &[CheckResult]) -> Table {
    let mut table = Table::new(&["INSTANCE", "CHECK", "RESULT"]);
    for result in results {
        table.row([
            result.instance.to_string(),
            result.check.clone(),
            result.failure.clone().unwrap_or_else(|| "passed".to_owned()),
        ]);
    }
    table
}

fn report(app: &AppName, checks: &CheckReport) -> Report {
    let mut report = Report::new(format!("{app} checks information"));
    let settings = &checks.settings;
    report.row("Checks enabled", settings.enabled);
    report.row("Checks deadline", seconds(settings.deadline));
    report.row("Checks uptime", seconds(settings.uptime));
    report.row("Checks drain", seconds(settings.drain));
    report.row("Checks stop", seconds(settings.stop));
    for (process_type, checks) in &checks.checks {
        for check in checks {
            report.row(format!("Check {process_type} {}", check.name), describe(check));
        }
    }
    report
}

fn seconds(span_of: Millis) -> String {
    span(span_of.into())
}

fn describe(check: &Check) -> String {
    let port = check.port.map(|port| port.to_string()).unwrap_or_else(|| "PORT".into());
    let what = match &check.kind {
        CheckKind::Http { path, .. } => format!("GET {path} on port {port}"),
        CheckKind::Listening => format!("port {port} accepts connections"),
        CheckKind::Command { args } => format!("`{}` exits with 0", args.join(" ")),
        CheckKind::Uptime { at_least } => format!("up for {}", seconds(*at_least)),
    };
    let (timeout, deadline) = (seconds(check.timeout), seconds(check.deadline));
    format!("{what}, {timeout} for a try, {deadline} in all")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::domain::{CheckSettings, ProcessType};

    #[test]
    fn checks_are_described() {
        let check = Check {
            name: "home".into(),
            kind: CheckKind::Http { path: "/health".into(), content: None, headers: Vec::new() },
            port: None,
            timeout: Millis(5000),
            deadline: Millis(60_000),
        };
        let checks = CheckReport {
            settings: CheckSettings::default(),
            checks: vec![(ProcessType::web(), vec![check])],
        };
        let expected = "\
=====> shop checks information
       Checks enabled:                true
       Checks deadline:               1m 0s
       Checks uptime:                 1.0s
       Checks drain:                  30s
       Checks stop:                   30s
       Check web home:                GET /health on port PORT, 5.0s for a try, 1m 0s in all";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &checks)), expected);
    }
}
