//! After a restart of the control plane, a reboot or a power cut: what ran is adopted, what was
//! half done is finished or undone, and it is said what was done.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use super::instances::{Instance, Retiring, remove_own_directory};
use super::launch::Purpose;
use super::{InstanceStatus, Platform, PushOutcome, Result, clock, probe};
use crate::container::{ContainerState, Signal, Status};
use crate::domain::{Actor, App, AppId, BuildStatus, CheckSettings, ReleaseVersion, Timestamp};
use crate::network::Addresses;
use crate::support::report;

/// How long an adopted web instance may take to show that it listens.
const PROBE: Duration = Duration::from_secs(1);

/// How long processes have to end when everything is taken down.
const TAKE_DOWN: Duration = Duration::from_secs(5);

/// What a recovery found and did, for the log and the events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Instances that ran on.
    pub adopted: usize,
    /// Containers that nobody wants any more: builds, one-offs, halves of deploys.
    pub removed: usize,
    /// Builds that are marked as failed.
    pub interrupted_builds: usize,
    /// Deploys that are marked as failed; the release before serves on.
    pub interrupted_deploys: usize,
    /// Backups that are marked as failed.
    pub interrupted_backups: usize,
    /// Of the removed containers those that may still have open requests.
    retiring: Vec<String>,
}

impl Platform {
    /// Brings the machine and the store in line. Call once, before any verb; instances that are
    /// missing are started in the background.
    ///
    /// # Errors
    /// If the containers, the store or the proxy cannot be asked.
    pub async fn recover(&self) -> Result<Recovery> {
        let mut recovery = Recovery::default();
        // First: services are known by their plugins.
        self.load_plugins()?;
        self.sweep_plugins()?;
        self.fail_interrupted(&mut recovery)?;
        recovery.interrupted_backups = self.recover_backups()?;
        self.recover_services().await?;
        let apps = self.store.apps()?;
        for container in self.runtime.list().await? {
            self.adopt_or_remove(&apps, container, &mut recovery).await;
        }
        self.remove_leftovers().await?;
        self.report_unknown_volumes()?;
        self.fail_interrupted_cron_runs()?;
        let since = self.0.routes.changes();
        self.publish_routes().await?;
        for container in &recovery.retiring {
            let checks = self.checks_of_container(container)?;
            let retiring = Retiring { containers: vec![container.clone()], since };
            self.retire(&retiring, checks.drain.into(), checks.stop.into());
        }
        if recovery != Recovery::default() {
            let message = format!(
                "recovered: {} instances run on, {} containers removed, {} builds, {} deploys and {} backups were interrupted",
                recovery.adopted,
                recovery.removed,
                recovery.interrupted_builds,
                recovery.interrupted_deploys,
                recovery.interrupted_backups
            );
            self.note_named(None, "platform.recovered", &message, &Actor::platform());
        }
        self.prepare_services().await?;
        self.start_everything(apps);
        Ok(recovery)
    }

    /// Starts what is missing, in the background: services first, then the apps that are linked to
    /// them; other apps need not wait.
    fn start_everything(&self, apps: Vec<App>) {
        let (linked, others): (Vec<_>, Vec<_>) =
            apps.into_iter().partition(|app| self.has_services(app.id));
        let converge = |platform: Platform, apps: Vec<App>| async move {
            let all = apps.iter().map(|app| platform.converge_logged(app.id));
            futures_util::future::join_all(all).await;
        };
        let platform = self.clone();
        crate::support::tasks::spawn("recovery", converge(platform.clone(), others));
        crate::support::tasks::spawn("recovery", async move {
            platform.start_services().await;
            converge(platform.clone(), linked).await;
        });
    }

    /// How long its requests may go on is its app's to say; those of an app that is gone, as for all.
    fn checks_of_container(&self, container: &str) -> Result<CheckSettings> {
        Ok(match self.0.instances.app_of(container) {
            Some(app) => self.store.settings(app)?.checks,
            None => CheckSettings::default(),
        })
    }

    /// Ends everything this instance runs: apps, one-offs, builds, the proxy, links, firewall. What
    /// it keeps on disk stays, so that a later start brings all of it back.
    pub async fn take_down(&self) {
        // What recovery or a restart is about to start would outlive us.
        self.runtime.close().await;
        let containers = self.runtime.list().await.unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "cannot list containers");
            Vec::new()
        });
        for container in &containers {
            self.0.instances.set_status(&container.id, InstanceStatus::Retiring);
        }
        self.services_stopping();
        let stops = containers.iter().map(|container| async {
            let manner = self.take_down_manner(container);
            let (signal, grace) = manner.unwrap_or((Signal::TERM, TAKE_DOWN));
            if let Err(error) = self.runtime.stop(&container.id, signal, grace).await {
                tracing::error!(
                    container = container.id,
                    error = report(&error),
                    "cannot stop a container"
                );
            }
            self.clean_up(&container.id).await;
        });
        futures_util::future::join_all(stops).await;
        self.unmount_volumes().await;
        if let Err(error) = self.proxy.stop(TAKE_DOWN).await {
            tracing::error!(error = report(&error), "cannot stop the proxy");
        }
        if let Err(error) = self.network.close().await {
            tracing::error!(error = report(&error), "cannot take the network down");
        }
    }

    /// What the last control plane did not finish has failed. A release that was switched to is
    /// current, and so not among them.
    fn fail_interrupted(&self, recovery: &mut Recovery) -> Result<()> {
        const WHY: &str = "the control plane was restarted meanwhile";
        for release in self.store.interrupted_releases()? {
            self.store.fail_release(release.app, release.version, WHY)?;
            let message = format!("{} failed: {WHY}", release.version);
            self.note(release.app, "release.failed", &message, &Actor::platform());
            recovery.interrupted_deploys += 1;
        }
        for build in self.store.interrupted_builds()? {
            let live = self.release_of(&build)?;
            let (status, why) = match live {
                Some(_) => (BuildStatus::Succeeded, None),
                None => (BuildStatus::Failed, Some(WHY)),
            };
            self.store.finish_build(build.id, status, why, live, clock::now())?;
            recovery.interrupted_builds += 1;
        }
        self.store
            .settle_pushes(&PushOutcome::Pending, &PushOutcome::Rejected { reason: WHY.into() })?;
        Ok(())
    }

    /// The release that a build had become when the control plane died between the switch and the
    /// build's last record.
    fn release_of(&self, build: &crate::domain::Build) -> Result<Option<ReleaseVersion>> {
        let Some(app) = self.store.app_by_id(build.app)? else { return Ok(None) };
        let Some(version) = app.current_release else { return Ok(None) };
        let release = self.store.release(app.id, version)?;
        Ok(release.filter(|release| release.build == Some(build.id)).map(|release| release.version))
    }

    async fn adopt_or_remove(
        &self,
        apps: &[App],
        container: ContainerState,
        recovery: &mut Recovery,
    ) {
        let running = matches!(container.status, Status::Running { .. } | Status::Paused { .. });
        let purpose = Purpose::from_labels(&container.labels);
        if purpose == Some(Purpose::Service)
            && self.adopt_service(&container).unwrap_or_else(|error| {
                let container = container.id.as_str();
                tracing::error!(container, error = report(&error), "cannot take a service over");
                // Rather two tries than a database that was killed for nothing.
                true
            })
        {
            recovery.adopted += 1;
            return;
        }
        let adopted = match purpose {
            Some(Purpose::Instance) if running => instance_from(&container.id, &container.labels),
            _ => None,
        };
        let known = adopted.filter(|(instance, _)| apps.iter().any(|app| app.id == instance.app));
        match known {
            Some((mut instance, ended)) if self.is_wanted(apps, &instance) => {
                instance.status = self.adopted_status(&instance).await;
                self.watch_instance(instance, ended);
                recovery.adopted += 1;
            }
            Some((mut instance, ended)) => {
                instance.status = InstanceStatus::Retiring;
                recovery.retiring.push(instance.container.clone());
                self.watch_instance(instance, ended);
                recovery.removed += 1;
            }
            None => {
                if let Err(error) = self.runtime.kill(&container.id).await {
                    tracing::error!(
                        container = container.id,
                        error = report(&error),
                        "cannot kill a container"
                    );
                }
                self.clean_up(&container.id).await;
                recovery.removed += 1;
            }
        }
    }

    /// Instances of the current release run on; those of a deploy that never switched do not, nor
    /// do old ones: these finish their requests once the routes are published.
    fn is_wanted(&self, apps: &[App], instance: &Instance) -> bool {
        let wanted = || -> Result<bool> {
            let Some(app) = apps.iter().find(|app| app.id == instance.app) else {
                return Ok(false);
            };
            let Some(version) = app.current_release else { return Ok(false) };
            let Some(release) = self.store.release(app.id, version)? else { return Ok(false) };
            let wanted = super::plan::wanted(app, &release);
            Ok(wanted
                .iter()
                .any(|w| w.name == instance.name && w.fingerprint == instance.fingerprint))
        };
        wanted().unwrap_or_else(|error| {
            tracing::error!(
                container = instance.container,
                error = report(&error),
                "cannot tell whether it is wanted"
            );
            // Rather one instance too many than an outage.
            true
        })
    }

    /// An instance that listens was ready; one that does not is treated as just started.
    async fn adopted_status(&self, instance: &Instance) -> InstanceStatus {
        if instance.name.process_type.is_web()
            && probe::listening(instance.address(), PROBE).await.is_err()
        {
            return InstanceStatus::Starting;
        }
        InstanceStatus::Running
    }

    /// Links and directories whose containers are gone.
    async fn remove_leftovers(&self) -> Result<()> {
        let containers: Vec<String> =
            self.runtime.list().await?.into_iter().map(|container| container.id).collect();
        let links: HashSet<String> =
            containers.iter().map(|id| self.network.link_name(id)).collect();
        for link in self.network.links().await? {
            if !links.contains(&link) {
                self.network.detach(&link).await?;
            }
        }
        let known = |name: &str| containers.iter().any(|id| id == name);
        for path in unknown_children(&self.settings().data_dir.join("instances"), known).await {
            self.discard_tree(path).await;
        }
        for path in unknown_children(&self.settings().data_dir.join("builds"), |_| false).await {
            self.discard_tree(path).await;
        }
        for path in unknown_children(&self.settings().run_dir.join("instances"), known).await {
            remove_own_directory(&path).await;
        }
        Ok(())
    }
}

/// The entries of a directory that are not known; none where there is no directory.
async fn unknown_children(directory: &Path, known: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut unknown = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else { return unknown };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if !entry.file_name().to_str().is_some_and(&known) {
            unknown.push(entry.path());
        }
    }
    unknown
}

/// An instance as its container's labels describe it.
fn instance_from(
    container: &str,
    labels: &BTreeMap<String, String>,
) -> Option<(Instance, watch::Sender<Option<String>>)> {
    let label = |key: &str| labels.get(key);
    let (ended, ended_rx) = watch::channel(None);
    let instance = Instance {
        container: container.to_owned(),
        app: AppId(label("app")?.parse().ok()?),
        name: label("name")?.parse().ok()?,
        release: ReleaseVersion(label("release")?.parse().ok()?),
        fingerprint: label("fingerprint")?.clone(),
        addresses: Addresses { v4: label("v4")?.parse().ok()?, v6: label("v6")?.parse().ok()? },
        port: label("port")?.parse().ok()?,
        status: InstanceStatus::Running,
        started_at: Timestamp(label("started")?.parse().ok()?),
        ended: ended_rx,
    };
    Some((instance, ended))
}
