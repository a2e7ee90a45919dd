//! The files of cgroup v1, cgroups(7) and the kernel's admin-guide/cgroup-v1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, field, make_directory, read, try_write, write};
use crate::container::error::Error;
use crate::container::spec::{IoLimit, Limits};
use crate::container::state::Stats;

/// Period over which a CPU quota counts, in microseconds; the kernel's default.
pub(super) const CPU_PERIOD_US: u64 = 100_000;
/// What `memory.limit_in_bytes` shows without a limit is near 2^63, depending on the page size.
const NO_MEMORY_LIMIT: u64 = 1 << 62;
/// null, zero, full, random, urandom, tty, ptmx and the terminals of devpts. No `m` (mknod): a
/// user namespace cannot make nodes anyway.
const DEVICES: [&str; 8] = [
    "c 1:3 rw",
    "c 1:5 rw",
    "c 1:7 rw",
    "c 1:8 rw",
    "c 1:9 rw",
    "c 5:0 rw",
    "c 5:2 rw",
    "c 136:* rw",
];

pub(super) fn make_directories(root: &Path, levels: &[PathBuf]) -> Result<(), Error> {
    for level in levels {
        let path = root.join(level);
        if make_directory(&path)? && path.join("cpuset.cpus").exists() {
            inherit_cpuset(&path)?;
        }
    }
    Ok(())
}

/// A new v1 cpuset is empty, and no process can enter an empty one.
fn inherit_cpuset(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    for file in ["cpuset.mems", "cpuset.cpus"] {
        write(&path.join(file), read(&parent.join(file))?.trim())?;
    }
    Ok(())
}

pub(super) fn restrict_devices(leaf: &Path) -> Result<(), Error> {
    write(&leaf.join("devices.deny"), "a")?;
    DEVICES.iter().try_for_each(|device| write(&leaf.join("devices.allow"), device))
}

pub(super) fn apply(controller: Controller, dir: &Path, limits: &Limits) -> Result<(), Error> {
    match controller {
        Controller::Cpu => apply_cpu(dir, limits),
        Controller::Cpuset => match &limits.cpuset {
            Some(cpus) => write(&dir.join("cpuset.cpus"), cpus),
            None => Ok(()),
        },
        Controller::Memory => apply_memory(dir, limits),
        Controller::Pids => {
            let max = limits.pids_max.map_or("max".to_owned(), |max| max.to_string());
            write(&dir.join("pids.max"), &max)
        }
        Controller::Io => limits.io.iter().try_for_each(|device| throttle(dir, device)),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer => Ok(()),
    }
}

fn apply_cpu(dir: &Path, limits: &Limits) -> Result<(), Error> {
    let quota = limits.cpu_millis.map_or("-1".to_owned(), |millis| quota_us(millis).to_string());
    write(&dir.join("cpu.cfs_quota_us"), &quota)?;
    // v2's normal weight is 100, v1's 1024; the kernel takes 2 to 262144.
    let shares = u64::from(limits.cpu_weight.unwrap_or(100)) * 1024 / 100;
    write(&dir.join("cpu.shares"), &shares.max(2).to_string())
}

pub(super) fn quota_us(millis: u32) -> u64 {
    // Below one millisecond the kernel refuses.
    (u64::from(millis) * CPU_PERIOD_US / 1000).max(1000)
}

/// Lowers the quotas of all leaves of `group` that exceed `millis`.
pub(super) fn lower_quotas(group: &Path, millis: u32) -> Result<(), Error> {
    let quota = quota_us(millis);
    // No group yet, no leaves.
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries.flatten() {
        let file = entry.path().join("cpu.cfs_quota_us");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if text.trim().parse::<u64>().is_ok_and(|leaf| leaf > quota) {
            write(&file, &quota.to_string())?;
        }
    }
    Ok(())
}

/// memory+swap must never be below memory, so which of the two comes first depends on the
/// direction; equal limits mean no swap.
fn apply_memory(dir: &Path, limits: &Limits) -> Result<(), Error> {
    let text = |limit: Option<u64>| limit.map_or("-1".to_owned(), |bytes| bytes.to_string());
    let max = text(limits.memory_max);
    let both = dir.join("memory.memsw.limit_in_bytes");
    let memory = dir.join("memory.limit_in_bytes");
    write(
        &dir.join("memory.soft_limit_in_bytes"),
        &text(limits.memory_low.or(limits.memory_high)),
    )?;
    // Kernels without swap accounting have no such file, and nothing to be kept from.
    let raised = match try_write(&both, &max) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return write(&memory, &max),
        other => other,
    };
    write(&memory, &max)?;
    if raised.is_err() { write(&both, &max) } else { Ok(()) }
}

fn throttle(dir: &Path, device: &IoLimit) -> Result<(), Error> {
    let files = [
        ("blkio.throttle.read_bps_device", device.read_bps),
        ("blkio.throttle.write_bps_device", device.write_bps),
        ("blkio.throttle.read_iops_device", device.read_iops),
        ("blkio.throttle.write_iops_device", device.write_iops),
    ];
    for (file, limit) in files {
        // 0 takes the limit away.
        let line = format!("{}:{} {}", device.major, device.minor, limit.unwrap_or(0));
        write(&dir.join(file), &line)?;
    }
    Ok(())
}

pub(super) fn read_stats(
    controller: Controller,
    dir: &Path,
    stats: &mut Stats,
) -> Result<(), Error> {
    let number = |file: &str| -> Result<u64, Error> {
        Ok(read(&dir.join(file))?.trim().parse().unwrap_or(u64::MAX))
    };
    match controller {
        Controller::Memory => {
            stats.memory_bytes = number("memory.usage_in_bytes")?;
            stats.memory_peak_bytes = number("memory.max_usage_in_bytes")?;
            let text = read(&dir.join("memory.stat"))?;
            stats.memory_reclaimable_bytes = field(&text, "total_inactive_file");
            let max = number("memory.limit_in_bytes")?;
            stats.memory_max_bytes = (max < NO_MEMORY_LIMIT).then_some(max);
            stats.oom_kills = super::oom_kills(&read(&dir.join("memory.oom_control"))?);
        }
        Controller::Cpuacct => stats.cpu_usage_us = number("cpuacct.usage")? / 1000,
        Controller::Cpu => {
            let text = read(&dir.join("cpu.stat"))?;
            stats.cpu_throttled_periods = field(&text, "nr_throttled");
            stats.cpu_throttled_us = field(&text, "throttled_time") / 1000;
        }
        Controller::Pids => stats.pids = number("pids.current")?,
        Controller::Cpuset | Controller::Io | Controller::Devices | Controller::Freezer => {}
    }
    Ok(())
}
