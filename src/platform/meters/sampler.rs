//! The sampler: one look at everything, at each step.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::book::{Book, Counters, Pending, Requests};
use super::fields::{host as host_field, traffic, usage};
use super::pictures::Lines;
use super::{HOST, Platform, footprint, now, series_of, series_of_instance, single};
use crate::container::Stats;
use crate::domain::{Actor, App, AppId, AppName, InstanceName, Timestamp};
use crate::host;
use crate::platform::instances::Instance;
use crate::platform::{InstanceStatus, pipeline};
use crate::series::{Recorded, Row};
use crate::support::report;
use crate::support::shutdown::{Phase, Shutdown};

/// A gap of more steps than this is shown as one: what was counted in it is nobody's rate.
const MAX_GAP: f64 = 4.5;

/// What is known of one instance at a sample.
struct Seen {
    instance: Instance,
    stats: Stats,
    link: Option<host::Traffic>,
    cpu_limit: f32,
}

/// What a sample is made of.
struct Look {
    at: Timestamp,
    apps: Vec<App>,
    instances: Vec<Seen>,
    links: Vec<(String, host::Traffic)>,
    footprint: footprint::Memory,
    disk: Option<host::Disk>,
}

impl Platform {
    /// Samples at each step until the shutdown begins, the first time at once.
    pub async fn keep_sampling(&self, mut shutdown: Shutdown) {
        self.open_book().await;
        loop {
            self.sample().await;
            let step = self.series.step_ms();
            let left = u64::try_from(step - now().0.rem_euclid(step)).unwrap_or(1000);
            tokio::select! {
                // Cancel-safe: observes.
                () = shutdown.reached(Phase::Draining) => return,
                // Cancel-safe: only waits.
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
        }
    }

    /// Goes on where the control plane before this one ended.
    async fn open_book(&self) {
        if let Some(aside) = self.series.take_set_aside() {
            self.tell_set_aside(&aside);
        }
        let state = self.series.state();
        let book = state.map(|state| {
            state.map(|text| {
                serde_json::from_slice::<Book>(&text).unwrap_or_else(|error| {
                tracing::warn!(%error, "the sampler's state cannot be read; sums begin at zero");
                Book::default()
            })
            })
        });
        match book {
            Ok(book) => {
                let pending = std::mem::take(&mut self.0.meters.lock().book);
                let mut book = book.unwrap_or_default();
                book.adopt(pending);
                self.0.meters.lock().book = book;
            }
            Err(error) => self.series_failed(&error).await,
        }
        if let Err(error) = self.load_lines().await {
            tracing::error!(error = report(&error), "cannot read the last hour's figures");
        }
    }

    async fn load_lines(&self) -> super::super::Result<()> {
        let apps: Vec<AppId> = self.store.apps()?.into_iter().map(|app| app.id).collect();
        let platform = self.clone();
        let lines = pipeline::blocking(move || {
            let window = Lines::window(now(), platform.series.step_ms());
            let names: Vec<String> = apps.iter().map(|app| series_of(*app)).collect();
            let columns = platform.series.read(&names, &window)?;
            let lines = columns.iter().map(|columns| Lines::load(columns, &window));
            Ok::<_, crate::series::Error>(apps.into_iter().zip(lines).collect::<HashMap<_, _>>())
        })
        .await??;
        self.0.meters.lock().lines = lines;
        Ok(())
    }

    /// One look at everything.
    async fn sample(&self) {
        let look = match self.look().await {
            Ok(look) => look,
            Err(error) => {
                tracing::error!(error = report(&error), "cannot take a sample");
                return;
            }
        };
        self.measure_proxy().await;
        let (at, apps) = (look.at, names(&look.apps));
        let (rows, state) = {
            let mut state = self.0.meters.lock();
            let rows = rows(&mut state.book, look, self.series.step_ms());
            state.book.close(at, &apps);
            let text = serde_json::to_vec(&state.book).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot write the sampler's state");
                Vec::new()
            });
            state.newest.at = Some(at);
            state.newest.rows =
                rows.iter().map(|row| (row.series.clone(), row.values.clone())).collect();
            let step = self.series.step_ms();
            state.lines.retain(|app, _| apps.contains_key(app));
            for app in apps.keys() {
                if let Some(row) = rows.iter().find(|row| row.series == series_of(*app)) {
                    state.lines.entry(*app).or_default().add(at, step, &row.values);
                }
            }
            (rows, text)
        };
        let platform = self.clone();
        match pipeline::blocking(move || platform.series.record(at, rows, &state)).await {
            Ok(Ok(recorded)) => self.tell(recorded),
            Ok(Err(error)) => self.series_failed(&error).await,
            Err(error) => tracing::error!(error = report(&error), "cannot keep a sample"),
        }
        self.0.meters.sampled.send_replace(at);
    }

    /// Notes what the proxy has counted; one that does not answer is asked again at the next sample.
    /// Whether it has answered.
    pub(in crate::platform) async fn measure_proxy(&self) -> bool {
        match self.proxy.metrics_of_all().await {
            Ok(processes) => {
                self.0.meters.lock().book.see_proxy(processes);
                true
            }
            Err(error) => {
                tracing::warn!(error = report(&error), "ask the proxy for its counters");
                false
            }
        }
    }

    async fn look(&self) -> super::super::Result<Look> {
        let apps = self.store.apps()?;
        let mut limits = HashMap::new();
        for app in &apps {
            limits.insert(app.id, self.store.settings(app.id)?.resources);
        }
        let links = host::traffic();
        let by_name: HashMap<&str, host::Traffic> =
            links.iter().map(|(name, traffic)| (name.as_str(), *traffic)).collect();
        let mut instances = Vec::new();
        for instance in self.0.instances.all() {
            // One that is just ending has been measured by who saw its end.
            let Ok(stats) = self.runtime.stats(&instance.container).await else { continue };
            let link = by_name.get(self.network.link_name(&instance.container).as_str()).copied();
            let limit = limits
                .get(&instance.app)
                .and_then(|limits| limits.instance(&instance.name.process_type).cpu)
                .map_or(f32::NAN, |limit| limit.0 as f32 / 1000.0);
            instances.push(Seen { instance, stats, link, cpu_limit: limit });
        }
        let data = self.settings().data_dir.clone();
        let disk = pipeline::blocking(move || host::disk(&data).ok()).await?;
        let footprint = self.footprint().await?;
        Ok(Look { at: now(), apps, instances, links, footprint, disk })
    }

    fn tell(&self, recorded: Recorded) {
        if recorded.shortened {
            let message = "the metrics file is full: its oldest detail was removed; raise \
                           `max_bytes` in the section [metrics] to keep more";
            self.note_named(None, "metrics.full", message, &Actor::platform());
        }
        let told = std::mem::replace(&mut self.0.meters.lock().told_full, recorded.refused > 0);
        if recorded.refused > 0 && !told {
            let message = format!(
                "no figures are kept of {} apps or instances: there are more than `max_series` in \
                 the section [metrics] allows",
                recorded.refused
            );
            self.note_named(None, "metrics.too-many", &message, &Actor::platform());
        }
    }

    /// A damaged file is replaced; anything else is logged, and tried again with the next sample.
    async fn series_failed(&self, error: &crate::series::Error) {
        tracing::error!(error = report(error), "cannot keep a sample");
        if !error.is_damage() {
            return;
        }
        match self.series.start_anew(error) {
            Ok(aside) => self.tell_set_aside(&aside),
            Err(error) => {
                tracing::error!(error = report(&error), "cannot start a new metrics file")
            }
        }
    }

    fn tell_set_aside(&self, aside: &crate::series::SetAside) {
        tracing::error!(path = %aside.path.display(), why = aside.why, "the metrics file was damaged");
        let message = format!(
            "the metrics file could not be used ({}) and was set aside as `{}`; figures begin anew",
            aside.why,
            aside.path.display()
        );
        self.note_named(None, "metrics.damaged", &message, &Actor::platform());
    }
}

fn names(apps: &[App]) -> BTreeMap<AppId, AppName> {
    apps.iter().map(|app| (app.id, app.name.clone())).collect()
}

/// The rows of a sample.
fn rows(book: &mut Book, look: Look, step_ms: i64) -> Vec<Row> {
    let since_ms = book.at.map(|last| look.at.0 - last.0).filter(|span| *span > 0);
    let seconds = since_ms.map(|span| span as f64 / 1000.0);
    let gap = since_ms.is_some_and(|span| span as f64 > MAX_GAP * step_ms as f64);
    let mut instances: BTreeMap<AppId, BTreeMap<InstanceName, Vec<f32>>> = BTreeMap::new();
    let mut put = |app: AppId, name: InstanceName, row: Vec<f32>| {
        let own = instances.entry(app).or_default();
        add(own.entry(name).or_insert_with(|| vec![f32::NAN; usage::COUNT]), &row);
    };
    for seen in &look.instances {
        let row = instance_row(book, seen, seconds);
        put(seen.instance.app, seen.instance.name.clone(), row);
    }
    for ((app, name), pending) in book.take_pending() {
        put(app, name, pending_row(pending, seconds));
    }
    let mut requests = book.take_requests();
    let mut rows = vec![Row { series: HOST.to_owned(), values: host_row(book, &look, seconds) }];
    for app in &look.apps {
        let mut whole = vec![f32::NAN; traffic::COUNT];
        let own = instances.remove(&app.id).unwrap_or_default();
        own.values().for_each(|row| add(&mut whole, row));
        if whole[usage::INSTANCES].is_nan() {
            whole[usage::INSTANCES] = 0.0;
        }
        let counted = requests.remove(&app.name).unwrap_or_default();
        put_requests(&mut whole, &counted, gap || seconds.is_none());
        rows.push(Row { series: series_of(app.id), values: whole });
        rows.extend(
            own.into_iter()
                .map(|(name, values)| Row { series: series_of_instance(app.id, &name), values }),
        );
    }
    rows
}

/// Adds up fields of several instances; missing ones count for nothing.
fn add(sum: &mut [f32], row: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        if value.is_finite() {
            *sum = if sum.is_finite() { *sum + value } else { *value };
        }
    }
}

fn instance_row(book: &mut Book, seen: &Seen, seconds: Option<f64>) -> Vec<f32> {
    let Seen { instance, stats, link, cpu_limit } = seen;
    let counters = Counters::of(stats, *link, book.last(&instance.container));
    let process = &instance.name.process_type;
    let new = book.see_container(&instance.container, instance.app, process, counters);
    let mut row = vec![f32::NAN; usage::COUNT];
    put_counters(&mut row, &new, seconds);
    row[usage::OOM_KILLS] = new.oom_kills as f32;
    row[usage::RESTARTS] = 0.0;
    let used = stats.memory_bytes.saturating_sub(stats.memory_reclaimable_bytes);
    row[usage::MEMORY] = used as f32;
    if stats.memory_peak_bytes > 0 {
        row[usage::MEMORY_PEAK] = stats.memory_peak_bytes as f32;
    }
    row[usage::MEMORY_LIMIT] = stats.memory_max_bytes.map_or(f32::NAN, |limit| limit as f32);
    row[usage::PIDS] = stats.pids as f32;
    row[usage::CPU_LIMIT] = *cpu_limit;
    row[usage::INSTANCES] = f32::from(u8::from(instance.status == InstanceStatus::Running));
    row
}

/// Of instances that have ended: what they did until then, and not what they have.
fn pending_row(pending: Pending, seconds: Option<f64>) -> Vec<f32> {
    let mut row = vec![f32::NAN; usage::COUNT];
    put_counters(&mut row, &pending.counters, seconds);
    row[usage::OOM_KILLS] = pending.counters.oom_kills as f32;
    row[usage::RESTARTS] = pending.restarts as f32;
    row
}

fn put_counters(row: &mut [f32], new: &Counters, seconds: Option<f64>) {
    let Some(seconds) = seconds else { return };
    let rate = |count: u64| single(count as f64 / seconds);
    row[usage::CPU] = rate(new.cpu_us) / 1e6;
    row[usage::THROTTLED] = rate(new.throttled_us) / 1e6;
    row[usage::RECEIVED] = rate(new.received);
    row[usage::SENT] = rate(new.sent);
}

fn put_requests(row: &mut [f32], counted: &Requests, unknown: bool) {
    row[traffic::OPEN] = counted.open as f32;
    if unknown {
        return;
    }
    for (place, count) in row[traffic::ENDED..].iter_mut().zip(counted.ended) {
        *place = count as f32;
    }
    row[traffic::RECEIVED] = counted.received as f32;
    row[traffic::SENT] = counted.sent as f32;
    row[traffic::LATENCY] = counted.latency_us as f32 / 1e6;
    for (place, count) in row[traffic::LATENCIES..].iter_mut().zip(counted.latencies) {
        *place = count as f32;
    }
}

fn host_row(book: &mut Book, look: &Look, seconds: Option<f64>) -> Vec<f32> {
    use host_field as field;
    let mut row = vec![f32::NAN; field::COUNT];
    let cpus = host::cpus() as f32;
    row[field::CPUS] = cpus;
    let now = host::cpu().map(|cpu| (cpu.total_us, cpu.idle_us));
    if let (Some((total, idle)), Some((last_total, last_idle))) = (now, book.host) {
        let (total, idle) = (total.saturating_sub(last_total), idle.saturating_sub(last_idle));
        if total > 0 {
            row[field::CPU] = cpus * total.saturating_sub(idle) as f32 / total as f32;
        }
    }
    book.host = now.or(book.host);
    row[field::LOAD] = single(host::load()[0]);
    let memory = host::memory();
    row[field::MEMORY] = memory.total.saturating_sub(memory.available) as f32;
    row[field::MEMORY_TOTAL] = memory.total as f32;
    if let Some(disk) = look.disk {
        row[field::DISK] = disk.total.saturating_sub(disk.free) as f32;
        row[field::DISK_TOTAL] = disk.total as f32;
    }
    let own: Vec<_> = look.links.iter().filter(|(name, _)| is_the_machines(name)).collect();
    let sum = |of: fn(&host::Traffic) -> u64| own.iter().map(|(_, link)| of(link)).sum::<u64>();
    let links = (sum(|link| link.received), sum(|link| link.sent));
    if let (Some(seconds), Some((received, sent))) = (seconds, book.links) {
        // A link that was taken away makes the sum smaller.
        row[field::RECEIVED] = single(links.0.saturating_sub(received) as f64 / seconds);
        row[field::SENT] = single(links.1.saturating_sub(sent) as f64 / seconds);
    }
    book.links = Some(links);
    row[field::CONTROL] = look.footprint.control as f32;
    row[field::PROXY] = look.footprint.proxy as f32;
    row[field::MONITORS] = look.footprint.monitors as f32;
    row
}

/// Whether a link leads out of the machine; what has a device behind it, or looks like it.
fn is_the_machines(link: &str) -> bool {
    link != "lo" && std::path::Path::new("/sys/class/net").join(link).join("device").exists()
}
