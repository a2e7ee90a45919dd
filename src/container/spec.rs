//! What a container should be: plain data, written by the caller, read by every role.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One container, completely described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique on this runtime: 1–100 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit.
    pub id: String,
    /// The caller's own facts, given back by [`super::Runtime::list`]. Not visible inside.
    pub labels: BTreeMap<String, String>,
    /// Host name inside; at most 64 bytes.
    pub hostname: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Which host ids the container's ids `0..size` are.
    pub id_map: IdMap,
    /// What runs; `None` is a container that only waits for [`super::Runtime::exec`].
    pub process: Option<ProcessSpec>,
    /// Whether PID 1 is our reaper with the process as its child, so that an app without signal
    /// handlers stops at once and zombies are reaped. Always so where `process` is `None`.
    pub init: bool,
    /// Mounted in this order after the standard ones (/proc, /sys, /dev, /dev/shm).
    pub mounts: Vec<Mount>,
    /// Size of /dev/shm in bytes.
    pub shm_size: u64,
    /// Place in the cgroup tree, and limits.
    pub cgroup: CgroupSpec,
    /// Capabilities inside the user namespace, as `CAP_CHOWN` or `CHOWN`; everything else is
    /// dropped from every set, also for uid 0.
    pub capabilities: Vec<String>,
    /// Whether the root file system is mounted read-only.
    pub read_only_root: bool,
    /// Where the monitor writes the lines of stdout and stderr; required for `Stdio::Log`.
    pub log: Option<LogSpec>,
    /// The network namespace.
    pub network: NetworkMode,
    /// 0 to 1000: how gladly the kernel kills it when the whole machine is out of memory.
    pub oom_score_adj: u16,
}

impl ContainerSpec {
    /// A spec with the runtime's defaults: our init, 64 MiB of /dev/shm, no capabilities, writable
    /// root, private network, no limits, no log. The caller fills in the rest.
    pub fn new(id: impl Into<String>, rootfs: Rootfs, id_map: IdMap, cgroup: CgroupSpec) -> Self {
        let id = id.into();
        Self {
            hostname: id.clone(),
            id,
            labels: BTreeMap::new(),
            rootfs,
            id_map,
            process: None,
            init: true,
            mounts: Vec::new(),
            shm_size: 64 << 20,
            cgroup,
            capabilities: Vec::new(),
            read_only_root: false,
            log: None,
            network: NetworkMode::Private,
            oom_score_adj: 300,
        }
    }
}

/// Directories that make up the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rootfs {
    /// Read-only layers, bottom first, holding unshifted ids as in the image; 1 to 120. Mounted
    /// idmapped, so their file system must support that (ext4, xfs, btrfs, tmpfs since 6.3).
    pub lowers: Vec<PathBuf>,
    /// Belongs to the caller and survives [`super::Runtime::delete`]. The runtime makes `upper/`
    /// (changes, with shifted ids) and `work/` in it.
    pub upper: PathBuf,
}

/// The container's ids `0..size` are the host's `host_base..host_base+size`, for users and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMap {
    /// First host id; never 0.
    pub host_base: u32,
    /// How many; 65536 for whole images.
    pub size: u32,
}

/// A process to run inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Program and arguments; a program without a slash is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute working directory inside.
    pub cwd: String,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary group ids inside.
    pub groups: Vec<u32>,
    /// First size of the terminal with `Stdio::Terminal`; 80×24 if absent.
    pub terminal: Option<WindowSize>,
    /// Resource limits; those of the daemon for resources not named. A limit above what the
    /// daemon may set is lowered to that and noted in the container's state.
    pub rlimits: Vec<Rlimit>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl Default for WindowSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// One resource limit, see setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// As `nofile` or `RLIMIT_NOFILE`.
    pub resource: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Something mounted into the container. Always nosuid and nodev; targets are absolute and are
/// resolved inside the root file system, missing ones are made. Targets in /proc and /sys are
/// refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mount {
    /// A host file or directory as it is: its owners are host ids.
    Bind {
        /// On the host.
        source: PathBuf,
        /// Inside.
        target: PathBuf,
        /// Whether writing is refused.
        read_only: bool,
    },
    /// A host file or directory whose owners are the container's ids (0 is root inside).
    BindIdmapped {
        /// On the host.
        source: PathBuf,
        /// Inside.
        target: PathBuf,
        /// Whether writing is refused.
        read_only: bool,
    },
    /// Fresh memory, charged to the container.
    Tmpfs {
        /// Inside.
        target: PathBuf,
        /// Bytes.
        size: u64,
        /// Permission bits of its root, such as `0o1777`.
        mode: u32,
    },
}

/// Place in the cgroup tree `<prefix>/<group>/<leaf>`, and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupSpec {
    /// Shared by all containers of one owner, such as an app's name.
    pub group: String,
    /// This container's, such as `web.1`.
    pub leaf: String,
    /// Of this container.
    pub limits: Limits,
    /// Of the group as a whole; set anew by each container that is created in it.
    pub group_limits: Limits,
}

/// Resource limits; `None` is no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU time in thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Share under contention, 1 to 10000; 100 is normal.
    pub cpu_weight: Option<u32>,
    /// CPUs it may run on, such as `0-1,3`.
    pub cpuset: Option<String>,
    /// Bytes of memory; there is no swap beyond it.
    pub memory_max: Option<u64>,
    /// Bytes above which it is slowed down and reclaimed from (v2 `memory.high`, v1 soft limit).
    pub memory_high: Option<u64>,
    /// Bytes that are taken from others first when the machine runs short (v2 `memory.low`; v1 has
    /// only the soft limit, which this then is instead of `memory_high`).
    pub memory_low: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u32>,
    /// Throttles for block devices.
    pub io: Vec<IoLimit>,
}

/// Throttle of one block device; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IoLimit {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Bytes per second read.
    pub read_bps: Option<u64>,
    /// Bytes per second written.
    pub write_bps: Option<u64>,
    /// Operations per second read.
    pub read_iops: Option<u64>,
    /// Operations per second written.
    pub write_iops: Option<u64>,
}

/// Where the monitor writes output: one record a line, `<RFC 3339 with µs> <o|e>[p] <text>`. `p`
/// marks a part of a line longer than 16 KiB; the last part has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// The current file; rotated ones are `path.1` (newest) to `path.<files>`.
    pub path: PathBuf,
    /// Bytes after which the file is rotated.
    pub max_bytes: u64,
    /// Rotated files kept beside the current one.
    pub files: u32,
}

/// The network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A new one with the loopback device up; the caller attaches the rest before `start`.
    Private,
}

/// A signal by its Linux number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(1);
    /// Interrupt, as from Ctrl-C.
    pub const INT: Self = Self(2);
    /// Cannot be caught.
    pub const KILL: Self = Self(9);
    /// Please end.
    pub const TERM: Self = Self(15);
}
