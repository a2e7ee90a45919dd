//! Control groups: `<prefix>/<group>/<leaf>` in every hierarchy that carries a controller we use.
//!
//! Each controller is looked for on its own, on a v1 mount first and then on v2, because machines
//! in "hybrid" mode have most of them on v1 mounts and some on v2, whatever the mode is called.
//!
//! **Invariants.** No path component comes unchecked from a caller. A leaf's limit never exceeds
//! its group's, which v1 refuses and v2 ignores.

mod detect;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::error::Error;
use super::spec::{CgroupSpec, Limits};
use super::state::Stats;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Cpu,
    /// Accounting of CPU time; part of `Cpu` on v2.
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    /// `blkio` on v1.
    Io,
    Devices,
    Freezer,
}

impl Controller {
    const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Pids,
        Self::Io,
        Self::Devices,
        Self::Freezer,
    ];

    fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "blkio",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
        }
    }

    /// `None` for what is not a controller there: accounting and freezing are always on.
    fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Io => Some("io"),
            Self::Cpu | Self::Cpuset | Self::Memory | Self::Pids => Some(self.v1_name()),
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
        }
    }
}

/// Where one controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Root directory of its v1 hierarchy.
    V1(PathBuf),
    /// Root directory of the v2 hierarchy.
    V2(PathBuf),
}

/// A cgroup mount to be shown inside of a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct View {
    /// Directory below /sys/fs/cgroup; empty for v2 alone, which is mounted there itself.
    pub(super) name: String,
    /// v1 controllers mounted together; empty for v2.
    pub(super) controllers: Vec<String>,
}

/// The cgroups of this machine, and our place in them.
#[derive(Debug)]
pub(super) struct Hierarchy {
    prefix: String,
    places: BTreeMap<Controller, Place>,
    /// Held while directories above the leaves are made or removed: one container's delete would
    /// otherwise remove a group under the hands of another's create.
    tree: Mutex<()>,
}

impl Hierarchy {
    pub(super) fn detect(prefix: &str) -> Result<Self, Error> {
        if !is_valid_name(prefix) {
            return Err(Error::InvalidPrefix { prefix: prefix.to_owned() });
        }
        let places = detect::places()?;
        for needed in [Controller::Memory, Controller::Pids, Controller::Cpu] {
            if !places.contains_key(&needed) {
                return Err(Error::NoController { controller: needed.v1_name() });
            }
        }
        Ok(Self { prefix: prefix.to_owned(), places, tree: Mutex::new(()) })
    }

    /// Makes group and leaf and sets their limits; both may exist already.
    pub(super) fn create(&self, spec: &CgroupSpec) -> Result<(), Error> {
        let guard = self.tree.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for place in self.hierarchies() {
            match place {
                Place::V1(root) => v1::make_directories(root, &self.levels(spec))?,
                Place::V2(root) => v2::make_directories(root, &self.levels(spec))?,
            }
        }
        drop(guard);
        if let Some(Place::V1(root)) = self.places.get(&Controller::Devices) {
            v1::restrict_devices(&self.leaf_in(root, spec))?;
        }
        self.set_limits(spec)
    }

    /// Sets the limits of the group and of the leaf. Other leaves keep theirs, lowered to the
    /// group's where they exceed it.
    pub(super) fn set_limits(&self, spec: &CgroupSpec) -> Result<(), Error> {
        let group = CgroupSpec { leaf: String::new(), ..spec.clone() };
        let own = within(&spec.limits, &spec.group_limits);
        self.lower_other_leaves(spec)?;
        for (level, limits) in [(&group, &spec.group_limits), (spec, &own)] {
            for controller in self.places.keys() {
                self.apply(*controller, level, limits)?;
            }
        }
        Ok(())
    }

    /// Files to which the pid of a process is written to put it into the leaf.
    pub(super) fn procs_files(&self, spec: &CgroupSpec) -> Vec<PathBuf> {
        self.hierarchies()
            .into_iter()
            .map(|place| self.leaf_in(place.root(), spec).join("cgroup.procs"))
            .collect()
    }

    /// File in which the kernel counts the leaf's processes killed for want of memory.
    pub(super) fn oom_file(&self, spec: &CgroupSpec) -> Option<PathBuf> {
        self.places.get(&Controller::Memory).map(|place| {
            let leaf = self.leaf_in(place.root(), spec);
            match place {
                Place::V1(_) => leaf.join("memory.oom_control"),
                Place::V2(_) => leaf.join("memory.events"),
            }
        })
    }

    /// What a runtime inside (node, java) looks for below /sys/fs/cgroup to learn its limits.
    pub(super) fn views(&self) -> Vec<View> {
        detect::views(&self.places)
    }

    pub(super) fn stats(&self, spec: &CgroupSpec) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        for (controller, place) in &self.places {
            let leaf = self.leaf_in(place.root(), spec);
            match place {
                Place::V1(_) => v1::read_stats(*controller, &leaf, &mut stats)?,
                Place::V2(_) => v2::read_stats(*controller, &leaf, &mut stats)?,
            }
        }
        Ok(stats)
    }

    /// Asks the kernel to freeze or thaw the leaf; [`Hierarchy::is_frozen`] tells when it is done.
    pub(super) fn freeze(&self, spec: &CgroupSpec, frozen: bool) -> Result<(), Error> {
        match self.freezer() {
            Some(Place::V1(root)) => write(
                &self.leaf_in(root, spec).join("freezer.state"),
                if frozen { "FROZEN" } else { "THAWED" },
            ),
            Some(Place::V2(root)) => write(
                &self.leaf_in(root, spec).join("cgroup.freeze"),
                if frozen { "1" } else { "0" },
            ),
            None => Err(Error::NoController { controller: "freezer" }),
        }
    }

    pub(super) fn is_frozen(&self, spec: &CgroupSpec) -> bool {
        let contents = match self.freezer() {
            Some(Place::V1(root)) => read(&self.leaf_in(root, spec).join("freezer.state")),
            Some(Place::V2(root)) => read(&self.leaf_in(root, spec).join("cgroup.events")),
            None => return false,
        };
        // A leaf that has gone is not frozen.
        contents.is_ok_and(|text| text.trim() == "FROZEN" || text.contains("frozen 1"))
    }

    /// Pids of the processes that are in the leaf, in any hierarchy.
    pub(super) fn processes(&self, spec: &CgroupSpec) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .procs_files(spec)
            .iter()
            .filter_map(|file| read(file).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the leaf, and the directories above it that are empty then. Whether all is gone:
    /// a leaf stays busy for a moment after its last process was reaped.
    pub(super) fn remove(&self, spec: &CgroupSpec) -> Result<bool, Error> {
        let _guard = self.tree.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut gone = true;
        for place in self.hierarchies() {
            for (depth, level) in self.levels(spec).iter().rev().enumerate() {
                let path = place.root().join(level);
                match fs::remove_dir(&path) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        gone &= depth > 0;
                        break;
                    }
                    Err(source) => {
                        return Err(Error::Cgroup { operation: "remove", path, source });
                    }
                }
            }
        }
        Ok(gone)
    }

    /// v2 can always freeze, but is used only if something else of ours is there.
    fn freezer(&self) -> Option<&Place> {
        self.places
            .get(&Controller::Freezer)
            .or_else(|| self.places.values().find(|place| matches!(place, Place::V2(_))))
    }

    /// Each hierarchy once.
    fn hierarchies(&self) -> Vec<&Place> {
        let mut places: Vec<&Place> = Vec::new();
        for place in self.places.values() {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Relative directories, top first.
    fn levels(&self, spec: &CgroupSpec) -> [PathBuf; 3] {
        let prefix = PathBuf::from(&self.prefix);
        let group = prefix.join(&spec.group);
        let leaf = group.join(&spec.leaf);
        [prefix, group, leaf]
    }

    fn leaf_in(&self, root: &Path, spec: &CgroupSpec) -> PathBuf {
        root.join(&self.prefix).join(&spec.group).join(&spec.leaf)
    }

    fn apply(
        &self,
        controller: Controller,
        level: &CgroupSpec,
        limits: &Limits,
    ) -> Result<(), Error> {
        match self.places.get(&controller) {
            Some(Place::V1(root)) => v1::apply(controller, &self.leaf_in(root, level), limits),
            Some(Place::V2(root)) => v2::apply(controller, &self.leaf_in(root, level), limits),
            None => Ok(()),
        }
    }

    /// v1 refuses a group quota below that of any leaf in it.
    fn lower_other_leaves(&self, spec: &CgroupSpec) -> Result<(), Error> {
        let (Some(Place::V1(root)), Some(millis)) =
            (self.places.get(&Controller::Cpu), spec.group_limits.cpu_millis)
        else {
            return Ok(());
        };
        v1::lower_quotas(&root.join(&self.prefix).join(&spec.group), millis)
    }
}

impl Place {
    fn root(&self) -> &Path {
        match self {
            Self::V1(root) | Self::V2(root) => root,
        }
    }
}

/// The kernel's count in the text of [`Hierarchy::oom_file`]; both versions spell it `oom_kill N`.
pub(super) fn oom_kills(text: &str) -> u64 {
    field(text, "oom_kill")
}

/// Whether it is usable as a directory name in every hierarchy: no way up or down, none of the
/// kernel's own file names.
pub(super) fn is_valid_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with('.')
        && !Controller::ALL.iter().any(|known| {
            name.strip_prefix(known.v1_name()).is_some_and(|rest| rest.starts_with('.'))
        })
        && !name.starts_with("cgroup.")
        && !name.starts_with("io.")
}

/// A leaf's limits, lowered to its group's where they are higher or absent and v1 would refuse.
fn within(own: &Limits, group: &Limits) -> Limits {
    let lower = |own: Option<u64>, group: Option<u64>| match (own, group) {
        (Some(own), Some(group)) => Some(own.min(group)),
        (own, _) => own,
    };
    let cpu = lower(own.cpu_millis.map(Into::into), group.cpu_millis.map(Into::into));
    Limits {
        cpu_millis: cpu.and_then(|millis| u32::try_from(millis).ok()),
        memory_max: lower(own.memory_max, group.memory_max),
        cpuset: own.cpuset.clone().or_else(|| group.cpuset.clone()),
        ..own.clone()
    }
}

/// The number behind `key` in lines of `key number`; 0 if it is not there.
fn field(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or(0)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Cgroup {
        operation: "read",
        path: path.into(),
        source,
    })
}

/// In one write(2), which the kernel takes as one value; never makes the file.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    try_write(path, value).map_err(|source| Error::Cgroup {
        operation: "write",
        path: path.into(),
        source,
    })
}

fn try_write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Whether it was made just now.
fn make_directory(path: &Path) -> Result<bool, Error> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::Cgroup { operation: "make", path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests;
