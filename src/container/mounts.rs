//! Init's part of the file system: puts the detached mounts and the kernel's own file systems into
//! the root, and covers what should not be seen.
//!
//! **Invariant.** No path of the image is trusted: standard directories must be directories, not
//! links (/proc → /host, /dev → /host); everything else is resolved with the root as `/`; masks go
//! onto the file systems that were just made, through their own descriptors, never by way of the
//! image (CVE-2025-31133, CVE-2025-52881, CVE-2021-30465, CVE-2019-16884).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use super::cgroup::View;
use super::devices;
use super::protocol::{Failure, Step};
use super::spec::{ContainerSpec, Mount};
use crate::sys::mount::{self, Attributes};
use crate::sys::path::{self, Access, Links};

/// For the kernel's own file systems: there is nothing to run and nothing to gain.
const INERT: Attributes = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC);
/// Group `tty`, which owns terminals on every distribution.
const TTY_GROUP: &str = "5";
/// Inodes are kernel memory that a tmpfs's size does not count: one for this many bytes, and some.
const BYTES_PER_INODE: u64 = 16 * 1024;
const LEAST_INODES: u64 = 1024;
/// For nodes, links and mount points.
const SMALL: u64 = 64 * 1024;

/// In /proc: what tells of the host or of other containers, or drives the machine.
const PROC_MASKED: [&str; 17] = [
    "acpi",
    "asound",
    "dynamic_debug",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "scsi",
    "sched_debug",
    "slabinfo",
    "timer_list",
    "timer_stats",
];
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// In /sys, likewise.
const SYS_MASKED: [&str; 8] = [
    "devices/virtual/dmi",
    "devices/virtual/powercap",
    "firmware",
    "kernel/debug",
    "kernel/notes",
    "kernel/security",
    "kernel/slab",
    "kernel/vmcoreinfo",
];

/// The kernel's file systems inside of a container; their descriptors stay valid as their roots.
#[derive(Debug)]
pub(super) struct Standard {
    proc: OwnedFd,
    sys: OwnedFd,
    null: OwnedFd,
}

/// /proc, /sys, /dev, the cgroup view. `devices` as of `devices::detached`.
pub(super) fn attach_standard(
    root: BorrowedFd<'_>,
    spec: &ContainerSpec,
    devices: Vec<OwnedFd>,
    views: &[View],
) -> Result<Standard, Failure> {
    // Fresh proc and sysfs are allowed in a user namespace only as long as the host's are in
    // sight (mount_too_revealing), so before pivot_root.
    let proc = mount::new_file_system("proc", &[], INERT).step("make /proc")?;
    free_low_ports(proc.as_fd()).step("free the low ports")?;
    attach_at(root, "proc", &proc)?;
    let sys = mount::new_file_system("sysfs", &[], INERT.and(Attributes::READ_ONLY));
    let sys = sys.step("make /sys")?;
    attach_at(root, "sys", &sys)?;
    attach_views(sys.as_fd(), views).step("show cgroups in /sys/fs/cgroup")?;
    let null = attach_dev(root, spec.shm_size, devices)?;
    Ok(Standard { proc, sys, null })
}

/// An app that listens on port 80 needs no capability for it: the ports are its own.
fn free_low_ports(proc: BorrowedFd<'_>) -> io::Result<()> {
    let setting = Path::new("sys/net/ipv4/ip_unprivileged_port_start");
    match path::open_in(proc, setting, Links::Refuse, Access::ReadWrite) {
        // A kernel without IPv4, or before 4.11.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) => File::from(file).write_all(b"0"),
    }
}

/// The node `null`, which masks files later.
fn attach_dev(
    root: BorrowedFd<'_>,
    shm_size: u64,
    devices: Vec<OwnedFd>,
) -> Result<OwnedFd, Failure> {
    let (no_suid, no_exec) = (Attributes::NOSUID, Attributes::NOEXEC);
    let dev = tmpfs(SMALL, 0o755, no_suid.and(no_exec)).step("make /dev")?;
    attach_at(root, "dev", &dev)?;
    for (name, device) in devices::NAMES.iter().zip(&devices) {
        attach_device(dev.as_fd(), name, device).step_with(|| format!("make /dev/{name}"))?;
    }
    // Always a new instance (4.7): the host's terminals are not in it.
    let options = [("gid", TTY_GROUP), ("mode", "0620"), ("ptmxmode", "0666")];
    let pts = mount::new_file_system("devpts", &options, no_suid.and(no_exec));
    attach_at(dev.as_fd(), "pts", &pts.step("make /dev/pts")?)?;
    let shm = tmpfs(shm_size, 0o1777, INERT).step("make /dev/shm")?;
    attach_at(dev.as_fd(), "shm", &shm)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        path::make_link(dev.as_fd(), Path::new(name), Path::new(target))
            .step_with(|| format!("make /dev/{name}"))?;
    }
    devices.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into()).step("find /dev/null")
}

fn attach_device(dev: BorrowedFd<'_>, name: &str, device: &OwnedFd) -> io::Result<()> {
    path::make_file(dev, Path::new(name), 0o666)?;
    let place = path::open_in(dev, Path::new(name), Links::Refuse, Access::Place)?;
    mount::attach(device.as_fd(), place.as_fd())
}

/// What runtimes read to learn their limits, read-only. Hosts that do not let a user namespace
/// mount a hierarchy leave it out: a limit then holds without being seen.
fn attach_views(sys: BorrowedFd<'_>, views: &[View]) -> io::Result<()> {
    let attributes = INERT.and(Attributes::READ_ONLY);
    let cgroup = match path::open_in(sys, Path::new("fs/cgroup"), Links::Refuse, Access::Directory)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if let [View { name, .. }] = views
        && name.is_empty()
    {
        return match mount::new_file_system("cgroup2", &[], attributes) {
            Ok(tree) => mount::attach(tree.as_fd(), cgroup.as_fd()),
            Err(_) => Ok(()),
        };
    }
    let base = tmpfs(SMALL, 0o755, INERT)?;
    mount::attach(base.as_fd(), cgroup.as_fd())?;
    for view in views {
        let options: Vec<(&str, &str)> =
            view.controllers.iter().map(|name| (name.as_str(), "")).collect();
        let kind = if options.is_empty() { "cgroup2" } else { "cgroup" };
        let Ok(tree) = mount::new_file_system(kind, &options, attributes) else { continue };
        let place = make_directory(base.as_fd(), OsStr::new(&view.name))?;
        mount::attach(tree.as_fd(), place.as_fd())?;
        for name in view.controllers.iter().filter(|name| **name != view.name) {
            path::make_link(base.as_fd(), Path::new(name), Path::new(&view.name))?;
        }
    }
    mount::add_attributes(base.as_fd(), Attributes::READ_ONLY)
}

/// Covers what is secret and write-protects what is dangerous, in /proc and /sys.
pub(super) fn mask(standard: &Standard) -> Result<(), Failure> {
    for name in PROC_READ_ONLY {
        protect(standard.proc.as_fd(), Path::new(name))
            .step_with(|| format!("protect /proc/{name}"))?;
    }
    let nothing = tmpfs(SMALL, 0o555, INERT.and(Attributes::READ_ONLY)).step("make a mask")?;
    let mut mask = Mask { nothing, null: standard.null.as_fd(), is_attached: false };
    for name in PROC_MASKED {
        mask.cover(standard.proc.as_fd(), Path::new(name))
            .step_with(|| format!("mask /proc/{name}"))?;
    }
    for name in SYS_MASKED {
        mask.cover(standard.sys.as_fd(), Path::new(name))
            .step_with(|| format!("mask /sys/{name}"))?;
    }
    Ok(())
}

struct Mask<'a> {
    nothing: OwnedFd,
    null: BorrowedFd<'a>,
    is_attached: bool,
}

impl Mask<'_> {
    /// /dev/null over a file, an empty directory over a directory, nothing over nothing.
    fn cover(&mut self, base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
        let Some(place) = existing(base, name)? else { return Ok(()) };
        if !path::facts(place.as_fd())?.is_directory {
            let cover = mount::clone_tree(self.null, Path::new(""))?;
            return mount::attach(cover.as_fd(), place.as_fd());
        }
        // Only an attached mount can be copied, before Linux 6.15.
        if self.is_attached {
            let cover = mount::clone_tree(self.nothing.as_fd(), Path::new(""))?;
            return mount::attach(cover.as_fd(), place.as_fd());
        }
        self.is_attached = true;
        mount::attach(self.nothing.as_fd(), place.as_fd())
    }
}

fn protect(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let Some(place) = existing(base, name)? else { return Ok(()) };
    let tree = mount::clone_tree(base, name)?;
    mount::add_attributes(tree.as_fd(), INERT.and(Attributes::READ_ONLY))?;
    mount::attach(tree.as_fd(), place.as_fd())
}

fn existing(base: BorrowedFd<'_>, name: &Path) -> io::Result<Option<OwnedFd>> {
    match path::open_in(base, name, Links::Refuse, Access::Place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The spec's own mounts, in order.
pub(super) fn attach_own(
    root: BorrowedFd<'_>,
    mounts: &[Mount],
    detached: Vec<Option<OwnedFd>>,
    standard: &Standard,
) -> Result<(), Failure> {
    let kernel = |fd: &OwnedFd| path::facts(fd.as_fd()).map(|facts| facts.device);
    let refused = [kernel(&standard.proc), kernel(&standard.sys)];
    for (wanted, tree) in mounts.iter().zip(detached) {
        let target = match wanted {
            Mount::Bind { target, .. }
            | Mount::BindIdmapped { target, .. }
            | Mount::Tmpfs { target, .. } => target,
        };
        let attach = || -> io::Result<()> {
            let tree = match (tree, wanted) {
                (Some(tree), _) => tree,
                (None, Mount::Tmpfs { size, mode, .. }) => {
                    let tame = Attributes::NOSUID.and(Attributes::NODEV);
                    tmpfs(*size, *mode, tame)?
                }
                (None, _) => return Err(io::ErrorKind::NotFound.into()),
            };
            let is_directory = path::facts(tree.as_fd())?.is_directory;
            let place = ensure_target(root, target, is_directory)?;
            let device = path::facts(place.as_fd())?.device;
            if refused.iter().any(|kernel| kernel.as_ref().is_ok_and(|known| *known == device)) {
                return Err(io::Error::other("it leads into /proc or /sys"));
            }
            mount::attach(tree.as_fd(), place.as_fd())
        };
        attach().step_with(|| format!("mount at `{}`", target.display()))?;
    }
    Ok(())
}

/// Where `target` is inside the root, following links as the container would; what is missing is
/// made.
fn ensure_target(root: BorrowedFd<'_>, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let names = normal_components(target)?;
    let mut place = path::open_in(root, Path::new("."), Links::InRoot, Access::Directory)?;
    let mut walked = PathBuf::new();
    for (index, name) in names.iter().enumerate() {
        walked.push(name);
        // From the root each time: a link on the way may lead anywhere inside.
        place = match path::open_in(root, &walked, Links::InRoot, Access::Place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_directory || index + 1 < names.len() {
                    make_directory(place.as_fd(), name)?
                } else {
                    path::make_file(place.as_fd(), Path::new(name), 0o644)?;
                    path::open_in(place.as_fd(), Path::new(name), Links::Refuse, Access::Place)?
                }
            }
            other => other?,
        };
    }
    Ok(place)
}

fn normal_components(target: &Path) -> io::Result<Vec<&OsStr>> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "not a plain absolute path");
    let mut components = target.components();
    if components.next() != Some(Component::RootDir) {
        return Err(refused());
    }
    let names: Vec<&OsStr> = components
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(refused()),
        })
        .collect::<Result<_, _>>()?;
    if names.is_empty() { Err(refused()) } else { Ok(names) }
}

/// Puts `tree` at the directory `name` right below `root`, which is made if it is missing.
fn attach_at(root: BorrowedFd<'_>, name: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let place = match existing(root, Path::new(name)) {
        Ok(Some(place)) => Ok(place),
        Ok(None) => make_directory(root, OsStr::new(name)),
        Err(error) => Err(error),
    };
    // ELOOP here is an image with a link in that place.
    let place = place.step_with(|| format!("find directory `{name}`"))?;
    mount::attach(tree.as_fd(), place.as_fd()).step_with(|| format!("attach at `{name}`"))
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    path::make_directory(parent, Path::new(name), 0o755)?;
    path::open_in(parent, Path::new(name), Links::Refuse, Access::Directory)
}

fn tmpfs(size: u64, mode: u32, attributes: Attributes) -> io::Result<OwnedFd> {
    let inodes = (size / BYTES_PER_INODE).max(LEAST_INODES).to_string();
    let (size, mode) = (size.to_string(), format!("{mode:o}"));
    let options = [("size", size.as_str()), ("mode", mode.as_str()), ("nr_inodes", &inodes)];
    mount::new_file_system("tmpfs", &options, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_plain_and_absolute() {
        assert_eq!(normal_components(Path::new("/a/b")).unwrap(), ["a", "b"]);
        for path in ["a", "/", "/a/../b", ""] {
            assert!(normal_components(Path::new(path)).is_err(), "{path}");
        }
    }
}
