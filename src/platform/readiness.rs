//! When a started instance may get requests: the first success of each of its checks.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::instances::Instance;
use super::{CheckResult, Error, Platform, Result, probe};
use crate::container::Stdio;
use crate::domain::{App, AppName, Check, CheckKind, CheckSettings, Millis, ProcessType, Release};

/// Between two tries: short, because it is added to every deploy.
const POLL: Duration = Duration::from_millis(25);
/// One try of the check that instances without declared checks get.
const DEFAULT_TRY: Millis = Millis(5_000);

/// The checks of `process_type`: those declared, else that it listens on each of `ports` (none:
/// `$PORT`), and stays up where nobody is led to it.
pub(super) fn checks(
    release: &Release,
    process_type: &ProcessType,
    settings: &CheckSettings,
    ports: &[Option<u16>],
) -> Vec<Check> {
    if !settings.enabled {
        return Vec::new();
    }
    if let Some(declared) = release.checks.get(process_type).filter(|checks| !checks.is_empty()) {
        return declared.clone();
    }
    let check = |name: String, kind, port| Check {
        name,
        kind,
        port,
        timeout: DEFAULT_TRY,
        deadline: settings.deadline,
    };
    let listening = |port: &Option<u16>| {
        let name = port.map_or("listening".to_owned(), |port| format!("listening on {port}"));
        check(name, CheckKind::Listening, *port)
    };
    match ports {
        [] => {
            vec![check("uptime".into(), CheckKind::Uptime { at_least: settings.uptime }, None)]
        }
        ports => ports.iter().map(listening).collect(),
    }
}

impl Platform {
    /// The checks of an app's process type, with the ports that its front door leads to.
    pub(super) fn checks_of(
        &self,
        app: &App,
        release: &Release,
        process_type: &ProcessType,
        settings: &CheckSettings,
    ) -> Result<Vec<Check>> {
        let ports = self.front_door(app)?.ports(process_type);
        Ok(checks(release, process_type, settings, &ports))
    }

    /// Waits until all checks of a starting instance have succeeded once.
    ///
    /// # Errors
    /// In words for the user: the process ended, or a check ran out of time.
    pub(super) async fn wait_ready(
        &self,
        app: &App,
        instance: &Instance,
        checks: &[Check],
    ) -> std::result::Result<(), String> {
        let mut ended = instance.ended.clone();
        let passed = async {
            for check in checks {
                self.poll(app, instance, check).await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            // Cancel-safe: only observes.
            how = ended.wait_for(Option::is_some) => {
                let how = how.map(|how| how.clone()).ok().flatten();
                Err(format!("it ended during its start: {}", how.unwrap_or_else(|| "unknown".into())))
            }
            // Cancel-safe: a check that is dropped asks nothing more.
            result = passed => result,
        }
    }

    async fn poll(
        &self,
        app: &App,
        instance: &Instance,
        check: &Check,
    ) -> std::result::Result<(), String> {
        let deadline = Instant::now() + Duration::from(check.deadline);
        loop {
            match self.try_once(app, instance, check).await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => {
                    let seconds = check.deadline.0 / 1000;
                    return Err(format!(
                        "check `{}` did not succeed within {seconds} s: {why}",
                        check.name
                    ));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn try_once(
        &self,
        app: &App,
        instance: &Instance,
        check: &Check,
    ) -> std::result::Result<(), String> {
        let timeout = check.timeout.into();
        let port = check.port.unwrap_or(instance.port);
        let address = SocketAddr::from((instance.addresses.v4, port));
        match &check.kind {
            CheckKind::Listening => probe::listening(address, timeout).await,
            CheckKind::Http { path, content, headers } => {
                let domains = self.domains_of(app).unwrap_or_default();
                let host = domains.iter().find(|domain| !domain.as_str().starts_with(['*', '_']));
                let host = host.map_or("localhost", |domain| domain.as_str());
                let content = content.as_deref();
                probe::http(&probe::Question { address, host, path, headers, content, timeout })
                    .await
            }
            CheckKind::Command { args } => self.check_command(instance, args, timeout).await,
            CheckKind::Uptime { at_least } => {
                let up = super::clock::now().since(instance.started_at);
                match up >= Duration::from(*at_least) {
                    true => Ok(()),
                    false => Err(format!("up for only {} ms", up.as_millis())),
                }
            }
        }
    }

    async fn check_command(
        &self,
        instance: &Instance,
        args: &[String],
        timeout: Duration,
    ) -> std::result::Result<(), String> {
        let env = self.instance_env(instance).map_err(|error| error.to_string())?;
        let process = super::launch::process(args.to_vec(), env, "/app");
        let run = async {
            let mut handle = self.runtime.exec(&instance.container, &process, Stdio::Log).await?;
            handle.wait().await
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(Ok(record)) if record.success() => Ok(()),
            Ok(Ok(record)) => {
                Err(format!("`{}`: {}", args.join(" "), super::instances::describe(&record)))
            }
            Ok(Err(error)) => Err(crate::support::report(&error)),
            Err(_) => {
                Err(format!("`{}` took longer than {} ms", args.join(" "), timeout.as_millis()))
            }
        }
    }

    /// Runs the checks of the current release once, against the instances that run.
    ///
    /// # Errors
    /// If there is no such app or it was never deployed.
    pub async fn run_checks(&self, name: &AppName) -> Result<Vec<CheckResult>> {
        let app = self.find_app(name)?;
        let release = self.current_release(&app)?;
        let settings = CheckSettings { enabled: true, ..self.store.settings(app.id)?.checks };
        let mut results = Vec::new();
        for instance in self.0.instances.of_app(app.id) {
            if instance.status != super::InstanceStatus::Running {
                continue;
            }
            let process_type = &instance.name.process_type;
            for check in self.checks_of(&app, &release, process_type, &settings)? {
                let failure = self.try_once(&app, &instance, &check).await.err();
                results.push(CheckResult {
                    instance: instance.name.clone(),
                    check: check.name,
                    failure,
                });
            }
        }
        if results.is_empty() {
            let message = format!("app `{name}` has no running instance to check");
            return Err(Error::new(super::Kind::Conflict, message)
                .hint(format!("run `staithe ps:start {name}`")));
        }
        Ok(results)
    }
}
