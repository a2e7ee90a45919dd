//! `host:*`.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, Report as Rows, bytes, printable, span};
use crate::wire::{CheckStatus, HostCheck, HostReport};

/// `host:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows how the machine stands, and what to do where it does not stand well
    Report(Report),
}

/// `host:report`.
#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self::Report(Report { format }) = self;
        let report: HostReport = context.client.get("/host").await?;
        if format.format == Format::Json {
            return context.out.json(&report);
        }
        rows(&report).print(&mut context.out, None)?;
        context.out.line("")?;
        report.checks.iter().try_for_each(|check| context.out.text(&line(check)))
    }
}

fn rows(report: &HostReport) -> Rows {
    let mut rows = Rows::new(format!("{} host information", printable(&report.name)));
    rows.row("System", format!("{}, kernel {}", report.system, report.kernel));
    rows.row("Up for", span(std::time::Duration::from_secs(report.uptime_s)));
    let used = report.cpu_used.map_or("-".into(), |used| format!("{used:.2}"));
    rows.row("Processors", format!("{used} of {} in use", report.cpus));
    let [one, five, fifteen] = report.load;
    rows.row("Load", format!("{one:.2} {five:.2} {fifteen:.2}"));
    let memory = &report.memory;
    let (total, free) = (memory.total_bytes, memory.available_bytes);
    rows.row("Memory", format!("{} of {} can be had", bytes(free), bytes(total)));
    for disk in &report.disks {
        let label = format!("Disk {}", disk.paths.join(" "));
        let (free, total) = (bytes(disk.free_bytes), bytes(disk.total_bytes));
        rows.row(label, format!("{free} of {total} free"));
    }
    for listener in &report.listeners {
        rows.row(format!("Listens for {}", listener.purpose), listener.address);
    }
    for component in &report.versions {
        rows.row(format!("Version of {}", component.name), &component.version);
    }
    for role in &report.footprint.roles {
        let (count, memory) = (role.processes, bytes(role.memory_bytes));
        rows.row(format!("Memory of {}", role.role), format!("{memory} ({count} processes)"));
    }
    rows.row("Metrics file", bytes(report.footprint.metrics_bytes));
    for feature in &report.features {
        let there = if feature.available { "yes" } else { "no" };
        rows.row(format!("Kernel {}", feature.name), format!("{there}: {}", feature.detail));
    }
    rows
}

fn line(check: &HostCheck) -> String {
    let status = match check.status {
        CheckStatus::Ok => "ok  ",
        CheckStatus::Warn => "warn",
        CheckStatus::Fail => "fail",
    };
    let remedy = check.remedy.as_ref().map(|remedy| format!("\n      {}", printable(remedy)));
    format!("{status}  {}{}", printable(&check.sentence), remedy.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_says_what_to_do() {
        let check = HostCheck {
            code: "x".into(),
            status: CheckStatus::Fail,
            sentence: "it is full".into(),
            remedy: Some("make room".into()),
        };
        assert_eq!(line(&check), "fail  it is full\n      make room");
        let fine = HostCheck { status: CheckStatus::Ok, remedy: None, ..check };
        assert_eq!(line(&fine), "ok    it is full");
    }
}
