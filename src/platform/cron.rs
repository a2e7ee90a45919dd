//! `cron:*`: what apps have run on a schedule.
//!
//! A task is part of the release. When it is due, its command runs in a one-off container of the
//! current release, without a shell, and what it prints goes to the app's log. One-offs do not
//! outlive the control plane: a run that is cut so is `interrupted`, and is not repeated.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::timers::Timer;
use super::{
    CronReport, CronRunRequest, CronTaskReport, Error, Journal, Kind, Operation, Platform, Result,
    clock, launch,
};
use crate::build::{Output, Stream};
use crate::container::{ExitRecord, Signal, Stdio};
use crate::domain::{
    Actor, App, AppId, AppName, ConcurrencyPolicy, CronOutcome, CronRun, CronTask, CronTaskId,
    CronTrigger, Release, RunState, Timestamp,
};
use crate::plugin::Hook;
use crate::support::{report, tasks};

/// Runs that are kept of each task.
const KEPT_RUNS: u32 = 100;
/// Lines of a run's output that are kept with it; all of it is in the log.
const KEPT_LINES: usize = 20;
/// Of each of those lines.
const KEPT_CHARS: usize = 400;
/// Lines of output that `cron:run` shows.
const SHOWN_LINES: usize = 10_000;
/// Runs at once on this machine, and of one task: each is a container.
const MAX_RUNS: usize = 32;
const MAX_RUNS_OF_TASK: usize = 8;
/// What a run that is ended gets to end by itself.
const STOP: Duration = Duration::from_secs(10);
/// How long a run waits for the one that it replaces.
const REPLACE: Duration = Duration::from_secs(60);
/// Between two looks for new lines while somebody watches.
const POLL: Duration = Duration::from_millis(200);

/// The runs that go on.
#[derive(Debug, Default)]
pub(super) struct Runs {
    running: Mutex<HashMap<i64, Running>>,
    ended: Notify,
}

#[derive(Debug, Clone)]
struct Running {
    app: AppId,
    task: CronTaskId,
    cancel: CancellationToken,
}

/// Holds a run's place; gives it up when dropped.
#[derive(Debug)]
struct Place {
    platform: Platform,
    run: i64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.platform.0.cron.lock().remove(&self.run);
        self.platform.0.cron.ended.notify_waiters();
    }
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Running>> {
        // Every section leaves the map whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_task(&self, app: AppId, task: &CronTaskId) -> Vec<(i64, CancellationToken)> {
        let running = self.lock();
        let own = running.iter().filter(|(_, run)| run.app == app && run.task == *task);
        own.map(|(id, run)| (*id, run.cancel.clone())).collect()
    }

    /// Asks all runs of an app to end.
    pub(super) fn cancel_app(&self, app: AppId) {
        self.lock().values().filter(|run| run.app == app).for_each(|run| run.cancel.cancel());
    }

    /// Waits until `runs` have ended.
    async fn wait_for(&self, runs: &[i64]) {
        loop {
            // Asked for before the look, so that an end in between is not missed.
            let ended = self.ended.notified();
            if !runs.iter().any(|run| self.lock().contains_key(run)) {
                return;
            }
            ended.await;
        }
    }
}

/// How a run is to be.
#[derive(Debug, Clone)]
struct Wanted {
    trigger: CronTrigger,
    due: Timestamp,
    timeout: Duration,
}

/// A run that has its place.
#[derive(Debug)]
struct Begun {
    app: App,
    release: Release,
    run: CronRun,
    timeout: Duration,
    cancel: CancellationToken,
    place: Place,
}

impl Platform {
    /// The timers of all apps' tasks; those that are suspended have none.
    pub(super) fn cron_timers(&self) -> Result<Vec<Timer>> {
        let mut timers = Vec::new();
        if self.store.global_cron_maintenance()? {
            return Ok(timers);
        }
        for app in self.store.apps()? {
            let (RunState::Running, Some(version)) = (app.run_state, app.current_release) else {
                continue;
            };
            let Some(release) = self.store.release(app.id, version)? else { continue };
            if release.cron.is_empty() {
                continue;
            }
            let settings = self.store.cron_settings(app.id)?;
            let active = release.cron.into_iter().filter(|task| !settings.suspends(task));
            timers.extend(active.map(|task| cron_timer(&app, task)));
        }
        Ok(timers)
    }

    async fn run_due(&self, app: AppId, task: CronTaskId, due: Timestamp) {
        let begun = async {
            let app = self.find_app_by_id(app)?;
            let release = self.current_release(&app)?;
            let task = find_task(&release, &app.name, &task)?;
            let timeout = task.timeout.into();
            let wanted = Wanted { trigger: CronTrigger::Schedule, due, timeout };
            self.begin_run(app, release, &task, wanted).await
        };
        match begun.await {
            Ok(Some(begun)) => drop(self.finish_run(begun, None).await),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%app, error = report(&error), "a cron task cannot be run");
            }
        }
    }

    /// Finds a place for a run; none if the task's policy leaves it out, which is recorded.
    async fn begin_run(
        &self,
        app: App,
        release: Release,
        task: &CronTask,
        wanted: Wanted,
    ) -> Result<Option<Begun>> {
        let id = task.id();
        let others = self.0.cron.of_task(app.id, &id);
        if task.concurrency_policy == ConcurrencyPolicy::Replace && !others.is_empty() {
            others.iter().for_each(|(_, cancel)| cancel.cancel());
            let others: Vec<i64> = others.iter().map(|(run, _)| *run).collect();
            // One that cannot be ended is counted as running below.
            let _ = tokio::time::timeout(REPLACE, self.0.cron.wait_for(&others)).await;
        }
        let run = CronRun {
            id: 0,
            app: app.id,
            task: id.clone(),
            command: task.command.clone(),
            trigger: wanted.trigger,
            release: release.version,
            due_at: wanted.due,
            started_at: clock::now(),
            finished_at: None,
            outcome: CronOutcome::Running,
            exit_code: None,
            message: None,
            output: Vec::new(),
        };
        let run = self.store.add_cron_run(&run)?;
        let cancel = CancellationToken::new();
        let refused = {
            let mut running = self.0.cron.lock();
            let own = running.values().filter(|run| run.app == app.id && run.task == id).count();
            let refused = match task.concurrency_policy {
                ConcurrencyPolicy::Forbid if own > 0 => Some("the run before it still goes on"),
                ConcurrencyPolicy::Replace if own > 0 => Some("the run before it does not end"),
                _ if own >= MAX_RUNS_OF_TASK => Some("too many runs of it go on"),
                _ if running.len() >= MAX_RUNS => Some("too many cron tasks run on this machine"),
                _ => None,
            };
            if refused.is_none() {
                let place = Running { app: app.id, task: id, cancel: cancel.clone() };
                running.insert(run.id, place);
            }
            refused
        };
        if let Some(why) = refused {
            let run = CronRun {
                finished_at: Some(clock::now()),
                outcome: CronOutcome::Skipped,
                message: Some(why.to_owned()),
                ..run
            };
            self.store.finish_cron_run(&run, KEPT_RUNS)?;
            self.tell_of_run(&app, &run);
            return match wanted.trigger {
                CronTrigger::Schedule => Ok(None),
                CronTrigger::User => Err(Error::new(Kind::Conflict, why)
                    .hint(format!("`staithe cron:history {}` shows its runs", app.name))),
            };
        }
        let place = Place { platform: self.clone(), run: run.id };
        Ok(Some(Begun { app, release, run, timeout: wanted.timeout, cancel, place }))
    }

    /// Runs to the end, and records how it went.
    async fn finish_run(&self, begun: Begun, output: Option<&Output>) -> Result<CronRun> {
        let mut run = begun.run.clone();
        match self.execute_run(&begun, output).await {
            Ok(ended) => {
                run.outcome = ended.outcome;
                run.exit_code = ended.exit_code;
                run.message = ended.message;
                run.output = ended.lines;
            }
            Err(error) => {
                run.outcome = CronOutcome::Failed;
                run.message = Some(report(&error));
            }
        }
        run.finished_at = Some(clock::now());
        self.store.finish_cron_run(&run, KEPT_RUNS)?;
        drop(begun.place);
        self.tell_of_run(&begun.app, &run);
        self.prune_logs(begun.app.id).await;
        Ok(run)
    }

    async fn execute_run(&self, begun: &Begun, output: Option<&Output>) -> Result<Ended> {
        let Begun { app, release, run, .. } = begun;
        let name = format!("cron.{}", run.task);
        let args = shlex::split(&run.command).filter(|args| !args.is_empty());
        let args = args.ok_or_else(|| Error::new(Kind::Failed, "the command is not one"))?;
        let process = launch::process(args, self.process_env(release, &name, None)?, "/app");
        let (container, _log) =
            self.start_one_off(app, release, &name, process, Stdio::Log).await?;
        let ended = self.watch_run(begun, &container, output).await;
        let lines = self.last_log_lines(app.id, &container, KEPT_LINES).await;
        self.clean_up(&container).await;
        let cut = |line: String| line.chars().take(KEPT_CHARS).collect();
        Ok(Ended { lines: lines.into_iter().map(cut).collect(), ..ended? })
    }

    /// Waits for the end of a run, or brings it about.
    async fn watch_run(
        &self,
        begun: &Begun,
        container: &str,
        output: Option<&Output>,
    ) -> Result<Ended> {
        let deadline = tokio::time::Instant::now() + begun.timeout;
        let mut shown = 0;
        loop {
            let pause = async {
                match output {
                    Some(_) => tokio::time::sleep(POLL).await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                // Cancel-safe: the end can be asked for again.
                record = self.runtime.wait(container) => Some(Ended::of(&record?)),
                // Cancel-safe: observe only.
                () = tokio::time::sleep_until(deadline) => {
                    let seconds = begun.timeout.as_secs();
                    let message = format!("it took longer than {seconds} s and was ended");
                    Some(self.end_run(container, CronOutcome::TimedOut, message).await?)
                }
                () = begun.cancel.cancelled() => {
                    let message = "another run took its place, or the app was destroyed".to_owned();
                    Some(self.end_run(container, CronOutcome::Replaced, message).await?)
                }
                () = pause => None,
            };
            if let Some(output) = output {
                let lines = self.last_log_lines(begun.app.id, container, SHOWN_LINES).await;
                lines.iter().skip(shown).for_each(|line| output.program(Stream::Stdout, line));
                shown = lines.len();
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    async fn end_run(
        &self,
        container: &str,
        outcome: CronOutcome,
        message: String,
    ) -> Result<Ended> {
        let record = self.runtime.stop(container, Signal::TERM, STOP).await?;
        Ok(Ended { outcome, message: Some(message), ..Ended::of(&record) })
    }

    /// To the events and to plugins.
    fn tell_of_run(&self, app: &App, run: &CronRun) {
        let how = match (&run.message, run.exit_code) {
            (Some(message), _) => message.clone(),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "no exit code".to_owned(),
        };
        let kind = format!("cron.{}", run.outcome.as_str());
        let message = format!("cron task {} {}: {how}", run.task, run.outcome.as_str());
        self.note(app.id, &kind, &message, &Actor::platform());
        let hook = match run.outcome {
            CronOutcome::Succeeded => Hook::CronSucceeded,
            _ => Hook::CronFailed,
        };
        let span = run.finished_at.map(|end| end.since(run.started_at));
        let told = json!({
            "id": run.task,
            "command": run.command,
            "outcome": run.outcome,
            "exit_code": run.exit_code,
            "reason": how,
            "release": run.release.0,
            "duration_ms": span.map(crate::domain::Millis::from),
        });
        self.notify(hook, Some(&app.name), told);
    }

    /// Runs that were cut by the end of an earlier control plane.
    pub(super) fn fail_interrupted_cron_runs(&self) -> Result<()> {
        for run in self.store.unfinished_cron_runs()? {
            let run = CronRun {
                finished_at: Some(clock::now()),
                outcome: CronOutcome::Interrupted,
                message: Some("the control plane was restarted meanwhile".to_owned()),
                ..run
            };
            self.store.finish_cron_run(&run, KEPT_RUNS)?;
            if let Some(app) = self.store.app_by_id(run.app)? {
                self.tell_of_run(&app, &run);
            }
        }
        Ok(())
    }

    /// Runs a task now, whether it is suspended or not. Outcome: the run, at its end unless it is
    /// detached.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` before the first deploy; the operation fails with `Conflict` where
    /// the task's policy forbids another run.
    pub async fn run_cron(
        &self,
        actor: &Actor,
        name: &AppName,
        id: &CronTaskId,
        request: CronRunRequest,
    ) -> Result<Operation<CronRun>> {
        let app = self.find_app(name)?;
        let release = self.current_release(&app)?;
        let task = find_task(&release, name, id)?;
        let timeout = request.ttl_seconds.map_or(task.timeout.into(), |seconds| {
            Duration::from_secs(seconds.into()).min(task.timeout.into())
        });
        let message = format!("cron task {id} started by hand: {}", task.command);
        self.note(app.id, "cron.started", &message, actor);
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let due = clock::now();
            let wanted = Wanted { trigger: CronTrigger::User, due, timeout };
            let begun = platform.begin_run(app, release, &task, wanted).await?;
            let begun = begun.ok_or_else(|| Error::new(Kind::Conflict, "it was left out"))?;
            if !request.detach {
                return platform.finish_run(begun, Some(&*output)).await;
            }
            let run = begun.run.clone();
            tasks::spawn("cron", async move {
                if let Err(error) = platform.finish_run(begun, None).await {
                    tracing::error!(error = report(&error), "a cron run cannot be recorded");
                }
            });
            Ok(run)
        }))
    }

    /// An app's tasks and how they go.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cron(&self, name: &AppName) -> Result<CronReport> {
        let app = self.find_app(name)?;
        let settings = self.store.cron_settings(app.id)?;
        let global_maintenance = self.store.global_cron_maintenance()?;
        let tasks = match app.current_release {
            Some(_) => self.current_release(&app)?.cron,
            None => Vec::new(),
        };
        let now = clock::now();
        let reported = tasks.into_iter().map(|task| {
            let id = task.id();
            let stopped = app.run_state == RunState::Stopped;
            let suspended = global_maintenance || stopped || settings.suspends(&task);
            let state = self.store.timer(&timer_key(app.id, &id))?;
            Ok(CronTaskReport {
                suspended,
                next_run: task.schedule.next_after(now).filter(|_| !suspended),
                missed: state.map_or(0, |state| state.missed),
                last_run: self.store.cron_runs(app.id, Some(&id), 1)?.pop(),
                id,
                task,
            })
        });
        Ok(CronReport {
            maintenance: settings.maintenance,
            global_maintenance,
            tasks: reported.collect::<Result<_>>()?,
        })
    }

    /// The last runs of an app's tasks, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cron_runs(
        &self,
        name: &AppName,
        task: Option<&CronTaskId>,
        limit: usize,
    ) -> Result<Vec<CronRun>> {
        Ok(self.store.cron_runs(self.find_app(name)?.id, task, limit)?)
    }

    /// Stops a task from running by schedule, or lets it run again, whatever the source says.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn suspend_cron(
        &self,
        actor: &Actor,
        name: &AppName,
        id: &CronTaskId,
        suspended: bool,
    ) -> Result<CronReport> {
        let app = self.find_app(name)?;
        let release = self.current_release(&app)?;
        let task = find_task(&release, name, id)?;
        let mut settings = self.store.cron_settings(app.id)?;
        // What is decided about tasks that are gone is kept as long as the release before may come
        // back, and no longer than there are places.
        if settings.suspended.len() >= 2 * MAX_DECISIONS {
            settings.suspended.retain(|id, _| release.cron.iter().any(|task| task.id() == *id));
        }
        settings.suspended.insert(task.id(), suspended);
        self.store.set_cron_settings(app.id, &settings)?;
        self.0.clock.wake();
        let (kind, verb) = match suspended {
            true => ("cron.suspended", "suspended"),
            false => ("cron.resumed", "resumed"),
        };
        self.note(app.id, kind, &format!("cron task {id} {verb}"), actor);
        self.cron(name).await
    }

    /// Sets a cron property of an app, or of all: `maintenance`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for another property or value.
    pub async fn set_cron(
        &self,
        actor: &Actor,
        name: Option<&AppName>,
        key: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let maintenance = maintenance(key, value)?;
        match name {
            Some(name) => {
                let app = self.find_app(name)?;
                let mut settings = self.store.cron_settings(app.id)?;
                settings.maintenance = maintenance;
                self.store.set_cron_settings(app.id, &settings)?;
            }
            None => self.store.set_global_cron_maintenance(maintenance)?,
        }
        self.0.clock.wake();
        let message = format!("cron maintenance set to {maintenance}");
        self.note_named(name, "cron.maintenance", &message, actor);
        Ok(())
    }

    /// Whether no task of any app runs by schedule.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn global_cron(&self) -> Result<bool> {
        Ok(self.store.global_cron_maintenance()?)
    }
}

/// Decisions about tasks that an app has no longer are kept up to twice this.
const MAX_DECISIONS: usize = 50;

/// How a run ended.
#[derive(Debug)]
struct Ended {
    outcome: CronOutcome,
    exit_code: Option<i32>,
    message: Option<String>,
    lines: Vec<String>,
}

impl Ended {
    fn of(record: &ExitRecord) -> Self {
        let succeeded = record.code == Some(0);
        let outcome = if succeeded { CronOutcome::Succeeded } else { CronOutcome::Failed };
        let message = match record.oom_killed {
            true => Some("out of memory".to_owned()),
            false if record.code.is_some() => None,
            false => Some(super::instances::describe(record)),
        };
        let exit_code = record.code.or(record.signal.map(|signal| 128 + signal));
        Self { outcome, exit_code, message, lines: Vec::new() }
    }
}

fn timer_key(app: AppId, task: &CronTaskId) -> String {
    format!("cron/{app}/{task}")
}

fn cron_timer(app: &App, task: CronTask) -> Timer {
    let (id, app_id) = (task.id(), app.id);
    Timer {
        key: timer_key(app.id, &id),
        app: Some(app.name.clone()),
        what: format!("cron task {id} (`{}`)", task.command),
        schedule: task.schedule,
        job: Box::new(move |platform, due| {
            Box::pin(async move { platform.run_due(app_id, id, due).await })
        }),
    }
}

fn find_task(release: &Release, app: &AppName, id: &CronTaskId) -> Result<CronTask> {
    release.cron.iter().find(|task| task.id() == *id).cloned().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("app `{app}` has no cron task `{id}`"))
            .hint(format!("run `staithe cron:list {app}` to see them; they are in its `app.json`"))
    })
}

fn maintenance(key: &str, value: Option<&str>) -> Result<bool> {
    match (key, value) {
        ("maintenance", None | Some("false")) => Ok(false),
        ("maintenance", Some("true")) => Ok(true),
        ("maintenance", Some(_)) => {
            Err(Error::new(Kind::Invalid, "cron property `maintenance` must be `true` or `false`"))
        }
        ("mailto" | "mailfrom", _) => {
            Err(Error::new(Kind::Invalid, format!("cron property `{key}` is not supported"))
                .hint("Staithe sends no mail; a plugin can tell of runs (hook `cron-failed`)"))
        }
        _ => {
            let message = format!("there is no cron property `{}`", key.escape_default());
            Err(Error::new(Kind::Invalid, message).hint("there is `maintenance`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn mail_is_refused_with_what_to_do_instead() {
        let error = maintenance("mailto", Some("a@b.c")).unwrap_err();
        assert!(error.to_string().contains("not supported"), "{error}");
        assert!(error.next_step().is_some_and(|hint| hint.contains("plugin")));
        assert!(maintenance("maintenance", Some("yes")).is_err());
        assert!(maintenance("maintenance", Some("true")).unwrap());
        assert!(!maintenance("maintenance", None).unwrap());
    }

    #[test]
    fn an_end_tells_exit_code_and_signal() {
        let record = |code, signal| ExitRecord {
            code,
            signal,
            oom_killed: false,
            oom_kills: 0,
            finished_at: std::time::SystemTime::UNIX_EPOCH,
            reason: None,
        };
        let good = Ended::of(&record(Some(0), None));
        assert_eq!((good.outcome, good.exit_code), (CronOutcome::Succeeded, Some(0)));
        let bad = Ended::of(&record(Some(3), None));
        assert_eq!((bad.outcome, bad.exit_code, bad.message), (CronOutcome::Failed, Some(3), None));
        let killed = Ended::of(&record(None, Some(9)));
        assert_eq!((killed.outcome, killed.exit_code), (CronOutcome::Failed, Some(137)));
    }

    #[tokio::test]
    async fn whoever_waits_for_runs_learns_of_their_end() {
        let runs = Arc::new(Runs::default());
        let running = Running {
            app: AppId(1),
            task: "0a1b2c3d".parse().unwrap(),
            cancel: CancellationToken::new(),
        };
        runs.lock().insert(7, running);
        runs.cancel_app(AppId(2));
        assert!(!runs.of_task(AppId(1), &"0a1b2c3d".parse().unwrap())[0].1.is_cancelled());
        runs.cancel_app(AppId(1));
        assert!(runs.of_task(AppId(1), &"0a1b2c3d".parse().unwrap())[0].1.is_cancelled());
        let waiting = Arc::clone(&runs);
        let waiter = tasks::spawn("waiter", async move { waiting.wait_for(&[7]).await });
        tokio::task::yield_now().await;
        runs.lock().clear();
        runs.ended.notify_waiters();
        waiter.await.unwrap();
    }
}
