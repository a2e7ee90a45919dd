//! The façade: what the daemon can do with containers.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio as ProcessStdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::Instant;

use super::cgroup::Hierarchy;
use super::channel::Channel;
use super::exec_handle::ExecHandle;
use super::io::{Io, Stdio, Terminal};
use super::pid::ProcessId;
use super::protocol::{CreateJob, ExecJob, Order, Report, Restraints};
use super::spec::{CgroupSpec, ContainerSpec, Limits, ProcessSpec, Signal};
use super::state::{Asked, ContainerState, ExitRecord, RunState, SIGKILL, Stats, Status};
use super::{Config, Error, seccomp, validate};
use crate::support::{atomic_file, tasks};
use crate::sys::mount::{self, Attributes};
use crate::sys::{handover, path, process};

/// Between looks at what the kernel gives no event for: v1 freezing, a leaf that is still busy.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2);

/// Creates, finds and ends containers. Cheap to clone; all clones are one runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    containers: PathBuf,
    /// Our own program on a read-only mount of its own: whoever gets hold of it through
    /// /proc/<pid>/exe cannot write to it, not even as the host's root (CVE-2019-5736).
    program: OwnedFd,
    filter: PathBuf,
    hierarchy: Hierarchy,
    /// Whether containers may still be made. Held by each that is in the making.
    open: tokio::sync::RwLock<bool>,
    /// Channels to the monitors of containers that wait for `start`.
    waiting: Mutex<HashMap<String, Channel>>,
}

/// A container that is set up and waits for [`Runtime::start`].
#[derive(Debug)]
pub struct Created {
    /// As in the spec.
    pub id: String,
    /// Host pid of its PID 1.
    pub pid: u32,
    /// Its network namespace, for whoever attaches links to it.
    pub netns: OwnedFd,
    /// The caller's ends of its standard input and output.
    pub io: Io,
}

impl Runtime {
    /// Prepares the runtime and adopts the containers that an earlier one left.
    ///
    /// # Errors
    /// If the run directory, the cgroups, the program's protected copy or the system call filter
    /// cannot be had.
    pub fn open(config: Config) -> Result<Self, Error> {
        let containers = config.run_dir.join("containers");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&containers)
            .map_err(|source| state_error("make", &containers, source))?;
        let hierarchy = Hierarchy::detect(&config.prefix)?;
        let program = protected(&config.monitor_exe)
            .map_err(|source| Error::Prepare { operation: "protect the program", source })?;
        let bytes = seccomp::compile()
            .map_err(|source| Error::Prepare { operation: "compile the filter", source })?;
        let filter = containers.join(".filter");
        atomic_file::write_volatile(&filter, &bytes, 0o600)
            .map_err(|source| state_error("write", &filter, source))?;
        let waiting = Mutex::default();
        let open = tokio::sync::RwLock::new(true);
        let inner = Inner { config, containers, program, filter, hierarchy, open, waiting };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sets a container up; nothing of the caller's runs until [`Runtime::start`]. If the daemon
    /// ends before that, so does the container.
    ///
    /// # Errors
    /// With nothing left behind.
    ///
    /// # Cancellation
    /// Not cancel-safe: `delete` it then.
    pub async fn create(&self, spec: &ContainerSpec, stdio: Stdio) -> Result<Created, Error> {
        validate::check(spec, stdio)?;
        let open = self.inner.open.read().await;
        if !*open {
            return Err(Error::Closed { id: spec.id.clone() });
        }
        let dir = self.inner.dir(&spec.id)?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { id: spec.id.clone() });
            }
            other => other.map_err(|source| state_error("make", &dir, source))?,
        }
        let result = self.set_up(spec, stdio, &dir).await;
        if result.is_err() {
            // The first failure is the one to tell; what is left is listed, and can be deleted.
            let _ = self.delete(&spec.id).await;
        }
        result
    }

    /// Waits for containers in the making, and makes no further ones: what is listed from now on is
    /// all there is to take down.
    pub async fn close(&self) {
        *self.inner.open.write().await = false;
    }

    async fn set_up(
        &self,
        spec: &ContainerSpec,
        stdio: Stdio,
        dir: &Path,
    ) -> Result<Created, Error> {
        // Before there is anything that a later daemon would have to clean up.
        Asked::of(spec).save(dir).map_err(|source| state_error("write into", dir, source))?;
        let (channel, monitor) = self.inner.spawn("container-monitor", &spec.id)?;
        let result = self.furnish(spec, stdio, dir, channel).await;
        if result.is_err() {
            // It may hang where it cannot see that we have given up; init dies with it.
            kill(&spec.id, monitor)?;
        }
        result
    }

    async fn furnish(
        &self,
        spec: &ContainerSpec,
        stdio: Stdio,
        dir: &Path,
        channel: Channel,
    ) -> Result<Created, Error> {
        // The program loads while we make cgroups.
        let inner = Arc::clone(&self.inner);
        let cgroup = spec.cgroup.clone();
        self.inner.blocking(&spec.id, move || inner.hierarchy.create(&cgroup)).await?;
        let job = CreateJob {
            spec: spec.clone(),
            stdio,
            dir: dir.to_owned(),
            restraints: self.inner.restraints(&spec.cgroup),
            oom_file: self.inner.hierarchy.oom_file(&spec.cgroup),
            views: self.inner.hierarchy.views(),
        };
        let ends = stdio.make().map_err(|source| system(&spec.id, "make pipes", source))?;
        channel.send_job(&job, ends.theirs)?;
        let (report, mut descriptors) =
            channel.receive("set up", self.inner.config.create_timeout).await?;
        let pid = match report {
            Report::Created { pid } => pid,
            other => return Err(channel.unexpected(other)),
        };
        let io = join(ends.ours, descriptors.pop(), &spec.id)?;
        let netns = self.netns(&spec.id).await?;
        self.inner.waiting().insert(spec.id.clone(), channel);
        Ok(Created { id: spec.id.clone(), pid, netns, io })
    }

    /// Executes its process; returns once exec has succeeded.
    ///
    /// # Errors
    /// `Setup` if the program cannot be executed; the container has exited then.
    pub async fn start(&self, id: &str) -> Result<(), Error> {
        let channel = self.inner.waiting().remove(id);
        let Some(channel) = channel else {
            return Err(self.wrong_state(id, "be started").await);
        };
        channel.send(&Order::Start)?;
        match channel.receive("start", self.inner.config.create_timeout).await?.0 {
            Report::Started => Ok(()),
            other => Err(channel.unexpected(other)),
        }
    }

    /// Waits until the container has exited, however long that takes. Cancel-safe; also for
    /// containers of an earlier daemon, and as often as wished.
    ///
    /// # Errors
    /// `NotFound`, or state that cannot be read.
    pub async fn wait(&self, id: &str) -> Result<ExitRecord, Error> {
        let dir = self.inner.existing(id)?;
        let read = |source| state_error("read", &dir, source);
        if let Some(record) = ExitRecord::load(&dir).map_err(read)? {
            return Ok(record);
        }
        let Some(state) = RunState::load(&dir).map_err(read)? else {
            return Ok(ExitRecord::killed("it was never set up"));
        };
        ended(id, state.monitor).await?;
        if let Some(record) = ExitRecord::load(&dir).map_err(read)? {
            return Ok(record);
        }
        // Deleted by somebody else, who has seen how it ended.
        self.inner.existing(id)?;
        // The monitor was killed, and the kernel kills init for that; to be sure, so do we.
        kill(id, state.init)?;
        ended(id, state.init).await?;
        let record = ExitRecord::killed("its monitor was killed");
        record.save(&dir).map_err(|source| state_error("write into", &dir, source))?;
        Ok(record)
    }

    /// Sends a signal to the process (our init passes it on).
    ///
    /// # Errors
    /// `NotFound`; `WrongState` if it is not running.
    pub async fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        let (_, state) = self.alive(id, "be signalled").await?;
        let init = state.init.open().map_err(|source| system(id, "open init", source))?;
        let sent = match &init {
            Some(init) => process::signal(init.as_fd(), signal.0),
            None => return Err(self.wrong_state(id, "be signalled").await),
        };
        sent.map_err(|source| system(id, "signal init", source))
    }

    /// Sends `signal`, waits up to `grace`, then kills.
    ///
    /// # Errors
    /// As for [`Runtime::kill`].
    pub async fn stop(
        &self,
        id: &str,
        signal: Signal,
        grace: Duration,
    ) -> Result<ExitRecord, Error> {
        if self.inner.waiting().contains_key(id) {
            return self.kill(id).await;
        }
        match self.signal(id, signal).await {
            // It has ended by itself, or never begun: kill and wait tell.
            Err(Error::WrongState { .. }) => return self.kill(id).await,
            other => other?,
        }
        match tokio::time::timeout(grace, self.wait(id)).await {
            Ok(result) => result,
            Err(_elapsed) => self.kill(id).await,
        }
    }

    /// Kills everything in it and waits for the end. No error if it has exited already.
    ///
    /// # Errors
    /// `Timeout` after `Config::kill_timeout`.
    pub async fn kill(&self, id: &str) -> Result<ExitRecord, Error> {
        let dir = self.inner.existing(id)?;
        // Without a start: the monitor sees the end of the channel.
        drop(self.inner.waiting().remove(id));
        let state = RunState::load(&dir).map_err(|source| state_error("read", &dir, source))?;
        if let Some(state) = state {
            // With PID 1 everything in its namespace dies, exec'd processes too.
            kill(id, state.init)?;
            self.thaw(&dir)?;
        }
        let limit = self.inner.config.kill_timeout;
        let timeout = |_| Error::Timeout { id: id.to_owned(), operation: "kill", limit };
        tokio::time::timeout(limit, self.wait(id)).await.map_err(timeout)?
    }

    /// All containers, those of earlier daemons too, by id. What is left of one whose creation
    /// was interrupted is listed as exited.
    ///
    /// # Errors
    /// If the run directory cannot be read.
    pub async fn list(&self) -> Result<Vec<ContainerState>, Error> {
        let read = |source| state_error("read", &self.inner.containers, source);
        let mut ids: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.inner.containers).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            ids.extend(name.to_str().filter(|id| validate::is_valid_id(id)).map(str::to_owned));
        }
        ids.sort_unstable();
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            match self.state(&id).await {
                // Deleted while we looked.
                Err(Error::NotFound { .. }) => {}
                other => states.push(other?),
            }
        }
        Ok(states)
    }

    /// The processes that are parents of containers; those of containers that have ended may be among
    /// them.
    ///
    /// # Errors
    /// If the run directory cannot be read.
    pub fn monitors(&self) -> Result<Vec<u32>, Error> {
        let read = |source| state_error("read", &self.inner.containers, source);
        let mut monitors = Vec::new();
        for entry in fs::read_dir(&self.inner.containers).map_err(read)? {
            // One that is just being made or removed has no such file.
            if let Ok(Some(state)) = RunState::load(&entry.map_err(read)?.path()) {
                monitors.push(state.monitor.pid);
            }
        }
        Ok(monitors)
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound`, or state that cannot be read.
    pub async fn state(&self, id: &str) -> Result<ContainerState, Error> {
        let dir = self.inner.existing(id)?;
        let read = |source| state_error("read", &dir, source);
        let asked = Asked::load(&dir).map_err(read)?;
        let run = RunState::load(&dir).map_err(read)?;
        let status = match (&asked, &run) {
            (Some(asked), Some(run)) if is_alive(id, run.monitor)? => match run.started_at {
                None => Status::Created { pid: run.init.pid },
                Some(_) if self.inner.hierarchy.is_frozen(&asked.cgroup) => {
                    Status::Paused { pid: run.init.pid }
                }
                Some(_) => Status::Running { pid: run.init.pid },
            },
            // Ended, or never set up: this does not take long.
            _ => Status::Exited(self.wait(id).await?),
        };
        Ok(ContainerState {
            id: id.to_owned(),
            labels: asked.as_ref().map(|asked| asked.labels.clone()).unwrap_or_default(),
            status,
            created_at: asked.map_or(std::time::UNIX_EPOCH, |asked| asked.created_at),
            started_at: run.as_ref().and_then(|run| run.started_at),
            notes: run.map(|run| run.notes).unwrap_or_default(),
        })
    }

    /// Kills it if it is alive and removes all that was made for it; `rootfs.upper` stays.
    ///
    /// # Errors
    /// `NotFound`; otherwise try again.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let dir = self.inner.existing(id)?;
        self.kill(id).await?;
        let asked = Asked::load(&dir).map_err(|source| state_error("read", &dir, source))?;
        if let Some(asked) = asked {
            self.remove_cgroups(id, asked.cgroup).await?;
        }
        // Last: as long as it is there, a later daemon knows what to clean up.
        fs::remove_dir_all(&dir).map_err(|source| state_error("remove", &dir, source))
    }

    async fn remove_cgroups(&self, id: &str, cgroup: CgroupSpec) -> Result<(), Error> {
        let limit = self.inner.config.kill_timeout;
        let deadline = Instant::now() + limit;
        loop {
            // What a monitor that was killed at the wrong moment has left.
            for pid in self.inner.hierarchy.processes(&cgroup) {
                kill_pid(id, pid)?;
            }
            let (inner, spec) = (Arc::clone(&self.inner), cgroup.clone());
            if self.inner.blocking(id, move || inner.hierarchy.remove(&spec)).await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let id = id.to_owned();
                return Err(Error::Timeout { id, operation: "remove cgroups", limit });
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    /// Runs one more process inside, under the same limits and restrictions.
    ///
    /// # Errors
    /// `Setup` if the program cannot be executed.
    pub async fn exec(
        &self,
        id: &str,
        process: &ProcessSpec,
        stdio: Stdio,
    ) -> Result<ExecHandle, Error> {
        let (asked, state) = self.alive(id, "execute another process").await?;
        validate::process_problem(process, asked.id_map.size)
            .map_err(|problem| Error::InvalidSpec { id: id.to_owned(), problem })?;
        let job = ExecJob {
            init: state.init,
            process: process.clone(),
            stdio,
            host_base: asked.id_map.host_base,
            oom_score_adj: asked.oom_score_adj,
            capabilities: asked.capabilities,
            restraints: self.inner.restraints(&asked.cgroup),
        };
        let (channel, _) = self.inner.spawn("container-exec", id)?;
        let ends = stdio.make().map_err(|source| system(id, "make pipes", source))?;
        channel.send_job(&job, ends.theirs)?;
        let (report, mut descriptors) =
            channel.receive("execute", self.inner.config.create_timeout).await?;
        match report {
            Report::Started => ExecHandle::new(channel, join(ends.ours, descriptors.pop(), id)?),
            other => Err(channel.unexpected(other)),
        }
    }

    /// The network namespace of a living container.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` if it has exited.
    pub async fn netns(&self, id: &str) -> Result<OwnedFd, Error> {
        let (_, state) = self.alive(id, "give its network namespace").await?;
        let open = || -> io::Result<Option<OwnedFd>> {
            let file = fs::File::open(format!("/proc/{}/ns/net", state.init.pid))?;
            // Looked at after opening: if it lives now, the number was its own then.
            Ok(state.init.open()?.map(|_| file.into()))
        };
        match open().map_err(|source| system(id, "open the network namespace", source))? {
            Some(netns) => Ok(netns),
            None => Err(self.wrong_state(id, "give its network namespace").await),
        }
    }

    /// Changes the limits of a living container and of its group, at once.
    ///
    /// # Errors
    /// `Cgroup` where the kernel refuses, such as less memory than is in use.
    pub async fn set_limits(&self, id: &str, own: &Limits, group: &Limits) -> Result<(), Error> {
        let (mut asked, _) = self.alive(id, "change its limits").await?;
        for limits in [own, group] {
            validate::limits_problem(limits)
                .map_err(|problem| Error::InvalidSpec { id: id.to_owned(), problem })?;
        }
        (asked.cgroup.limits, asked.cgroup.group_limits) = (own.clone(), group.clone());
        let (inner, cgroup) = (Arc::clone(&self.inner), asked.cgroup.clone());
        self.inner.blocking(id, move || inner.hierarchy.set_limits(&cgroup)).await?;
        let dir = self.inner.dir(id)?;
        asked.save(&dir).map_err(|source| state_error("write into", &dir, source))
    }

    /// What it uses now.
    ///
    /// # Errors
    /// `NotFound`, or a cgroup file that cannot be read.
    pub async fn stats(&self, id: &str) -> Result<Stats, Error> {
        let cgroup = self.inner.asked(id)?.cgroup;
        let inner = Arc::clone(&self.inner);
        self.inner.blocking(id, move || inner.hierarchy.stats(&cgroup)).await
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// `WrongState`; `Timeout` if the kernel cannot stop one of them.
    pub async fn pause(&self, id: &str) -> Result<(), Error> {
        let (asked, _) = self.alive(id, "be paused").await?;
        self.inner.hierarchy.freeze(&asked.cgroup, true)?;
        let limit = self.inner.config.kill_timeout;
        let deadline = Instant::now() + limit;
        while !self.inner.hierarchy.is_frozen(&asked.cgroup) {
            if Instant::now() >= deadline {
                self.inner.hierarchy.freeze(&asked.cgroup, false)?;
                return Err(Error::Timeout { id: id.to_owned(), operation: "pause", limit });
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// `WrongState`, or `Cgroup`.
    pub async fn resume(&self, id: &str) -> Result<(), Error> {
        let (asked, _) = self.alive(id, "be resumed").await?;
        self.inner.hierarchy.freeze(&asked.cgroup, false)
    }

    /// What was asked of a living container, and its processes.
    async fn alive(&self, id: &str, operation: &'static str) -> Result<(Asked, RunState), Error> {
        let dir = self.inner.existing(id)?;
        let read = |source| state_error("read", &dir, source);
        let asked = Asked::load(&dir).map_err(read)?;
        let state = RunState::load(&dir).map_err(read)?;
        if let (Some(asked), Some(state)) = (asked, state)
            && is_alive(id, state.monitor)?
        {
            return Ok((asked, state));
        }
        Err(self.wrong_state(id, operation).await)
    }

    async fn wrong_state(&self, id: &str, operation: &'static str) -> Error {
        let status = match self.state(id).await {
            Err(error) => return error,
            Ok(state) => match state.status {
                Status::Created { .. } => "created by another daemon",
                Status::Running { .. } => "running",
                Status::Paused { .. } => "paused",
                Status::Exited(_) => "exited",
            },
        };
        Error::WrongState { id: id.to_owned(), status, operation }
    }

    /// A frozen process on v1 does not even die.
    fn thaw(&self, dir: &Path) -> Result<(), Error> {
        match Asked::load(dir).map_err(|source| state_error("read", dir, source))? {
            Some(asked) if self.inner.hierarchy.is_frozen(&asked.cgroup) => {
                self.inner.hierarchy.freeze(&asked.cgroup, false)
            }
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Channel>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, id: &str) -> Result<PathBuf, Error> {
        if validate::is_valid_id(id) {
            Ok(self.containers.join(id))
        } else {
            Err(Error::NotFound { id: id.to_owned() })
        }
    }

    fn existing(&self, id: &str) -> Result<PathBuf, Error> {
        let dir = self.dir(id)?;
        if dir.is_dir() { Ok(dir) } else { Err(Error::NotFound { id: id.to_owned() }) }
    }

    fn asked(&self, id: &str) -> Result<Asked, Error> {
        let dir = self.existing(id)?;
        Asked::load(&dir)
            .map_err(|source| state_error("read", &dir, source))?
            .ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    fn restraints(&self, cgroup: &CgroupSpec) -> Restraints {
        Restraints { procs_files: self.hierarchy.procs_files(cgroup), filter: self.filter.clone() }
    }

    /// Starts our program in another role, with a channel as its stdin and nothing else of ours.
    fn spawn(&self, role: &'static str, id: &str) -> Result<(Channel, ProcessId), Error> {
        let spawn = || -> io::Result<(OwnedFd, tokio::process::Child, ProcessId)> {
            let (ours, theirs) = handover::packet_pair()?;
            let program = format!("/proc/self/fd/{}", self.program.as_raw_fd());
            let child = tokio::process::Command::new(program)
                .arg0("staithe")
                .args([role, id])
                .env_clear()
                .current_dir("/")
                .stdin(ProcessStdio::from(theirs))
                .stdout(ProcessStdio::null())
                .stderr(ProcessStdio::null())
                .spawn()?;
            // Not reaped yet, so the number is its own.
            let monitor = ProcessId::of(child.id().ok_or(io::ErrorKind::NotFound)?)?;
            Ok((ours, child, monitor))
        };
        let (ours, mut child, monitor) =
            spawn().map_err(|source| system(id, "start its monitor", source))?;
        // Only to be reaped: how it went is on the channel and on disk.
        drop(tasks::spawn("reap monitor", async move { child.wait().await }));
        Ok((Channel::new(id, ours)?, monitor))
    }

    /// Cgroup files can take milliseconds: the kernel waits for all CPUs to notice a move.
    async fn blocking<T: Send + 'static>(
        &self,
        id: &str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(system(id, "finish work on cgroups", io::Error::other(error)))
        })
    }
}

/// Waits for the end of a process, for which its descriptor becomes readable.
async fn ended(id: &str, process: ProcessId) -> Result<(), Error> {
    let wait = async || -> io::Result<()> {
        let Some(fd) = process.open()? else { return Ok(()) };
        handover::watch(fd, Interest::READABLE)?.readable().await?.retain_ready();
        Ok(())
    };
    wait().await.map_err(|source| system(id, "wait for its end", source))
}

fn is_alive(id: &str, process: ProcessId) -> Result<bool, Error> {
    let alive = || -> io::Result<bool> {
        let Some(fd) = process.open()? else { return Ok(false) };
        // A zombie that nobody has reaped yet has a number, but no life.
        let [ended] = process::poll([Some(fd.as_fd())], Some(Duration::ZERO))?;
        Ok(!ended)
    };
    alive().map_err(|source| system(id, "look for its monitor", source))
}

fn kill(id: &str, process: ProcessId) -> Result<(), Error> {
    let kill = || match process.open()? {
        Some(fd) => kill_ignoring_ended(&fd),
        None => Ok(()),
    };
    kill().map_err(|source| system(id, "kill init", source))
}

/// For one that is in our own cgroup, whatever its name.
fn kill_pid(id: &str, pid: u32) -> Result<(), Error> {
    let kill = || kill_ignoring_ended(&process::open(pid)?);
    match kill() {
        Err(source) if source.raw_os_error() != Some(3) => {
            Err(system(id, "kill what is left in its cgroup", source))
        }
        _ => Ok(()),
    }
}

fn kill_ignoring_ended(process: &OwnedFd) -> io::Result<()> {
    match process::signal(process.as_fd(), SIGKILL) {
        // ESRCH
        Err(error) if error.raw_os_error() == Some(3) => Ok(()),
        other => other,
    }
}

/// The caller's side: made here, or a terminal's master from inside.
fn join(ours: Option<Io>, master: Option<OwnedFd>, id: &str) -> Result<Io, Error> {
    match (ours, master) {
        (Some(io), _) => Ok(io),
        (None, Some(master)) => Ok(Io::Terminal(Terminal::new(master))),
        (None, None) => Err(Error::Monitor { id: id.to_owned(), problem: "sent no terminal" }),
    }
}

fn protected(program: &Path) -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(path::root()?.as_fd(), program)?;
    let attributes = Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    mount::add_attributes(tree.as_fd(), attributes)?;
    Ok(tree)
}

fn state_error(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::State { operation, path: path.to_owned(), source }
}

fn system(id: &str, operation: &'static str, source: io::Error) -> Error {
    Error::System { id: id.to_owned(), operation, source }
}
