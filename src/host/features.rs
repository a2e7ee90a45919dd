//! What the kernel can do of what isolation and quotas are made of.

use std::path::Path;

use super::text;
use crate::sys;

/// How much depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Apps cannot run, or hurt each other, without it.
    Needed,
    /// A wall is missing without it.
    Wanted,
    /// Nobody misses it.
    Extra,
}

/// Something that the kernel can do, or cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// What.
    pub name: &'static str,
    /// Whether.
    pub available: bool,
    /// How, or what goes without.
    pub detail: String,
    /// How much depends on it.
    pub weight: Weight,
}

impl Feature {
    /// One that apps cannot go without.
    fn new(name: &'static str, available: bool, with: &str, without: &str) -> Self {
        let detail = if available { with } else { without };
        Self { name, available, detail: detail.to_owned(), weight: Weight::Needed }
    }

    fn weighing(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }
}

/// All that is looked at.
pub fn features() -> Vec<Feature> {
    let mut all = controllers();
    all.extend(namespaces());
    all.extend([overlay(), seccomp(), landlock(), security_module(), idmapped(), ipv6()]);
    all
}

/// Control groups: each controller is looked for on its own, since machines mix versions.
fn controllers() -> Vec<Feature> {
    let (v1, v2) = (text("/proc/self/mountinfo"), v2_controllers());
    [
        ("cpu quotas (cgroup cpu)", "cpu", "apps can take each other's processor time"),
        ("memory quotas (cgroup memory)", "memory", "apps can take each other's memory"),
        ("process quotas (cgroup pids)", "pids", "a fork bomb in one app stops the machine"),
        ("disk bandwidth (cgroup io)", "io", "apps can take each other's disk time"),
    ]
    .into_iter()
    .map(|(name, controller, without)| {
        let on_v1 = has_v1(&v1, if controller == "io" { "blkio" } else { controller });
        let on_v2 = v2.split_whitespace().any(|known| known == controller);
        let version = if on_v1 { "cgroup v1" } else { "cgroup v2" };
        let weight = if controller == "io" { Weight::Extra } else { Weight::Needed };
        Feature::new(name, on_v1 || on_v2, version, without).weighing(weight)
    })
    .collect()
}

fn v2_controllers() -> String {
    ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"]
        .map(text)
        .join(" ")
}

/// Whether a v1 mount carries `controller`: the last field of mountinfo has its options.
fn has_v1(mountinfo: &str, controller: &str) -> bool {
    mountinfo.lines().any(|line| {
        let Some((_, of_file_system)) = line.split_once(" - ") else { return false };
        let mut fields = of_file_system.split_whitespace();
        fields.next() == Some("cgroup")
            && fields.last().is_some_and(|options| options.split(',').any(|o| o == controller))
    })
}

/// A namespace exists where /proc/self/ns has it, namespaces(7).
fn namespaces() -> Vec<Feature> {
    let has = |name: &str| Path::new("/proc/self/ns").join(name).exists();
    let allowed = text("/proc/sys/user/max_user_namespaces").trim() != "0";
    vec![
        Feature::new(
            "user namespaces",
            has("user") && allowed,
            "root inside is nobody outside",
            "containers cannot be started; set the kernel parameter user.max_user_namespaces",
        ),
        Feature::new("cgroup namespaces", has("cgroup"), "used", "apps see the host's cgroups")
            .weighing(Weight::Wanted),
        Feature::new("time namespaces", has("time"), "there", "apps see the host's uptime")
            .weighing(Weight::Extra),
    ]
}

fn overlay() -> Feature {
    let has = text("/proc/filesystems").lines().any(|line| line.trim_end().ends_with("\toverlay"));
    Feature::new("overlay file system", has, "images are mounted, not copied", "apps cannot start")
}

fn seccomp() -> Feature {
    let has = text("/proc/sys/kernel/seccomp/actions_avail").contains("errno");
    Feature::new("system call filters (seccomp)", has, "used", "containers cannot be started")
}

fn landlock() -> Feature {
    let version = sys::landlock::version().ok();
    let with = format!("version {}; the proxy is confined", version.unwrap_or_default());
    let without = "the proxy is confined by its user alone";
    Feature::new("Landlock", version.is_some(), &with, without).weighing(Weight::Wanted)
}

/// Which modules are active, securityfs: `lockdown,capability,yama,apparmor`.
fn security_module() -> Feature {
    let active = text("/sys/kernel/security/lsm");
    let named = ["apparmor", "selinux"];
    let found = named.into_iter().find(|name| active.split(',').any(|one| one.trim() == *name));
    let without = "no second wall behind namespaces and filters";
    Feature::new("AppArmor or SELinux", found.is_some(), found.unwrap_or_default(), without)
        .weighing(Weight::Extra)
}

/// mount_setattr(2) with `MOUNT_ATTR_IDMAP`, Linux 5.12.
fn idmapped() -> Feature {
    let has = at_least(&super::kernel(), 5, 12);
    Feature::new(
        "id-mapped mounts",
        has,
        "the kernel has them; each file system must, too",
        "files of volumes belong to the app's own ids",
    )
    .weighing(Weight::Extra)
}

fn ipv6() -> Feature {
    let off = text("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let has = off.trim() == "0";
    Feature::new("IPv6", has, "apps have an address", "apps have IPv4 only").weighing(Weight::Extra)
}

fn at_least(kernel: &str, major: u32, minor: u32) -> bool {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(a)), Some(Ok(b))) => (a, b) >= (major, minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_controllers_are_found_by_their_mounts() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert!(has_v1(mounts, "memory"));
        assert!(!has_v1(mounts, "cpu") && !has_v1("", "memory"));
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert!(at_least("5.12.0", 5, 12) && at_least("6.1.0-13-amd64", 5, 12));
        assert!(!at_least("5.10.0", 5, 12) && !at_least("x", 5, 12));
    }

    #[test]
    fn a_machine_that_runs_containers_has_the_basics() {
        let features = features();
        for needed in ["memory quotas (cgroup memory)", "overlay file system", "user namespaces"] {
            let feature = features.iter().find(|feature| feature.name == needed).unwrap();
            assert!(feature.available, "{feature:?}");
        }
        assert!(features.iter().all(|feature| !feature.detail.is_empty()), "{features:?}");
    }
}
