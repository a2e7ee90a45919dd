//! What a container is: files in `run_dir/containers/<id>`, and what the kernel says.
//!
//! `container.json` is written by the daemon before anything else and says what was asked for and
//! must be cleaned up; `state.json` by the monitor, with the processes; `exit.json` by the monitor
//! at the end, or by a daemon that finds the monitor killed. None holds the environment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pid::ProcessId;
use super::spec::{CgroupSpec, ContainerSpec, IdMap};
use crate::support::atomic_file;

pub(super) const SIGKILL: i32 = 9;
const ASKED: &str = "container.json";
const STATE: &str = "state.json";
const EXIT: &str = "exit.json";
/// For root alone: labels may say more about an app than others should know.
const MODE: u32 = 0o600;

/// A container as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// As in the spec.
    pub id: String,
    /// As in the spec.
    pub labels: BTreeMap<String, String>,
    /// Where it is in its life.
    pub status: Status,
    /// When it was created.
    pub created_at: SystemTime,
    /// When its process was executed.
    pub started_at: Option<SystemTime>,
    /// What could not be done as asked, such as a lowered resource limit.
    pub notes: Vec<String>,
}

/// `Created → Running ⇄ Paused → Exited`; killed before the start: `Created → Exited`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Set up and waiting for `start`.
    Created {
        /// Host pid of its PID 1.
        pid: u32,
    },
    /// Started.
    Running {
        /// Host pid of its PID 1.
        pid: u32,
    },
    /// Frozen by `pause`.
    Paused {
        /// Host pid of its PID 1.
        pid: u32,
    },
    /// Over; everything in it is dead.
    Exited(ExitRecord),
}

/// How a container or an exec'd process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal, if one killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// How many were.
    pub oom_kills: u64,
    /// When.
    pub finished_at: SystemTime,
    /// Why, where the code does not say: the program could not be executed, the monitor was
    /// killed, it was never started.
    pub reason: Option<String>,
}

impl ExitRecord {
    /// Whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Use of resources now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Bytes of memory, including page cache.
    pub memory_bytes: u64,
    /// Bytes of page cache that could be given back at once.
    pub memory_reclaimable_bytes: u64,
    /// The most bytes of memory so far, including page cache; 0 where the kernel does not count it
    /// (cgroup v2 before Linux 5.19).
    pub memory_peak_bytes: u64,
    /// Limit in bytes, if any.
    pub memory_max_bytes: Option<u64>,
    /// Processes killed for want of memory so far.
    pub oom_kills: u64,
    /// CPU time in microseconds.
    pub cpu_usage_us: u64,
    /// Periods in which it was throttled.
    pub cpu_throttled_periods: u64,
    /// Microseconds for which it was throttled.
    pub cpu_throttled_us: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What of a spec is needed for as long as the container exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) cgroup: CgroupSpec,
    pub(super) id_map: IdMap,
    pub(super) capabilities: Vec<String>,
    pub(super) oom_score_adj: u16,
    pub(super) created_at: SystemTime,
}

/// The processes of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunState {
    pub(super) init: ProcessId,
    pub(super) monitor: ProcessId,
    pub(super) started_at: Option<SystemTime>,
    pub(super) notes: Vec<String>,
}

impl Asked {
    pub(super) fn of(spec: &ContainerSpec) -> Self {
        Self {
            labels: spec.labels.clone(),
            cgroup: spec.cgroup.clone(),
            id_map: spec.id_map,
            capabilities: spec.capabilities.clone(),
            oom_score_adj: spec.oom_score_adj,
            created_at: SystemTime::now(),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        save(&dir.join(ASKED), self)
    }

    pub(super) fn load(dir: &Path) -> io::Result<Option<Self>> {
        load(&dir.join(ASKED))
    }
}

impl RunState {
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        save(&dir.join(STATE), self)
    }

    pub(super) fn load(dir: &Path) -> io::Result<Option<Self>> {
        load(&dir.join(STATE))
    }
}

impl ExitRecord {
    /// Of a container that was killed by us or with its monitor.
    pub(super) fn killed(reason: &str) -> Self {
        Self {
            code: None,
            signal: Some(SIGKILL),
            oom_killed: false,
            oom_kills: 0,
            finished_at: SystemTime::now(),
            reason: Some(reason.to_owned()),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        save(&dir.join(EXIT), self)
    }

    pub(super) fn load(dir: &Path) -> io::Result<Option<Self>> {
        load(&dir.join(EXIT))
    }
}

/// `nofile` for `RLIMIT_NOFILE` as well as for itself.
pub(super) fn resource_name(name: &str) -> String {
    name.strip_prefix("RLIMIT_").unwrap_or(name).to_ascii_lowercase()
}

fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    // Without fsync: after a power cut there is no process left to know about.
    atomic_file::write_volatile(path, &serde_json::to_vec(value)?, MODE)
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
