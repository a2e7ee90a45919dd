//! What is set about apps' logs, and the drains that follow it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Error, Kind, Platform, Result, clock};
use crate::certificate::Trust;
use crate::domain::{
    Actor, App, AppId, AppName, Bytes, DrainScheme, LogAge, LogDrain, LogSettings,
};
use crate::logs::{Drain, DrainStatus, resolve, run_drain};
use crate::support::{report, tasks};
use crate::wire::{DrainReport, DrainState, LogChange, LogReport};

/// What may wait for a drain that is down, of one app: half a minute of 5,000 lines a second.
const MAX_BACKLOG: u64 = 32 << 20;
/// How long a drain may take to keep its position when it is told to stop.
const STOP: Duration = Duration::from_secs(5);

/// All drains at work.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// By app and URL.
    workers: tokio::sync::Mutex<HashMap<(AppId, String), Worker>>,
}

#[derive(Debug)]
struct Worker {
    /// What it was started with: another name or right is another worker.
    app: AppName,
    drain: LogDrain,
    status: Arc<Mutex<DrainStatus>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    async fn stop(self) {
        self.cancel.cancel();
        if tokio::time::timeout(STOP, self.task).await.is_err() {
            tracing::warn!(app.name = self.app.as_str(), "a drain does not stop in time");
        }
    }

    fn status(&self) -> DrainStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Platform {
    /// Starts the drains of all apps.
    pub async fn start_drains(&self) {
        let apps = self.store.apps().unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "cannot list the apps whose logs are drained");
            Vec::new()
        });
        for app in apps {
            self.follow_drain_settings(app.id).await;
        }
    }

    /// What is kept of an app's log, and how its drains do.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn log_report(&self, name: &AppName) -> Result<LogReport> {
        let app = self.find_app(name)?;
        let (settings, bounds) = (self.store.log_settings(app.id)?, self.log_bounds(app.id)?);
        let places = self.log_places(&app);
        let size = tokio::task::spawn_blocking(move || places.size());
        let size = size.await.map_err(|error| Error::internal("cannot look at the log", error))?;
        let workers = self.0.drains.workers.lock().await;
        let drains = settings.drains.iter().map(|drain| {
            let worker = workers.get(&(app.id, drain.url.to_string()));
            drain_report(drain, worker.map(Worker::status).unwrap_or_default())
        });
        Ok(LogReport {
            max_size: Bytes(bounds.max_bytes),
            app_max_size: settings.max_size,
            max_age: LogAge(bounds.max_age),
            app_max_age: settings.max_age,
            size: Bytes(size),
            drains: drains.collect(),
        })
    }

    /// Sets one thing about an app's log; `private` if its drains may lead to private addresses.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`; `Denied` for a drain that leads to a private address.
    pub async fn set_logs(
        &self,
        actor: &Actor,
        name: &AppName,
        change: LogChange,
        private: bool,
    ) -> Result<()> {
        let app = self.find_app(name)?;
        let before = self.store.log_settings(app.id)?;
        let mut settings = before.clone();
        settings.set(&change.key, &change.values, (private, clock::now()))?;
        for drain in settings.drains.iter().filter(|drain| !before.drains.contains(drain)) {
            may_lead_there(drain).await?;
        }
        self.store.set_log_settings(app.id, &settings)?;
        self.follow_drain_settings(app.id).await;
        self.prune_logs(app.id).await;
        self.note(app.id, "app.logs", &told(&change.key, &settings), actor);
        Ok(())
    }

    /// Starts and stops drains as the app's settings, and its name, have it.
    pub(super) async fn follow_drain_settings(&self, id: AppId) {
        if let Err(error) = self.follow_drain_settings_of(id).await {
            tracing::error!(error = report(&error), "cannot follow what is set about drains");
        }
    }

    async fn follow_drain_settings_of(&self, id: AppId) -> Result<()> {
        let mut workers = self.0.drains.workers.lock().await;
        let app = self.store.app_by_id(id)?;
        let wanted = self.store.log_settings(id)?.drains;
        let is_wanted = |worker: &Worker| {
            app.as_ref().is_some_and(|app| app.name == worker.app) && wanted.contains(&worker.drain)
        };
        let old = workers.extract_if(|(of, _), worker| *of == id && !is_wanted(worker));
        let old: Vec<_> = old.collect();
        for ((_, url), worker) in old {
            let gone = !wanted.iter().any(|drain| drain.url == worker.drain.url);
            worker.stop().await;
            if gone {
                self.forget_position(id, &url).await;
            }
        }
        let Some(app) = app else { return Ok(()) };
        for drain in wanted {
            let key = (id, drain.url.to_string());
            if let Entry::Vacant(place) = workers.entry(key) {
                place.insert(self.start_drain(&app, drain)?);
            }
        }
        Ok(())
    }

    /// Stops the drains of an app that goes, and forgets how far they were.
    pub(super) async fn stop_drains(&self, id: AppId) {
        let mut workers = self.0.drains.workers.lock().await;
        let old: Vec<_> = workers.extract_if(|(of, _), _| *of == id).collect();
        for ((_, url), worker) in old {
            worker.stop().await;
            self.forget_position(id, &url).await;
        }
    }

    fn start_drain(&self, app: &App, drain: LogDrain) -> Result<Worker> {
        let state = self.drain_state(app.id, &drain.url.to_string());
        if let Some(directory) = state.parent() {
            std::fs::create_dir_all(directory)
                .map_err(|error| Error::internal("cannot make the drains' directory", error))?;
        }
        let spec = Drain {
            url: drain.url.clone(),
            private: drain.private,
            app: app.name.clone(),
            hostname: self.machine_name(),
            places: self.log_places(app),
            state,
            max_backlog: MAX_BACKLOG.min(self.log_bounds(app.id)?.max_bytes),
            tls: self.drain_tls(drain.url.scheme())?,
        };
        let (status, cancel) = (Arc::<Mutex<DrainStatus>>::default(), CancellationToken::new());
        let work = run_drain(spec, Arc::clone(&status), cancel.clone());
        let task = tasks::spawn("drain", work);
        Ok(Worker { app: app.name.clone(), drain, status, cancel, task })
    }

    fn drain_tls(&self, scheme: DrainScheme) -> Result<Arc<ClientConfig>> {
        let trust = match &self.settings().log_drain_ca_bundle {
            Some(path) => Trust::from_file(path)
                .map_err(|error| Error::internal("cannot read `log_drain_ca_bundle`", error))?,
            None => Trust::of_host(),
        };
        let config = trust.client().map_err(|error| Error::internal("cannot set up TLS", error))?;
        if scheme == DrainScheme::Https {
            return Ok(config);
        }
        // Syslog has no name in ALPN; a strict server ends a handshake that offers another.
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols.clear();
        Ok(Arc::new(config))
    }

    /// What collectors shall call this machine.
    fn machine_name(&self) -> String {
        let named = self.public_host().to_owned();
        let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        match named.as_str() {
            "localhost" => kernel().map_or(named, |name| name.trim().to_owned()),
            _ => named,
        }
    }

    /// Where a drain's position is kept. Its URL may hold secrets, and is no file name.
    fn drain_state(&self, app: AppId, url: &str) -> PathBuf {
        let digest = Sha256::digest(url.as_bytes());
        let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.settings().data_dir.join("logs/drains").join(format!("{app}-{short}.json"))
    }

    async fn forget_position(&self, app: AppId, url: &str) {
        match tokio::fs::remove_file(self.drain_state(app, url)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove a drain's position");
            }
            _ => {}
        }
    }
}

/// Refuses a drain at once that would be refused each time. Names are looked up again when it
/// connects; one that is not known yet may be by then.
async fn may_lead_there(drain: &LogDrain) -> Result<()> {
    match resolve(&drain.url, drain.private).await {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!("drain `{}` cannot be set: {error}", drain.url.masked());
            Err(Error::new(Kind::Denied, message)
                .hint("ask an admin of the platform to set it, or use a public address"))
        }
        _ => Ok(()),
    }
}

fn told(key: &str, settings: &LogSettings) -> String {
    match key {
        "drain" => {
            let urls: Vec<_> = settings.drains.iter().map(|drain| drain.url.masked()).collect();
            match urls.is_empty() {
                true => "log drains removed".into(),
                false => format!("log drains set to {}", urls.join(", ")),
            }
        }
        "max-size" => match settings.max_size {
            Some(size) => format!("log max-size set to {size}"),
            None => "log max-size unset".into(),
        },
        _ => match settings.max_age {
            Some(age) => format!("log max-age set to {age}"),
            None => "log max-age unset".into(),
        },
    }
}

fn drain_report(drain: &LogDrain, status: DrainStatus) -> DrainReport {
    let state = match (&status.error, status.last_sent_at) {
        (Some(_), _) => DrainState::Failing,
        (None, Some(_)) => DrainState::Sending,
        (None, None) => DrainState::Idle,
    };
    DrainReport {
        url: drain.url.masked(),
        private: drain.private,
        since: drain.since,
        state,
        sent: status.sent,
        lost: status.lost,
        backlog: status.backlog,
        last_sent_at: status.last_sent_at,
        error: status.error,
    }
}
