//! What was counted when last looked: counters of containers and of the proxy's processes come and
//! go with them, sums of theirs only grow.
//!
//! Kept with each sample, so that the next control plane goes on where this one ended.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::container::Stats;
use crate::domain::{AppId, AppName, InstanceName, ProcessType, Timestamp};
use crate::host::Traffic;
use crate::proxy::Metrics;

/// How many samples a container is remembered for after it was last seen: as long as somebody may
/// still read its last figures.
const REMEMBERED: u32 = 8;

/// Counters of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) cpu_us: u64,
    pub(super) throttled_us: u64,
    pub(super) oom_kills: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Counters {
    /// Those of a container, whose link is gone by the time it has ended.
    pub(super) fn of(stats: &Stats, link: Option<Traffic>, last: Option<Self>) -> Self {
        let last = last.unwrap_or_default();
        // What the host has sent into the link is what the container has received.
        let link = link.map_or((last.received, last.sent), |link| (link.sent, link.received));
        Self {
            cpu_us: stats.cpu_usage_us,
            throttled_us: stats.cpu_throttled_us,
            oom_kills: stats.oom_kills,
            received: link.0,
            sent: link.1,
        }
    }

    /// What has come on top of `last`; all of it where that is more: it began anew.
    fn since(self, last: Self) -> Self {
        let more = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        Self {
            cpu_us: more(self.cpu_us, last.cpu_us),
            throttled_us: more(self.throttled_us, last.throttled_us),
            oom_kills: more(self.oom_kills, last.oom_kills),
            received: more(self.received, last.received),
            sent: more(self.sent, last.sent),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.cpu_us += other.cpu_us;
        self.throttled_us += other.throttled_us;
        self.oom_kills += other.oom_kills;
        self.received += other.received;
        self.sent += other.sent;
    }
}

/// Sums of all instances of a type, those that are gone too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) counters: Counters,
    pub(super) restarts: u64,
}

/// An app's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Requests {
    pub(super) ended: [u64; 6],
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) latency_us: u64,
    pub(super) latencies: [u64; 12],
    pub(super) open: u64,
}

impl Requests {
    fn add(&mut self, other: &Self) {
        let pairs = self.ended.iter_mut().zip(other.ended);
        pairs.chain(self.latencies.iter_mut().zip(other.latencies)).for_each(|(a, b)| *a += b);
        self.received += other.received;
        self.sent += other.sent;
        self.latency_us = self.latency_us.wrapping_add(other.latency_us);
        self.open += other.open;
    }

    /// What has come on top of `last`, of the same process; what is open is what it is.
    fn since(&self, last: &Self) -> Self {
        let more = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        Self {
            ended: std::array::from_fn(|n| more(self.ended[n], last.ended[n])),
            received: more(self.received, last.received),
            sent: more(self.sent, last.sent),
            latency_us: more(self.latency_us, last.latency_us),
            latencies: std::array::from_fn(|n| more(self.latencies[n], last.latencies[n])),
            open: self.open,
        }
    }
}

/// The requests of each app, over its releases.
fn requests(metrics: &Metrics) -> BTreeMap<AppName, Requests> {
    let mut apps: BTreeMap<AppName, Requests> = BTreeMap::new();
    for release in &metrics.releases {
        let [first, second] = release.ended;
        apps.entry(release.app.clone()).or_default().add(&Requests {
            ended: std::array::from_fn(|n| first[n] + second[n]),
            received: release.received_bytes,
            sent: release.sent_bytes,
            latency_us: release.latency_us,
            latencies: release.latencies,
            open: release.open,
        });
    }
    apps
}

/// What happened to an instance since the last sample that its container no longer tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) counters: Counters,
    pub(super) restarts: u64,
}

/// All that is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    /// When the last sample was taken; none before the first.
    pub(super) at: Option<Timestamp>,
    containers: HashMap<String, (Counters, u32)>,
    /// The proxy's processes with what they had counted.
    processes: Vec<(u32, Metrics)>,
    /// What processes had counted that have ended.
    ended: Metrics,
    /// What each app has more than at the last sample.
    #[serde(skip)]
    fresh: BTreeMap<AppName, Requests>,
    pub(super) totals: BTreeMap<AppId, BTreeMap<ProcessType, Totals>>,
    /// Builds that have ended, by how.
    pub(super) builds: BTreeMap<AppId, BTreeMap<String, u64>>,
    #[serde(skip)]
    pending: HashMap<(AppId, InstanceName), Pending>,
    /// Processor time of the machine at the last sample.
    pub(super) host: Option<(u64, u64)>,
    /// Bytes over the machine's own links.
    pub(super) links: Option<(u64, u64)>,
}

impl Book {
    /// Takes over what was noted before this one was read.
    pub(super) fn adopt(&mut self, early: Self) {
        for (app, types) in early.totals {
            for (process, totals) in types {
                let own = self.totals(app, &process);
                own.counters.add(totals.counters);
                own.restarts += totals.restarts;
            }
        }
        for (app, ends) in early.builds {
            for (status, count) in ends {
                *self.builds.entry(app).or_default().entry(status).or_default() += count;
            }
        }
        self.containers.extend(early.containers);
        self.pending.extend(early.pending);
    }

    /// The counters that a container had when last looked at.
    pub(super) fn last(&self, container: &str) -> Option<Counters> {
        self.containers.get(container).map(|(counters, _)| *counters)
    }

    /// Notes a container's counters; answers what is new, which the app's totals have then.
    pub(super) fn see_container(
        &mut self,
        container: &str,
        app: AppId,
        process: &ProcessType,
        counters: Counters,
    ) -> Counters {
        let last = self.containers.insert(container.to_owned(), (counters, 0));
        let new = match last {
            Some((last, _)) => counters.since(last),
            // Of one that was there before anything was recorded it is not known when.
            None if self.at.is_none() => Counters::default(),
            None => counters,
        };
        self.totals(app, process).counters.add(new);
        new
    }

    /// Notes the last figures of a container that has ended.
    pub(super) fn see_end(
        &mut self,
        container: &str,
        app: AppId,
        name: &InstanceName,
        counters: Counters,
    ) {
        let new = self.see_container(container, app, &name.process_type, counters);
        self.pending(app, name).counters.add(new);
    }

    /// Notes that an instance is started again.
    pub(super) fn see_restart(&mut self, app: AppId, name: &InstanceName) {
        self.totals(app, &name.process_type).restarts += 1;
        self.pending(app, name).restarts += 1;
    }

    /// Notes that a build has ended.
    pub(super) fn see_build(&mut self, app: AppId, status: &str) {
        *self.builds.entry(app).or_default().entry(status.to_owned()).or_default() += 1;
    }

    fn totals(&mut self, app: AppId, process: &ProcessType) -> &mut Totals {
        self.totals.entry(app).or_default().entry(process.clone()).or_default()
    }

    fn pending(&mut self, app: AppId, name: &InstanceName) -> &mut Pending {
        self.pending.entry((app, name.clone())).or_default()
    }

    /// What has happened since the last sample, told once.
    pub(super) fn take_pending(&mut self) -> HashMap<(AppId, InstanceName), Pending> {
        std::mem::take(&mut self.pending)
    }

    /// Notes what the proxy's processes have counted; those that are not among them have ended.
    pub(super) fn see_proxy(&mut self, processes: Vec<(u32, Metrics)>) {
        let first = self.at.is_none() && self.processes.is_empty();
        let before = std::mem::take(&mut self.processes);
        for (pid, now) in &processes {
            let last = before.iter().find(|(known, _)| known == pid);
            let last = last.map(|(_, last)| requests(last)).unwrap_or_default();
            for (app, counts) in requests(now) {
                let new = match last.get(&app) {
                    Some(last) => counts.since(last),
                    None if first => Requests { open: counts.open, ..Requests::default() },
                    None => counts,
                };
                self.fresh.entry(app).or_default().add(&Requests { open: 0, ..new });
            }
        }
        for (pid, last) in before {
            if !processes.iter().any(|(known, _)| *known == pid) {
                self.ended.settle(last);
            }
        }
        self.processes = processes;
    }

    /// What each app has more than at the last sample, told once, and has open now.
    pub(super) fn take_requests(&mut self) -> BTreeMap<AppName, Requests> {
        let mut fresh = std::mem::take(&mut self.fresh);
        for (_, metrics) in &self.processes {
            for (app, counts) in requests(metrics) {
                fresh.entry(app).or_default().open += counts.open;
            }
        }
        fresh
    }

    /// What all processes of the proxy have counted, those that have ended too; none before any
    /// was asked.
    pub(super) fn proxy(&self) -> Option<Metrics> {
        let mut sums = self.ended.clone();
        self.processes.iter().for_each(|(_, metrics)| sums.add(metrics));
        (!self.processes.is_empty()).then_some(sums)
    }

    /// The proxy's processes.
    pub(super) fn proxy_pids(&self) -> Vec<u32> {
        self.processes.iter().map(|(pid, _)| *pid).collect()
    }

    /// The end of a sample: forgets what is gone for good.
    pub(super) fn close(&mut self, at: Timestamp, apps: &BTreeMap<AppId, AppName>) {
        self.at = Some(at);
        self.containers.retain(|_, (_, age)| {
            *age += 1;
            *age <= REMEMBERED
        });
        self.totals.retain(|app, _| apps.contains_key(app));
        self.builds.retain(|app, _| apps.contains_key(app));
        self.ended.tidy(|app| apps.values().any(|known| known == app));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ReleaseVersion;
    use crate::proxy::{CountedRelease, ReleaseMetrics};

    const APP: AppId = AppId(7);

    fn counters(cpu_us: u64, oom_kills: u64) -> Counters {
        Counters { cpu_us, oom_kills, ..Counters::default() }
    }

    fn started() -> Book {
        Book { at: Some(Timestamp(1)), ..Book::default() }
    }

    fn counted(requests: u64, open: u64) -> Metrics {
        let mut ended = [[0; 6]; 2];
        ended[1][1] = requests;
        let release = ReleaseMetrics {
            app: "shop".parse().unwrap(),
            release: CountedRelease::Version(ReleaseVersion(3)),
            open,
            ended,
            received_bytes: 0,
            sent_bytes: 0,
            latency_us: 0,
            latencies: [0; 12],
        };
        Metrics { releases: vec![release], ..Metrics::default() }
    }

    #[test]
    fn totals_grow_over_the_instances_that_come_and_go() {
        let (mut book, web) = (started(), ProcessType::web());
        let name: InstanceName = "web.1".parse().unwrap();
        assert_eq!(book.see_container("a", APP, &web, counters(100, 0)).cpu_us, 100);
        assert_eq!(book.see_container("a", APP, &web, counters(150, 0)).cpu_us, 50);
        book.see_end("a", APP, &name, counters(170, 1));
        // Its figures are still there for a moment.
        assert_eq!(book.see_container("a", APP, &web, counters(170, 1)), Counters::default());
        book.see_restart(APP, &name);
        assert_eq!(book.see_container("b", APP, &web, counters(5, 0)).cpu_us, 5);
        let totals = book.totals[&APP][&web];
        assert_eq!((totals.counters.cpu_us, totals.counters.oom_kills), (175, 1));
        assert_eq!(totals.restarts, 1);
        let pending = book.take_pending()[&(APP, name)];
        assert_eq!((pending.counters.cpu_us, pending.counters.oom_kills), (20, 1));
        assert!(book.take_pending().is_empty());
    }

    #[test]
    fn what_was_there_before_the_first_sample_is_not_taken_for_new() {
        let mut book = Book::default();
        assert_eq!(book.see_container("a", APP, &ProcessType::web(), counters(9, 9)).cpu_us, 0);
        book.see_proxy(vec![(1, counted(1000, 2))]);
        let requests = book.take_requests().into_values().next().unwrap();
        assert_eq!((requests.ended[1], requests.open), (0, 2));
    }

    #[test]
    fn requests_are_counted_across_the_proxys_processes() {
        let mut book = started();
        book.see_proxy(vec![(1, counted(10, 4))]);
        book.take_requests();
        // An upgrade: the new process counts from zero, the old one goes on for a while.
        book.see_proxy(vec![(2, counted(3, 1)), (1, counted(12, 2))]);
        let requests = book.take_requests().into_values().next().unwrap();
        assert_eq!((requests.ended[1], requests.open), (5, 3));
        let before = book.proxy().unwrap().releases[0].ended[1][1];
        book.see_proxy(vec![(2, counted(4, 1))]);
        let sums = book.proxy().unwrap();
        assert_eq!((before, sums.releases[0].ended[1][1], sums.releases[0].open), (15, 16, 1));
    }

    #[test]
    fn the_next_control_plane_goes_on_where_this_one_ended() {
        let mut book = started();
        book.see_container("a", APP, &ProcessType::web(), counters(100, 0));
        book.see_proxy(vec![(1, counted(10, 4))]);
        let apps = BTreeMap::from([(APP, "shop".parse().unwrap())]);
        book.close(Timestamp(2), &apps);
        let text = serde_json::to_vec(&book).unwrap();
        let mut next: Book = serde_json::from_slice(&text).unwrap();
        assert_eq!(next.see_container("a", APP, &ProcessType::web(), counters(130, 0)).cpu_us, 30);
        next.see_proxy(vec![(1, counted(11, 0))]);
        assert_eq!(next.take_requests().into_values().next().unwrap().ended[1], 1);
        assert_eq!(next.totals[&APP][&ProcessType::web()].counters.cpu_us, 130);
    }

    #[test]
    fn gone_apps_and_containers_are_forgotten() {
        let mut book = started();
        book.see_container("a", APP, &ProcessType::web(), counters(1, 0));
        book.see_proxy(vec![(1, counted(1, 0))]);
        book.see_proxy(vec![(2, counted(1, 0))]);
        for _ in 0..=REMEMBERED {
            book.close(Timestamp(2), &BTreeMap::new());
        }
        assert!(book.containers.is_empty() && book.totals.is_empty());
        assert!(book.ended.releases.is_empty());
    }
}
