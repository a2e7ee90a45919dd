//! What apps and the machine use, sampled, kept and told.
//!
//! ```text
//!  containers' cgroups, links ─┐
//!  the proxy's processes ──────┼─► book (sums that only grow) ─► rows ─► series ─► pictures
//!  /proc ──────────────────────┘                └─► /metrics      └─► newest, sparklines
//! ```
//!
//! **Invariant.** Sampling never waits for an app and no app for it; what cannot be read is missing
//! in the picture, not zero.

mod book;
mod fields;
mod footprint;
mod host;
mod openmetrics;
mod pictures;
mod sampler;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::instances::Instance;
use super::{Platform, clock};
use crate::container::ExitRecord;
use crate::domain::{AppId, BuildStatus, InstanceName, Timestamp};
use crate::wire::ListenerReport;

use book::{Book, Counters};
use pictures::Lines;

/// What the sampler knows between two samples.
#[derive(Debug)]
pub(super) struct Meters {
    state: Mutex<State>,
    /// When the newest sample was taken.
    sampled: watch::Sender<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    newest: Newest,
    lines: HashMap<AppId, Lines>,
    footprint: footprint::Kept,
    /// Where connections are taken beside the proxy's.
    listeners: Vec<ListenerReport>,
    /// It was told that there is no room for all series.
    told_full: bool,
}

/// The newest sample: a row for each series.
#[derive(Debug, Default)]
struct Newest {
    at: Option<Timestamp>,
    rows: HashMap<String, Vec<f32>>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { state: Mutex::default(), sampled: watch::channel(Timestamp(0)).0 }
    }
}

impl Meters {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every section leaves the maps whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a build has ended.
    pub(super) fn note_build(&self, app: AppId, status: BuildStatus) {
        let status = match status {
            BuildStatus::Succeeded => "succeeded",
            BuildStatus::Failed => "failed",
            BuildStatus::Canceled => "canceled",
            BuildStatus::Queued | BuildStatus::Running => return,
        };
        self.lock().book.see_build(app, status);
    }

    /// Notes that an instance is started again after an end that nobody asked for.
    pub(super) fn note_restart(&self, app: AppId, name: &InstanceName) {
        self.lock().book.see_restart(app, name);
    }
}

impl Platform {
    /// Notes what a container that has just ended has used, while its cgroups can still be read: a
    /// process that was killed for want of memory has done so between two samples.
    pub(super) async fn measure_end(&self, instance: &Instance, record: &ExitRecord) {
        let Ok(stats) = self.runtime.stats(&instance.container).await else { return };
        let mut state = self.0.meters.lock();
        let last = state.book.last(&instance.container);
        let mut counters = Counters::of(&stats, None, last);
        counters.oom_kills = counters.oom_kills.max(record.oom_kills);
        state.book.see_end(&instance.container, instance.app, &instance.name, counters);
    }

    /// Forgets an app's figures.
    pub(super) async fn forget_metrics(&self, app: AppId) {
        {
            let mut state = self.0.meters.lock();
            state.lines.remove(&app);
            let (name, below) = (series_of(app), format!("{}/", series_of(app)));
            state.newest.rows.retain(|series, _| *series != name && !series.starts_with(&below));
        }
        let platform = self.clone();
        let forgotten =
            super::pipeline::blocking(move || platform.series.forget(&series_of(app))).await;
        let result = forgotten.map(|result| result.map_err(|e| crate::support::report(&e)));
        if let Ok(Err(error)) = result {
            tracing::error!(error, app.id = app.0, "cannot forget an app's figures");
        }
    }

    /// When the newest sample was taken; changes with each.
    pub fn watch_samples(&self) -> watch::Receiver<Timestamp> {
        self.0.meters.sampled.subscribe()
    }
}

/// The series of an app as a whole.
fn series_of(app: AppId) -> String {
    format!("app/{app}")
}

/// The series of an instance.
fn series_of_instance(app: AppId, name: &InstanceName) -> String {
    format!("app/{app}/{name}")
}

/// The series of the machine.
const HOST: &str = "host";

fn now() -> Timestamp {
    clock::now()
}

/// As a field of a row: seven digits are enough for a picture.
#[allow(clippy::cast_possible_truncation, reason = "what does not fit becomes infinite: missing")]
fn single(value: f64) -> f32 {
    value as f32
}
