//! Figures over time, and how the machine stands.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, InstanceName, ProcessType, ReleaseVersion, Timestamp};

/// How far a picture goes back.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum MetricsRange {
    /// An hour.
    #[default]
    #[serde(rename = "1h")]
    Hour,
    /// Six hours.
    #[serde(rename = "6h")]
    SixHours,
    /// A day.
    #[serde(rename = "24h")]
    Day,
    /// Seven days.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
}

impl MetricsRange {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month];

    /// In milliseconds.
    pub fn millis(self) -> i64 {
        const HOUR: i64 = 3_600_000;
        match self {
            Self::Hour => HOUR,
            Self::SixHours => 6 * HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
        }
    }

    /// As it is asked for: `6h`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }
}

impl std::str::FromStr for MetricsRange {
    type Err = crate::domain::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|range| range.as_str() == text).ok_or_else(|| {
            crate::domain::Invalid::new("range", text, "must be 1h, 6h, 24h, 7d or 30d")
        })
    }
}

/// What a series is about.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// Processors in use.
    Cpu,
    /// Processors that may be used, all instances together.
    CpuLimit,
    /// Share of the time in which the processor quota held back something that wanted to run.
    CpuThrottled,
    /// Memory in use, without file cache that can be given back at once.
    Memory,
    /// The most memory that was in use since the instance started, with file cache.
    MemoryPeak,
    /// Memory that may be used, all instances together.
    MemoryLimit,
    /// Processes that the kernel killed for want of memory.
    OomKills,
    /// Processes and threads.
    Pids,
    /// Bytes that came in over the network.
    NetworkReceived,
    /// Bytes that went out over the network.
    NetworkSent,
    /// Instances started again after an end that nobody asked for.
    Restarts,
    /// Instances that are ready.
    Instances,
    /// Requests, all of them.
    Requests,
    /// Requests that became tunnels, such as WebSockets.
    #[serde(rename = "requests_1xx")]
    Requests1xx,
    /// Requests answered with 200 to 299.
    #[serde(rename = "requests_2xx")]
    Requests2xx,
    /// Requests answered with 300 to 399.
    #[serde(rename = "requests_3xx")]
    Requests3xx,
    /// Requests answered with 400 to 499.
    #[serde(rename = "requests_4xx")]
    Requests4xx,
    /// Requests answered with 500 and above.
    #[serde(rename = "requests_5xx")]
    Requests5xx,
    /// Requests that were cut off before their answer was whole.
    RequestsAborted,
    /// Requests and tunnels that are open.
    RequestsOpen,
    /// Half of the answers were quicker.
    LatencyP50,
    /// 95 of 100 answers were quicker.
    LatencyP95,
    /// 99 of 100 answers were quicker.
    LatencyP99,
    /// Bytes of bodies from clients.
    BytesReceived,
    /// Bytes of bodies to clients.
    BytesSent,
    /// Processors of the machine.
    Cpus,
    /// Processes that run or want to, mean of a minute.
    Load,
    /// Memory of the machine.
    MemoryTotal,
    /// Bytes in use on the file system of the data directory.
    Disk,
    /// Size of the file system of the data directory.
    DiskTotal,
    /// Memory of Staithe's control plane, proportional set size.
    ControlMemory,
    /// Memory of Staithe's proxy.
    ProxyMemory,
    /// Memory of the parents of Staithe's containers.
    MonitorMemory,
}

/// What the numbers of a series mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricUnit {
    /// Processors.
    Cpus,
    /// A share, 0 to 1.
    Ratio,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// How many a second.
    PerSecond,
    /// How many in the span of the point.
    PerPoint,
    /// How many there are.
    Count,
    /// Seconds.
    Seconds,
}

/// One line of a picture. Its points are those of the report that it is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricSeries {
    /// What it is about.
    pub name: MetricName,
    /// What its numbers mean.
    pub unit: MetricUnit,
    /// The process type, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessType>,
    /// The instance, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceName>,
    /// The mean over each point's span; none where nothing is known.
    pub values: Vec<Option<f64>>,
    /// The highest sample in each point's span; empty where it says nothing more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub highest: Vec<Option<f64>>,
}

/// Something that happened, to be marked in a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricMark {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: MetricMarkKind,
    /// One sentence for people.
    pub text: String,
    /// The release that was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseVersion>,
}

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricMarkKind {
    /// A release began to be deployed.
    Deploy,
    /// A process was killed for want of memory.
    Oom,
    /// An instance ended by itself.
    Crash,
}

/// An app's figures, or the machine's, over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricsReport {
    /// Whose; none: the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// How far back.
    pub range: MetricsRange,
    /// Where the first point begins.
    pub from: Timestamp,
    /// Where the last point ends; it may not be over yet.
    pub to: Timestamp,
    /// From point to point, milliseconds. Point `n` begins at `from + n * step_ms`.
    pub step_ms: i64,
    /// How many points each series has.
    pub points: usize,
    /// The lines.
    pub series: Vec<MetricSeries>,
    /// What happened meanwhile, in order.
    pub marks: Vec<MetricMark>,
}

impl MetricsReport {
    /// The line of the app as a whole that is about `name`.
    pub fn series(&self, name: MetricName) -> Option<&MetricSeries> {
        self.series
            .iter()
            .find(|one| one.name == name && one.process.is_none() && one.instance.is_none())
    }
}

/// How finely an app's figures are taken apart.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MetricsBy {
    /// The app as a whole.
    #[default]
    App,
    /// Each process type.
    Process,
    /// Each instance.
    Instance,
}

/// `GET /apps/{app}/metrics`, `GET /host/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsQuery {
    /// How far back; an hour unless said otherwise.
    pub range: MetricsRange,
    /// Names of series with commas between them; all if none.
    pub series: Option<String>,
    /// Figures of processes for the app as a whole, for each process type or for each instance.
    pub by: MetricsBy,
    /// Seconds from point to point; such that there are a few hundred unless said otherwise.
    pub step_s: Option<u32>,
}

/// The newest sample of an app or of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricsSample {
    /// When it was taken.
    pub at: Timestamp,
    /// Seconds since the one before.
    pub step_s: u32,
    /// The app as a whole, or the machine.
    pub values: Vec<MetricValue>,
    /// Each of the app's instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceSample>,
}

impl MetricsSample {
    /// What `name` has.
    pub fn value(&self, name: MetricName) -> Option<f64> {
        self.values.iter().find(|one| one.name == name).map(|one| one.value)
    }
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricValue {
    /// What it is about.
    pub name: MetricName,
    /// What it means.
    pub unit: MetricUnit,
    /// How much.
    pub value: f64,
}

/// The newest sample of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InstanceSample {
    /// Which.
    pub instance: InstanceName,
    /// Its figures.
    pub values: Vec<MetricValue>,
}

/// An app's last hour in small, for lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sparkline {
    /// The app.
    pub app: AppName,
    /// From point to point, milliseconds.
    pub step_ms: i64,
    /// Processors in use.
    pub cpu: Vec<Option<f32>>,
    /// Memory in use, bytes.
    pub memory: Vec<Option<f32>>,
    /// Requests a second.
    pub requests: Vec<Option<f32>>,
}

/// How the machine stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution, as it calls itself.
    pub system: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its processors.
    pub cpus: u32,
    /// Processors in use, mean of the last sample; none before the second.
    pub cpu_used: Option<f64>,
    /// Processes that run or want to: means of 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Its memory.
    pub memory: MemoryReport,
    /// The file systems that Staithe works on.
    pub disks: Vec<DiskReport>,
    /// Where it takes connections.
    pub listeners: Vec<ListenerReport>,
    /// What runs in which version.
    pub versions: Vec<ComponentVersion>,
    /// What the kernel can do.
    pub features: Vec<KernelFeature>,
    /// What Staithe itself takes.
    pub footprint: Footprint,
    /// What was looked at, and what to do where it is not as it should be.
    pub checks: Vec<HostCheck>,
}

/// Memory of the machine, bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct MemoryReport {
    /// All of it.
    pub total_bytes: u64,
    /// What could be had without swapping.
    pub available_bytes: u64,
    /// Swap space.
    pub swap_total_bytes: u64,
    /// Swap space that is free.
    pub swap_free_bytes: u64,
}

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DiskReport {
    /// Directories of Staithe's that are on it.
    pub paths: Vec<String>,
    /// All of it.
    pub total_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// Files and directories it can have; none where it has no fixed number.
    pub inodes: Option<u64>,
    /// How many more it can have.
    pub inodes_free: Option<u64>,
}

/// One place where connections are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ListenerReport {
    /// What for: `http`, `https`, `port of shop`.
    pub purpose: String,
    /// Where.
    pub address: SocketAddr,
}

/// One component with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ComponentVersion {
    /// What: `staithe`, `proxy`, `git`.
    pub name: String,
    /// Which.
    pub version: String,
}

/// Something that the kernel can do, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KernelFeature {
    /// What.
    pub name: String,
    /// Whether.
    pub available: bool,
    /// How, or what goes without.
    pub detail: String,
}

/// What Staithe itself takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Footprint {
    /// Its processes by role.
    pub roles: Vec<RoleFootprint>,
    /// Bytes of the data directory's database.
    pub database_bytes: u64,
    /// Bytes of the metrics file.
    pub metrics_bytes: u64,
}

/// The processes of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RoleFootprint {
    /// `control plane`, `proxy`, `monitors`.
    pub role: String,
    /// How many.
    pub processes: u32,
    /// Their memory, proportional set size, bytes.
    pub memory_bytes: u64,
}

/// How a check came out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warn,
    /// Something does not work, or soon will not.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostCheck {
    /// Stable name, such as `disk.data`.
    pub code: String,
    /// How it came out.
    pub status: CheckStatus,
    /// What there is, in one sentence.
    pub sentence: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
