//! `ps:*`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde::de::DeserializeOwned;

use super::apps::status;
use super::context::{AppArg, Context, ReportArgs};
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Report, bytes, time};
use crate::domain::{AppName, ProcessType, ReleaseVersion};
use crate::wire::{
    AppReport, AppStatus, InstanceReport, InstanceStatus, ProcessReport, ScaleRequest,
};

/// `ps:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows, or sets, how many instances of each process type run
    Scale(Scale),
    /// Shows an app's instances and what they use
    Report(ReportArgs),
    /// Starts a stopped app
    Start(Apps),
    /// Stops an app until it is started again
    Stop(Apps),
    /// Replaces all instances by new ones, without dropping a request
    Restart(Apps),
    /// Builds the last pushed commit again and deploys it
    Rebuild(Apps),
}

/// `ps:scale`.
#[derive(Debug, Args)]
pub(super) struct Scale {
    #[command(flatten)]
    app: AppArg,
    /// `web=2`, any number of them; none: show the counts
    #[arg(value_name = "type=count")]
    counts: Vec<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// One app or all.
#[derive(Debug, Args)]
pub(super) struct Apps {
    /// The app
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    app: Option<AppName>,
    /// All apps that have been deployed, one after the other
    #[arg(long)]
    all: bool,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Scale(args) => scale(context, args).await,
            Self::Report(args) => context.report(&args, "/processes", report).await,
            Self::Start(apps) => each::<()>(context, apps, "start").await,
            Self::Stop(apps) => each::<()>(context, apps, "stop").await,
            Self::Restart(apps) => each::<()>(context, apps, "restart").await,
            Self::Rebuild(apps) => each::<ReleaseVersion>(context, apps, "rebuild").await,
        }
    }
}

async fn scale(context: &mut Context, args: Scale) -> Result<(), Failure> {
    let app = args.app.app;
    let path = format!("/apps/{app}/processes");
    if args.counts.is_empty() {
        let report: ProcessReport = context.client.get(&path).await?;
        return match args.format.format {
            Format::Json => context.out.json(&report.scale),
            Format::Text => context.out.text(&scale_table(&app, &report)),
        };
    }
    let counts = args.counts.iter().map(|text| parse_count(text)).collect::<Result<_, _>>()?;
    let _: Option<ReleaseVersion> =
        context.operation(Method::PATCH, &path, &ScaleRequest { counts }).await?;
    Ok(())
}

fn scale_table(app: &AppName, report: &ProcessReport) -> String {
    let mut text = format!("-----> Scaling for {app}\nproctype: qty\n--------: ---");
    for (process_type, count) in &report.scale {
        text.push_str(&format!("\n{process_type}:  {count}"));
    }
    text
}

fn parse_count(text: &str) -> Result<(ProcessType, u32), Failure> {
    let wrong = || Failure::usage(format!("`{text}` is not of the form `web=2`"));
    let (process_type, count) = text.split_once('=').ok_or_else(wrong)?;
    Ok((process_type.parse()?, count.parse().map_err(|_| wrong())?))
}

/// The apps that have something to start or stop.
async fn deployed_apps(context: &Context) -> Result<Vec<AppName>, Failure> {
    let apps: Vec<AppReport> = context.client.get("/apps").await?;
    let deployed = apps.into_iter().filter(|report| report.app.current_release.is_some());
    Ok(deployed.map(|report| report.app.name).collect())
}

/// Does `verb` for the app, or for all; with all, one app's failure does not keep the others from it.
async fn each<T: DeserializeOwned>(
    context: &mut Context,
    apps: Apps,
    verb: &str,
) -> Result<(), Failure> {
    let all = apps.all;
    let apps = match apps.app {
        Some(app) => vec![app],
        None => deployed_apps(context).await?,
    };
    let mut failed = Vec::new();
    for app in apps {
        let path = format!("/apps/{app}/{verb}");
        match context.operation::<_, T>(Method::POST, &path, &()).await {
            Ok(_) => {}
            Err(failure) if all => {
                failure.report(context.settings.colors);
                failed.push(app.to_string());
            }
            Err(failure) => return Err(failure),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, format!("not done: {}", failed.join(", ")))),
    }
}

fn report(app: &AppName, processes: &ProcessReport) -> Report {
    let mut report = Report::new(format!("{app} ps information"));
    let running = processes.instances.iter().filter(|i| i.status == InstanceStatus::Running);
    let running = match running.count() {
        0 => "false",
        count if count == processes.instances.len() => "true",
        _ => "mixed",
    };
    report.row("Deployed", processes.status != AppStatus::Created);
    report.row("Processes", processes.instances.len());
    report.row("Running", running);
    report.row("Ps status", status(processes.status));
    for instance in &processes.instances {
        let name = &instance.name;
        let label = format!("{} {}", name.process_type, name.index);
        let id: String = instance.container.chars().take(11).collect();
        let status = instance_status(instance.status);
        report.row(format!("Status {label}"), format!("{status} (CID: {id})"));
        report.row(format!("Details {label}"), details(instance));
    }
    report
}

fn instance_status(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::Starting => "starting",
        InstanceStatus::Running => "running",
        InstanceStatus::Crashed => "crashed",
        InstanceStatus::Retiring => "retiring",
    }
}

/// What is worth knowing about an instance, most important first.
fn details(instance: &InstanceReport) -> String {
    let mut parts =
        vec![instance.release.to_string(), format!("started {}", time(instance.started_at))];
    if let Some(used) = instance.memory_bytes {
        parts.push(format!("memory {}", bytes(used)));
    }
    if let Some(used) = instance.cpu_ms {
        parts.push(format!("cpu {}", milliseconds(used)));
    }
    if let Some(waited) = instance.throttled_ms.filter(|waited| *waited > 0) {
        parts.push(format!("throttled {}", milliseconds(waited)));
    }
    if instance.restarts > 0 {
        parts.push(format!("restarts {}", instance.restarts));
    }
    if let Some(exit) = &instance.last_exit {
        parts.push(format!("last exit: {exit}"));
    }
    parts.join(", ")
}

fn milliseconds(count: u64) -> String {
    super::output::span(std::time::Duration::from_millis(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{app_report, rendered};

    fn processes() -> ProcessReport {
        let scale = vec![(ProcessType::web(), 1), ("worker".parse().unwrap(), 0)];
        ProcessReport { scale, status: AppStatus::Running, instances: app_report().instances }
    }

    #[test]
    fn the_scale_has_dokkus_shape() {
        let expected = "\
-----> Scaling for shop
proctype: qty
--------: ---
web:  1
worker:  0";
        assert_eq!(scale_table(&"shop".parse().unwrap(), &processes()), expected);
    }

    #[test]
    fn an_instance_is_reported_with_what_it_uses() {
        let expected = "\
=====> shop ps information
       Deployed:                      true
       Processes:                     1
       Running:                       true
       Ps status:                     running
       Status web 1:                  running (CID: shop-web-1-)
       Details web 1:                 v3, started 2026-01-02T03:04:05Z, memory 40.1 MiB, cpu \
            1.2s, restarts 1, last exit: out of memory: used its 512m";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &processes())), expected);
    }

    #[test]
    fn counts_are_read() {
        assert_eq!(parse_count("web=2").unwrap(), (ProcessType::web(), 2));
        for bad in ["web", "web=", "web=-1", "web=x", "=2"] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }
}
