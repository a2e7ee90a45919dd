//! `resource:*`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context, ReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report};
use crate::domain::{AppName, Bytes, MilliCpus, ProcessType, Resources};
use crate::wire::{QuotaRequest, ResourceChange, ResourceReport, ResourceScope};

/// `resource:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Limits what instances may use, at once and without a restart; without options, shows it
    Limit(Quota),
    /// Removes limits that were set; the platform's defaults are in force again
    LimitClear(Scope),
    /// Keeps memory for instances; without options, shows it
    Reserve(Quota),
    /// Removes reservations
    ReserveClear(Scope),
    /// Shows an app's quotas
    Report(ReportArgs),
}

/// What a quota is about.
#[derive(Debug, Args)]
pub(super) struct Scope {
    #[command(flatten)]
    app: AppArg,
    /// Only instances of this type; `build` for builds
    #[arg(long)]
    process_type: Option<ProcessType>,
    /// All instances of the app together
    #[arg(long, conflicts_with = "process_type")]
    total: bool,
}

/// `resource:limit` and `resource:reserve`.
#[derive(Debug, Args)]
pub(super) struct Quota {
    #[command(flatten)]
    scope: Scope,
    /// Memory: `512m`, `1g`; `clear` removes the setting
    #[arg(long, value_parser = setting::<Bytes>)]
    memory: Option<Setting<Bytes>>,
    /// Processors: `0.5`, `2`; `clear` removes the setting
    #[arg(long, value_parser = setting::<MilliCpus>)]
    cpu: Option<Setting<MilliCpus>>,
    /// Processes and threads; `clear` removes the setting
    #[arg(long, value_parser = setting::<u32>)]
    pids: Option<Setting<u32>>,
    #[command(flatten)]
    format: FormatArg,
}

/// A value, or none for `clear`.
#[derive(Debug, Clone, Copy)]
struct Setting<T>(Option<T>);

fn setting<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Setting<T>, String> {
    match text {
        "clear" => Ok(Setting(None)),
        text => text.parse().map(Some).map(Setting).map_err(|error: T::Err| error.to_string()),
    }
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let clear = ResourceChange { memory: Some(None), cpu: Some(None), pids: Some(None) };
        match self {
            Self::Limit(quota) => set(context, quota, "limits", limit_rows).await,
            Self::Reserve(quota) => set(context, quota, "reservations", reserve_rows).await,
            Self::LimitClear(scope) => {
                context.out.step(&format!("Clearing limits of {}", scope.app.app))?;
                send(context, scope, "limits", clear).await.map(drop)
            }
            Self::ReserveClear(scope) => {
                context.out.step(&format!("Clearing reservations of {}", scope.app.app))?;
                send(context, scope, "reservations", clear).await.map(drop)
            }
            Self::Report(args) => context.report(&args, "/resources", report).await,
        }
    }
}

async fn set(
    context: &mut Context,
    quota: Quota,
    what: &str,
    rows: fn(&mut Report, &ResourceReport),
) -> Result<(), Failure> {
    let change = ResourceChange {
        memory: quota.memory.map(|setting| setting.0),
        cpu: quota.cpu.map(|setting| setting.0),
        pids: quota.pids.map(|setting| setting.0),
    };
    let app = quota.scope.app.app.clone();
    let resources: ResourceReport = match change == ResourceChange::default() {
        true => context.client.get(&format!("/apps/{app}/resources")).await?,
        false => {
            context.out.step(&format!("Setting resource {what} of {app}"))?;
            send(context, quota.scope, what, change).await?
        }
    };
    if quota.format.format == Format::Json {
        return context.out.json(&resources);
    }
    let mut report = Report::new(format!("{app} resource {what}"));
    rows(&mut report, &resources);
    report.print(&mut context.out, None)
}

async fn send(
    context: &Context,
    scope: Scope,
    what: &str,
    change: ResourceChange,
) -> Result<ResourceReport, Failure> {
    let path = format!("/apps/{}/resources/{what}", scope.app.app);
    let scope = match (scope.total, scope.process_type) {
        (true, _) => ResourceScope::App,
        (false, Some(process_type)) => ResourceScope::Type(process_type),
        (false, None) => ResourceScope::Default,
    };
    context.client.send(Method::PATCH, &path, &QuotaRequest { scope, change }).await
}

fn report(app: &AppName, resources: &ResourceReport) -> Report {
    let mut report = Report::new(format!("{app} resource information"));
    limit_rows(&mut report, resources);
    reserve_rows(&mut report, resources);
    report
}

fn limit_rows(report: &mut Report, resources: &ResourceReport) {
    for (process_type, limits) in &resources.effective {
        quota_rows(report, process_type.as_str(), "limit", limits);
    }
    quota_rows(report, "total", "limit", &resources.effective_app);
}

fn reserve_rows(report: &mut Report, resources: &ResourceReport) {
    for (process_type, reserved) in &resources.settings.reserved {
        quota_rows(report, process_type.as_str(), "reserve", reserved);
    }
}

fn quota_rows(report: &mut Report, whose: &str, what: &str, quota: &Resources) {
    let text = |value: Option<String>| value.unwrap_or_default();
    report.row(format!("{whose} {what} cpu"), text(quota.cpu.map(|cpu| cpu.to_string())));
    report.row(format!("{whose} {what} memory"), text(quota.memory.map(|size| size.to_string())));
    report.row(format!("{whose} {what} pids"), text(quota.pids.map(|pids| pids.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;
    use crate::domain::ResourceSettings;

    #[test]
    fn limits_in_force_are_reported_by_type_and_in_total() {
        let resources = ResourceReport {
            settings: ResourceSettings::default(),
            effective: vec![(ProcessType::web(), Resources::INSTANCE_DEFAULT)],
            effective_app: Resources::APP_DEFAULT,
        };
        let expected = "\
=====> shop resource information
       web limit cpu:                 1
       web limit memory:              512m
       web limit pids:                512
       total limit cpu:
       total limit memory:            4g
       total limit pids:              4096";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &resources)), expected);
    }

    #[test]
    fn clear_is_a_value() {
        assert!(setting::<Bytes>("clear").unwrap().0.is_none());
        assert_eq!(setting::<Bytes>("1g").unwrap().0, Some(Bytes(1 << 30)));
        assert!(setting::<Bytes>("much").unwrap_err().contains("such as `512m`"));
    }
}
