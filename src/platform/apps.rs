//! Apps: created, listed, renamed, cloned, removed.

use std::time::Duration;

use serde_json::json;

use super::changes::{self, Draft};
use super::{
    AppReport, AppStatus, Error, InstanceReport, InstanceStatus, Operation, Platform, Result, clock,
};
use crate::domain::access::Role;
use crate::domain::{Actor, App, AppName, BranchName, FrontSettings, Release, RunState};
use crate::plugin::Hook;
use crate::store::NewApp;

/// How long copying a repository may take: a few gigabytes from disk to disk.
const COPY: Duration = Duration::from_secs(300);

impl Platform {
    /// The app of that name.
    pub(super) fn find_app(&self, name: &AppName) -> Result<App> {
        self.store.app(name)?.ok_or_else(|| Error::no_app(name))
    }

    /// The release that serves `app`.
    pub(super) fn current_release(&self, app: &App) -> Result<Release> {
        let version = app.current_release.ok_or_else(|| Error::not_deployed(&app.name))?;
        self.store.release(app.id, version)?.ok_or_else(|| {
            Error::internal("the current release is missing", format!("{} {version}", app.name))
        })
    }

    /// Creates an app without a release.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    pub async fn create_app(&self, actor: &Actor, name: &AppName) -> Result<App> {
        let told = json!({ "actor": actor.name });
        self.ask(Hook::PreCreate, Some(name), told.clone()).await?;
        let stack = &self.settings().default_stack;
        let app = self.store.create_app(&NewApp { name, stack, created_at: clock::now() })?;
        self.repositories.ensure(name)?;
        // Who makes an app may do everything with it.
        if self.grants(actor).await?.on_app(name) < Some(Role::Admin) {
            self.store.grant(&actor.name, app.id, Role::Admin)?;
        }
        self.note(app.id, "app.created", &format!("app `{name}` created"), actor);
        self.publish_routes().await?;
        self.0.desk.wake();
        self.notify(Hook::PostCreate, Some(name), told);
        self.refresh_routes_later(Hook::PostCreate);
        Ok(app)
    }

    /// All apps by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn apps(&self) -> Result<Vec<AppReport>> {
        let mut reports = Vec::new();
        for app in self.store.apps()? {
            reports.push(self.report_app(app).await?);
        }
        Ok(reports)
    }

    /// One app.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn app(&self, name: &AppName) -> Result<AppReport> {
        self.report_app(self.find_app(name)?).await
    }

    /// What to `git remote add` for an app, which need not exist yet.
    pub fn git_remote(&self, app: &AppName) -> String {
        let settings = self.settings();
        let (user, host) = (&settings.ssh_user, &settings.public_host);
        match settings.ssh_port {
            22 => format!("{user}@{host}:{app}"),
            port => format!("ssh://{user}@{host}:{port}/{app}"),
        }
    }

    /// The names of all apps.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn app_names(&self) -> Result<Vec<AppName>> {
        Ok(self.store.apps()?.into_iter().map(|app| app.name).collect())
    }

    async fn report_app(&self, app: App) -> Result<AppReport> {
        let instances = self.report_instances(&app).await;
        Ok(AppReport {
            status: self.status(&app, &instances)?,
            urls: self.urls(&app)?,
            git_remote: self.git_remote(&app.name),
            instances,
            app,
        })
    }

    /// How an app stands, from what it wants and what it has.
    pub(super) fn status(&self, app: &App, instances: &[InstanceReport]) -> Result<AppStatus> {
        if self.0.builds.of_app(app.id).is_some() || self.0.lanes.lane(app.id).is_deploying() {
            return Ok(AppStatus::Deploying);
        }
        let Some(version) = app.current_release else { return Ok(AppStatus::Created) };
        let release = self.store.release(app.id, version)?;
        let wanted = release.map_or(0, |release| super::plan::wanted(app, &release).len());
        let ready =
            instances.iter().filter(|instance| instance.status == InstanceStatus::Running).count();
        Ok(match (wanted, ready) {
            (0, _) => AppStatus::Stopped,
            (_, 0) => AppStatus::Crashed,
            (wanted, ready) if ready < wanted => AppStatus::Degraded,
            _ => AppStatus::Running,
        })
    }

    /// The app's instances with what they use.
    pub(super) async fn report_instances(&self, app: &App) -> Vec<InstanceReport> {
        let mut reports = Vec::new();
        for instance in self.0.instances.of_app(app.id) {
            // An instance that is just ending has no figures.
            let stats = self.runtime.stats(&instance.container).await.ok();
            let (restarts, last_exit) = self.0.instances.history(app.id, &instance.name);
            reports.push(InstanceReport {
                name: instance.name,
                status: instance.status,
                release: instance.release,
                container: instance.container,
                started_at: instance.started_at,
                restarts,
                last_exit,
                memory_bytes: stats.as_ref().map(|stats| stats.memory_bytes),
                cpu_ms: stats.as_ref().map(|stats| stats.cpu_usage_us / 1000),
                throttled_ms: stats.as_ref().map(|stats| stats.cpu_throttled_us / 1000),
            });
        }
        reports
    }

    /// The host name that people reach this machine by.
    pub fn public_host(&self) -> &str {
        &self.settings().public_host
    }

    /// Removes an app with all that belongs to it: instances, releases, repository, cache, logs.
    ///
    /// # Errors
    /// `NotFound`; `Internal` leaves the app without instances but listed, to be tried again.
    pub async fn destroy_app(&self, actor: &Actor, name: &AppName) -> Result<()> {
        let app = self.find_app(name)?;
        let told = json!({ "actor": actor.name });
        self.ask(Hook::PreDelete, Some(name), told.clone()).await?;
        self.0.builds.cancel(app.id);
        let lane = self.0.lanes.lane(app.id);
        let _build = lane
            .build()
            .await
            .map_err(|_| Error::canceled("a newer push came in between; try again"))?;
        let _guard = lane.deploy().await;
        self.store.set_run_state(app.id, RunState::Stopped)?;
        self.discard(&self.0.instances.of_app(app.id)).await;
        self.0.cron.cancel_app(app.id);
        self.end_one_offs(app.id).await;
        self.0.instances.forget_app(app.id);
        self.forget_metrics(app.id).await;
        self.repositories.remove(name)?;
        for build in self.store.builds(app.id, usize::MAX)? {
            self.discard_tree(self.build_dir(build.id)).await;
            self.remove_build_log(build.id).await;
        }
        for directory in [self.log_dir(app.id), self.cache_dir(app.id)] {
            self.discard_tree(directory).await;
        }
        self.stop_drains(app.id).await;
        // Known, so that their files are removed below.
        self.certificates_of(app.id)?;
        self.store.remove_app(app.id)?;
        self.remove_access_log(name);
        self.note_named(Some(name), "app.destroyed", &format!("app `{name}` destroyed"), actor);
        self.notify(Hook::PostDelete, Some(name), told);
        self.certificates_changed(app.id).await
    }

    /// Gives an app another name; its instances run on.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name is taken.
    pub async fn rename_app(&self, actor: &Actor, from: &AppName, to: &AppName) -> Result<App> {
        let app = self.find_app(from)?;
        let lane = self.0.lanes.lane(app.id);
        let superseded = |_| Error::canceled("a newer push came in between; try again");
        let _build = lane.build().await.map_err(superseded)?;
        let _guard = lane.deploy().await;
        self.store.rename_app(app.id, to)?;
        if let Err(error) = self.repositories.rename(from, to) {
            self.store.rename_app(app.id, from)?;
            return Err(error.into());
        }
        self.rename_access_log(from, to);
        self.follow_drain_settings(app.id).await;
        self.note_named(Some(to), "app.renamed", &format!("app `{from}` renamed to `{to}`"), actor);
        let told = json!({ "actor": actor.name, "from": from, "to": to });
        self.notify(Hook::PostAppRename, Some(to), told);
        self.refresh_routes_later(Hook::PostAppRename);
        self.publish_routes().await?;
        self.find_app(to)
    }

    /// Makes an app with the settings, source and image of another, and deploys it unless told not
    /// to. Domains, routes and links to services are not copied.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`.
    pub async fn clone_app(
        &self,
        actor: &Actor,
        from: &AppName,
        to: &AppName,
        skip_deploy: bool,
    ) -> Result<Operation<App>> {
        let source = self.find_app(from)?;
        let app = self.create_app(actor, to).await?;
        let mut settings = self.store.settings(source.id)?;
        let missed = self.without_links(source.id, &mut settings)?;
        // The data is the other app's: two that write to it must be wanted explicitly.
        let mounts = std::mem::take(&mut settings.mounts);
        self.store.set_settings(app.id, &settings)?;
        self.store.set_deploy_branch(app.id, source.deploy_branch.as_ref())?;
        self.store.set_front(app.id, &cloned_front(self.store.front(source.id)?))?;
        self.publish_routes().await?;
        let actor = actor.clone();
        let from = from.clone();
        Ok(self.operate(super::Journal::new(), move |platform, output, cancel| async move {
            output.step(&format!("Cloning `{from}` to `{}`", app.name));
            for title in missed {
                output.notice(&format!(
                    "{title} is linked to `{from}` only; link `{}` to one",
                    app.name
                ));
            }
            for mount in mounts.iter() {
                output.notice(&format!(
                    "volume `{}` at `{}` is not mounted by the clone; `storage:mount` does that",
                    mount.source, mount.container_dir
                ));
            }
            platform.copy_source(&from, &app).await?;
            let told = json!({ "actor": actor.name, "from": from });
            platform.notify(Hook::PostAppCloneSetup, Some(&app.name), told);
            if let (Some(_), false) = (source.current_release, skip_deploy) {
                let release = platform.current_release(&source)?;
                let guard = platform.0.lanes.lane(app.id).deploy().await;
                let settings = platform.store.settings(app.id)?;
                let description = format!("Clone of {from} {}", release.version);
                let release = Release {
                    build: None,
                    ..changes::draft(&app, Some(&release), &settings, &actor, &description)
                };
                let draft = Draft { release, settings: &settings, release_command: true };
                platform.release_and_deploy(&app, draft, (&output, &cancel), &guard).await?;
            }
            platform.find_app(&app.name)
        }))
    }

    async fn copy_source(&self, from: &AppName, to: &App) -> Result<()> {
        let failed = |error: String| Error::internal("the source cannot be copied", error);
        let mut copy = self.repositories.copy(from, &to.name)?;
        let status = tokio::time::timeout(COPY, copy.status()).await;
        match status {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => return Err(failed(format!("git ended with {status}"))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("git took longer than {} s", COPY.as_secs()))),
        }
        if let Some(branch) = &to.deploy_branch {
            self.repositories.set_head(&to.name, branch)?;
        }
        Ok(())
    }

    /// Sets the branch whose pushes deploy; none lets the next push of `main` or `master` decide.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_deploy_branch(
        &self,
        actor: &Actor,
        name: &AppName,
        branch: Option<BranchName>,
    ) -> Result<()> {
        let app = self.find_app(name)?;
        self.store.set_deploy_branch(app.id, branch.as_ref())?;
        if let Some(branch) = &branch {
            self.repositories.set_head(name, branch)?;
        }
        let shown = branch
            .as_ref()
            .map_or("the first pushed of main or master".to_owned(), ToString::to_string);
        self.note(app.id, "app.deploy-branch", &format!("deploy branch set to {shown}"), actor);
        Ok(())
    }
}

/// What a clone has of its model's front door: all but what is about domains and the moment.
fn cloned_front(mut front: FrontSettings) -> FrontSettings {
    front.proxy.canonical_host = None;
    front.maintenance = false;
    front
}
