//! `apps:*`, `url` and `urls`.

use std::io::{BufRead, Read, Write};

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, time};
use crate::domain::{App, AppName};
use crate::wire::{AppReport, AppStatus, CloneApp, NewApp, RenameApp};

/// How much of an answer to a question is read.
const MAX_ANSWER: u64 = 1024;

/// `apps:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists the apps
    List(FormatArg),
    /// Creates an app
    Create(AppArg),
    /// Ends with 0 if an app exists, with 20 if not
    Exists(AppArg),
    /// Removes an app with its releases, config and logs, for good
    Destroy(AppArg),
    /// Gives an app another name
    Rename(Rename),
    /// Makes a new app with another's release, config and quotas
    Clone(CloneArgs),
    /// Shows how an app stands
    #[command(visible_alias = "report")]
    Info(ReportArgs),
}

/// `apps:rename`.
#[derive(Debug, Args)]
pub(super) struct Rename {
    /// The app
    old_app: AppName,
    /// Its new name
    new_app: AppName,
}

/// `apps:clone`.
#[derive(Debug, Args)]
pub(super) struct CloneArgs {
    /// The app to copy
    old_app: AppName,
    /// The new app
    new_app: AppName,
    /// Does not start the new app
    #[arg(long)]
    skip_deploy: bool,
    /// Succeeds if the new app exists already
    #[arg(long)]
    ignore_existing: bool,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(format) => list(context, format).await,
            Self::Create(AppArg { app }) => create(context, app).await,
            Self::Exists(AppArg { app }) => exists(context, &app).await,
            Self::Destroy(AppArg { app }) => destroy(context, &app).await,
            Self::Rename(args) => rename(context, args).await,
            Self::Clone(args) => clone(context, args).await,
            Self::Info(args) => context.report(&args, "", report).await,
        }
    }
}

async fn list(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let apps: Vec<AppReport> = context.client.get("/apps").await?;
    if format.format == Format::Json {
        return context.out.json(&apps);
    }
    context.out.header("My Apps")?;
    apps.iter().try_for_each(|report| context.out.line(report.app.name.as_str()))
}

async fn create(context: &mut Context, name: AppName) -> Result<(), Failure> {
    context.out.step(&format!("Creating {name}..."))?;
    let _: App = context.client.send(Method::POST, "/apps", &NewApp { name }).await?;
    Ok(())
}

async fn exists(context: &Context, app: &AppName) -> Result<(), Failure> {
    let _: AppReport = context.client.get(&format!("/apps/{app}")).await?;
    Ok(())
}

async fn destroy(context: &mut Context, app: &AppName) -> Result<(), Failure> {
    exists(context, app).await?;
    if !context.force {
        confirm("app", app.as_str(), "its releases, config and logs")?;
    }
    context.out.step(&format!("Destroying {app}"))?;
    context.client.send(Method::DELETE, &format!("/apps/{app}"), &()).await
}

/// Has the user type the name of what will be gone. The question is talk and goes to standard error.
pub(super) fn confirm(what: &str, name: &str, contents: &str) -> Result<(), Failure> {
    let mut stderr = std::io::stderr().lock();
    // If standard error is closed the user does not see the question, and the answer is missing.
    let _ = write!(
        stderr,
        " !     `{name}` will be destroyed: {contents}. There is no way back.\n\
        \x20      Type the name of the {what} to go on: "
    )
    .and_then(|()| stderr.flush());
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_ANSWER)
        .read_line(&mut answer)
        .map_err(|error| Failure::new(Exit::Failed, format!("read the answer: {error}")))?;
    match answer.trim() == name {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Refused,
            format!("`{name}` was not destroyed: the answer was not its name"),
        )
        .hint("--force destroys without asking")),
    }
}

async fn rename(context: &mut Context, args: Rename) -> Result<(), Failure> {
    let Rename { old_app, new_app } = args;
    context.out.step(&format!("Renaming {old_app} to {new_app}..."))?;
    let path = format!("/apps/{old_app}/rename");
    let _: App = context.client.send(Method::POST, &path, &RenameApp { to: new_app }).await?;
    Ok(())
}

async fn clone(context: &mut Context, args: CloneArgs) -> Result<(), Failure> {
    let CloneArgs { old_app, new_app, skip_deploy, ignore_existing } = args;
    if ignore_existing && context.all_apps().await?.contains(&new_app) {
        return Ok(());
    }
    let path = format!("/apps/{old_app}/clone");
    let _: App =
        context.operation(Method::POST, &path, &CloneApp { to: new_app, skip_deploy }).await?;
    Ok(())
}

fn report(name: &AppName, app: &AppReport) -> Report {
    let mut report = Report::new(format!("{name} app information"));
    report.row("App created at", time(app.app.created_at));
    report.row("App status", status(app.status));
    let release = app.app.current_release.map(|release| release.to_string());
    report.row("App release", release.unwrap_or_default());
    let branch = app.app.deploy_branch.as_ref().map(ToString::to_string);
    report.row("App deploy branch", branch.unwrap_or_default());
    report.row("App stack", &app.app.stack);
    report.row("App urls", app.urls.join(" "));
    report.row("App git remote", &app.git_remote);
    report.row("App instances", app.instances.len());
    report
}

/// The word for how an app stands.
pub(super) fn status(status: AppStatus) -> &'static str {
    match status {
        AppStatus::Created => "created",
        AppStatus::Deploying => "deploying",
        AppStatus::Running => "running",
        AppStatus::Degraded => "degraded",
        AppStatus::Crashed => "crashed",
        AppStatus::Stopped => "stopped",
    }
}

/// `url` and `urls`.
#[derive(Debug, Args)]
pub(super) struct Urls {
    #[command(flatten)]
    app: AppArg,
}

impl Urls {
    pub(super) async fn all(self, context: &mut Context) -> Result<(), Failure> {
        let report: AppReport = context.client.get(&format!("/apps/{}", self.app.app)).await?;
        report.urls.iter().try_for_each(|url| context.out.line(url))
    }

    pub(super) async fn first(self, context: &mut Context) -> Result<(), Failure> {
        let report: AppReport = context.client.get(&format!("/apps/{}", self.app.app)).await?;
        report.urls.iter().take(1).try_for_each(|url| context.out.line(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{app_report, rendered};

    #[test]
    fn an_app_is_reported_under_its_labels() {
        let expected = "\
=====> shop app information
       App created at:                2026-01-02T03:04:05Z
       App status:                    running
       App release:                   v3
       App deploy branch:             main
       App stack:                     debian-13
       App urls:                      http://shop.example.com
       App git remote:                ssh://staithe@host:2222/shop
       App instances:                 1";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &app_report())), expected);
    }
}
