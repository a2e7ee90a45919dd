//! A deploy: start the new, wait until it is ready, switch, let the old finish.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::clock::timed;
use super::instances::{Instance, Retiring};
use super::lanes::DeployGuard;
use super::plan::{self, Observed, Wanted};
use super::stages::stage;
use super::{Error, InstanceStatus, Kind, Platform, Result, launch};
use crate::build::Output;
use crate::domain::{Actor, App, CheckSettings, ProcessType, Release, Stage};
use crate::plugin::Hook;
use crate::store::Settings;
use crate::support::report;

/// Lines of a failed instance's log that are shown to the user.
const SHOWN_LOG_LINES: usize = 30;

/// What a deploy does beside switching.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deploy<'a> {
    pub(super) app: &'a App,
    pub(super) release: &'a Release,
    pub(super) checks: CheckSettings,
    /// What the app's settings become with the switch; none leaves them as they are.
    pub(super) settings: Option<&'a Settings>,
    /// Whether the `release` process runs first.
    pub(super) release_command: bool,
    pub(super) output: &'a Output,
    pub(super) cancel: &'a CancellationToken,
}

impl Platform {
    /// Makes `release` the one that serves. On failure the one before it serves on, untouched.
    ///
    /// `_guard` shows that no other deploy of the app goes on.
    pub(super) async fn deploy(&self, deploy: &Deploy<'_>, _guard: &DeployGuard) -> Result<()> {
        let Deploy { app, release, .. } = *deploy;
        match self.start_and_switch(deploy).await {
            Ok(()) => {
                let message = format!("{} deployed: {}", release.version, release.description);
                self.note(app.id, "release.deployed", &message, &release.actor);
                let mut told = self.told_of(deploy);
                told["urls"] = json!(self.urls(app).unwrap_or_default());
                self.notify(Hook::PostDeploy, Some(&app.name), told);
                Ok(())
            }
            Err(error) => {
                let why = report(&error);
                self.store.fail_release(app.id, release.version, &why)?;
                let message = format!("{} failed: {why}", release.version);
                self.note(app.id, "release.failed", &message, &release.actor);
                let mut told = self.told_of(deploy);
                (told["stage"], told["reason"]) = (json!("deploy"), json!(why));
                // What somebody stopped has not failed.
                if !deploy.cancel.is_cancelled() {
                    self.notify(Hook::DeployFailed, Some(&app.name), told);
                }
                Err(error)
            }
        }
    }

    /// What plugins are told of a deploy.
    fn told_of(&self, deploy: &Deploy<'_>) -> serde_json::Value {
        let release = deploy.release;
        json!({
            "actor": release.actor.name,
            "commit": release.commit,
            "description": release.description,
            "release": release.version.0,
        })
    }

    async fn start_and_switch(&self, deploy: &Deploy<'_>) -> Result<()> {
        let Deploy { app, release, checks, output, cancel, .. } = *deploy;
        self.ask(Hook::PreDeploy, Some(&app.name), self.told_of(deploy)).await?.show(output);
        if deploy.release_command && release.processes.contains_key(&ProcessType::release()) {
            let command = timed("release-command", self.run_release_command(deploy));
            stage(Stage::ReleaseCommand, command).await?;
        }
        let plan = plan::plan(plan::wanted(app, release), &self.observed(app));
        announce(output, &plan);
        let started = stage(Stage::Start, self.start_ready(deploy, plan.start)).await?;
        if cancel.is_cancelled() {
            self.discard(&started).await;
            return Err(Error::canceled("canceled before the switch"));
        }
        let switch = timed("switch", self.switch(deploy, &started, &plan.retire));
        let retiring = stage(Stage::Switch, switch).await?;
        self.apply_limits(app, release).await;
        self.retire(&retiring, checks.drain.into(), checks.stop.into());
        timed("prune", self.prune(app)).await;
        Ok(())
    }

    /// The commit point: from here on the new release serves, whatever happens to this process.
    /// Answers which of `retire` are there, to be retired.
    async fn switch(
        &self,
        deploy: &Deploy<'_>,
        started: &[Instance],
        retire: &[String],
    ) -> Result<Retiring> {
        let Deploy { app, release, output, .. } = *deploy;
        self.store.set_current_release(app, release.version, deploy.settings)?;
        self.0.instances.reset_histories(app.id);
        self.0.clock.wake();
        for instance in started {
            self.0.instances.set_status(&instance.container, InstanceStatus::Running);
        }
        let retiring = self.mark_retiring(retire);
        if let Err(error) = self.publish_routes().await {
            tracing::error!(error = report(&error), "the switch waits for the proxy");
            output.notice(
                "the proxy cannot be told of the new release yet; it will be as soon as it answers",
            );
        }
        Ok(retiring)
    }

    /// Starts instances and waits until all are ready; stops all of them if one is not.
    async fn start_ready(&self, deploy: &Deploy<'_>, wanted: Vec<Wanted>) -> Result<Vec<Instance>> {
        let mut started = Vec::new();
        for wanted in &wanted {
            let start = self.start_instance(deploy.app, deploy.release, wanted);
            match timed("start", start).await {
                Ok(instance) => started.push(instance),
                Err(error) => {
                    self.discard(&started).await;
                    return Err(Error::new(Kind::Failed, format!("{} did not start", wanted.name))
                        .because(error));
                }
            }
        }
        let waits = started.iter().map(|instance| self.wait_ready_or_tell(deploy, instance));
        let all_ready = async { join_all(waits).await.into_iter().collect::<Result<Vec<()>>>() };
        let result = tokio::select! {
            biased;
            // Cancel-safe: only observes.
            () = deploy.cancel.cancelled() => Err(Error::canceled("canceled during the start")),
            // Cancel-safe: the instances are discarded below when it does not finish.
            result = timed("ready", all_ready) => result,
        };
        match result {
            Ok(_) => Ok(started),
            Err(error) => {
                self.discard(&started).await;
                Err(error)
            }
        }
    }

    async fn wait_ready_or_tell(&self, deploy: &Deploy<'_>, instance: &Instance) -> Result<()> {
        let checks = self.checks_of(
            deploy.app,
            deploy.release,
            &instance.name.process_type,
            &deploy.checks,
        )?;
        let Err(why) = self.wait_ready(deploy.app, instance, &checks).await else {
            return Ok(());
        };
        let lines = self.last_log_lines(deploy.app.id, &instance.container, SHOWN_LOG_LINES).await;
        deploy.output.notice(&format!("{} is not ready: {why}", instance.name));
        if !lines.is_empty() {
            deploy.output.section(&format!("The last lines of {}:", instance.name));
            lines.iter().for_each(|line| deploy.output.detail(line));
        }
        let message = format!("{} is not ready: {why}", instance.name);
        Err(Error::new(Kind::Failed, message).hint(advice(&instance.name.process_type)))
    }

    /// The `release` process, in a container of its own, before anything is started.
    async fn run_release_command(&self, deploy: &Deploy<'_>) -> Result<()> {
        let Deploy { app, release, output, cancel, .. } = *deploy;
        let command = &release.processes[&ProcessType::release()];
        output.step(&format!(
            "Running the release command: {}",
            command.args.last().map_or("", String::as_str)
        ));
        let code = self.run_to_end(app, release, command, output, cancel).await?;
        match code {
            0 => Ok(()),
            code => Err(Error::new(
                Kind::Failed,
                format!("the release command failed with exit code {code}"),
            )
            .hint("its output is above; the old release serves on")),
        }
    }

    /// Quotas change live: those of kept instances are set, not restarted for.
    pub(super) async fn apply_limits(&self, app: &App, release: &Release) {
        let group = launch::limits(release.resources.whole_app());
        for instance in self.0.instances.of_app(app.id) {
            if matches!(instance.status, InstanceStatus::Crashed | InstanceStatus::Retiring) {
                continue;
            }
            let own = launch::instance_limits(&release.resources, &instance.name.process_type);
            if let Err(error) = self.runtime.set_limits(&instance.container, &own, &group).await {
                let message =
                    format!("the limits of {} cannot be set: {}", instance.name, report(&error));
                self.note(app.id, "instance.limits", &message, &Actor::platform());
            }
        }
    }

    /// Instances that a plan may keep or must retire.
    pub(super) fn observed(&self, app: &App) -> Vec<Observed> {
        let instances = self.0.instances.of_app(app.id).into_iter();
        instances
            .filter(|instance| instance.status != InstanceStatus::Retiring)
            .map(|instance| Observed {
                alive: instance.status != InstanceStatus::Crashed,
                container: instance.container,
                name: instance.name,
                fingerprint: instance.fingerprint,
            })
            .collect()
    }

    fn mark_retiring(&self, containers: &[String]) -> Retiring {
        let marked = containers
            .iter()
            .filter(|container| self.0.instances.set_status(container, InstanceStatus::Retiring));
        Retiring { containers: marked.cloned().collect(), since: self.0.routes.changes() }
    }

    /// Starts what the current release wants and does not have, and stops what nobody wants:
    /// after a crash, at boot, after `ps:start` and `ps:stop`. Instances that do not come up are
    /// tried again later.
    pub(super) async fn converge(&self, app: &App, _guard: &DeployGuard) -> Result<Vec<String>> {
        let Some(version) = app.current_release else { return Ok(Vec::new()) };
        let Some(release) = self.store.release(app.id, version)? else {
            return Err(Error::internal(
                "the current release is missing",
                format!("{} {version}", app.name),
            ));
        };
        let settings = self.store.settings(app.id)?.checks;
        let plan = plan::plan(plan::wanted(app, &release), &self.observed(app));
        let due = plan
            .start
            .into_iter()
            .filter(|wanted| !self.0.instances.must_wait(app.id, &wanted.name));
        let starts = due.map(|wanted| self.start_one_ready(app, &release, &settings, wanted));
        // Adopted ones that did not listen yet when they were found.
        let kept = self.0.instances.of_app(app.id).into_iter().filter(|instance| {
            instance.status == InstanceStatus::Starting && plan.keep.contains(&instance.container)
        });
        let kept = kept.map(|instance| self.finish_start(app, &release, &settings, instance));
        let (started, kept) = futures_util::future::join(
            join_all(starts.collect::<Vec<_>>()),
            join_all(kept.collect::<Vec<_>>()),
        )
        .await;
        let failures = started.into_iter().chain(kept).filter_map(Result::err);
        let failures: Vec<String> = failures.map(|error| report(&error)).collect();
        let retiring = self.mark_retiring(&plan.retire);
        let published = self.publish_routes().await;
        // Also if that failed: they wait for the table that leaves them out.
        self.retire(&retiring, settings.drain.into(), settings.stop.into());
        published.map(|()| failures)
    }

    async fn start_one_ready(
        &self,
        app: &App,
        release: &Release,
        settings: &CheckSettings,
        wanted: Wanted,
    ) -> Result<()> {
        match self.start_instance(app, release, &wanted).await {
            Ok(instance) => self.finish_start(app, release, settings, instance).await,
            Err(error) => {
                self.start_later(app.id, &wanted.name, &report(&error));
                Err(error)
            }
        }
    }

    /// Waits until a started instance is ready; ends it if it does not become so.
    async fn finish_start(
        &self,
        app: &App,
        release: &Release,
        settings: &CheckSettings,
        instance: Instance,
    ) -> Result<()> {
        let checks = self.checks_of(app, release, &instance.name.process_type, settings)?;
        match self.wait_ready(app, &instance, &checks).await {
            Ok(()) => {
                self.0.instances.set_status(&instance.container, InstanceStatus::Running);
                Ok(())
            }
            Err(why) => {
                // Its watcher notes the crash and comes back here after the wait.
                self.stop_unready(&instance).await;
                Err(Error::new(Kind::Failed, format!("{} is not ready: {why}", instance.name)))
            }
        }
    }

    async fn stop_unready(&self, instance: &Instance) {
        if instance.ended.borrow().is_none()
            && let Err(error) = self
                .runtime
                .stop(&instance.container, crate::container::Signal::TERM, Duration::from_secs(5))
                .await
        {
            tracing::warn!(
                container = instance.container,
                error = report(&error),
                "cannot stop an instance"
            );
        }
    }

    /// [`Platform::converge`] in the background; failures go to the log.
    pub(super) async fn converge_logged(&self, app: crate::domain::AppId) {
        let guard = self.0.lanes.lane(app).deploy().await;
        let result = async {
            match self.store.app_by_id(app)? {
                Some(app) => self.converge(&app, &guard).await,
                None => Ok(Vec::new()),
            }
        };
        match result.await {
            Ok(failures) => failures
                .iter()
                .for_each(|why| tracing::warn!(app.id = app.0, why, "instance not started")),
            Err(error) => tracing::error!(
                app.id = app.0,
                error = report(&error),
                "cannot start an app's instances"
            ),
        }
    }
}

fn announce(output: &Output, plan: &plan::Plan) {
    if plan.start.is_empty() {
        return;
    }
    let names: Vec<_> = plan.start.iter().map(|wanted| wanted.name.to_string()).collect();
    let kept = match plan.keep.len() {
        0 => String::new(),
        kept => format!(" ({kept} already running)"),
    };
    output.step(&format!("Starting {}{kept}", names.join(", ")));
}

fn advice(process_type: &ProcessType) -> &'static str {
    match process_type.is_web() {
        true => "a web process must listen on 0.0.0.0:$PORT; `staithe logs` has all of its output",
        false => "`staithe logs` has all of its output",
    }
}
