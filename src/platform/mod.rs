//! The product's rules: one method for each user verb, composed from the mechanisms.
//!
//! ```text
//!  verb ─► desired state (store) ─► plan(wanted, observed) ─► start ─► ready ─► switch ─► retire
//!            the same path after a push, a config change, a scale, a rollback, a crash, at boot
//! ```
//!
//! Desired state lives in the store, observed state is asked of the container runtime. A deploy has
//! one commit point, [`crate::store::Store::set_current_release`]: before it a failure leaves the
//! old release as it was; after it a restart of the control plane finishes the work.
//!
//! **Invariants.** A verb is one method here, whichever interface calls it. At most one deploy of an
//! app at a time (its lane). Nothing here waits on a request path of an app's users.

mod access;
mod access_logs;
mod acme;
mod apps;
mod backups;
mod certificates;
mod changes;
mod clock;
mod config;
mod cron;
mod deploy;
mod dns_check;
mod domains;
mod error;
mod events;
mod front;
mod front_door;
mod history;
mod instances;
mod journal;
mod keys;
mod lanes;
mod launch;
mod layers;
mod letsencrypt;
mod logs;
mod meters;
mod pages;
mod passwords;
mod path_routes;
mod pipeline;
mod plan;
mod plugins;
mod ports;
mod probe;
mod proxy_process;
mod push;
mod readiness;
mod recovery;
mod release_diff;
mod renewal;
mod routes;
mod sandbox;
mod services;
mod session;
mod sessions;
mod stacks;
mod stages;
mod staples;
mod storage;
mod streams;
mod timers;
mod tokens;
mod users;
mod volumes;

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use access::Opening;
pub use config::Config;
pub use error::Error;
pub use journal::{Follower, Journal};
pub use session::Session;
pub use sessions::{SignedIn, Visitor};
pub use streams::{SessionStream, SessionStreams};
pub use users::UserSwitch;

pub use crate::wire::{
    AccessLogQuery, AppReport, AppStatus, CheckReport, CheckResult, ConfigChange, CronReport,
    CronRunRequest, CronTaskReport, DomainReport, HostReport, InstanceReport, InstanceStatus, Kind,
    LogLine, LogQuery, MaintenanceReport, MetricsQuery, MetricsReport, MetricsSample, MountRequest,
    Page, PageReport, PortReport, ProcessReport, ProxyProcess, ProxyProperty, ProxyReport,
    ProxyUpgradeReport, PushOutcome, PushRequest, RefUpdate, ResourceChange, ResourceReport,
    ResourceScope, RouteReport, RunRequest, Sparkline, SshKey, StackReport, StorageReport, Switch,
    TerminalSize, UnmountRequest, VolumeReport, VolumeRequest, VolumeUse,
};

use crate::build::{Lifecycle, Output};
use crate::certificate::Certificates;
use crate::container::Runtime;
use crate::git::Repositories;
use crate::image::ImageStore;
use crate::network::Network;
use crate::proxy::Supervisor;
use crate::series::Series;
use crate::store::Store;

type Result<T> = std::result::Result<T, Error>;

/// Who has done what no user asked for at that moment.
fn acme_actor() -> crate::domain::Actor {
    crate::domain::Actor::platform()
}

/// The mechanisms that the platform composes, opened by the daemon.
#[derive(Debug)]
pub struct Parts {
    /// Desired state.
    pub store: Store,
    /// Images and layers.
    pub images: ImageStore,
    /// Containers.
    pub runtime: Runtime,
    /// Links and addresses.
    pub network: Network,
    /// Git repositories.
    pub repositories: Repositories,
    /// Buildpacks.
    pub lifecycle: Lifecycle,
    /// The proxy.
    pub proxy: Supervisor,
    /// Certificates.
    pub certificates: Certificates,
    /// Plugins' folders.
    pub plugins: crate::plugin::Folders,
    /// Figures over time.
    pub series: Series,
}

/// The control plane's state and verbs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    parts: Parts,
    instances: instances::Registry,
    lanes: lanes::Lanes,
    builds: pipeline::Running,
    routes: routes::Publisher,
    book: certificates::Book,
    desk: acme::Desk,
    staples: staples::Staples,
    plugins: plugins::Plugins,
    services: services::Services,
    backups: backups::Desk,
    /// Serializes changes of front doors: each reads what it then writes.
    front: tokio::sync::Mutex<()>,
    /// Serializes what is mounted and unmounted of volumes.
    volumes: tokio::sync::Mutex<()>,
    cron: cron::Runs,
    lockout: sessions::LockOut,
    clock: timers::Clock,
    events: events::Bell,
    passwords: passwords::Checker,
    meters: meters::Meters,
    platform_log: crate::logs::PlatformLog,
}

impl std::ops::Deref for Platform {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl Platform {
    /// The platform over opened mechanisms. Call [`Platform::recover`] before any verb.
    pub fn new(config: Config, parts: Parts) -> Self {
        let desk = acme::Desk::new(parts.certificates.config.max_orders);
        Self(Arc::new(Inner {
            config,
            parts,
            instances: instances::Registry::default(),
            lanes: lanes::Lanes::default(),
            builds: pipeline::Running::default(),
            routes: routes::Publisher::default(),
            book: certificates::Book::default(),
            desk,
            staples: staples::Staples::default(),
            plugins: plugins::Plugins::default(),
            services: services::Services::default(),
            backups: backups::Desk::default(),
            front: tokio::sync::Mutex::default(),
            volumes: tokio::sync::Mutex::default(),
            cron: cron::Runs::default(),
            lockout: sessions::LockOut::default(),
            clock: timers::Clock::default(),
            events: events::Bell::default(),
            passwords: passwords::Checker::default(),
            meters: meters::Meters::default(),
            platform_log: crate::logs::PlatformLog::default(),
        }))
    }

    fn settings(&self) -> &Config {
        &self.0.config
    }

    /// Runs `work` as an operation: its output goes to the journal, its end to the caller, and it
    /// goes on when the caller goes away.
    fn operate<T, F>(
        &self,
        journal: Journal,
        work: impl FnOnce(Platform, Arc<Output>, CancellationToken) -> F,
    ) -> Operation<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let sink = journal.clone();
        let output = Arc::new(Output::new(&self.0.config.build, move |line| sink.line(line)));
        let work = work(self.clone(), output, cancel.clone());
        let closing = journal.clone();
        let outcome = crate::support::tasks::spawn("operation", async move {
            let result = work.await;
            closing.close();
            result
        });
        Operation { journal, outcome, cancel }
    }
}

/// A verb that takes a while: lines as they happen, then its outcome. It goes on when the caller
/// goes away; a push is canceled by `cancel`.
#[derive(Debug)]
pub struct Operation<T> {
    /// What it prints (Heroku's grammar), from its first line.
    pub journal: Journal,
    /// Its end.
    pub outcome: tokio::task::JoinHandle<Result<T>>,
    /// Asks it to stop before its next irreversible step.
    pub cancel: CancellationToken,
}
