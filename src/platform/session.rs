//! Interactive processes: one-offs (`run`) and guests in an instance (`enter`), and the release
//! command, which is a one-off without a user.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::instances::Instance;
use super::launch::{self, Purpose};
use super::{Error, InstanceStatus, Kind, Platform, Result, RunRequest};
use crate::build::{Output, Sandbox, Step, Stream};
use crate::container::{ExecHandle, ExitRecord, Io, ProcessSpec, Stdio, WindowSize};
use crate::domain::{Actor, App, AppId, AppName, Command, ProcessType, Release};
use crate::support::{report, tasks};

/// The longest a release command may run: migrations take minutes, not hours.
const RELEASE_COMMAND: Duration = Duration::from_secs(30 * 60);

/// A running process whose input and output belong to the caller.
///
/// With a terminal, `input` and `output` are both the pty's master and `errors` is none. Dropping
/// the session ends the process.
#[derive(Debug)]
pub struct Session {
    /// Writes reach the process's standard input; dropping it is end of file (pipes only).
    pub input: Option<OwnedFd>,
    /// The process's standard output, or the terminal.
    pub output: OwnedFd,
    /// The process's standard error, without a terminal.
    pub errors: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    process: Process,
}

/// What runs behind a session.
#[derive(Debug)]
enum Process {
    OneOff(OneOff),
    Guest(ExecHandle),
    Command(super::plugins::Running),
}

/// A container that is removed when this is dropped.
#[derive(Debug)]
struct OneOff {
    platform: Platform,
    container: String,
}

impl Drop for OneOff {
    fn drop(&mut self) {
        let (platform, container) = (self.platform.clone(), self.container.clone());
        tasks::spawn("one-off", async move {
            // `clean_up` reports what fails; a container that has ended is no failure.
            let _ = platform.runtime.kill(&container).await;
            platform.clean_up(&container).await;
        });
    }
}

impl Session {
    fn new(io: Io, process: Process) -> Result<Self> {
        match io {
            Io::Pipes { stdin, stdout, stderr } => Ok(Self {
                input: Some(stdin),
                output: stdout,
                errors: Some(stderr),
                terminal: None,
                process,
            }),
            Io::Terminal(terminal) => {
                let master = terminal.into_fd();
                let copy = || {
                    master
                        .try_clone()
                        .map_err(|error| Error::internal("cannot duplicate a terminal", error))
                };
                let (input, terminal) = (Some(copy()?), Some(copy()?));
                Ok(Self { input, output: master, errors: None, terminal, process })
            }
            Io::Log => Err(Error::internal("a session without input and output", "stdio is a log")),
        }
    }

    /// A process that was added to a container.
    pub(super) fn guest(io: Io, handle: ExecHandle) -> Result<Self> {
        Self::new(io, Process::Guest(handle))
    }

    /// A command of a plugin's.
    pub(super) fn of_command(io: Io, running: super::plugins::Running) -> Result<Self> {
        Self::new(io, Process::Command(running))
    }

    /// Tells the terminal its new size in characters; nothing without a terminal.
    ///
    /// # Errors
    /// If the kernel refuses the size.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        match &self.terminal {
            Some(terminal) => crate::sys::pty::set_size(terminal.as_fd(), rows, columns)
                .map_err(|error| Error::internal("cannot resize a terminal", error)),
            None => Ok(()),
        }
    }

    /// The process's exit code (128 + signal if it was killed). Cancel-safe.
    ///
    /// # Errors
    /// If the process's end cannot be learned.
    pub async fn wait(&mut self) -> Result<i32> {
        let record = match &mut self.process {
            Process::OneOff(one_off) => one_off.platform.runtime.wait(&one_off.container).await?,
            Process::Guest(handle) => handle.wait().await?,
            Process::Command(running) => return running.wait().await,
        };
        Ok(exit_code(&record))
    }
}

pub(super) fn exit_code(record: &ExitRecord) -> i32 {
    record.code.or(record.signal.map(|signal| 128 + signal)).unwrap_or(1)
}

impl Platform {
    /// Runs a command in a new container of the current release, under its quotas and config.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` before the first deploy; `Failed` if the program cannot be executed.
    pub async fn run(&self, actor: &Actor, name: &AppName, request: RunRequest) -> Result<Session> {
        let app = self.find_app(name)?;
        let release = self.current_release(&app)?;
        let args = run_args(&release, &request.args)?;
        let number = u32::from_str_radix(&launch::random_hex()?, 16).unwrap_or_default() % 10_000;
        let one_off = format!("run.{number}");
        let mut process =
            launch::process(args, self.process_env(&release, &one_off, None)?, "/app");
        decorate(&mut process, &request);
        let (container, io) =
            self.start_one_off(&app, &release, &one_off, process, stdio(&request)).await?;
        let message = format!("{one_off} started: {}", request.args.join(" "));
        self.note(app.id, "run.started", &message, actor);
        Session::new(io, Process::OneOff(OneOff { platform: self.clone(), container }))
    }

    /// Runs a command inside a running instance; a shell if none is named.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if no such instance runs.
    pub async fn enter(
        &self,
        actor: &Actor,
        name: &AppName,
        request: RunRequest,
    ) -> Result<Session> {
        let app = self.find_app(name)?;
        let instance = self.choose_instance(&app, request.process.as_deref())?;
        let args = match request.args.is_empty() {
            true => vec!["/bin/bash".to_owned()],
            false => shell_if_needed(&request.args),
        };
        let mut process = launch::process(args, self.instance_env(&instance)?, "/app");
        decorate(&mut process, &request);
        let mut handle =
            self.runtime.exec(&instance.container, &process, stdio(&request)).await.map_err(
                |error| {
                    Error::new(Kind::Failed, format!("it cannot be executed: {}", report(&error)))
                },
            )?;
        self.note(app.id, "enter.started", &format!("entered {}", instance.name), actor);
        let io =
            handle.io.take().ok_or_else(|| Error::internal("a process without pipes", "exec"))?;
        Session::new(io, Process::Guest(handle))
    }

    fn choose_instance(&self, app: &App, wanted: Option<&str>) -> Result<Instance> {
        let mut running = self.0.instances.of_app(app.id);
        running.retain(|instance| instance.status == InstanceStatus::Running);
        let fits = |instance: &&Instance| match wanted {
            None => true,
            Some(wanted) => {
                instance.name.to_string() == wanted || instance.name.process_type.as_str() == wanted
            }
        };
        running.iter().find(fits).cloned().ok_or_else(|| {
            let what = wanted.map_or("instance".to_owned(), |wanted| format!("`{wanted}`"));
            Error::new(Kind::Conflict, format!("app `{}` has no running {what}", app.name))
                .hint(format!("run `staithe ps:report {}` to see what runs", app.name))
        })
    }

    /// The environment that an instance was started with.
    pub(super) fn instance_env(&self, instance: &Instance) -> Result<Vec<(String, String)>> {
        let release = self.store.release(instance.app, instance.release)?.ok_or_else(|| {
            Error::internal("an instance without a release", instance.container.clone())
        })?;
        self.process_env(&release, &instance.name.to_string(), Some(instance.port))
    }

    pub(super) async fn start_one_off(
        &self,
        app: &App,
        release: &Release,
        name: &str,
        process: ProcessSpec,
        stdio: Stdio,
    ) -> Result<(String, Io)> {
        let addresses = self.network.allocate()?;
        let launch = self.release_launch(app, release, Purpose::OneOff, name, addresses).await?;
        let mut spec = launch.spec;
        spec.process = Some(process);
        if stdio == Stdio::Log {
            let log = (name, launch.started_at, release.version);
            spec.log = Some(self.log_spec(app.id, log, &spec.id)?);
        }
        let started = async {
            let created = self.runtime.create(&spec, stdio).await?;
            self.attach_network(&created, addresses, crate::network::Egress::Open).await?;
            self.runtime.start(&spec.id).await.map_err(|error| {
                Error::new(Kind::Failed, format!("it cannot be executed: {}", report(&error)))
            })?;
            Ok(created.io)
        };
        match started.await {
            Ok(io) => Ok((spec.id, io)),
            Err(error) => {
                self.clean_up(&spec.id).await;
                self.network.release(addresses);
                Err(error)
            }
        }
    }

    /// Runs a command of a release to its end and shows its output; answers its exit code.
    pub(super) async fn run_to_end(
        &self,
        app: &App,
        release: &Release,
        command: &Command,
        output: &Output,
        cancel: &CancellationToken,
    ) -> Result<i32> {
        let addresses = self.network.allocate()?;
        let name = "release.1";
        let launch = self.release_launch(app, release, Purpose::OneOff, name, addresses).await?;
        let started = async {
            let created = self.runtime.create(&launch.spec, Stdio::Log).await?;
            self.attach_network(&created, addresses, crate::network::Egress::Open).await?;
            self.runtime.start(&launch.spec.id).await?;
            Ok::<_, Error>(())
        };
        // The container idles; the command is a step in it, as those of builds are.
        let container = launch.spec.id.clone();
        let one_off = OneOff { platform: self.clone(), container: container.clone() };
        started.await?;
        let step = Step {
            name: "release command".into(),
            args: command.args.clone(),
            env: self.process_env(release, name, None)?,
            cwd: command.working_dir.clone(),
            deadline: RELEASE_COMMAND,
        };
        let sandbox = super::sandbox::BuildContainer {
            platform: self.clone(),
            container,
            cancel: cancel.clone(),
        };
        let exit =
            sandbox.exec(&step, &|stream: Stream, line: &str| output.program(stream, line)).await;
        drop(one_off);
        let exit = exit.map_err(|error| Error::new(Kind::Failed, report(&error)))?;
        Ok(exit.code)
    }

    /// Ends the app's one-offs and builds.
    pub(super) async fn end_one_offs(&self, app: AppId) {
        let containers = match self.runtime.list().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::error!(error = report(&error), "cannot list containers");
                return;
            }
        };
        for container in containers {
            let own = container.labels.get("app").is_some_and(|id| *id == app.to_string());
            if own && Purpose::from_labels(&container.labels) == Some(Purpose::OneOff) {
                // `clean_up` reports what fails.
                let _ = self.runtime.kill(&container.id).await;
                self.clean_up(&container.id).await;
            }
        }
    }
}

pub(super) fn stdio(request: &RunRequest) -> Stdio {
    match request.terminal {
        Some(_) => Stdio::Terminal,
        None => Stdio::Pipes,
    }
}

pub(super) fn decorate(process: &mut ProcessSpec, request: &RunRequest) {
    process.terminal =
        request.terminal.map(|size| WindowSize { rows: size.rows, columns: size.columns });
    if request.terminal.is_some() {
        let term = request.term.clone().unwrap_or_else(|| "xterm".into());
        process.env.push(("TERM".into(), term));
    }
    for (key, value) in &request.env {
        process.env.retain(|(known, _)| known != key.as_str());
        process.env.push((key.to_string(), value.expose().to_owned()));
    }
}

/// The command of `run`: that of a process type if its name is all there is, else the words given.
fn run_args(release: &Release, args: &[String]) -> Result<Vec<String>> {
    if args.is_empty() {
        return Err(Error::new(Kind::Invalid, "a command to run is missing")
            .hint("such as `staithe run shop bash`"));
    }
    let named = match args {
        [name] => name.parse::<ProcessType>().ok().and_then(|name| release.processes.get(&name)),
        _ => None,
    };
    Ok(named.map_or_else(|| shell_if_needed(args), |command| command.args.clone()))
}

/// One word with spaces or shell signs is a line for the shell, as with `heroku run`.
fn shell_if_needed(args: &[String]) -> Vec<String> {
    match args {
        [line] if line.contains(|c: char| c.is_whitespace() || "|&;<>()$`\"'*?".contains(c)) => {
            vec!["/bin/bash".into(), "-c".into(), line.clone()]
        }
        args => args.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_line_goes_to_the_shell_and_words_do_not() {
        let words = |args: &[&str]| {
            shell_if_needed(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(words(&["echo $HOME"]), ["/bin/bash", "-c", "echo $HOME"]);
        assert_eq!(words(&["bash"]), ["bash"]);
        assert_eq!(words(&["echo", "a b"]), ["echo", "a b"]);
    }
}
