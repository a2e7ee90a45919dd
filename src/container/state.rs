//! What a container is: read from `run_dir/containers/<id>` and from the kernel.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

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
