//! `releases:*` and `rollback`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, time};
use crate::domain::{ReleaseStatus, ReleaseVersion};
use crate::wire::{AppReport, ReleaseDiff, ReleaseReport, RollbackRequest};

/// `releases:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists an app's releases, newest first
    List(List),
    /// Shows what is in a release
    Info(Info),
    /// Shows what a release changed; of config vars only names
    Diff(Diff),
}

/// `releases:list`.
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

/// `releases:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    app: AppArg,
    /// The release, such as `v7`
    release: ReleaseVersion,
    #[command(flatten)]
    format: FormatArg,
}

/// `releases:diff`.
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    app: AppArg,
    /// The release, such as `v7`
    release: ReleaseVersion,
    /// The release to compare with; the last good one before it if none
    before: Option<ReleaseVersion>,
    #[command(flatten)]
    format: FormatArg,
}

/// `rollback`.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    app: AppArg,
    /// The release to go back to; the last good one before the current if none
    release: Option<ReleaseVersion>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(context, args).await,
            Self::Info(args) => info(context, args).await,
            Self::Diff(args) => diff(context, args).await,
        }
    }
}

async fn list(context: &mut Context, args: List) -> Result<(), Failure> {
    let app = args.app.app;
    let path = format!("/apps/{app}/releases?limit={}", args.num);
    let releases: Vec<ReleaseReport> = context.client.get(&path).await?;
    if args.format.format == Format::Json {
        return context.out.json(&releases);
    }
    let current: AppReport = context.client.get(&format!("/apps/{app}")).await?;
    context.out.header(&format!("{app} releases"))?;
    context.out.text(&table(&releases, current.app.current_release).render())
}

fn table(releases: &[ReleaseReport], current: Option<ReleaseVersion>) -> Table {
    let mut table = Table::new(&["RELEASE", "STATUS", "CREATED", "BY", "DESCRIPTION"]);
    for release in releases {
        let status = match current == Some(release.version) {
            true => "current",
            false => status(release.status),
        };
        table.row([
            release.version.to_string(),
            status.to_owned(),
            time(release.created_at),
            release.actor.to_string(),
            release.description.clone(),
        ]);
    }
    table
}

fn status(status: ReleaseStatus) -> &'static str {
    match status {
        ReleaseStatus::Deploying => "deploying",
        ReleaseStatus::Succeeded => "succeeded",
        ReleaseStatus::Failed => "failed",
    }
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let path = format!("/apps/{}/releases/{}", args.app.app, args.release);
    let release: ReleaseReport = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&release),
        Format::Text => report(args.app.app.as_str(), &release).print(&mut context.out, None),
    }
}

fn report(app: &str, release: &ReleaseReport) -> Report {
    let mut report = Report::new(format!("{app} release {}", release.version));
    report.row("Description", &release.description);
    report.row("Status", status(release.status));
    if let Some(failure) = &release.failure {
        report.row("Failure", failure);
    }
    report.row("Created at", time(release.created_at));
    report.row("Created by", &release.actor);
    report.row("Commit", release.commit.as_deref().unwrap_or_default());
    report.row("Build", release.build.map(|build| build.to_string()).unwrap_or_default());
    report.row("Image", &release.image);
    for (process_type, command) in &release.processes {
        let count = release.formation.count(process_type);
        report.row(
            format!("Process {process_type}"),
            format!("{count} × {}", command.args.join(" ")),
        );
    }
    let keys: Vec<_> = release.config.iter().map(ToString::to_string).collect();
    report.row("Config vars", keys.join(" "));
    report
}

async fn diff(context: &mut Context, args: Diff) -> Result<(), Failure> {
    let before = args.before.map(|before| format!("?before={before}")).unwrap_or_default();
    let path = format!("/apps/{}/releases/{}/diff{before}", args.app.app, args.release);
    let diff: ReleaseDiff = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&diff),
        Format::Text => {
            let title = format!("{} release {}", args.app.app, args.release);
            diff_report(title, &diff).print(&mut context.out, None)
        }
    }
}

fn diff_report(title: String, diff: &ReleaseDiff) -> Report {
    let before = diff.before.map_or("nothing".to_owned(), |version| version.to_string());
    let mut report = Report::new(format!("{title} against {before}"));
    if let Some(change) = &diff.commit {
        let text = |commit: &Option<String>| commit.clone().unwrap_or_else(|| "none".into());
        report.row("Commit", format!("{} -> {}", text(&change.before), text(&change.after)));
    }
    if let Some(change) = &diff.image {
        report.row("Image", format!("{} -> {}", change.before, change.after));
    }
    let keys = |keys: &[crate::domain::EnvKey]| {
        keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    report.row("Config vars added", keys(&diff.config_added));
    report.row("Config vars changed", keys(&diff.config_changed));
    report.row("Config vars removed", keys(&diff.config_removed));
    let text = |command: &Option<crate::domain::Command>| {
        command.as_ref().map_or("none".to_owned(), |command| command.args.join(" "))
    };
    for change in &diff.processes {
        let text = format!("{} -> {}", text(&change.before), text(&change.after));
        report.row(format!("Process {}", change.process_type), text);
    }
    for change in &diff.formation {
        let text = format!("{} -> {}", change.before, change.after);
        report.row(format!("Instances of {}", change.process_type), text);
    }
    let others = [("quotas", diff.resources), ("volumes", diff.mounts), ("cron", diff.cron)];
    let others: Vec<_> = others.iter().filter(|(_, other)| *other).map(|(name, _)| *name).collect();
    report.row("Also changed", others.join(" "));
    report
}

impl Rollback {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let app = self.app.app;
        let request = RollbackRequest { version: self.release };
        let path = format!("/apps/{app}/rollback");
        let _: ReleaseVersion = context.operation(Method::POST, &path, &request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{release_report, rendered};

    #[test]
    fn the_release_that_serves_is_marked() {
        let mut failed = release_report(4);
        failed.status = ReleaseStatus::Failed;
        let table = table(&[failed, release_report(3)], Some(ReleaseVersion(3)));
        let expected = "\
RELEASE  STATUS   CREATED               BY     DESCRIPTION
v4       failed   2026-01-02T03:04:05Z  alice  Deploy 1a2b3c4
v3       current  2026-01-02T03:04:05Z  alice  Deploy 1a2b3c4";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_difference_is_shown_by_names() {
        let diff = ReleaseDiff {
            before: Some(ReleaseVersion(2)),
            config_added: vec!["TOKEN".parse().unwrap()],
            cron: true,
            ..ReleaseDiff::default()
        };
        let expected = "\
=====> shop release v3 against v2
       Config vars added:             TOKEN
       Config vars changed:
       Config vars removed:
       Also changed:                  cron";
        assert_eq!(rendered(&diff_report("shop release v3".into(), &diff)), expected);
    }

    #[test]
    fn a_release_is_reported_with_names_of_vars_only() {
        let expected = "\
=====> shop release v3
       Description:                   Deploy 1a2b3c4
       Status:                        succeeded
       Created at:                    2026-01-02T03:04:05Z
       Created by:                    alice
       Commit:                        1a2b3c4d
       Build:                         7
       Image:                         sha256:abc
       Process web:                   1 × node server.js
       Config vars:                   TOKEN";
        assert_eq!(rendered(&report("shop", &release_report(3))), expected);
    }
}
