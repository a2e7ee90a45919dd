//! `builds:*`.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context};
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, Table, span, time};
use crate::domain::{AppName, Build, BuildId, BuildStatus};
use crate::wire::{BuildReport, CancelBuild};

/// `builds:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists an app's builds, newest first
    List(List),
    /// Shows one build
    Info(Info),
    /// Shows what a build printed; goes on while it runs
    Output(Output),
    /// Stops a build
    Cancel(Cancel),
}

/// `builds:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    app: AppArg,
    /// How many at most
    #[arg(long, short, default_value_t = 20)]
    num: usize,
    #[command(flatten)]
    format: FormatArg,
}

/// `builds:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    app: AppArg,
    /// The build's number
    build: BuildId,
    #[command(flatten)]
    format: FormatArg,
}

/// `builds:output`.
#[derive(Debug, Args)]
pub(super) struct Output {
    #[command(flatten)]
    app: AppArg,
    /// The build's number; the newest if none or `current`
    build: Option<String>,
}

/// `builds:cancel`.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    #[command(flatten)]
    app: AppArg,
    /// The build's number; the one going on if none
    build: Option<BuildId>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(context, args).await,
            Self::Info(args) => info(context, args).await,
            Self::Output(args) => output(context, args).await,
            Self::Cancel(args) => cancel(context, args).await,
        }
    }
}

async fn builds(context: &Context, app: &AppName, num: usize) -> Result<Vec<BuildReport>, Failure> {
    context.client.get(&format!("/apps/{app}/builds?limit={num}")).await
}

async fn list(context: &mut Context, args: List) -> Result<(), Failure> {
    let builds = builds(context, &args.app.app, args.num).await?;
    if args.format.format == Format::Json {
        return context.out.json(&builds);
    }
    context.out.header(&format!("{} builds", args.app.app))?;
    context.out.text(&table(&builds).render())
}

fn table(builds: &[BuildReport]) -> Table {
    let mut table = Table::new(&["BUILD", "STATUS", "RELEASE", "COMMIT", "CREATED", "TOOK", "BY"]);
    for BuildReport { build, .. } in builds {
        table.row([
            build.id.to_string(),
            status(build.status).to_owned(),
            build.release.map(|release| release.to_string()).unwrap_or_default(),
            build.commit.chars().take(8).collect(),
            time(build.created_at),
            took(build).map(span).unwrap_or_default(),
            build.actor.to_string(),
        ]);
    }
    table
}

fn status(status: BuildStatus) -> &'static str {
    match status {
        BuildStatus::Queued => "queued",
        BuildStatus::Running => "running",
        BuildStatus::Succeeded => "succeeded",
        BuildStatus::Failed => "failed",
        BuildStatus::Canceled => "canceled",
    }
}

fn took(build: &Build) -> Option<Duration> {
    build.finished_at.map(|end| end.since(build.created_at))
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let path = format!("/apps/{}/builds/{}", args.app.app, args.build);
    let build: BuildReport = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&build),
        Format::Text => report(&args.app.app, &build).print(&mut context.out, None),
    }
}

fn report(app: &AppName, told: &BuildReport) -> Report {
    let build = &told.build;
    let mut report = Report::new(format!("{app} build {}", build.id));
    report.row("Status", status(build.status));
    if let Some(failure) = &build.failure {
        report.row("Failure", failure);
    }
    if let Some(hint) = &told.hint {
        report.row("What to do", hint);
    }
    report.row("Commit", &build.commit);
    report.row("Subject", &told.subject);
    report.row("Created at", time(build.created_at));
    report.row("Created by", &build.actor);
    report.row("Finished at", build.finished_at.map(time).unwrap_or_default());
    report.row("Took", took(build).map(span).unwrap_or_default());
    report.row("Release", build.release.map(|release| release.to_string()).unwrap_or_default());
    for stage in told.stages.iter() {
        let took = stage.finished_at.map(|end| span(end.since(stage.started_at)));
        let (status, took) = (stage.status.as_str(), took.unwrap_or_default());
        report.row(
            format!("Stage {}", stage.stage.title().to_lowercase()),
            format!("{status} {took}"),
        );
    }
    report
}

async fn output(context: &mut Context, args: Output) -> Result<(), Failure> {
    let app = args.app.app;
    let id = match args.build.as_deref() {
        None | Some("current") => {
            let newest = builds(context, &app, 1).await?.into_iter().next();
            newest.map(|told| told.build.id).ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("app `{app}` has no builds"))
                    .hint("`git push` makes one")
            })?
        }
        Some(id) => id.parse()?,
    };
    let out = &mut context.out;
    let path = format!("/apps/{app}/builds/{id}/output");
    context.client.operation(Method::GET, &path, &(), |line| out.line(line)).await
}

async fn cancel(context: &mut Context, args: Cancel) -> Result<(), Failure> {
    let path = format!("/apps/{}/builds/cancel", args.app.app);
    let request = CancelBuild { id: args.build };
    let build: Build = context.client.send(Method::POST, &path, &request).await?;
    context.out.step(&format!("Build {} is {}", build.id, status(build.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actor, AppId, BuildStages, ReleaseVersion, Timestamp};

    #[test]
    fn builds_are_listed_with_what_they_became() {
        let mut build = Build {
            id: BuildId(7),
            app: AppId(1),
            commit: "1a2b3c4d5e6f".into(),
            actor: Actor::new("alice", "ssh"),
            status: BuildStatus::Succeeded,
            failure: None,
            created_at: Timestamp(1_767_323_045_000),
            finished_at: Some(Timestamp(1_767_323_057_300)),
            release: Some(ReleaseVersion(3)),
        };
        let done = build.clone();
        build.id = BuildId(8);
        (build.status, build.finished_at, build.release) = (BuildStatus::Running, None, None);
        let expected = "\
BUILD  STATUS     RELEASE  COMMIT    CREATED               TOOK  BY
8      running             1a2b3c4d  2026-01-02T03:04:05Z        alice
7      succeeded  v3       1a2b3c4d  2026-01-02T03:04:05Z  12s   alice";
        let told = |build| BuildReport {
            build,
            subject: String::new(),
            stages: BuildStages::default(),
            hint: None,
        };
        assert_eq!(table(&[told(build), told(done)]).render(), expected);
    }
}
