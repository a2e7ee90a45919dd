//! How the machine stands, and what to do where it does not stand well.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Platform, footprint};
use crate::domain::AppName;
use crate::host::{self, Disk, Feature, Weight};
use crate::platform::{AppStatus, Result, pipeline};
use crate::support::report;
use crate::wire::{
    CheckStatus, ComponentVersion, DiskReport, Footprint, HostCheck, HostReport, KernelFeature,
    ListenerReport, MemoryReport, MetricName,
};

/// For a program to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Shares and bytes below which room is short, and next to nothing.
const SHORT: (f64, u64) = (0.10, 2 << 30);
const SPENT: (f64, u64) = (0.02, 256 << 20);

/// The most apps that one sentence names.
const MAX_NAMED: usize = 5;

impl Platform {
    /// Says where connections are taken beside the proxy's, for the report: `ssh`, `dashboard`.
    pub fn add_listener(&self, purpose: &str, address: SocketAddr) {
        let listener = ListenerReport { purpose: purpose.to_owned(), address };
        self.0.meters.lock().listeners.push(listener);
    }

    /// How the machine stands.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn host(&self) -> Result<HostReport> {
        let newest = self.newest_host_metrics();
        let footprint = self.footprint().await?;
        let (disks, features) = self.look_at_host().await?;
        let memory = memory_report();
        let mut checks = disk_checks(&disks);
        checks.push(memory_check(&memory));
        checks.push(load_check(host::load(), host::cpus()));
        checks.extend(self.network_checks().await);
        checks.push(self.proxy_check().await);
        checks.push(self.apps_check().await?);
        checks.extend(feature_checks(&features));
        // What is wrong comes first.
        checks.sort_by_key(|check| std::cmp::Reverse(check.status));
        Ok(HostReport {
            name: host::name(),
            kernel: host::kernel(),
            system: host::system(),
            uptime_s: host::uptime_s(),
            cpus: host::cpus(),
            cpu_used: newest.and_then(|sample| sample.value(MetricName::Cpu)),
            load: host::load(),
            memory,
            disks,
            listeners: self.listeners(),
            versions: self.versions().await,
            features: features.into_iter().map(feature_report).collect(),
            footprint: self.footprint_report(&footprint),
            checks,
        })
    }

    async fn look_at_host(&self) -> Result<(Vec<DiskReport>, Vec<Feature>)> {
        let settings = self.settings();
        let paths = [settings.data_dir.clone(), settings.run_dir.clone(), "/".into()];
        pipeline::blocking(move || {
            let mut disks: Vec<(u64, DiskReport)> = Vec::new();
            for path in paths {
                // What cannot be opened is not ours to measure.
                let Ok(disk) = host::disk(&path) else { continue };
                let path = path.display().to_string();
                match disks.iter_mut().find(|(device, _)| *device == disk.device) {
                    Some((_, known)) => known.paths.push(path),
                    None => disks.push((disk.device, disk_report(path, &disk))),
                }
            }
            (disks.into_iter().map(|(_, report)| report).collect(), host::features())
        })
        .await
    }

    fn listeners(&self) -> Vec<ListenerReport> {
        let mut listeners = Vec::new();
        let mut add =
            |purpose: &str, addresses: &[SocketAddr]| {
                listeners.extend(addresses.iter().map(|address| ListenerReport {
                    purpose: purpose.to_owned(),
                    address: *address,
                }));
            };
        // A proxy that is just being started again listens nowhere.
        if let Ok(proxy) = self.proxy.listening() {
            add("http", &proxy.listen);
            add("https", &proxy.https);
        }
        listeners.extend(self.0.meters.lock().listeners.clone());
        listeners
    }

    async fn versions(&self) -> Vec<ComponentVersion> {
        let component =
            |name: &str, version: String| ComponentVersion { name: name.into(), version };
        let mut versions = vec![component("staithe", env!("CARGO_PKG_VERSION").into())];
        for process in self.proxy_processes().await.unwrap_or_default() {
            let name = if process.retiring { "proxy (retiring)" } else { "proxy" };
            versions.push(component(name, process.version));
        }
        let (git, nft) = tokio::join!(version_of("git"), version_of("nft"));
        versions.extend([("git", git), ("nftables", nft)].map(|(name, v)| component(name, v)));
        versions
    }

    fn footprint_report(&self, memory: &footprint::Memory) -> Footprint {
        let size = |name: &str| {
            let path = self.settings().data_dir.join(name);
            std::fs::metadata(path).map_or(0, |metadata| metadata.len())
        };
        Footprint {
            roles: memory.roles(),
            database_bytes: size("staithe.db") + size("staithe.db-wal"),
            metrics_bytes: size("metrics.db") + size("metrics.db-wal"),
        }
    }

    async fn network_checks(&self) -> Vec<HostCheck> {
        match self.network.problems().await {
            Ok(problems) if problems.is_empty() => {
                vec![ok("network", "apps reach the outside, and are reached, as configured")]
            }
            Ok(problems) => problems
                .into_iter()
                .map(|problem| HostCheck {
                    code: problem.code.to_owned(),
                    status: CheckStatus::Fail,
                    sentence: problem.sentence,
                    remedy: Some(problem.remedy),
                })
                .collect(),
            Err(error) => vec![HostCheck {
                code: "network.firewall".into(),
                status: CheckStatus::Fail,
                sentence: format!("the firewall cannot be read: {}", report(&error)),
                remedy: Some("run `nft list ruleset` as root to see why".into()),
            }],
        }
    }

    async fn proxy_check(&self) -> HostCheck {
        match self.proxy_processes().await {
            Ok(processes) => {
                let open: u64 = processes.iter().map(|process| process.connections).sum();
                ok("proxy", &format!("the proxy answers; clients have {open} connections"))
            }
            Err(error) => HostCheck {
                code: "proxy".into(),
                status: CheckStatus::Fail,
                sentence: format!("the proxy does not answer: {}", report(&error)),
                remedy: Some(
                    "it is started again by itself; its log is `logs/proxy.log` in the \
                              data directory"
                        .into(),
                ),
            },
        }
    }

    async fn apps_check(&self) -> Result<HostCheck> {
        let mut down: Vec<AppName> = Vec::new();
        for app in self.store.apps()? {
            let instances = self.report_instances(&app).await;
            let status = self.status(&app, &instances)?;
            if matches!(status, AppStatus::Crashed | AppStatus::Degraded) {
                down.push(app.name);
            }
        }
        let Some(first) = down.first() else {
            return Ok(ok("apps", "all apps have the instances that they should have"));
        };
        let named: Vec<String> =
            down.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
        let more = match down.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Ok(HostCheck {
            code: "apps".into(),
            status: CheckStatus::Warn,
            sentence: format!("instances are missing of {}{more}", named.join(", ")),
            remedy: Some(format!("run `staithe logs {first}` to see why")),
        })
    }
}

fn ok(code: &str, sentence: &str) -> HostCheck {
    let (code, sentence) = (code.to_owned(), sentence.to_owned());
    HostCheck { code, status: CheckStatus::Ok, sentence, remedy: None }
}

fn disk_report(path: String, disk: &Disk) -> DiskReport {
    let fixed = disk.inodes > 0;
    DiskReport {
        paths: vec![path],
        total_bytes: disk.total,
        free_bytes: disk.free,
        inodes: fixed.then_some(disk.inodes),
        inodes_free: fixed.then_some(disk.inodes_free),
    }
}

fn memory_report() -> MemoryReport {
    let memory = host::memory();
    MemoryReport {
        total_bytes: memory.total,
        available_bytes: memory.available,
        swap_total_bytes: memory.swap_total,
        swap_free_bytes: memory.swap_free,
    }
}

fn feature_report(feature: Feature) -> KernelFeature {
    let Feature { name, available, detail, .. } = feature;
    KernelFeature { name: name.to_owned(), available, detail }
}

/// How much room there is: by its share, but for what is plenty in bytes.
fn room(free: u64, total: u64) -> CheckStatus {
    let below = |(share, bytes): (f64, u64)| free < bytes && (free as f64) < share * total as f64;
    match (below(SPENT), below(SHORT)) {
        (true, _) => CheckStatus::Fail,
        (_, true) => CheckStatus::Warn,
        _ => CheckStatus::Ok,
    }
}

fn disk_checks(disks: &[DiskReport]) -> Vec<HostCheck> {
    let mut checks = Vec::new();
    for disk in disks {
        let place = disk.paths.join(" and ");
        let status = room(disk.free_bytes, disk.total_bytes);
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        let (free, total) = (gib(disk.free_bytes), gib(disk.total_bytes));
        let remedy = "run `staithe gc` to remove images that no release needs, and see `staithe \
                      storage:list` and `staithe releases` for what takes room";
        checks.push(HostCheck {
            code: "disk.space".into(),
            status,
            sentence: format!("{free} of {total} are free on the file system of {place}"),
            remedy: (status != CheckStatus::Ok).then(|| remedy.to_owned()),
        });
        let (Some(inodes), Some(free)) = (disk.inodes, disk.inodes_free) else { continue };
        let share = free as f64 / inodes.max(1) as f64;
        let status = match share {
            ..0.02 => CheckStatus::Fail,
            ..0.10 => CheckStatus::Warn,
            _ => CheckStatus::Ok,
        };
        if status != CheckStatus::Ok {
            checks.push(HostCheck {
                code: "disk.inodes".into(),
                status,
                sentence: format!("{free} more files fit on the file system of {place}"),
                remedy: Some(remedy.to_owned()),
            });
        }
    }
    checks
}

fn memory_check(memory: &MemoryReport) -> HostCheck {
    let status = room(memory.available_bytes, memory.total_bytes);
    let mib = |bytes: u64| bytes >> 20;
    let (free, total) = (mib(memory.available_bytes), mib(memory.total_bytes));
    let remedy = "scale apps down (`staithe ps:scale`), lower their quotas (`staithe \
                  resource:limit`), or give the machine more memory";
    HostCheck {
        code: "memory".into(),
        status,
        sentence: format!("{free} MiB of {total} MiB of memory can be had"),
        remedy: (status != CheckStatus::Ok).then(|| remedy.to_owned()),
    }
}

fn load_check([_, five, _]: [f64; 3], cpus: u32) -> HostCheck {
    let busy = five > 2.0 * f64::from(cpus);
    let remedy =
        "see which app it is (`staithe ps:report`) and limit it (`staithe resource:limit`)";
    HostCheck {
        code: "cpu.load".into(),
        status: if busy { CheckStatus::Warn } else { CheckStatus::Ok },
        sentence: format!("the load of the last 5 minutes is {five:.2}, on {cpus} processors"),
        remedy: busy.then(|| remedy.to_owned()),
    }
}

fn feature_checks(features: &[Feature]) -> Vec<HostCheck> {
    let missing = features.iter().filter(|feature| !feature.available);
    let missing: Vec<HostCheck> = missing
        .filter_map(|feature| {
            let status = match feature.weight {
                Weight::Needed => CheckStatus::Fail,
                Weight::Wanted => CheckStatus::Warn,
                Weight::Extra => return None,
            };
            Some(HostCheck {
                code: "kernel.feature".into(),
                status,
                sentence: format!("the kernel has no {}: {}", feature.name, feature.detail),
                remedy: Some("boot a kernel that has it, or turn it on".into()),
            })
        })
        .collect();
    match missing.is_empty() {
        true => vec![ok("kernel.feature", "the kernel has all that isolation and quotas need")],
        false => missing,
    }
}

/// The first number with dots that a program says of itself; `unknown` if it does not.
async fn version_of(program: &str) -> String {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await;
    let text = output.ok().and_then(|output| output.ok());
    let text = text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.as_deref().and_then(first_version).unwrap_or("unknown").to_owned()
}

fn first_version(text: &str) -> Option<&str> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_short_by_share_unless_it_is_plenty() {
        let gib = 1 << 30;
        assert_eq!(room(50 * gib, 1000 * gib), CheckStatus::Ok);
        assert_eq!(room(gib, 100 * gib), CheckStatus::Warn);
        assert_eq!(room(100 << 20, 100 * gib), CheckStatus::Fail);
        assert_eq!(room(40 << 20, 100 << 20), CheckStatus::Ok);
    }

    #[test]
    fn what_is_missing_is_told_by_its_weight() {
        let feature =
            |weight, available| Feature { name: "x", available, detail: "y".into(), weight };
        let all = [feature(Weight::Needed, false), feature(Weight::Extra, false)];
        let checks = feature_checks(&all);
        assert_eq!((checks.len(), checks[0].status), (1, CheckStatus::Fail));
        let fine = feature_checks(&[feature(Weight::Needed, true)]);
        assert_eq!(fine[0].status, CheckStatus::Ok);
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(first_version("git version 2.39.5\n"), Some("2.39.5"));
        assert_eq!(first_version("nftables v1.0.6 (Lester)"), Some("1.0.6"));
        assert_eq!(first_version("no"), None);
    }

    #[test]
    fn load_warns_when_twice_the_processors_wait() {
        assert_eq!(load_check([0.0, 3.9, 0.0], 2).status, CheckStatus::Ok);
        assert_eq!(load_check([0.0, 4.1, 0.0], 2).status, CheckStatus::Warn);
    }
}
