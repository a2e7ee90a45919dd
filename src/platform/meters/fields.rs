//! Which field of a row means what, and how fields become the series that are asked for.
//!
//! Fields are numbers in a file: a new one goes to the end of its list, none is ever given another
//! meaning.

use crate::series::{Cell, Columns};
use crate::wire::{MetricName, MetricUnit};

/// Fields of an instance, and of an app as a whole.
pub(super) mod usage {
    /// Processors in use.
    pub(crate) const CPU: usize = 0;
    /// Share of the time in which the quota held it back.
    pub(crate) const THROTTLED: usize = 1;
    /// Bytes, without what could be given back at once.
    pub(crate) const MEMORY: usize = 2;
    pub(crate) const MEMORY_PEAK: usize = 3;
    pub(crate) const MEMORY_LIMIT: usize = 4;
    /// Counted in each step.
    pub(crate) const OOM_KILLS: usize = 5;
    pub(crate) const PIDS: usize = 6;
    /// Bytes a second.
    pub(crate) const RECEIVED: usize = 7;
    pub(crate) const SENT: usize = 8;
    /// Counted in each step.
    pub(crate) const RESTARTS: usize = 9;
    pub(crate) const INSTANCES: usize = 10;
    pub(crate) const CPU_LIMIT: usize = 11;
    /// How many there are.
    pub(crate) const COUNT: usize = 12;
}

/// Further fields of an app as a whole: counted in each step, but for `OPEN`.
pub(super) mod traffic {
    /// By class of status, the last one: cut off.
    pub(crate) const ENDED: usize = 12;
    pub(crate) const RECEIVED: usize = 18;
    pub(crate) const SENT: usize = 19;
    /// Open now.
    pub(crate) const OPEN: usize = 20;
    /// Of all answers, seconds.
    pub(crate) const LATENCY: usize = 21;
    /// Answers by how long they took.
    pub(crate) const LATENCIES: usize = 22;
    /// How many there are, those of usage before them.
    pub(crate) const COUNT: usize = 34;
}

/// Fields of the machine.
pub(super) mod host {
    pub(crate) const CPU: usize = 0;
    pub(crate) const CPUS: usize = 1;
    pub(crate) const LOAD: usize = 2;
    pub(crate) const MEMORY: usize = 3;
    pub(crate) const MEMORY_TOTAL: usize = 4;
    pub(crate) const DISK: usize = 5;
    pub(crate) const DISK_TOTAL: usize = 6;
    pub(crate) const RECEIVED: usize = 7;
    pub(crate) const SENT: usize = 8;
    pub(crate) const CONTROL: usize = 9;
    pub(crate) const PROXY: usize = 10;
    pub(crate) const MONITORS: usize = 11;
    pub(crate) const COUNT: usize = 12;
}

/// How a figure comes out of fields.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The mean of a field, and its highest.
    Level(usize),
    /// The sum of a field that counts.
    Sum(usize),
    /// A count by the second, of several fields that lie together.
    Rate(usize, usize),
    /// A share of answers that was quicker.
    Latency(f64),
}

/// A series that can be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) name: MetricName,
    pub(super) unit: MetricUnit,
    pub(super) source: Source,
}

const fn figure(name: MetricName, unit: MetricUnit, source: Source) -> Figure {
    Figure { name, unit, source }
}

/// What instances have, and process types and apps as sums of them.
pub(super) const USAGE: &[Figure] = &[
    figure(MetricName::Cpu, MetricUnit::Cpus, Source::Level(usage::CPU)),
    figure(MetricName::CpuLimit, MetricUnit::Cpus, Source::Level(usage::CPU_LIMIT)),
    figure(MetricName::CpuThrottled, MetricUnit::Ratio, Source::Level(usage::THROTTLED)),
    figure(MetricName::Memory, MetricUnit::Bytes, Source::Level(usage::MEMORY)),
    figure(MetricName::MemoryPeak, MetricUnit::Bytes, Source::Level(usage::MEMORY_PEAK)),
    figure(MetricName::MemoryLimit, MetricUnit::Bytes, Source::Level(usage::MEMORY_LIMIT)),
    figure(MetricName::OomKills, MetricUnit::PerPoint, Source::Sum(usage::OOM_KILLS)),
    figure(MetricName::Pids, MetricUnit::Count, Source::Level(usage::PIDS)),
    figure(MetricName::NetworkReceived, MetricUnit::BytesPerSecond, Source::Level(usage::RECEIVED)),
    figure(MetricName::NetworkSent, MetricUnit::BytesPerSecond, Source::Level(usage::SENT)),
    figure(MetricName::Restarts, MetricUnit::PerPoint, Source::Sum(usage::RESTARTS)),
    figure(MetricName::Instances, MetricUnit::Count, Source::Level(usage::INSTANCES)),
];

/// What apps as a whole have beside that.
pub(super) const TRAFFIC: &[Figure] = &[
    figure(MetricName::Requests, MetricUnit::PerSecond, Source::Rate(traffic::ENDED, 6)),
    figure(MetricName::Requests1xx, MetricUnit::PerSecond, Source::Rate(traffic::ENDED, 1)),
    figure(MetricName::Requests2xx, MetricUnit::PerSecond, Source::Rate(traffic::ENDED + 1, 1)),
    figure(MetricName::Requests3xx, MetricUnit::PerSecond, Source::Rate(traffic::ENDED + 2, 1)),
    figure(MetricName::Requests4xx, MetricUnit::PerSecond, Source::Rate(traffic::ENDED + 3, 1)),
    figure(MetricName::Requests5xx, MetricUnit::PerSecond, Source::Rate(traffic::ENDED + 4, 1)),
    figure(MetricName::RequestsAborted, MetricUnit::PerSecond, Source::Rate(traffic::ENDED + 5, 1)),
    figure(MetricName::RequestsOpen, MetricUnit::Count, Source::Level(traffic::OPEN)),
    figure(MetricName::LatencyP50, MetricUnit::Seconds, Source::Latency(0.5)),
    figure(MetricName::LatencyP95, MetricUnit::Seconds, Source::Latency(0.95)),
    figure(MetricName::LatencyP99, MetricUnit::Seconds, Source::Latency(0.99)),
    figure(
        MetricName::BytesReceived,
        MetricUnit::BytesPerSecond,
        Source::Rate(traffic::RECEIVED, 1),
    ),
    figure(MetricName::BytesSent, MetricUnit::BytesPerSecond, Source::Rate(traffic::SENT, 1)),
];

/// What the machine has.
pub(super) const HOST: &[Figure] = &[
    figure(MetricName::Cpu, MetricUnit::Cpus, Source::Level(host::CPU)),
    figure(MetricName::Cpus, MetricUnit::Cpus, Source::Level(host::CPUS)),
    figure(MetricName::Load, MetricUnit::Count, Source::Level(host::LOAD)),
    figure(MetricName::Memory, MetricUnit::Bytes, Source::Level(host::MEMORY)),
    figure(MetricName::MemoryTotal, MetricUnit::Bytes, Source::Level(host::MEMORY_TOTAL)),
    figure(MetricName::Disk, MetricUnit::Bytes, Source::Level(host::DISK)),
    figure(MetricName::DiskTotal, MetricUnit::Bytes, Source::Level(host::DISK_TOTAL)),
    figure(MetricName::NetworkReceived, MetricUnit::BytesPerSecond, Source::Level(host::RECEIVED)),
    figure(MetricName::NetworkSent, MetricUnit::BytesPerSecond, Source::Level(host::SENT)),
    figure(MetricName::ControlMemory, MetricUnit::Bytes, Source::Level(host::CONTROL)),
    figure(MetricName::ProxyMemory, MetricUnit::Bytes, Source::Level(host::PROXY)),
    figure(MetricName::MonitorMemory, MetricUnit::Bytes, Source::Level(host::MONITORS)),
];

impl Source {
    /// Whether the highest sample says more than the mean.
    pub(super) fn has_highest(self) -> bool {
        matches!(self, Self::Level(_))
    }

    /// The value of a point whose cells are `cell`, sampled every `step_s` seconds.
    pub(super) fn value(self, cell: impl Fn(usize) -> Cell, step_s: f64) -> Option<f64> {
        match self {
            Self::Level(field) => cell(field).mean(),
            Self::Sum(field) => Some(cell(field)).filter(|cell| cell.count > 0).map(|c| c.sum),
            Self::Rate(first, count) => {
                let cells: Vec<Cell> = (first..first + count).map(cell).collect();
                let samples = cells.iter().map(|cell| cell.count).max()?;
                let sum: f64 = cells.iter().map(|cell| cell.sum).sum();
                (samples > 0).then(|| sum / (f64::from(samples) * step_s))
            }
            Self::Latency(share) => quantile(share, &latencies(cell)),
        }
    }

    /// Its value at each point.
    pub(super) fn values(self, columns: &Columns, points: usize, step_s: f64) -> Vec<Option<f64>> {
        (0..points).map(|point| self.value(|field| columns.cell(point, field), step_s)).collect()
    }

    /// The highest sample at each point.
    pub(super) fn highest(self, columns: &Columns, points: usize) -> Vec<Option<f64>> {
        let Self::Level(field) = self else { return Vec::new() };
        let highest = |cell: Cell| (cell.count > 0).then(|| f64::from(cell.max));
        (0..points).map(|point| highest(columns.cell(point, field))).collect()
    }
}

fn latencies(cell: impl Fn(usize) -> Cell) -> [f64; 12] {
    std::array::from_fn(|bucket| cell(traffic::LATENCIES + bucket).sum)
}

/// The duration in seconds below which `share` of the answers were, as the buckets tell it: linear
/// within one, as Prometheus does it; none without answers.
pub(super) fn quantile(share: f64, buckets: &[f64; 12]) -> Option<f64> {
    let total: f64 = buckets.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let rank = share * total;
    let (mut below, mut start) = (0.0, 0.0);
    for (count, end) in buckets.iter().zip(crate::proxy::LATENCY_BUCKETS_US) {
        let end = end as f64 / 1e6;
        if below + count >= rank && *count > 0.0 {
            return Some(start + (end - start) * (rank - below) / count);
        }
        (below, start) = (below + count, end);
    }
    // Beyond the last end nothing is known but that.
    Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let mut buckets = [0.0; 12];
        assert_eq!(quantile(0.5, &buckets), None);
        // 100 answers of 5 to 10 ms.
        buckets[1] = 100.0;
        assert_eq!(quantile(0.5, &buckets), Some(0.0075));
        buckets[11] = 900.0;
        assert_eq!(quantile(0.99, &buckets), Some(10.0));
    }

    #[test]
    fn a_rate_is_over_the_samples_that_there_are() {
        let cell = |field| match field {
            traffic::ENDED => Cell { count: 2, sum: 60.0, min: 30.0, max: 30.0 },
            _ => Cell::default(),
        };
        assert_eq!(Source::Rate(traffic::ENDED, 6).value(cell, 15.0), Some(2.0));
        assert_eq!(Source::Rate(traffic::OPEN, 1).value(cell, 15.0), None);
    }

    #[test]
    fn no_name_stands_for_two_figures() {
        for figures in [[USAGE, TRAFFIC].concat(), HOST.to_vec()] {
            let mut names: Vec<_> = figures.iter().map(|figure| figure.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), figures.len());
        }
    }
}
