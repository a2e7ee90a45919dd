//! From a commit to an image: source tree, build container, lifecycle, image store.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::changes::{self, Draft};
use super::clock::{self, timed};
use super::launch::{self, APP_USER, Frame, Purpose};
use super::layers::Sink;
use super::sandbox::BuildContainer;
use super::stages::{Stages, stage};
use super::{Error, Journal, Kind, Platform, Result};
use crate::build::appjson::{AppJson, EnvValue};
use crate::build::{Built, Job, Output, Owner, Prepared, StackFacts};
use crate::container::Stdio;
use crate::domain::{
    Actor, App, AppId, AppName, Build, BuildId, BuildStages, BuildStatus, Check, Command,
    ProcessType, Release, ReleaseVersion, RunState, Secret, Stage,
};
use crate::git::{CommitId, ExportOptions, Quarantine};
use crate::image::{Image, ImageConfig, ImageSpec};
use crate::plugin::Hook;
use crate::store::{BuildDetails, NewBuild};
use crate::support::report;
use crate::wire::BuildReport;

/// The builds that go on or wait, at most one going on for each app.
#[derive(Debug, Default)]
pub(super) struct Running {
    builds: Mutex<HashMap<BuildId, RunningBuild>>,
    slots: std::sync::OnceLock<Arc<tokio::sync::Semaphore>>,
}

#[derive(Debug, Clone)]
struct RunningBuild {
    app: AppId,
    cancel: CancellationToken,
    journal: Journal,
    stages: Stages,
}

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BuildId, RunningBuild>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app's newest build that has not ended.
    pub(super) fn of_app(&self, app: AppId) -> Option<BuildId> {
        self.lock().iter().filter(|(_, build)| build.app == app).map(|(id, _)| *id).max()
    }

    /// Asks the app's builds to stop.
    pub(super) fn cancel(&self, app: AppId) {
        self.lock()
            .values()
            .filter(|build| build.app == app)
            .for_each(|build| build.cancel.cancel());
    }

    fn slots(&self, count: usize) -> Arc<tokio::sync::Semaphore> {
        Arc::clone(self.slots.get_or_init(|| Arc::new(tokio::sync::Semaphore::new(count.max(1)))))
    }
}

/// What is to be built.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) app: App,
    pub(super) commit: CommitId,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) actor: Actor,
    pub(super) build: Build,
}

impl Source {
    /// What plugins are told of it.
    fn told(&self) -> serde_json::Value {
        json!({
            "actor": self.actor.name,
            "build": self.build.id.to_string(),
            "commit": self.commit.to_string(),
        })
    }
}

/// A built image with what the source says about running it.
#[derive(Debug)]
struct Product {
    image: String,
    processes: BTreeMap<ProcessType, Command>,
    checks: BTreeMap<ProcessType, Vec<Check>>,
    app_json: AppJson,
    /// Keeps the image until a release names it.
    sink: Sink,
}

impl Platform {
    /// Records a build and opens its journal.
    pub(super) fn open_build(
        &self,
        app: &App,
        commit: &CommitId,
        actor: &Actor,
        quarantine: Option<&Quarantine>,
    ) -> Result<(Build, Journal)> {
        // A commit that cannot be read fails the build with a reason, when its tree is exported.
        let info = self.repositories.commit_info(&app.name, quarantine, commit);
        let subject = info.map(|info| info.subject).unwrap_or_default();
        let commit = commit.to_string();
        let build = self.store.add_build(&NewBuild {
            app: app.id,
            commit: &commit,
            actor,
            created_at: clock::now(),
        })?;
        let details = BuildDetails { subject, ..BuildDetails::default() };
        self.store.set_build_details(build.id, &details)?;
        let path = self.build_log(build.id);
        let file = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::File::create(&path))
            .map_err(|error| Error::internal("cannot write the build's log", error))?;
        let message = format!("build {} of {} begun", build.id, &commit[..commit.len().min(8)]);
        self.note(app.id, "build.started", &message, actor);
        Ok((build, Journal::with_file(Some(file))))
    }

    /// Builds, releases and deploys a commit; the build record says how it ended.
    pub(super) async fn build_and_deploy(
        &self,
        source: Source,
        journal: Journal,
        output: &Arc<Output>,
        cancel: &CancellationToken,
    ) -> Result<ReleaseVersion> {
        let id = source.build.id;
        let stages = Stages::default();
        let running = RunningBuild {
            app: source.app.id,
            cancel: cancel.clone(),
            journal,
            stages: stages.clone(),
        };
        self.0.builds.lock().insert(id, running);
        let result = stages.noting(Box::pin(self.queue_and_build(&source, output, cancel))).await;
        let (status, failure, release) = match &result {
            Ok(version) => (BuildStatus::Succeeded, None, Some(*version)),
            Err(error) if cancel.is_cancelled() => {
                (BuildStatus::Canceled, Some(report(error)), None)
            }
            Err(error) => (BuildStatus::Failed, Some(report(error)), None),
        };
        output.finish();
        let hint = result.as_ref().err().and_then(Error::next_step).map(str::to_owned);
        self.keep_details(id, stages.closed(status == BuildStatus::Canceled), hint)?;
        self.0.builds.lock().remove(&id);
        self.store.finish_build(id, status, failure.as_deref(), release, clock::now())?;
        self.0.meters.note_build(source.build.app, status);
        result
    }

    fn keep_details(&self, id: BuildId, stages: BuildStages, hint: Option<String>) -> Result<()> {
        let details = self.store.build_details(id)?;
        Ok(self.store.set_build_details(id, &BuildDetails { stages, hint, ..details })?)
    }

    /// A build with how far it has come.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build_report(&self, name: &AppName, id: BuildId) -> Result<BuildReport> {
        let build = self.build(name, id).await?;
        self.with_details(build)
    }

    /// The app's builds, newest first, with how far each has come.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build_reports(&self, name: &AppName, limit: usize) -> Result<Vec<BuildReport>> {
        let builds = self.builds(name, limit).await?;
        builds.into_iter().map(|build| self.with_details(build)).collect()
    }

    fn with_details(&self, build: Build) -> Result<BuildReport> {
        let details = self.store.build_details(build.id)?;
        let running = self.0.builds.lock().get(&build.id).map(|running| running.stages.clone());
        let stages = running.map_or(details.stages, |running| running.so_far());
        Ok(BuildReport { build, subject: details.subject, stages, hint: details.hint })
    }

    /// Records that a build was refused before it began.
    pub(super) fn refuse_build(&self, id: BuildId, error: Error) -> Result<ReleaseVersion> {
        let why = report(&error);
        let hint = error.next_step().map(str::to_owned);
        self.keep_details(id, BuildStages::default(), hint)?;
        self.store.finish_build(id, BuildStatus::Failed, Some(&why), None, clock::now())?;
        Err(error)
    }

    async fn queue_and_build(
        &self,
        source: &Source,
        output: &Arc<Output>,
        cancel: &CancellationToken,
    ) -> Result<ReleaseVersion> {
        let lane = self.0.lanes.lane(source.app.id);
        let slots = self.0.builds.slots(self.settings().concurrent_builds);
        if self.0.builds.lock().values().filter(|build| build.app == source.app.id).count() > 1 {
            output.step("Waiting for the build before this one");
        }
        let turn = async {
            let guard = lane.build().await.map_err(|_| {
                cancel.cancel();
                Error::canceled("a newer push took this one's place in the queue")
            })?;
            let slot = slots
                .acquire_owned()
                .await
                .map_err(|error| Error::internal("no build slots", error))?;
            Ok((guard, slot))
        };
        let turn = async {
            tokio::select! {
                biased;
                // Cancel-safe: only observes.
                () = cancel.cancelled() => Err(Error::canceled("canceled while waiting")),
                // Cancel-safe: a place in the queue is given up.
                turn = turn => turn,
            }
        };
        let _turn = stage(Stage::Queue, turn).await?;
        self.store.start_build(source.build.id)?;
        let product = self.build_image(source, output, cancel).await;
        self.tell_of_build(source, &product, cancel);
        // Beside the deploy: on a busy disk, removing takes longer than a small build.
        let clean_up = self.discard_tree(self.build_dir(source.build.id));
        let deploy = async { self.release_product(source, product?, output, cancel).await };
        let ((), released) = tokio::join!(timed("clean-up", clean_up), deploy);
        released
    }

    fn tell_of_build(
        &self,
        source: &Source,
        product: &Result<Product>,
        cancel: &CancellationToken,
    ) {
        let mut told = source.told();
        let hook = match product {
            Ok(product) => {
                told["image"] = json!(product.image);
                Hook::PostBuild
            }
            Err(_) if cancel.is_cancelled() => return,
            Err(error) => {
                (told["stage"], told["reason"]) = (json!("build"), json!(report(error)));
                Hook::DeployFailed
            }
        };
        self.notify(hook, Some(&source.app.name), told);
    }

    async fn release_product(
        &self,
        source: &Source,
        product: Product,
        output: &Arc<Output>,
        cancel: &CancellationToken,
    ) -> Result<ReleaseVersion> {
        let guard = self.0.lanes.lane(source.app.id).deploy().await;
        let mut app = self.find_app_by_id(source.app.id)?;
        // A push to a stopped app starts it.
        app.run_state = RunState::Running;
        let mut settings = self.store.settings(app.id)?;
        apply_app_json(&mut settings, &product.app_json, app.current_release.is_none())?;
        let description = format!("Deploy {}", source.commit.short());
        let release = Release {
            image: product.image,
            build: Some(source.build.id),
            commit: Some(source.commit.to_string()),
            processes: product.processes,
            checks: product.checks,
            cron: product.app_json.cron.clone(),
            ..changes::draft(&app, None, &settings, &source.actor, &description)
        };
        let draft = Draft { release, settings: &settings, release_command: true };
        let released = self.release_and_deploy(&app, draft, (output, cancel), &guard).await;
        drop(product.sink);
        released
    }

    async fn build_image(
        &self,
        source: &Source,
        output: &Arc<Output>,
        cancel: &CancellationToken,
    ) -> Result<Product> {
        let directory = self.build_dir(source.build.id);
        let failed = |error| Error::internal("cannot write the build directory", error);
        let upper = directory.join("upper");
        std::fs::create_dir_all(&upper).map_err(failed)?;
        let base = self.id_map(source.app.id).host_base;
        std::os::unix::fs::chown(&upper, Some(base), Some(base)).map_err(failed)?;
        let tree = upper.join("app");
        let export = timed("source", self.export_source(source, &tree, output, cancel));
        stage(Stage::Source, export).await?;
        let answers = self.ask(Hook::PreBuild, Some(&source.app.name), source.told()).await?;
        answers.show(output);
        let (mut job, build_image, run_image) = self.job(source, directory)?;
        for (key, value) in answers.env {
            job.config_vars.set(key, value)?;
        }
        let job = Arc::new(job);
        let prepare = timed("prepare", self.prepare(&job, output));
        let mut prepared = stage(Stage::Prepare, prepare).await?;
        let app_json = prepared.app_json.take().unwrap_or_default();
        let (prepared, group) =
            self.run_lifecycle(source, &job, &build_image, prepared, output, cancel).await?;
        let sink = Sink::new(&self.images);
        let export = async {
            let (platform, job, output) = (self.clone(), Arc::clone(&job), Arc::clone(output));
            let export = blocking(move || {
                let built = platform.lifecycle.export(&job, &prepared, &group, &sink, &output);
                built.map(|built| (built, sink))
            });
            let (built, sink) = timed("export", export).await?.map_err(build_failed)?;
            let image = timed("image", self.write_app_image(&run_image, &built, &sink)).await?;
            Ok::<_, Error>(Product {
                image,
                processes: built.processes,
                checks: app_json.checks.clone(),
                app_json,
                sink,
            })
        };
        stage(Stage::Image, export).await
    }

    async fn export_source(
        &self,
        source: &Source,
        destination: &std::path::Path,
        output: &Output,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let user = self.id_map(source.app.id).host_base + APP_USER;
        let options = ExportOptions { uid: user, gid: user };
        let export = self.repositories.export_tree(
            &source.app.name,
            source.quarantine.as_ref(),
            &source.commit,
            destination,
            options,
        );
        let exported = tokio::select! {
            biased;
            // Cancel-safe: only observes.
            () = cancel.cancelled() => return Err(Error::canceled("canceled while reading the source")),
            // Dropped: the build directory is removed by the caller.
            exported = export => exported,
        };
        let exported = exported.map_err(|error| {
            Error::new(Kind::Failed, format!("the source cannot be read: {}", report(&error)))
        })?;
        exported.warnings.iter().for_each(|warning| output.notice(warning));
        Ok(())
    }

    fn job(&self, source: &Source, directory: PathBuf) -> Result<(Job, Image, Image)> {
        let app = &source.app;
        let stack = self.store.stack(&app.stack)?.ok_or_else(|| {
            Error::new(Kind::Conflict, format!("stack `{}` has not been made yet", app.stack))
                .hint(format!("run `staithe stack:build {}` on the server, once", app.stack))
        })?;
        let image = |digest: &str| -> Result<Image> {
            let digest =
                digest.parse().map_err(|error| Error::internal("stack without an image", error))?;
            Ok(self.images.image(&digest)?)
        };
        let (build_image, run_image) = (image(&stack.build_image)?, image(&stack.run_image)?);
        let base = self.id_map(app.id).host_base;
        let job = Job {
            app: app.name.to_string(),
            commit: source.commit.to_string(),
            upper: directory.join("upper"),
            staging: directory.join("staging"),
            owner: Owner { base, user: base + APP_USER },
            stack: StackFacts {
                name: stack.name,
                build_digest: stack.build_image,
                run_digest: stack.run_image,
                distro: distro(&run_image),
                build_env: build_image.config.env.clone(),
                run_env: run_image.config.env.clone(),
            },
            config_vars: self.store.settings(app.id)?.config,
            buildpacks: Vec::new(),
            cache_record: self.cache_dir(app.id).join("layers.json"),
            downloads: self.settings().data_dir.join("cache").join("downloads"),
        };
        std::fs::create_dir_all(self.cache_dir(app.id))
            .and_then(|()| std::fs::create_dir_all(&job.downloads))
            .map_err(|error| Error::internal("cannot write the build cache", error))?;
        Ok((job, build_image, run_image))
    }

    async fn prepare(&self, job: &Arc<Job>, output: &Arc<Output>) -> Result<Prepared> {
        let (platform, job, output) = (self.clone(), Arc::clone(job), Arc::clone(output));
        blocking(move || {
            let sink = Sink::new(&platform.images);
            platform.lifecycle.prepare(&job, &sink, &output)
        })
        .await?
        .map_err(build_failed)
    }

    /// Detect and build, in a container that is gone when this returns.
    async fn run_lifecycle(
        &self,
        source: &Source,
        job: &Job,
        build_image: &Image,
        prepared: Prepared,
        output: &Output,
        cancel: &CancellationToken,
    ) -> Result<(Prepared, crate::build::Group)> {
        let addresses = self.network.allocate()?;
        let start = self.start_build_container(source, build_image, &prepared, addresses);
        let container = match timed("container", start).await {
            Ok(container) => container,
            Err(error) => {
                self.network.release(addresses);
                return Err(error);
            }
        };
        let sandbox = BuildContainer { platform: self.clone(), container, cancel: cancel.clone() };
        let result = async {
            let detect = self.lifecycle.detect(job, &prepared, &sandbox, output);
            let group = stage(Stage::Detect, timed("detect", detect)).await?;
            let build = self.lifecycle.build(job, &prepared, &group, &sandbox, output);
            stage(Stage::Build, timed("build", build)).await?;
            Ok(group)
        }
        .await;
        timed("container-end", self.end_build_container(&sandbox.container)).await;
        result.map(|group| (prepared, group)).map_err(build_failed)
    }

    async fn end_build_container(&self, container: &str) {
        if let Err(error) = self.runtime.kill(container).await {
            tracing::error!(container, error = report(&error), "cannot kill a build container");
        }
        self.clean_up(container).await;
    }

    async fn start_build_container(
        &self,
        source: &Source,
        image: &Image,
        prepared: &Prepared,
        addresses: crate::network::Addresses,
    ) -> Result<String> {
        let mut lowers = self.images.image_layer_paths(&image.digest)?;
        lowers.extend(prepared.lowers.iter().cloned());
        let resources = self.store.settings(source.app.id)?.resources;
        let name = format!("build.{}", source.build.id);
        let frame = Frame {
            app: &source.app,
            purpose: Purpose::Build,
            name: &name,
            lowers,
            limits: launch::limits(resources.build()),
            resources: &resources,
            addresses,
        };
        let mut spec = self.container_spec(&frame)?;
        // Builds are not held to the quota of what serves: they have their own.
        spec.cgroup.group = format!("{}-{}-build", source.app.name, source.app.id);
        spec.cgroup.group_limits = launch::limits(resources.build());
        spec.rootfs.upper = self.build_dir(source.build.id);
        spec.mounts.retain(|mount| {
            !matches!(mount, crate::container::Mount::Bind { target, .. }
            if prepared.mounts.iter().any(|other| std::path::Path::new(&other.target) == target))
        });
        spec.mounts.extend(
            prepared.mounts.iter().map(|mount| launch::read_only(&mount.source, &mount.target)),
        );
        let created = self.runtime.create(&spec, Stdio::Log).await?;
        let started = async {
            self.attach_network(&created, addresses, crate::network::Egress::Open).await?;
            self.runtime.start(&spec.id).await?;
            Ok(())
        };
        match started.await {
            Ok(()) => Ok(spec.id),
            Err(error) => {
                self.clean_up(&spec.id).await;
                Err(error)
            }
        }
    }

    async fn write_app_image(
        &self,
        run_image: &Image,
        built: &Built,
        sink: &Sink,
    ) -> Result<String> {
        let mut layers = run_image.layers.clone();
        for layer in &built.layers {
            layers.push(
                layer
                    .digest
                    .parse()
                    .map_err(|error| Error::internal("a layer without a digest", error))?,
            );
        }
        let entrypoint =
            built.processes.get(&built.default_process).map(|command| command.args.clone());
        let spec = ImageSpec {
            config: ImageConfig {
                env: built.env.clone(),
                entrypoint: entrypoint.unwrap_or_default(),
                working_dir: built.working_dir.clone(),
                user: format!("{APP_USER}:{APP_USER}"),
                labels: built.labels.clone(),
                ..ImageConfig::default()
            },
            layers,
            history: Vec::new(),
        };
        // Short enough to do in place: two small files and a sync.
        let digest = self.images.write_image(sink.lease(), &spec)?;
        Ok(digest.to_string())
    }

    /// The build's output from its first line; live while it runs.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build_output(&self, name: &AppName, id: BuildId) -> Result<Journal> {
        self.build(name, id).await?;
        if let Some(running) = self.0.builds.lock().get(&id) {
            return Ok(running.journal.clone());
        }
        let text = match tokio::fs::read(self.build_log(id)).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::internal("cannot read the build's log", error)),
        };
        let journal = Journal::new();
        String::from_utf8_lossy(&text).lines().for_each(|line| journal.line(line));
        journal.close();
        Ok(journal)
    }

    /// Stops the given build, or the one going on; what serves is not touched.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it has ended.
    pub async fn cancel_build(
        &self,
        actor: &Actor,
        name: &AppName,
        id: Option<BuildId>,
    ) -> Result<Build> {
        let app = self.find_app(name)?;
        let id = id.or_else(|| self.0.builds.of_app(app.id)).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("app `{name}` has no build going on"))
        })?;
        let build = self.build(name, id).await?;
        let running = self.0.builds.lock().get(&id).cloned();
        let Some(running) = running else {
            return Err(Error::new(Kind::Conflict, format!("build {id} has ended already")));
        };
        running.cancel.cancel();
        self.note(app.id, "build.canceled", &format!("build {id} canceled"), actor);
        Ok(build)
    }

    /// Builds the head of the deploy branch again and deploys it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if nothing was pushed.
    pub async fn rebuild(
        &self,
        actor: &Actor,
        name: &AppName,
    ) -> Result<super::Operation<ReleaseVersion>> {
        let app = self.find_app(name)?;
        let nothing = || Error::not_deployed(name);
        let branch = app.deploy_branch.as_ref().ok_or_else(nothing)?;
        let commit = self.repositories.head(name, branch)?.ok_or_else(nothing)?.id;
        let (build, journal) = self.open_build(&app, &commit, actor, None)?;
        let source = Source { app, commit, quarantine: None, actor: actor.clone(), build };
        let kept = journal.clone();
        Ok(self.operate(journal, move |platform, output, cancel| async move {
            platform.build_and_deploy(source, kept, &output, &cancel).await
        }))
    }

    pub(super) fn find_app_by_id(&self, id: AppId) -> Result<App> {
        self.store
            .app_by_id(id)?
            .ok_or_else(|| Error::new(Kind::NotFound, "the app was destroyed meanwhile"))
    }

    /// Where a build works; gone after it.
    pub(super) fn build_dir(&self, id: BuildId) -> PathBuf {
        self.settings().data_dir.join("builds").join(id.to_string())
    }

    fn build_log(&self, id: BuildId) -> PathBuf {
        self.settings().data_dir.join("logs").join("builds").join(format!("{id}.log"))
    }

    pub(super) async fn remove_build_log(&self, id: BuildId) {
        // One that is gone already is what is wanted.
        let _ = tokio::fs::remove_file(self.build_log(id)).await;
    }

    /// Where an app's build cache record is.
    pub(super) fn cache_dir(&self, app: AppId) -> PathBuf {
        self.settings().data_dir.join("cache").join("apps").join(app.to_string())
    }
}

/// `debian`, `13`: from the stack's labels.
fn distro(image: &Image) -> (String, String) {
    let label = |key: &str| image.config.labels.get(key).cloned().unwrap_or_default();
    (label("io.buildpacks.base.distro.name"), label("io.buildpacks.base.distro.version"))
}

fn build_failed(error: crate::build::Error) -> Error {
    let message = report(&error);
    match error.party() {
        crate::build::Party::App => Error::new(Kind::Failed, message),
        crate::build::Party::Operator => {
            Error::internal("the build failed through no fault of the app", error)
        }
    }
}

/// Config vars and counts that `app.json` asks for, where the user has not set them.
fn apply_app_json(
    settings: &mut crate::store::Settings,
    app_json: &AppJson,
    first: bool,
) -> Result<()> {
    for (key, spec) in &app_json.env {
        let missing = settings.config.get(key).is_none();
        let value = match &spec.value {
            EnvValue::Literal(value) if missing || spec.sync => value.clone(),
            EnvValue::Secret if missing => {
                (0..8).map(|_| launch::random_hex()).collect::<Result<Vec<_>>>()?.concat()
            }
            EnvValue::Required if missing => {
                let message = format!("app.json requires the config var `{key}`, which is not set");
                return Err(Error::new(Kind::Failed, message)
                    .hint(format!("run `staithe config:set <app> {key}=…` and push again")));
            }
            _ => continue,
        };
        settings.config.set(key.clone(), Secret::new(value))?;
    }
    if first {
        for (process_type, count) in &app_json.formation {
            settings.formation.set(process_type.clone(), *count)?;
        }
    }
    Ok(())
}

/// Runs blocking work beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a background thread failed", error))
}
