//! Changes of settings: each makes a release and deploys it, without dropping a request.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::deploy::Deploy;
use super::lanes::DeployGuard;
use super::{
    CheckReport, ConfigChange, Error, Journal, Kind, Operation, Platform, ProcessReport,
    ResourceChange, ResourceReport, ResourceScope, Result, clock,
};
use crate::build::Output;
use crate::domain::{
    Actor, App, AppName, CheckSettings, ConfigVars, Millis, ProcessType, Release, ReleaseStatus,
    ReleaseVersion, Resources, RunState,
};
use crate::plugin::Hook;
use crate::store::{NewRelease, Settings};

/// A release to be.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// All of it but the version and the status.
    pub(super) release: Release,
    /// What it was made from.
    pub(super) settings: &'a Settings,
    /// Whether the `release` process runs first.
    pub(super) release_command: bool,
}

/// Where a verb's lines go, and what can stop it.
pub(super) type Session<'a> = (&'a Output, &'a CancellationToken);

impl Platform {
    /// Keeps a drafted release and deploys it. Its settings become the app's with the switch, not
    /// before and not without it.
    pub(super) async fn release_and_deploy(
        &self,
        app: &App,
        draft: Draft<'_>,
        (output, cancel): Session<'_>,
        guard: &DeployGuard,
    ) -> Result<ReleaseVersion> {
        let Draft { mut release, settings, release_command } = draft;
        release.injected = self.ask_about_release(app, &release, output).await?;
        let release = self.store.add_release(NewRelease { release })?;
        output.step(&format!("Releasing {}", release.version));
        let deploy = Deploy {
            app,
            release: &release,
            checks: settings.checks,
            settings: Some(settings),
            release_command,
            output,
            cancel,
        };
        self.deploy(&deploy, guard).await?;
        Ok(release.version)
    }

    /// Applies `edit` to the app's settings. A deployed app gets a release with them; they are kept
    /// only if it deploys. An app without a release just keeps them.
    pub(super) async fn change_settings(
        &self,
        name: AppName,
        change: Change,
        edit: impl FnOnce(&mut Settings) -> Result<()> + Send,
        session: Session<'_>,
    ) -> Result<Option<ReleaseVersion>> {
        let app = self.find_app(&name)?;
        let guard = self.0.lanes.lane(app.id).deploy().await;
        let app = self.find_app(&name)?;
        let mut settings = self.store.settings(app.id)?;
        let old = settings.clone();
        edit(&mut settings)?;
        let told = super::events::Change::of_settings(&old, &settings);
        if app.current_release.is_none() || change.no_restart {
            self.store.set_settings(app.id, &settings)?;
            self.note_change(app.id, change.kind, &change.description, &change.actor, told);
            return Ok(None);
        }
        let base = self.current_release(&app)?;
        let release = draft(&app, Some(&base), &settings, &change.actor, &change.description);
        let release_command = change.release_command;
        let draft = Draft { release, settings: &settings, release_command };
        let version = self.release_and_deploy(&app, draft, session, &guard).await?;
        self.note_change(app.id, change.kind, &change.description, &change.actor, told);
        Ok(Some(version))
    }

    /// The app's config vars.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn config(&self, name: &AppName) -> Result<ConfigVars> {
        Ok(self.store.settings(self.find_app(name)?.id)?.config)
    }

    /// Changes config vars. Outcome: the new release, none where nothing was deployed.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; the operation fails with `Failed` where the app does not start with
    /// the new config, which is then not kept.
    pub async fn change_config(
        &self,
        actor: &Actor,
        name: &AppName,
        change: ConfigChange,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        self.find_app(name)?;
        let name = name.clone();
        let about = Change {
            kind: "config.changed",
            description: describe_config(&change),
            actor: actor.clone(),
            release_command: true,
            no_restart: change.no_restart,
        };
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            output.step(&format!("{} on {name}", about.description));
            let edit = |settings: &mut Settings| edit_config(&mut settings.config, change);
            platform.change_settings(name, about, edit, (&output, &cancel)).await
        }))
    }

    /// Sets how many instances run. Outcome: the new release, none before the first deploy.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an undeclared process type.
    pub async fn scale(
        &self,
        actor: &Actor,
        name: &AppName,
        counts: Vec<(ProcessType, u32)>,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        let app = self.find_app(name)?;
        if app.current_release.is_some() {
            let release = self.current_release(&app)?;
            counts.iter().try_for_each(|(process_type, _)| declared(&release, process_type))?;
        }
        let shown: Vec<_> =
            counts.iter().map(|(process_type, count)| format!("{process_type}={count}")).collect();
        let about = Change::new("app.scaled", format!("Scale {}", shown.join(" ")), actor);
        let told = json!({ "actor": actor.name, "scale": shown.join(" ") });
        let name = name.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            output.step(&format!("Scaling {name} processes: {}", shown.join(" ")));
            let edit = |settings: &mut Settings| {
                counts.into_iter().try_for_each(|(process_type, count)| {
                    settings.formation.set(process_type, count)
                })?;
                Ok(())
            };
            let session = (output.as_ref(), &cancel);
            let released = platform.change_settings(name.clone(), about, edit, session).await?;
            platform.notify(Hook::PostScale, Some(&name), told);
            Ok(released)
        }))
    }

    /// The app's process types and instances.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn processes(&self, name: &AppName) -> Result<ProcessReport> {
        let app = self.find_app(name)?;
        let formation = self.store.settings(app.id)?.formation;
        let scale = match app.current_release {
            Some(_) => {
                let release = self.current_release(&app)?;
                let scaled = release
                    .processes
                    .keys()
                    .filter(|process_type| **process_type != ProcessType::release());
                scaled
                    .map(|process_type| (process_type.clone(), formation.count(process_type)))
                    .collect()
            }
            None => formation
                .explicit()
                .map(|(process_type, count)| (process_type.clone(), count))
                .collect(),
        };
        let instances = self.report_instances(&app).await;
        Ok(ProcessReport { scale, status: self.status(&app, &instances)?, instances })
    }

    /// Starts a stopped app.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` before the first deploy; the operation fails if an instance does.
    pub async fn start(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        self.set_running(actor, name, RunState::Running).await
    }

    /// Stops all instances, until `ps:start`.
    ///
    /// # Errors
    /// As [`Platform::start`].
    pub async fn stop(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        self.set_running(actor, name, RunState::Stopped).await
    }

    async fn set_running(
        &self,
        actor: &Actor,
        name: &AppName,
        state: RunState,
    ) -> Result<Operation<()>> {
        let app = self.find_app(name)?;
        self.current_release(&app)?;
        let (name, actor) = (name.clone(), actor.clone());
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let guard = platform.0.lanes.lane(app.id).deploy().await;
            let (verb, kind) = match state {
                RunState::Running => ("Starting", "app.started"),
                RunState::Stopped => ("Stopping", "app.stopped"),
            };
            output.step(&format!("{verb} {name}"));
            platform.store.set_run_state(app.id, state)?;
            platform.0.clock.wake();
            platform.0.instances.reset_histories(app.id);
            let failures = platform.converge(&platform.find_app(&name)?, &guard).await?;
            platform.note(app.id, kind, &format!("{verb} {name}"), &actor);
            match failures.first() {
                None => Ok(()),
                Some(why) => Err(Error::new(Kind::Failed, why.clone())
                    .hint(format!("run `staithe logs {name}`"))),
            }
        }))
    }

    /// Replaces all instances by new ones of the same release, without dropping a request.
    ///
    /// # Errors
    /// As [`Platform::start`].
    pub async fn restart(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        let app = self.find_app(name)?;
        self.current_release(&app)?;
        let (name, actor) = (name.clone(), actor.clone());
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let guard = platform.0.lanes.lane(app.id).deploy().await;
            output.step(&format!("Restarting {name}"));
            let mut app = platform.find_app(&name)?;
            // Kept with the switch, not before: instances of a failed restart are not wanted.
            app.restarts += 1;
            app.run_state = RunState::Running;
            let release = platform.current_release(&app)?;
            let deploy = Deploy {
                app: &app,
                release: &release,
                checks: platform.store.settings(app.id)?.checks,
                settings: None,
                release_command: false,
                output: &output,
                cancel: &cancel,
            };
            platform.deploy(&deploy, &guard).await?;
            platform.note(app.id, "app.restarted", &format!("{name} restarted"), &actor);
            Ok(())
        }))
    }

    /// The app's quotas.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn resources(&self, name: &AppName) -> Result<ResourceReport> {
        let app = self.find_app(name)?;
        let settings = self.store.settings(app.id)?.resources;
        let mut types: Vec<ProcessType> = match app.current_release {
            Some(_) => self.current_release(&app)?.processes.into_keys().collect(),
            None => vec![ProcessType::web()],
        };
        types.extend(
            settings
                .by_type
                .keys()
                .filter(|process_type| !types.contains(process_type))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let build: ProcessType = "build".parse()?;
        types.retain(|process_type| *process_type != build);
        let mut effective: Vec<_> = types
            .into_iter()
            .map(|process_type| (process_type.clone(), settings.instance(&process_type)))
            .collect();
        effective.push((build, settings.build()));
        Ok(ResourceReport { effective, effective_app: settings.whole_app(), settings })
    }

    /// Changes limits; they take effect at once on running instances, without a restart.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn set_limits(
        &self,
        actor: &Actor,
        name: &AppName,
        scope: ResourceScope,
        change: ResourceChange,
    ) -> Result<ResourceReport> {
        let description = format!("Limit {}", describe_resources(&scope, &change));
        let edit = |settings: &mut Settings| {
            let resources = &mut settings.resources;
            let target = match scope {
                ResourceScope::Default => &mut resources.default,
                ResourceScope::Type(process_type) => {
                    resources.by_type.entry(process_type).or_default()
                }
                ResourceScope::App => &mut resources.app,
            };
            apply(target, change);
            resources.by_type.retain(|_, limits| *limits != Resources::default());
            Ok(())
        };
        self.change_resources(actor, name, description, edit).await
    }

    /// Changes reservations: memory that is taken from others first when the machine runs short.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn set_reservations(
        &self,
        actor: &Actor,
        name: &AppName,
        scope: ResourceScope,
        change: ResourceChange,
    ) -> Result<ResourceReport> {
        let description = format!("Reserve {}", describe_resources(&scope, &change));
        let process_type = match scope {
            ResourceScope::Type(process_type) => process_type,
            ResourceScope::Default => ProcessType::web(),
            ResourceScope::App => {
                return Err(Error::new(Kind::Invalid, "a reservation is per process type")
                    .hint("give `--process-type`"));
            }
        };
        let edit = |settings: &mut Settings| {
            let reserved = &mut settings.resources.reserved;
            apply(reserved.entry(process_type).or_default(), change);
            reserved.retain(|_, reserved| *reserved != Resources::default());
            Ok(())
        };
        self.change_resources(actor, name, description, edit).await
    }

    async fn change_resources(
        &self,
        actor: &Actor,
        name: &AppName,
        description: String,
        edit: impl FnOnce(&mut Settings) -> Result<()> + Send,
    ) -> Result<ResourceReport> {
        let about = Change::new("app.resources", description, actor);
        let output = Output::new(&self.settings().build, |_| {});
        let cancel = CancellationToken::new();
        self.change_settings(name.clone(), about, edit, (&output, &cancel)).await?;
        self.resources(name).await
    }

    /// The app's deploy checks.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn checks(&self, name: &AppName) -> Result<CheckReport> {
        let app = self.find_app(name)?;
        let settings = self.store.settings(app.id)?.checks;
        let checks = match app.current_release {
            Some(_) => {
                let release = self.current_release(&app)?;
                let door = self.front_door(&app)?;
                let types = release
                    .processes
                    .keys()
                    .filter(|process_type| **process_type != ProcessType::release());
                types
                    .map(|t| {
                        (
                            t.clone(),
                            super::readiness::checks(&release, t, &settings, &door.ports(t)),
                        )
                    })
                    .collect()
            }
            None => Vec::new(),
        };
        Ok(CheckReport { settings, checks })
    }

    /// Sets a deploy check setting: `enabled` (true or false), `deadline`, `uptime`, `drain`, `stop`
    /// (seconds); no value goes back to the default. Takes effect at the next deploy.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for another key or value.
    pub async fn set_check(
        &self,
        actor: &Actor,
        name: &AppName,
        key: &str,
        value: Option<&str>,
    ) -> Result<CheckReport> {
        let app = self.find_app(name)?;
        let _guard = self.0.lanes.lane(app.id).deploy().await;
        let mut settings = self.store.settings(app.id)?;
        let old = settings.clone();
        edit_check(&mut settings.checks, key, value)?;
        self.store.set_settings(app.id, &settings)?;
        let message = format!("check `{key}` set to {}", value.unwrap_or("its default"));
        let told = super::events::Change::of_settings(&old, &settings);
        self.note_change(app.id, "app.checks", &message, actor, told);
        self.checks(name).await
    }
}

/// What a change of settings is, beside the change.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) description: String,
    pub(super) actor: Actor,
    pub(super) release_command: bool,
    pub(super) no_restart: bool,
}

impl Change {
    pub(super) fn new(kind: &'static str, description: String, actor: &Actor) -> Self {
        Self { kind, description, actor: actor.clone(), release_command: false, no_restart: false }
    }
}

/// A release like `base` (or empty) with `settings`.
pub(super) fn draft(
    app: &App,
    base: Option<&Release>,
    settings: &Settings,
    actor: &Actor,
    description: &str,
) -> Release {
    Release {
        app: app.id,
        version: ReleaseVersion(0),
        image: base.map(|base| base.image.clone()).unwrap_or_default(),
        build: base.and_then(|base| base.build),
        commit: base.and_then(|base| base.commit.clone()),
        processes: base.map(|base| base.processes.clone()).unwrap_or_default(),
        checks: base.map(|base| base.checks.clone()).unwrap_or_default(),
        config: settings.config.clone(),
        injected: ConfigVars::default(),
        formation: settings.formation.clone(),
        resources: settings.resources.clone(),
        mounts: settings.mounts.clone(),
        cron: base.map(|base| base.cron.clone()).unwrap_or_default(),
        description: description.to_owned(),
        actor: actor.clone(),
        created_at: clock::now(),
        status: ReleaseStatus::Deploying,
        failure: None,
    }
}

/// # Errors
/// If the release has no such process type; with those it has.
pub(super) fn declared(release: &Release, process_type: &ProcessType) -> Result<()> {
    if release.processes.contains_key(process_type) {
        return Ok(());
    }
    let declared: Vec<_> = release.processes.keys().map(ProcessType::as_str).collect();
    let message = format!(
        "process type `{process_type}` is not declared; declared are: {}",
        declared.join(", ")
    );
    Err(Error::new(Kind::Invalid, message).hint("declare it in the app's Procfile and push"))
}

fn edit_config(config: &mut ConfigVars, change: ConfigChange) -> Result<()> {
    if change.replace {
        *config = ConfigVars::default();
    }
    for (key, value) in change.set {
        config.set(key, value)?;
    }
    for key in &change.unset {
        config.unset(key);
    }
    Ok(())
}

fn describe_config(change: &ConfigChange) -> String {
    let names = |keys: Vec<String>| keys.join(", ");
    let set = names(change.set.iter().map(|(key, _)| key.to_string()).collect());
    let unset = names(change.unset.iter().map(ToString::to_string).collect());
    match (change.replace, set.is_empty(), unset.is_empty()) {
        (true, true, _) => "Clear config vars".into(),
        (true, false, _) => format!("Replace config vars by {set}"),
        (false, false, true) => format!("Set {set}"),
        (false, true, false) => format!("Unset {unset}"),
        (false, false, false) => format!("Set {set}, unset {unset}"),
        (false, true, true) => "Change nothing".into(),
    }
}

fn apply(resources: &mut Resources, change: ResourceChange) {
    if let Some(memory) = change.memory {
        resources.memory = memory;
    }
    if let Some(cpu) = change.cpu {
        resources.cpu = cpu;
    }
    if let Some(pids) = change.pids {
        resources.pids = pids;
    }
}

fn describe_resources(scope: &ResourceScope, change: &ResourceChange) -> String {
    fn part<T: ToString>(name: &str, value: Option<Option<T>>) -> Option<String> {
        value.map(|value| {
            format!("{name}={}", value.map_or("default".into(), |value| value.to_string()))
        })
    }
    let scope = match scope {
        ResourceScope::Default => "every process type".to_owned(),
        ResourceScope::Type(process_type) => process_type.to_string(),
        ResourceScope::App => "the whole app".to_owned(),
    };
    let parts = [part("memory", change.memory), part("cpu", change.cpu), part("pids", change.pids)];
    format!("{scope}: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

fn edit_check(settings: &mut CheckSettings, key: &str, value: Option<&str>) -> Result<()> {
    let default = CheckSettings::default();
    let invalid = |why: &str| {
        Error::new(Kind::Invalid, format!("check setting `{key}` {why}"))
            .hint("settings: enabled (true or false), deadline, uptime, drain, stop (seconds)")
    };
    if key == "enabled" {
        settings.enabled = match value {
            None => default.enabled,
            Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(invalid("must be `true` or `false`")),
        };
        return Ok(());
    }
    let (field, default) = match key {
        "deadline" => (&mut settings.deadline, default.deadline),
        "uptime" => (&mut settings.uptime, default.uptime),
        "drain" => (&mut settings.drain, default.drain),
        "stop" => (&mut settings.stop, default.stop),
        _ => return Err(invalid("does not exist")),
    };
    *field = match value {
        None => default,
        Some(value) => seconds(value)
            .ok_or_else(|| invalid("must be seconds from 0 to 3600, such as `2.5`"))?,
    };
    Ok(())
}

fn seconds(text: &str) -> Option<Millis> {
    let seconds: f64 = text.parse().ok()?;
    let valid = (0.0..=3600.0).contains(&seconds);
    valid.then(|| Millis::from(std::time::Duration::from_secs_f64(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_settings_take_seconds_and_go_back_to_their_default() {
        let mut settings = CheckSettings::default();
        edit_check(&mut settings, "deadline", Some("2.5")).unwrap();
        assert_eq!(settings.deadline, Millis(2500));
        edit_check(&mut settings, "deadline", None).unwrap();
        assert_eq!(settings, CheckSettings::default());
        for (key, value) in [
            ("deadline", "-1"),
            ("deadline", "x"),
            ("deadline", "NaN"),
            ("enabled", "1"),
            ("nope", "1"),
        ] {
            assert!(edit_check(&mut settings, key, Some(value)).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn descriptions_name_vars_and_never_values() {
        let change = ConfigChange {
            set: vec![("TOKEN".parse().unwrap(), crate::domain::Secret::new("hunter2"))],
            unset: vec!["OLD".parse().unwrap()],
            ..ConfigChange::default()
        };
        assert_eq!(describe_config(&change), "Set TOKEN, unset OLD");
    }
}
