//! The files of cgroup v2, admin-guide/cgroup-v2.
//!
//! Devices are not restricted by a BPF program as v1's controller would: no node can be made in a
//! user namespace, and every mount but our own /dev is nodev.

use std::path::{Path, PathBuf};

use super::{Controller, field, make_directory, read, try_write, write};
use crate::container::error::Error;
use crate::container::spec::{IoLimit, Limits};
use crate::container::state::Stats;

/// Makes the directories and hands down to each what its parent can: without an entry in the
/// parent's `cgroup.subtree_control` a child has none of a controller's files.
pub(super) fn make_directories(root: &Path, levels: &[PathBuf]) -> Result<(), Error> {
    let mut parent = root.to_owned();
    for level in levels {
        hand_down(&parent)?;
        parent = root.join(level);
        make_directory(&parent)?;
    }
    Ok(())
}

fn hand_down(dir: &Path) -> Result<(), Error> {
    let available = read(&dir.join("cgroup.controllers"))?;
    let enabled = read(&dir.join("cgroup.subtree_control"))?;
    for name in Controller::ALL.iter().filter_map(|controller| controller.v2_name()) {
        let has = |text: &str| text.split_whitespace().any(|known| known == name);
        if has(&available) && !has(&enabled) {
            write(&dir.join("cgroup.subtree_control"), &format!("+{name}"))?;
        }
    }
    Ok(())
}

pub(super) fn apply(controller: Controller, dir: &Path, limits: &Limits) -> Result<(), Error> {
    let text = |limit: Option<u64>| limit.map_or("max".to_owned(), |value| value.to_string());
    match controller {
        Controller::Cpu => {
            let quota = text(limits.cpu_millis.map(super::v1::quota_us));
            write(&dir.join("cpu.max"), &format!("{quota} {}", super::v1::CPU_PERIOD_US))?;
            let weight = limits.cpu_weight.unwrap_or(100).clamp(1, 10_000);
            write(&dir.join("cpu.weight"), &weight.to_string())
        }
        Controller::Cpuset => match &limits.cpuset {
            Some(cpus) => write(&dir.join("cpuset.cpus"), cpus),
            None => Ok(()),
        },
        Controller::Memory => {
            write(&dir.join("memory.high"), &text(limits.memory_high))?;
            let low = limits.memory_low.unwrap_or_default();
            write(&dir.join("memory.low"), &low.to_string())?;
            write(&dir.join("memory.max"), &text(limits.memory_max))?;
            let swap = if limits.memory_max.is_some() { "0" } else { "max" };
            // Kernels without swap have no such file.
            match try_write(&dir.join("memory.swap.max"), swap) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::Cgroup {
                    operation: "write",
                    path: dir.join("memory.swap.max"),
                    source: error,
                }),
                _ => Ok(()),
            }
        }
        Controller::Pids => write(&dir.join("pids.max"), &text(limits.pids_max.map(Into::into))),
        Controller::Io => limits.io.iter().try_for_each(|device| throttle(dir, device)),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer => Ok(()),
    }
}

fn throttle(dir: &Path, device: &IoLimit) -> Result<(), Error> {
    let text = |limit: Option<u64>| limit.map_or("max".to_owned(), |value| value.to_string());
    let line = format!(
        "{}:{} rbps={} wbps={} riops={} wiops={}",
        device.major,
        device.minor,
        text(device.read_bps),
        text(device.write_bps),
        text(device.read_iops),
        text(device.write_iops),
    );
    write(&dir.join("io.max"), &line)
}

pub(super) fn read_stats(
    controller: Controller,
    dir: &Path,
    stats: &mut Stats,
) -> Result<(), Error> {
    match controller {
        Controller::Memory => {
            stats.memory_bytes = number(&dir.join("memory.current"))?.unwrap_or(0);
            // Linux 5.19.
            let peak = std::fs::read_to_string(dir.join("memory.peak")).unwrap_or_default();
            stats.memory_peak_bytes = peak.trim().parse().unwrap_or(0);
            stats.memory_max_bytes = number(&dir.join("memory.max"))?;
            stats.memory_reclaimable_bytes =
                field(&read(&dir.join("memory.stat"))?, "inactive_file");
            stats.oom_kills = super::oom_kills(&read(&dir.join("memory.events"))?);
        }
        Controller::Cpu => {
            let text = read(&dir.join("cpu.stat"))?;
            stats.cpu_usage_us = field(&text, "usage_usec");
            stats.cpu_throttled_periods = field(&text, "nr_throttled");
            stats.cpu_throttled_us = field(&text, "throttled_usec");
        }
        Controller::Pids => stats.pids = number(&dir.join("pids.current"))?.unwrap_or(0),
        Controller::Cpuacct
        | Controller::Cpuset
        | Controller::Io
        | Controller::Devices
        | Controller::Freezer => {}
    }
    Ok(())
}

/// `None` for `max`.
fn number(path: &Path) -> Result<Option<u64>, Error> {
    Ok(read(path)?.trim().parse().ok())
}
