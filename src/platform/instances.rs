//! Instances: what runs, watched one by one, from start to removal.
//!
//! ```text
//! Starting ──ready──► Running ──replaced──► Retiring ──► (gone)
//!     │                  │ ends by itself
//!     └──────ends───────►Crashed ──after a wait──► replaced by a new one
//! ```
//!
//! Each container has one watcher, which is also the only one that removes its remains.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::routes::Changes;
use super::{Error, InstanceStatus, Platform, Result, clock};
use crate::container::{ExitRecord, Signal, Stdio};
use crate::domain::{
    Actor, App, AppId, Bytes, InstanceName, ProcessType, Release, ReleaseVersion, Timestamp,
};
use crate::network::{Addresses, Bandwidth, Egress, Endpoint};
use crate::support::backoff::Backoff;
use crate::support::{report, tasks};

/// The waits before a crashed instance is started again.
const FIRST_RESTART: Duration = Duration::from_secs(1);
const LAST_RESTART: Duration = Duration::from_secs(300);
/// An instance that was up for this long counts as healthy: its waits start from the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The waits before the proxy is asked again whether an instance has open requests.
const FIRST_DRAIN_RETRY: Duration = Duration::from_millis(500);
const LAST_DRAIN_RETRY: Duration = Duration::from_secs(30);

/// Containers that are marked as retiring.
#[derive(Debug)]
pub(super) struct Retiring {
    pub(super) containers: Vec<String>,
    /// Taken after they were marked: a table in force that knows of it leads to none of them.
    pub(super) since: Changes,
}

/// One instance with its container.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) container: String,
    pub(super) app: AppId,
    pub(super) name: InstanceName,
    pub(super) release: ReleaseVersion,
    pub(super) fingerprint: String,
    pub(super) addresses: Addresses,
    pub(super) port: u16,
    pub(super) status: InstanceStatus,
    pub(super) started_at: Timestamp,
    /// How the process ended, once it has.
    pub(super) ended: watch::Receiver<Option<String>>,
}

impl Instance {
    /// Where it listens, as seen from the host.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((self.addresses.v4, self.port))
    }
}

/// What is remembered of a place in the formation across its containers.
#[derive(Debug)]
struct History {
    restarts: u32,
    last_exit: Option<String>,
    backoff: Backoff,
    /// Not to be started before.
    not_before: Timestamp,
}

impl Default for History {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_RESTART, LAST_RESTART);
        Self { restarts: 0, last_exit: None, backoff, not_before: Timestamp(0) }
    }
}

/// All instances of all apps.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    instances: HashMap<String, Instance>,
    histories: HashMap<(AppId, InstanceName), History>,
}

impl Registry {
    /// The app of a container, if it is known.
    pub(super) fn app_of(&self, container: &str) -> Option<AppId> {
        self.lock().instances.get(container).map(|instance| instance.app)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every section leaves the maps whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, of all apps.
    pub(super) fn all(&self) -> Vec<Instance> {
        self.lock().instances.values().cloned().collect()
    }

    /// The app's instances, by name.
    pub(super) fn of_app(&self, app: AppId) -> Vec<Instance> {
        let mut found: Vec<_> = self
            .lock()
            .instances
            .values()
            .filter(|instance| instance.app == app)
            .cloned()
            .collect();
        found.sort_by(|a, b| (&a.name, a.started_at).cmp(&(&b.name, b.started_at)));
        found
    }

    pub(super) fn insert(&self, instance: Instance) {
        self.lock().instances.insert(instance.container.clone(), instance);
    }

    /// Moves an instance on; `false` if it is gone.
    pub(super) fn set_status(&self, container: &str, status: InstanceStatus) -> bool {
        match self.lock().instances.get_mut(container) {
            Some(instance) => {
                instance.status = status;
                true
            }
            None => false,
        }
    }

    fn remove(&self, container: &str) {
        self.lock().instances.remove(container);
    }

    /// Forgets the crashed remains of a place that is filled again.
    fn forget_crashed(&self, app: AppId, name: &InstanceName) {
        self.lock().instances.retain(|_, instance| {
            !(instance.app == app
                && instance.name == *name
                && instance.status == InstanceStatus::Crashed)
        });
    }

    /// Forgets everything about an app.
    pub(super) fn forget_app(&self, app: AppId) {
        let mut state = self.lock();
        state.instances.retain(|_, instance| instance.app != app);
        state.histories.retain(|(owner, _), _| *owner != app);
    }

    /// Forgets how an app's instances ended before: a deploy begins anew.
    pub(super) fn reset_histories(&self, app: AppId) {
        self.lock().histories.retain(|(owner, _), _| *owner != app);
    }

    /// How often the place was filled again, and how its process last ended.
    pub(super) fn history(&self, app: AppId, name: &InstanceName) -> (u32, Option<String>) {
        let state = self.lock();
        let history = state.histories.get(&(app, name.clone()));
        history.map(|history| (history.restarts, history.last_exit.clone())).unwrap_or_default()
    }

    /// How any of the app's instances of a type last ended.
    pub(super) fn last_exit(&self, app: AppId, process_type: &ProcessType) -> Option<String> {
        let state = self.lock();
        let of_type = |(owner, name): &&(AppId, InstanceName)| {
            *owner == app && name.process_type == *process_type
        };
        let key = state.histories.keys().find(of_type)?;
        state.histories[key].last_exit.clone()
    }

    /// Whether the place must wait before it is filled again.
    pub(super) fn must_wait(&self, app: AppId, name: &InstanceName) -> bool {
        let state = self.lock();
        state
            .histories
            .get(&(app, name.clone()))
            .is_some_and(|history| history.not_before > clock::now())
    }

    /// Notes an end that nobody asked for, after `up`; answers the wait before the next start.
    fn note_crash(&self, app: AppId, name: &InstanceName, up: Duration, how: &str) -> Duration {
        let mut state = self.lock();
        let history = state.histories.entry((app, name.clone())).or_default();
        if up >= HEALTHY_AFTER {
            history.backoff.reset();
        }
        let delay = history.backoff.next_delay();
        history.restarts += 1;
        history.last_exit = Some(how.to_owned());
        history.not_before = clock::now().after(delay);
        delay
    }
}

impl Platform {
    /// Starts one instance of `release`; it is `Starting` when this returns.
    ///
    /// # Errors
    /// With nothing left behind.
    pub(super) async fn start_instance(
        &self,
        app: &App,
        release: &Release,
        wanted: &super::plan::Wanted,
    ) -> Result<Instance> {
        let addresses = self.network.allocate()?;
        let launch = self.instance_launch(app, release, wanted, addresses).await?;
        let container = launch.spec.id.clone();
        let started = self.create_and_start(&launch.spec, addresses).await;
        if let Err(error) = started {
            self.clean_up(&container).await;
            self.network.release(addresses);
            return Err(error);
        }
        let (ended, ended_rx) = watch::channel(None);
        let instance = Instance {
            container,
            app: app.id,
            name: wanted.name.clone(),
            release: release.version,
            fingerprint: wanted.fingerprint.clone(),
            addresses,
            port: launch.port,
            status: InstanceStatus::Starting,
            started_at: launch.started_at,
            ended: ended_rx,
        };
        self.0.instances.forget_crashed(app.id, &wanted.name);
        self.watch_instance(instance.clone(), ended);
        Ok(instance)
    }

    async fn create_and_start(
        &self,
        spec: &crate::container::ContainerSpec,
        addresses: Addresses,
    ) -> Result<()> {
        let created = self.runtime.create(spec, Stdio::Log).await?;
        self.attach_network(&created, addresses, Egress::Open).await?;
        self.runtime.start(&spec.id).await.map_err(|error| {
            Error::new(
                super::Kind::Failed,
                format!("the process cannot be started: {}", report(&error)),
            )
        })
    }

    /// Joins a created container to the network; it may reach the services of its app by then.
    pub(super) async fn attach_network(
        &self,
        created: &crate::container::Created,
        addresses: Addresses,
        egress: Egress,
    ) -> Result<()> {
        use std::os::fd::AsFd;
        let endpoint = Endpoint {
            link: self.network.link_name(&created.id),
            addresses,
            egress,
            bandwidth: Bandwidth::default(),
        };
        self.network.attach(created.netns.as_fd(), &endpoint).await?;
        self.open_edges(&created.id).await
    }

    /// Puts an instance under watch: its end is noticed, noted and cleaned up.
    pub(super) fn watch_instance(&self, instance: Instance, ended: watch::Sender<Option<String>>) {
        self.0.instances.insert(instance.clone());
        let platform = self.clone();
        tasks::spawn("instance", async move {
            let how = match platform.runtime.wait(&instance.container).await {
                Ok(record) => {
                    platform.measure_end(&instance, &record).await;
                    platform.describe_exit(&instance, &record)
                }
                Err(error) => format!("its end could not be learned: {}", report(&error)),
            };
            platform.instance_ended(&instance, &how, &ended).await;
        });
    }

    async fn instance_ended(
        &self,
        instance: &Instance,
        how: &str,
        ended: &watch::Sender<Option<String>>,
    ) {
        let retired = self.0.instances.of_app(instance.app).into_iter().all(|other| {
            other.container != instance.container || other.status == InstanceStatus::Retiring
        });
        if !retired {
            self.0.instances.set_status(&instance.container, InstanceStatus::Crashed);
        }
        let was_ready = !retired && self.is_serving(instance);
        // Nobody may be waiting any more; the value stays for those who ask later.
        let _ = ended.send(Some(how.to_owned()));
        if was_ready {
            self.instance_crashed(instance, how).await;
        }
        self.clean_up(&instance.container).await;
        if retired {
            self.0.instances.remove(&instance.container);
        }
    }

    /// Whether the instance is one that the current release wants (not one of a deploy that has
    /// not switched yet).
    fn is_serving(&self, instance: &Instance) -> bool {
        let wanted = || -> Result<bool> {
            let Some(app) = self.store.app_by_id(instance.app)? else { return Ok(false) };
            let Some(version) = app.current_release else { return Ok(false) };
            let Some(release) = self.store.release(app.id, version)? else { return Ok(false) };
            Ok(super::plan::wanted(&app, &release).iter().any(|wanted| {
                wanted.name == instance.name && wanted.fingerprint == instance.fingerprint
            }))
        };
        wanted().unwrap_or_else(|error| {
            tracing::error!(
                error = report(&error),
                "cannot tell whether a crashed instance is wanted"
            );
            false
        })
    }

    async fn instance_crashed(&self, instance: &Instance, how: &str) {
        if let Err(error) = self.publish_routes().await {
            tracing::error!(
                error = report(&error),
                "cannot take a crashed instance out of the routes"
            );
        }
        let up = clock::now().since(instance.started_at);
        self.start_after_crash(instance.app, &instance.name, up, how);
        // A crash loop makes a log file each time.
        self.prune_logs(instance.app).await;
    }

    /// Starts a wanted instance that could not be started after a wait.
    pub(super) fn start_later(&self, app: AppId, name: &InstanceName, why: &str) {
        self.start_after_crash(app, name, Duration::ZERO, why);
    }

    fn start_after_crash(&self, app: AppId, name: &InstanceName, up: Duration, how: &str) {
        let delay = self.0.instances.note_crash(app, name, up, how);
        self.0.meters.note_restart(app, name);
        let message = format!("{name} ended: {how}; starting it again in {} s", delay.as_secs());
        self.note(app, "instance.crashed", &message, &Actor::platform());
        let told = serde_json::json!({
            "instance": name.to_string(), "reason": how, "wait_s": delay.as_secs()
        });
        // An app that is just being destroyed has nobody to tell.
        if let Ok(Some(found)) = self.store.app_by_id(app) {
            self.notify(crate::plugin::Hook::InstanceCrashed, Some(&found.name), told);
        }
        let platform = self.clone();
        tasks::spawn("restart", async move {
            tokio::time::sleep(delay).await;
            platform.converge_logged(app).await;
        });
    }

    /// Lets open requests of instances finish, then stops them; in the background. Waits until no
    /// table in force leads to them, however long that takes: who retires too early drops requests.
    pub(super) fn retire(&self, retiring: &Retiring, drain: Duration, stop: Duration) {
        let since = retiring.since;
        for container in &retiring.containers {
            let (platform, container) = (self.clone(), container.clone());
            tasks::spawn("retire", async move {
                platform.0.routes.in_force(since).await;
                platform.retire_one(&container, drain, stop).await;
            });
        }
    }

    async fn retire_one(&self, container: &str, drain: Duration, stop: Duration) {
        let instance = self.0.instances.lock().instances.get(container).cloned();
        if let Some(instance) = instance {
            self.drain(&instance, drain).await;
        }
        self.stop_container(container, stop).await;
        self.0.instances.remove(container);
    }

    /// Returns when the instance has no request open, at the deadline at the latest. As long as it
    /// cannot be told whether there are any, there may be.
    async fn drain(&self, instance: &Instance, deadline: Duration) {
        ask_until(deadline, |left| async move {
            let asked = self.ask_drained(instance, left).await;
            asked.inspect_err(|error| {
                let container = &instance.container;
                tracing::warn!(container, error = report(error), "cannot ask for open requests");
            })
        })
        .await;
    }

    async fn ask_drained(&self, instance: &Instance, deadline: Duration) -> Result<()> {
        self.proxy.drain(&self.reached_at(instance)?, deadline).await?;
        Ok(())
    }

    /// Stops containers at once, for a deploy that failed; returns when they are gone.
    pub(super) async fn discard(&self, instances: &[Instance]) {
        for instance in instances {
            self.0.instances.set_status(&instance.container, InstanceStatus::Retiring);
        }
        for instance in instances {
            self.stop_container(&instance.container, Duration::from_secs(5)).await;
            self.0.instances.remove(&instance.container);
        }
    }

    async fn stop_container(&self, container: &str, grace: Duration) {
        match self.runtime.stop(container, Signal::TERM, grace).await {
            Ok(_) | Err(crate::container::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::error!(container, error = report(&error), "cannot stop a container")
            }
        }
    }

    /// Removes what is left of an ended container: record, link, files.
    pub(super) async fn clean_up(&self, container: &str) {
        match self.runtime.delete(container).await {
            Ok(()) | Err(crate::container::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::error!(container, error = report(&error), "cannot remove a container")
            }
        }
        if let Err(error) = self.network.detach(&self.network.link_name(container)).await {
            tracing::error!(container, error = report(&error), "cannot remove a link");
        }
        self.discard_tree(self.instance_dir(container)).await;
        remove_own_directory(&self.instance_run_dir(container)).await;
    }

    /// Removes a directory tree that a stranger may have filled, however deep; one that is not
    /// there is fine. What fails goes to the log: the next start tries again.
    pub(super) async fn discard_tree(&self, directory: PathBuf) {
        let (images, path) = (self.images.clone(), directory.clone());
        let removed = super::pipeline::blocking(move || images.discard(&path)).await;
        let result = removed.and_then(|result| result.map_err(Error::from));
        if let Err(error) = result {
            let directory = directory.display();
            tracing::error!(%directory, error = report(&error), "cannot remove a directory");
        }
    }

    /// How a process ended, in words for people.
    fn describe_exit(&self, instance: &Instance, record: &ExitRecord) -> String {
        if record.oom_killed {
            let limit = self
                .store
                .settings(instance.app)
                .ok()
                .and_then(|settings| {
                    settings.resources.instance(&instance.name.process_type).memory
                })
                .map_or_else(String::new, |limit: Bytes| format!(", its limit is {limit}"));
            return format!("out of memory{limit}");
        }
        describe(record)
    }
}

/// Asks until there is an answer, or until the deadline. `ask` is told how much time is left.
async fn ask_until<F: Future<Output = Result<()>>>(
    deadline: Duration,
    mut ask: impl FnMut(Duration) -> F,
) {
    let end = Instant::now() + deadline;
    let left = || end.saturating_duration_since(Instant::now());
    let mut backoff = Backoff::new(FIRST_DRAIN_RETRY, LAST_DRAIN_RETRY);
    while ask(left()).await.is_err() && !left().is_zero() {
        tokio::time::sleep(backoff.next_delay().min(left())).await;
    }
}

/// Removes a directory that holds only our own files; one that is not there is fine.
pub(super) async fn remove_own_directory(directory: &std::path::Path) {
    match tokio::fs::remove_dir_all(directory).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::error!(directory = %directory.display(), %error, "cannot remove a directory");
        }
    }
}

/// How a process ended, in words for people.
pub(super) fn describe(record: &ExitRecord) -> String {
    match (record.code, record.signal, &record.reason) {
        (_, _, Some(reason)) => reason.clone(),
        (Some(code), _, None) => format!("exit code {code}"),
        (None, Some(signal), None) => format!("killed by signal {signal}"),
        (None, None, None) => "ended for an unknown reason".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_cannot_be_asked_is_waited_for_until_the_deadline() {
        let (begun, deadline) = (Instant::now(), Duration::from_millis(30));
        let mut asked = 0;
        ask_until(deadline, |_| {
            asked += 1;
            async { Err(Error::internal("the proxy", "does not answer")) }
        })
        .await;
        assert!(asked >= 2 && begun.elapsed() >= deadline, "asked {asked} times");
        let mut asked = 0;
        ask_until(Duration::from_secs(3600), |_| {
            asked += 1;
            async { Ok(()) }
        })
        .await;
        assert_eq!(asked, 1);
    }
}
