//! One more process in a running container: a parent outside, which relays signals and the exit,
//! and a child that joins.
//!
//! The parent stays out of every namespace, where nothing inside can see or trace it. The child
//! becomes visible inside with the first step, while it still holds our memory: it is a fork of a
//! process that forbids inspection, and its memory belongs to the host's user namespace
//! (CVE-2016-9962); before it enters any directory, nothing of the host's is open
//! (CVE-2024-21626).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::SystemTime;

use super::init;
use super::launch::{self, Streams};
use super::monitor;
use super::protocol::{self, ExecJob, Failure, Order, Report, Sign, Step, Word};
use super::restrict::Restrictions;
use super::state::{ExitRecord, SIGKILL};
use crate::sys::handover;
use crate::sys::namespace::{self, Namespaces};
use crate::sys::process::{self, Child, Exit, Files, Fork};

/// All but the PID namespace, which only a fork enters; that of time cannot be left out, as the
/// clock would differ from that of the container's other processes.
const JOINED: Namespaces = Namespaces::USER
    .and(Namespaces::MOUNT)
    .and(Namespaces::NETWORK)
    .and(Namespaces::IPC)
    .and(Namespaces::UTS)
    .and(Namespaces::CGROUP)
    .and(Namespaces::TIME);

/// The role `container-exec`; stdin is its channel to the daemon, whose end ends the process.
pub fn main() -> ExitCode {
    let Ok(control) = monitor::take_control() else { return ExitCode::FAILURE };
    match run(control.as_fd()) {
        Ok(code) => code,
        Err(failure) => {
            let report = Report::Failed { message: failure.message() };
            // The daemon may have gone; then nobody wants to know.
            let _ = protocol::send(control.as_fd(), &report, &[]);
            ExitCode::FAILURE
        }
    }
}

fn run(control: BorrowedFd<'_>) -> Result<ExitCode, Failure> {
    process::new_session().step("make a session")?;
    process::set_name(c"staithe-exec").step("set the name")?;
    process::set_umask(monitor::UMASK);
    let (job, descriptors): (ExecJob, _) =
        protocol::receive_job(control).step("receive the job")?;
    let mut streams = Streams::received(job.stdio, descriptors).step("receive streams")?;
    let id = |inside: u32| job.host_base + inside;
    streams.give_to(id(job.process.uid), id(job.process.gid)).step("give away the pipes")?;
    let container = job.init.open().step("find the container")?.ok_or_else(gone)?;
    // Read and opened while the host's files are in sight; the child has its own copies.
    let restrictions =
        Restrictions::prepare(Some(&job.process), &job.capabilities, &job.restraints.filter)?;
    let procs_files = open_all(&job)?;
    process::forbid_inspection().step("forbid inspection")?;
    namespace::enter(container.as_fd(), Namespaces::PID).step("enter the PID namespace")?;
    let (ours, theirs) = handover::packet_pair().step("make a socket pair")?;
    let forked = process::fork(Namespaces::NONE, Files::Copied).step("fork")?;
    let Fork::Parent { pid, process: child } = forked else {
        drop((ours, procs_files));
        let joined = Joiner { job: &job, container, restrictions, parent: theirs };
        joined.main(&mut streams)
    };
    drop((theirs, streams, container));
    let exec = Exec { pid, child, channel: ours };
    let result = exec.oversee(control, &job, procs_files);
    if result.is_err() {
        // It must not live on without its parent's eye.
        exec.kill();
        let _ = process::wait(Child::Pid(pid));
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn gone() -> Failure {
    Failure::new("find the container", io::Error::other("it has ended"))
}

fn open_all(job: &ExecJob) -> Result<Vec<File>, Failure> {
    let open = |path: &std::path::PathBuf| OpenOptions::new().write(true).open(path);
    job.restraints.procs_files.iter().map(open).collect::<Result<_, _>>().step("open cgroups")
}

/// The child, as its parent holds it.
struct Exec {
    pid: u32,
    child: OwnedFd,
    channel: OwnedFd,
}

impl Exec {
    fn oversee(
        &self,
        control: BorrowedFd<'_>,
        job: &ExecJob,
        procs_files: Vec<File>,
    ) -> Result<(), Failure> {
        // Before it does anything that costs: it waits for our word.
        for mut file in procs_files {
            file.write_all(self.pid.to_string().as_bytes()).step("join the cgroups")?;
        }
        monitor::limit_resources(self.pid, Some(&job.process))?;
        let score = job.oom_score_adj.to_string();
        monitor::write(format!("/proc/{}/oom_score_adj", self.pid), &score)
            .step("set oom_score_adj")?;
        protocol::send(self.channel.as_fd(), &Word::Start, &[]).step("speak to the child")?;
        let master = match self.listen()? {
            Some((Sign::Ready, mut descriptors)) => descriptors.pop(),
            Some((Sign::Failed(message), _)) => {
                return Err(Failure::told(message, io::ErrorKind::Other));
            }
            _ => return Err(gone()),
        };
        // Silence until the end of the channel is success: execve(2) closes it.
        if let Some((Sign::Failed(message), _)) = self.listen()? {
            return Err(Failure::told(message, io::ErrorKind::Other));
        }
        let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
        protocol::send(control, &Report::Started, &master).step("report to the daemon")?;
        drop(master);
        self.relay(control)?;
        let exit = process::wait(Child::Pid(self.pid)).step("reap")?.map(|(_, exit)| exit);
        // The daemon may have gone, and the process been killed for that.
        let _ = protocol::send(control, &Report::Exited(record(exit)), &[]);
        Ok(())
    }

    /// `None` once the child's side is closed.
    fn listen(&self) -> Result<Option<(Sign, Vec<OwnedFd>)>, Failure> {
        match protocol::receive(self.channel.as_fd()) {
            Ok(sign) => Ok(Some(sign)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Failure::new("listen to the child", error)),
        }
    }

    /// Until the child has ended. When the daemon's side ends, so does the child.
    fn relay(&self, control: BorrowedFd<'_>) -> Result<(), Failure> {
        let mut control = Some(control);
        loop {
            let [order, ended] = process::poll([control, Some(self.child.as_fd())], None)
                .step("wait for the process")?;
            if ended {
                return Ok(());
            }
            let Some(socket) = control.filter(|_| order) else { continue };
            match protocol::receive::<Order>(socket) {
                Ok((Order::Signal(SIGKILL), _)) => self.kill(),
                Ok((Order::Signal(number), _)) => {
                    // It may just have ended, which the next poll tells.
                    let _ = process::signal(self.child.as_fd(), number);
                }
                Ok((Order::Start, _)) => {}
                Err(_) => {
                    self.kill();
                    control = None;
                }
            }
        }
    }

    /// With all it started, unless that has made sessions of its own.
    fn kill(&self) {
        let group = -self.pid.cast_signed();
        // Both may have ended; the group exists only once the child has made it.
        let _ = process::signal_pid(group, SIGKILL);
        let _ = process::signal(self.child.as_fd(), SIGKILL);
    }
}

fn record(exit: Option<Exit>) -> ExitRecord {
    let (code, signal) = match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    ExitRecord {
        code,
        signal,
        oom_killed: false,
        oom_kills: 0,
        finished_at: SystemTime::now(),
        reason: None,
    }
}

/// The child, on its way in.
struct Joiner<'a> {
    job: &'a ExecJob,
    container: OwnedFd,
    restrictions: Restrictions,
    parent: OwnedFd,
}

impl Joiner<'_> {
    fn main(&self, streams: &mut Streams) -> ! {
        let failure = match self.join(streams) {
            Ok(()) => launch::execute(&self.job.process, streams, self.parent.as_fd()),
            Err(failure) => failure,
        };
        // If even this fails, the parent sees that we have gone.
        let _ = protocol::send(self.parent.as_fd(), &Sign::Failed(failure.message()), &[]);
        process::exit(launch::exit_code(&failure))
    }

    fn join(&self, streams: &mut Streams) -> Result<(), Failure> {
        // In the cgroups first: what follows is charged to the container.
        let _: (Word, _) = protocol::receive(self.parent.as_fd()).step("wait for the parent")?;
        // All at once, so that no process is ever half inside.
        match namespace::enter(self.container.as_fd(), JOINED) {
            // A kernel without time namespaces.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                namespace::enter(self.container.as_fd(), JOINED.without(Namespaces::TIME))
            }
            other => other,
        }
        .step("enter the container")?;
        init::become_root()?;
        let master = streams.open_terminal(Some(&self.job.process))?;
        // Its own order is explained there.
        self.restrictions.apply()?;
        process::forbid_inspection().step("forbid inspection")?;
        process::die_with_parent().step("bind to the parent's life")?;
        let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
        // Fails if the parent died before it could bind us.
        protocol::send(self.parent.as_fd(), &Sign::Ready, &master).step("report to the parent")
    }
}
