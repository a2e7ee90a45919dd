//! `cron:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, span, time};
use crate::domain::{AppName, CronOutcome, CronRun, CronTaskId};
use crate::wire::{
    CronChange, CronReport, CronRunRequest, CronTaskReport, GlobalCronReport, Switch,
};

/// `cron:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists an app's tasks, which are in its `app.json`
    List(ListArgs),
    /// Shows how an app's tasks go
    Report(ReportArgs),
    /// Shows the last runs of an app's tasks
    History(History),
    /// Runs a task now, and shows what it prints
    Run(Run),
    /// Stops a task from running by schedule
    Suspend(TaskArgs),
    /// Lets a task run by schedule again
    Resume(TaskArgs),
    /// Sets a property: maintenance (true: no task runs by schedule); without a value, its default
    Set(Set),
}

/// `cron:list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    format: FormatArg,
}

/// A task of an app.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    #[command(flatten)]
    app: AppArg,
    /// The task, by its id as `cron:list` shows it
    cron_id: CronTaskId,
}

/// `cron:history`.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    app: AppArg,
    /// Only this task
    cron_id: Option<CronTaskId>,
    /// How many of the last runs
    #[arg(long, short, default_value_t = 20)]
    num: usize,
    #[command(flatten)]
    format: FormatArg,
}

/// `cron:run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    task: TaskArgs,
    /// Does not wait for its end
    #[arg(long)]
    detach: bool,
    /// How long it may take, if less than its own timeout
    #[arg(long, value_name = "seconds")]
    ttl_seconds: Option<u32>,
}

/// `cron:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// For all apps; no app is named then
    #[arg(long)]
    global: bool,
    /// The app
    app: String,
    /// The property: maintenance
    #[arg(required_unless_present = "global")]
    key: Option<String>,
    /// `true` or `false`
    value: Option<String>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(context, args).await,
            Self::Report(args) => context.report(&args, "/cron", report).await,
            Self::History(args) => history(context, args).await,
            Self::Run(args) => run(context, args).await,
            Self::Suspend(args) => switch(context, args, false).await,
            Self::Resume(args) => switch(context, args, true).await,
            Self::Set(args) => set(context, args).await,
        }
    }
}

async fn list(context: &mut Context, args: ListArgs) -> Result<(), Failure> {
    let report: CronReport = context.client.get(&format!("/apps/{}/cron", args.app.app)).await?;
    match args.format.format {
        Format::Json => context.out.json(&report.tasks),
        Format::Text => context.out.text(&tasks(&report.tasks).render()),
    }
}

async fn history(context: &mut Context, args: History) -> Result<(), Failure> {
    let mut path = format!("/apps/{}/cron/runs?num={}", args.app.app, args.num);
    if let Some(task) = &args.cron_id {
        path.push_str(&format!("&task={task}"));
    }
    let found: Vec<CronRun> = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&found),
        Format::Text => context.out.text(&runs(&found).render()),
    }
}

async fn run(context: &mut Context, args: Run) -> Result<(), Failure> {
    let TaskArgs { app: AppArg { app }, cron_id } = args.task;
    let path = format!("/apps/{app}/cron/{cron_id}/run");
    let request = CronRunRequest { detach: args.detach, ttl_seconds: args.ttl_seconds };
    let run: CronRun = context.operation(Method::POST, &path, &request).await?;
    match (run.outcome, run.exit_code) {
        (CronOutcome::Succeeded, _) => Ok(()),
        (CronOutcome::Running, _) => {
            context.out.step(&format!("Started run {} of {cron_id}; it goes on", run.id))
        }
        (CronOutcome::Failed, Some(code)) if run.message.is_none() => {
            Err(Failure::Silent(u8::try_from(code).unwrap_or(1)))
        }
        (outcome, _) => {
            let why = run.message.unwrap_or_else(|| outcome.as_str().to_owned());
            Err(Failure::new(super::exit::Exit::Failed, format!("task {cron_id} failed: {why}")))
        }
    }
}

async fn switch(context: &mut Context, args: TaskArgs, enabled: bool) -> Result<(), Failure> {
    let TaskArgs { app: AppArg { app }, cron_id } = args;
    let doing = if enabled { "Resuming" } else { "Suspending" };
    context.out.step(&format!("{doing} cron task {cron_id} of {app}"))?;
    let path = format!("/apps/{app}/cron/{cron_id}/active");
    let _: CronReport = context.client.send(Method::PUT, &path, &Switch { enabled }).await?;
    Ok(())
}

async fn set(context: &mut Context, args: Set) -> Result<(), Failure> {
    let Set { global, app, key, value } = args;
    // With `--global` no app is named, so that the property comes first.
    let (app, key, value) = match (global, key) {
        (true, first) => (None, app, first),
        (false, Some(key)) => (Some(app.parse::<AppName>()?), key, value),
        (false, None) => return Err(Failure::usage("`cron:set` needs the name of a property")),
    };
    let doing = match &value {
        Some(value) => format!("Setting {key} to {value}"),
        None => format!("Unsetting {key}"),
    };
    let change = CronChange { key, value };
    match app {
        Some(app) => {
            let path = format!("/apps/{app}/cron");
            let _: CronReport = context.client.send(Method::PATCH, &path, &change).await?;
        }
        None => {
            let _: GlobalCronReport = context.client.send(Method::PATCH, "/cron", &change).await?;
        }
    }
    context.out.step(&doing)
}

fn tasks(tasks: &[CronTaskReport]) -> Table {
    let mut table = Table::new(&["ID", "SCHEDULE", "SUSPENDED", "NEXT", "LAST", "COMMAND"]);
    for task in tasks {
        table.row([
            task.id.to_string(),
            task.task.schedule.to_string(),
            task.suspended.to_string(),
            task.next_run.map_or_else(|| "-".to_owned(), time),
            task.last_run.as_ref().map_or("-", |run| run.outcome.as_str()).to_owned(),
            task.task.command.clone(),
        ]);
    }
    table
}

fn runs(runs: &[CronRun]) -> Table {
    let mut table =
        Table::new(&["RUN", "ID", "STARTED", "TOOK", "RELEASE", "OUTCOME", "EXIT", "WHY"]);
    for run in runs {
        let took = run.finished_at.map(|end| span(end.since(run.started_at)));
        table.row([
            run.id.to_string(),
            run.task.to_string(),
            time(run.started_at),
            took.unwrap_or_else(|| "-".to_owned()),
            run.release.to_string(),
            run.outcome.as_str().to_owned(),
            run.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            run.message.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn report(app: &AppName, cron: &CronReport) -> Report {
    let mut report = Report::new(format!("{app} cron information"));
    report.row("Cron maintenance", cron.maintenance);
    report.row("Cron global maintenance", cron.global_maintenance);
    report.row("Cron task count", cron.tasks.len());
    for task in &cron.tasks {
        report.row(format!("Cron task {}", task.id), described(task));
    }
    report
}

fn described(task: &CronTaskReport) -> String {
    let last = match &task.last_run {
        None => "not run yet".to_owned(),
        Some(run) => format!("last {} at {}", run.outcome.as_str(), time(run.started_at)),
    };
    let next = match task.next_run {
        None => "suspended".to_owned(),
        Some(at) => format!("next at {}", time(at)),
    };
    let schedule = &task.task.schedule;
    format!("`{}` ({schedule}): {last}, {next}, missed {}", task.task.command, task.missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::domain::{ConcurrencyPolicy, CronTask, Millis, Timestamp};

    #[test]
    fn tasks_are_reported_with_their_last_and_next_run() {
        let task = CronTask {
            command: "rake tidy".into(),
            schedule: "@daily".parse().unwrap(),
            concurrency_policy: ConcurrencyPolicy::Forbid,
            timeout: Millis(1000),
            maintenance: false,
        };
        let cron = CronReport {
            maintenance: false,
            global_maintenance: false,
            tasks: vec![CronTaskReport {
                id: "0a1b2c3d".parse().unwrap(),
                task,
                suspended: false,
                next_run: Some(Timestamp(1_767_323_045_678)),
                missed: 2,
                last_run: None,
            }],
        };
        let expected = "\
=====> shop cron information
       Cron maintenance:              false
       Cron global maintenance:       false
       Cron task count:               1
       Cron task 0a1b2c3d:            `rake tidy` (@daily): not run yet, next at 2026-01-02T03:04:05Z, missed 2";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &cron)), expected);
    }
}
