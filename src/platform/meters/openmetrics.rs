//! What is counted, for monitoring systems.
//!
//! Sums of apps are those of the newest sample, so that asking costs nothing; the proxy is asked anew.

use std::collections::BTreeMap;

use super::book::Totals;
use super::fields::{host, usage};
use super::{HOST, Platform, series_of_instance};
use crate::domain::{AppId, AppName, ProcessType};
use crate::platform::{AppReport, AppStatus};
use crate::proxy;
use crate::support::openmetrics::{Kind, Page, seconds};
use crate::support::report;

/// All states, in the order of an app's life.
const STATES: [AppStatus; 6] = [
    AppStatus::Created,
    AppStatus::Deploying,
    AppStatus::Running,
    AppStatus::Degraded,
    AppStatus::Crashed,
    AppStatus::Stopped,
];

/// Totals of one process type of one app, under its name now.
type Line<'a> = (&'a AppName, &'a ProcessType, &'a Totals);

impl Platform {
    /// All counters as OpenMetrics text. A proxy that does not answer is a value in it, not an
    /// error: whoever watches wants to see it.
    pub async fn metrics(&self) -> String {
        let answers = self.measure_proxy().await;
        let apps = self.apps().await.unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "list the apps for a monitoring system");
            Vec::new()
        });
        let mut page = Page::default();
        page.family("staithe", Kind::Info, "The control plane.");
        page.sample("_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let names: BTreeMap<AppId, &AppName> =
            apps.iter().map(|report| (report.app.id, &report.app.name)).collect();
        let state = self.0.meters.lock();
        let mut counted = state.book.proxy();
        if let Some(counted) = &mut counted {
            counted.tidy(|app| names.values().any(|name| *name == app));
        }
        proxy::openmetrics::write(&mut page, answers, counted.as_ref());
        write_apps(&mut page, &apps);
        let totals: Vec<Line<'_>> = state
            .book
            .totals
            .iter()
            .filter_map(|(app, types)| Some((*names.get(app)?, types)))
            .flat_map(|(name, types)| types.iter().map(move |(kind, totals)| (name, kind, totals)))
            .collect();
        write_totals(&mut page, &totals);
        write_memory(&mut page, &apps, &state.newest.rows);
        write_builds(&mut page, &names, &state.book.builds);
        if let Some(row) = state.newest.rows.get(HOST) {
            write_host(&mut page, row);
        }
        page.finish()
    }
}

fn write_apps(page: &mut Page, apps: &[AppReport]) {
    page.family("staithe_app_state", Kind::StateSet, "How an app stands.");
    for report in apps {
        for state in STATES {
            let labels = [("app", report.app.name.as_str()), ("staithe_app_state", state.as_str())];
            page.sample("", &labels, u8::from(report.status == state));
        }
    }
    page.family("staithe_app_instances", Kind::Gauge, "Instances that are ready, by type.");
    for report in apps {
        let mut ready: BTreeMap<&ProcessType, u32> = BTreeMap::new();
        for instance in &report.instances {
            let is_ready = instance.status == crate::platform::InstanceStatus::Running;
            *ready.entry(&instance.name.process_type).or_default() += u32::from(is_ready);
        }
        for (process, count) in ready {
            let labels = [("app", report.app.name.as_str()), ("process", process.as_str())];
            page.sample("", &labels, count);
        }
    }
}

fn write_totals(page: &mut Page, totals: &[Line<'_>]) {
    let mut family = |name, help: &str, value: &dyn Fn(&Totals) -> String| {
        page.family(name, Kind::Counter, help);
        for (app, process, totals) in totals {
            let labels = [("app", app.as_str()), ("process", process.as_str())];
            page.sample("_total", &labels, value(totals));
        }
    };
    family("staithe_app_cpu_seconds", "Processor time of an app's instances.", &|totals| {
        seconds(totals.counters.cpu_us)
    });
    let help = "Time in which the processor quota held instances back.";
    family("staithe_app_cpu_throttled_seconds", help, &|totals| {
        seconds(totals.counters.throttled_us)
    });
    let help = "Processes that the kernel killed for want of memory.";
    family("staithe_app_oom_kills", help, &|totals| totals.counters.oom_kills.to_string());
    let help = "Instances started again after an end that nobody asked for.";
    family("staithe_app_restarts", help, &|totals| totals.restarts.to_string());
    family("staithe_app_network_received_bytes", "What instances have received.", &|totals| {
        totals.counters.received.to_string()
    });
    family("staithe_app_network_sent_bytes", "What instances have sent.", &|totals| {
        totals.counters.sent.to_string()
    });
}

fn write_memory(
    page: &mut Page,
    apps: &[AppReport],
    rows: &std::collections::HashMap<String, Vec<f32>>,
) {
    let families = [
        ("staithe_app_memory_bytes", usage::MEMORY, "Memory of an instance, without spare cache."),
        ("staithe_app_memory_limit_bytes", usage::MEMORY_LIMIT, "Memory that an instance may use."),
        ("staithe_app_cpu_limit", usage::CPU_LIMIT, "Processors that an instance may use."),
        ("staithe_app_processes", usage::PIDS, "Processes and threads of an instance."),
    ];
    for (name, field, help) in families {
        page.family(name, Kind::Gauge, help);
        for report in apps {
            let mut names: Vec<_> = report.instances.iter().map(|one| &one.name).collect();
            // While one replaces another there are two of a name, and one row for both.
            names.dedup();
            for instance in names {
                let row = rows.get(&series_of_instance(report.app.id, instance));
                let value = row.and_then(|row| row.get(field)).filter(|value| value.is_finite());
                let Some(value) = value else { continue };
                let instance = instance.to_string();
                let labels = [("app", report.app.name.as_str()), ("instance", instance.as_str())];
                page.sample("", &labels, value);
            }
        }
    }
}

fn write_builds(
    page: &mut Page,
    names: &BTreeMap<AppId, &AppName>,
    builds: &BTreeMap<AppId, BTreeMap<String, u64>>,
) {
    page.family("staithe_builds", Kind::Counter, "Builds that have ended, by how.");
    for (app, ends) in builds {
        let Some(name) = names.get(app) else { continue };
        for (status, count) in ends {
            let labels = [("app", name.as_str()), ("status", status.as_str())];
            page.sample("_total", &labels, count);
        }
    }
}

fn write_host(page: &mut Page, row: &[f32]) {
    let mut gauge = |name, field: usize, help| {
        if let Some(value) = row.get(field).filter(|value| value.is_finite()) {
            page.gauge(name, help, value);
        }
    };
    gauge("staithe_host_cpus", host::CPUS, "Processors of the machine.");
    gauge("staithe_host_cpus_used", host::CPU, "Processors in use.");
    gauge("staithe_host_load", host::LOAD, "Processes that run or want to, mean of a minute.");
    gauge("staithe_host_memory_bytes", host::MEMORY_TOTAL, "Memory of the machine.");
    gauge("staithe_host_memory_used_bytes", host::MEMORY, "Memory in use.");
    gauge("staithe_host_disk_bytes", host::DISK_TOTAL, "Size of the data's file system.");
    gauge("staithe_host_disk_used_bytes", host::DISK, "Bytes in use on it.");
    let help = "Memory of Staithe's own processes, proportional set size.";
    page.family("staithe_own_memory_bytes", Kind::Gauge, help);
    let roles = [("control", host::CONTROL), ("proxy", host::PROXY), ("monitors", host::MONITORS)];
    for (role, field) in roles {
        if let Some(value) = row.get(field).filter(|value| value.is_finite()) {
            page.sample("", &[("role", role)], value);
        }
    }
}
