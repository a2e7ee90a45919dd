//! Counting requests: by app and release, without locks and without shared cache lines.
//!
//! Each core adds to counters that no other core writes; a reader sums them up. Their number is
//! bounded: an app has those of its last few releases, and one set for all before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, ReleaseVersion};

use super::protocol::AppStatus;
use super::record::Protocol;

/// Releases of one app that are counted apart. A deploy needs two, a rollback one more.
const MAX_RELEASES: usize = 4;

/// Upper ends of the latency buckets but for the last, which is open, in microseconds.
pub const BUCKETS_US: [u64; 11] = [
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// How requests end: by the class of their status, or cut off.
pub(super) const ENDS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];

const ABORTED: usize = 5;

/// Versions of HTTP between client and proxy.
pub(super) const PROTOCOLS: [&str; 2] = ["http/1", "http/2"];

/// One release's requests.
#[derive(Debug)]
pub(super) struct Counters {
    cores: Box<[CoreCounters]>,
}

/// One core's share. Two cache lines apart, as processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CoreCounters {
    /// Requests admitted and not ended.
    open: AtomicU64,
    ended: [[AtomicU64; ENDS.len()]; PROTOCOLS.len()],
    received: AtomicU64,
    sent: AtomicU64,
    latency_us: AtomicU64,
    latencies: [AtomicU64; BUCKETS_US.len() + 1],
}

/// How a request ended, for the counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) protocol: Protocol,
    pub(super) status: u16,
    pub(super) aborted: bool,
    /// Bytes of body from the client.
    pub(super) received: u64,
    /// Bytes of body to the client.
    pub(super) sent: u64,
    pub(super) duration: Duration,
}

impl Counters {
    pub(super) fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| CoreCounters::default()).collect() }
    }

    /// Counts a request that `core` has admitted.
    pub(super) fn opened(&self, core: usize) {
        add(&self.cores[core].open, 1);
    }

    /// The request was answered, or has failed.
    pub(super) fn closed(&self, core: usize) {
        add(&self.cores[core].open, u64::MAX);
    }

    /// Counts a request that has ended on `core`.
    pub(super) fn count(&self, core: usize, ended: &Counted) {
        let counters = &self.cores[core];
        let class = match ended.aborted {
            true => ABORTED,
            false => usize::from((ended.status / 100).clamp(1, 5)) - 1,
        };
        let protocol = usize::from(ended.protocol == Protocol::Http2);
        add(&counters.ended[protocol][class], 1);
        add(&counters.received, ended.received);
        add(&counters.sent, ended.sent);
        // How long a tunnel was open, or a client had patience, says nothing about the app.
        if ended.aborted || ended.status < 200 {
            return;
        }
        let micros = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|end| *end < micros);
        add(&counters.latencies[bucket], 1);
        add(&counters.latency_us, micros);
    }

    /// The sums over all cores, as those of `app` and `release`.
    fn read(&self, app: &AppName, release: CountedRelease) -> ReleaseMetrics {
        let mut sums = ReleaseMetrics::new(app.clone(), release);
        for core in &self.cores {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            sums.open = sums.open.wrapping_add(get(&core.open));
            for (sums, counters) in sums.ended.iter_mut().zip(&core.ended) {
                sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += get(counter));
            }
            sums.received_bytes += get(&core.received);
            sums.sent_bytes += get(&core.sent);
            sums.latency_us = sums.latency_us.wrapping_add(get(&core.latency_us));
            let latencies = sums.latencies.iter_mut().zip(&core.latencies);
            latencies.for_each(|(sum, counter)| *sum += get(counter));
        }
        sums
    }
}

/// Adds to a counter that only this thread writes: no locked instruction needed.
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

/// Whose requests a set of counters counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedRelease {
    /// Those of all releases that are no longer counted apart.
    Older,
    /// Those that came while nothing was released, or was running.
    None,
    /// Those of one release.
    Version(ReleaseVersion),
}

/// An app's counters by release.
#[derive(Debug, Clone, Default)]
pub(super) struct AppCounters {
    releases: Vec<(Option<ReleaseVersion>, Arc<Counters>)>,
    /// The sums of those that were let go.
    older: Option<ReleaseMetrics>,
}

impl AppCounters {
    /// The counters of `release`; new ones if it has none, for which the oldest may have to go.
    pub(super) fn of(
        &mut self,
        app: &AppName,
        release: Option<ReleaseVersion>,
        cores: usize,
    ) -> Arc<Counters> {
        if let Some((_, counters)) = self.releases.iter().find(|(known, _)| *known == release) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Counters::new(cores));
        self.releases.push((release, Arc::clone(&counters)));
        // In the order in which they came: after a rollback the lower number is the newer one. A
        // request that is still open on the oldest is not counted any more.
        if self.releases.len() > MAX_RELEASES {
            let (_, oldest) = self.releases.remove(0);
            let empty = ReleaseMetrics::new(app.clone(), CountedRelease::Older);
            let sums = ReleaseMetrics { open: 0, ..oldest.read(app, CountedRelease::Older) };
            self.older.get_or_insert(empty).add(&sums);
        }
        counters
    }

    /// The sums of each release.
    pub(super) fn read(&self, app: &AppName) -> Vec<ReleaseMetrics> {
        let named = |release: &Option<ReleaseVersion>| {
            release.map_or(CountedRelease::None, CountedRelease::Version)
        };
        let releases = self.releases.iter();
        let releases = releases.map(|(release, counters)| counters.read(app, named(release)));
        self.older.iter().cloned().chain(releases).collect()
    }

    /// The sums over all releases.
    pub(super) fn status(&self, app: &AppName) -> AppStatus {
        let mut sums = [0; ENDS.len()];
        for release in self.read(app) {
            for protocol in &release.ended {
                sums.iter_mut().zip(protocol).for_each(|(sum, count)| *sum += count);
            }
        }
        let [informational, success, redirect, client_error, server_error, aborted] = sums;
        AppStatus { informational, success, redirect, client_error, server_error, aborted }
    }
}

/// One release's requests since the process started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseMetrics {
    /// The app.
    pub app: AppName,
    /// Which of its releases.
    pub release: CountedRelease,
    /// Requests open now, upgraded connections too.
    pub open: u64,
    /// Requests by version of HTTP (1, 2), and by the class of their status, the last one: cut off.
    pub ended: [[u64; 6]; 2],
    /// Bytes of bodies from clients.
    pub received_bytes: u64,
    /// Bytes of bodies to clients.
    pub sent_bytes: u64,
    /// How long all answers together took.
    pub latency_us: u64,
    /// Answers by how long they took: up to 5, 10, 25, 50, 100, 250, 500 ms, 1, 2.5, 5, 10 s, more.
    pub latencies: [u64; 12],
}

impl ReleaseMetrics {
    fn new(app: AppName, release: CountedRelease) -> Self {
        Self {
            app,
            release,
            open: 0,
            ended: Default::default(),
            received_bytes: 0,
            sent_bytes: 0,
            latency_us: 0,
            latencies: Default::default(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.open += other.open;
        for (sums, counts) in self.ended.iter_mut().zip(&other.ended) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.latency_us = self.latency_us.wrapping_add(other.latency_us);
        let latencies = self.latencies.iter_mut().zip(&other.latencies);
        latencies.for_each(|(sum, count)| *sum += count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16, millis: u64) -> Counted {
        Counted {
            protocol: Protocol::Http11,
            status,
            aborted: false,
            received: 1,
            sent: 10,
            duration: Duration::from_millis(millis),
        }
    }

    #[test]
    fn cores_count_apart_and_are_summed_up() {
        let app: AppName = "shop".parse().unwrap();
        let counters = Counters::new(2);
        counters.opened(0);
        counters.count(0, &ended(200, 5));
        counters.count(1, &ended(204, 6));
        counters.count(1, &Counted { protocol: Protocol::Http2, ..ended(503, 20_000) });
        counters.count(1, &Counted { aborted: true, ..ended(200, 1) });
        counters.count(1, &ended(101, 1));
        let sums = counters.read(&app, CountedRelease::None);
        assert_eq!(sums.ended, [[1, 2, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0]]);
        assert_eq!((sums.open, sums.received_bytes, sums.sent_bytes), (1, 5, 50));
        assert_eq!(sums.latencies, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(sums.latency_us, 20_011_000);
        counters.closed(0);
        assert_eq!(counters.read(&app, CountedRelease::None).open, 0);
    }

    #[test]
    fn the_oldest_releases_are_counted_together() {
        let app: AppName = "shop".parse().unwrap();
        let mut counters = AppCounters::default();
        for version in 1..=10 {
            counters.of(&app, Some(ReleaseVersion(version)), 1).count(0, &ended(200, 1));
        }
        let known = counters.of(&app, Some(ReleaseVersion(9)), 1);
        known.count(0, &ended(404, 1));
        let read = counters.read(&app);
        let releases: Vec<_> = read.iter().map(|metrics| metrics.release).collect();
        let version = |number| CountedRelease::Version(ReleaseVersion(number));
        let kept = [7, 8, 9, 10].map(version);
        assert_eq!(releases, [&[CountedRelease::Older], &kept[..]].concat());
        assert_eq!(read[0].ended[0][1], 6);
        let status = counters.status(&app);
        assert_eq!((status.success, status.client_error), (10, 1));
    }
}
