//! The parent of one container: sets it up, keeps its log, reaps it, records its exit.
//!
//! A process of its own, single-threaded and small, so that a crash, restart or upgrade of the
//! daemon touches no container. Its first half runs with the daemon at the other end of `control`;
//! after the start it talks to nobody and leaves files.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use super::launch::{self, Streams};
use super::log::{self, Log, Stream};
use super::pid::ProcessId;
use super::protocol::{self, CreateJob, Failure, Furniture, Order, Report, Sign, Step, Word};
use super::spec::{IdMap, ProcessSpec};
use super::state::{self, ExitRecord, RunState};
use super::{cgroup, devices, init, rootfs};
use crate::sys::namespace::{self, Namespaces};
use crate::sys::process::{self, Child, Exit, Files, Fork, Limit};
use crate::sys::{handover, mount};

/// Read at once from a pipe; what a pipe holds by default, so that a burst is one write to disk.
const READ_SIZE: usize = 64 * 1024;
/// As login shells have it; apps inherit it.
pub(super) const UMASK: u32 = 0o022;
/// Reads after the end: a pipe holds 1 MiB at most by default, and somebody outside of the container
/// to whom the app has given its end must not keep us here.
const LAST_READS: u32 = 64;
/// All of them but the cgroup namespace, which init makes once it is in its cgroups.
const NAMESPACES: Namespaces = Namespaces::USER
    .and(Namespaces::MOUNT)
    .and(Namespaces::PID)
    .and(Namespaces::NETWORK)
    .and(Namespaces::IPC)
    .and(Namespaces::UTS)
    .and(Namespaces::TIME);

/// The role `container-monitor`; stdin is its channel to the daemon.
pub fn main() -> ExitCode {
    let Ok(control) = take_control() else { return ExitCode::FAILURE };
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

/// Stdin, moved away from the number that init's own streams will need.
pub(super) fn take_control() -> io::Result<OwnedFd> {
    let stdin = process::inherited(0)?;
    let control = stdin.try_clone()?;
    launch::forget_stdin()?;
    // Stays open: it is /dev/null now.
    let _ = stdin.into_raw_fd();
    Ok(control)
}

fn run(control: BorrowedFd<'_>) -> Result<ExitCode, Failure> {
    // Out of the daemon's session and process group: what is sent to those is not for containers.
    process::new_session().step("make a session")?;
    process::set_name(c"staithe-monitor").step("set the name")?;
    // The daemon's own may well be stricter, which would lock the container's users out of `/`.
    process::set_umask(UMASK);
    let (job, descriptors): (CreateJob, _) =
        protocol::receive_job(control).step("receive the job")?;
    let mut streams = Streams::received(job.stdio, descriptors).step("receive streams")?;
    let outputs = open_log(&job, &mut streams)?;
    // Seen by nobody else; what the host unmounts goes away here too.
    namespace::unshare(Namespaces::MOUNT).step("make a mount namespace")?;
    mount::make_slave(Path::new("/")).step("make mounts slaves")?;
    let (ours, theirs) = handover::packet_pair().step("make a socket pair")?;
    match fork_init() {
        Ok(Fork::Child) => init::main(&job, &theirs, streams),
        Ok(Fork::Parent { pid, process }) => {
            let init = Init { pid, process, channel: ours };
            let dir = job.dir.clone();
            let result = oversee(control, job, &init, theirs, streams, outputs);
            if let Err(failure) = &result {
                // It must not outlive the failure. If it is dead already, so much the better; the
                // record is for a daemon that has not seen it fail, if there is one.
                let _ = process::signal(init.process.as_fd(), state::SIGKILL);
                let _ = process::wait(Child::Pid(pid));
                let _ = ExitRecord::killed(&failure.message()).save(&dir);
            }
            result.map(|()| ExitCode::SUCCESS)
        }
        Err(source) => Err(Failure::new("make namespaces", source)),
    }
}

fn fork_init() -> io::Result<Fork> {
    match process::fork(NAMESPACES, Files::Shared) {
        // A kernel without time namespaces, before 5.6 or by configuration.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            process::fork(NAMESPACES.without(Namespaces::TIME), Files::Shared)
        }
        other => other,
    }
}

/// The container's PID 1, as its parent holds it.
struct Init {
    pid: u32,
    process: OwnedFd,
    channel: OwnedFd,
}

/// The monitor's ends of the app's output.
struct Outputs {
    log: Log,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
}

fn open_log(job: &CreateJob, streams: &mut Streams) -> Result<Option<Outputs>, Failure> {
    let (Streams::Null { stdout, stderr }, Some(spec)) = (streams, &job.spec.log) else {
        return Ok(None);
    };
    let log =
        Log::open(spec.clone()).step_with(|| format!("open the log `{}`", spec.path.display()))?;
    let (out, their_out) = io::pipe().step("make a pipe")?;
    let (err, their_err) = io::pipe().step("make a pipe")?;
    (*stdout, *stderr) = (Some(their_out.into()), Some(their_err.into()));
    let (out, err): (OwnedFd, OwnedFd) = (out.into(), err.into());
    // For the last look after the end, when somebody outside may still hold the other side.
    for fd in [&out, &err] {
        crate::sys::fd::set_nonblocking(fd.as_fd()).step("make a pipe non-blocking")?;
    }
    Ok(Some(Outputs { log, out: Some(out), err: Some(err) }))
}

/// From the birth of init to its end.
fn oversee(
    control: BorrowedFd<'_>,
    job: CreateJob,
    init: &Init,
    theirs: OwnedFd,
    streams: Streams,
    outputs: Option<Outputs>,
) -> Result<(), Failure> {
    let notes = furnish(&job, init, &streams)?;
    // Init has its own table since `Apart`; here its side must end with it.
    drop((theirs, streams));
    let master = init.expect_ready()?;
    let mut run_state = RunState {
        init: ProcessId::of(init.pid).step("read the start time of init")?,
        monitor: ProcessId::of(std::process::id()).step("read the own start time")?,
        started_at: None,
        notes,
    };
    run_state.save(&job.dir).step("save the state")?;
    let created = Report::Created { pid: init.pid };
    let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    protocol::send(control, &created, &master).step("report to the daemon")?;
    drop(master);

    if !await_start(control, init)? {
        let record = ExitRecord::killed("it was never started");
        let _ = process::signal(init.process.as_fd(), state::SIGKILL);
        let _ = process::wait(Child::Pid(init.pid));
        return record.save(&job.dir).step("record the exit");
    }
    let started = start(init);
    if started.is_ok() {
        run_state.started_at = Some(SystemTime::now());
        run_state.save(&job.dir).step("save the state")?;
    }
    let report = match &started {
        Ok(()) => Report::Started,
        Err(failure) => Report::Failed { message: failure.message() },
    };
    // A daemon that died meanwhile finds the files.
    let _ = protocol::send(control, &report, &[]);
    let (dir, oom_file) = (job.dir.clone(), job.oom_file.clone());
    // Environments can be large, and the monitor lives as long as the container.
    drop((job, run_state));
    watch(init, outputs).step("watch the container")?;
    let mut record = init.reap(oom_file.as_deref()).step("reap the container")?;
    record.reason = started.err().map(|failure| failure.message());
    record.save(&dir).step("record the exit")
}

/// Gives init ids, limits, cgroups and mounts; what could not be done as asked.
fn furnish(job: &CreateJob, init: &Init, streams: &Streams) -> Result<Vec<String>, Failure> {
    map_ids(init.pid, job.spec.id_map)?;
    let process = job.spec.process.as_ref();
    if let Some(process) = process {
        let id = |inside: u32| job.spec.id_map.host_base + inside;
        streams.give_to(id(process.uid), id(process.gid)).step("give away the pipes")?;
    }
    let notes = limit_resources(init.pid, process)?;
    let score = job.spec.oom_score_adj.to_string();
    write(format!("/proc/{}/oom_score_adj", init.pid), &score).step("set oom_score_adj")?;
    join_cgroups(init.pid, &job.restraints.procs_files)?;

    let user_namespace =
        fs::File::open(format!("/proc/{}/ns/user", init.pid)).step("open the user namespace")?;
    let user_namespace = user_namespace.as_fd();
    let root = rootfs::assemble(&job.spec, user_namespace, &job.dir)?;
    let devices = devices::detached()?;
    let mounts = rootfs::detached_mounts(&job.spec, user_namespace)?;
    let furniture = Furniture {
        root: root.as_raw_fd(),
        devices: devices.iter().map(AsRawFd::as_raw_fd).collect(),
        mounts: mounts.iter().map(|fd| fd.as_ref().map(AsRawFd::as_raw_fd)).collect(),
    };
    init.say(&Word::Go(furniture))?;
    // All of the above must stay open until init has taken over.
    match init.listen()?.0 {
        Sign::Apart => Ok(notes),
        other => Err(unexpected(&other)),
    }
}

fn map_ids(pid: u32, map: IdMap) -> Result<(), Failure> {
    let line = format!("0 {} {}\n", map.host_base, map.size);
    for file in ["uid_map", "gid_map"] {
        write(format!("/proc/{pid}/{file}"), &line)
            .step_with(|| format!("map ids to {}..", map.host_base))?;
    }
    Ok(())
}

/// Puts a process into every one of the container's cgroups.
pub(super) fn join_cgroups(pid: u32, procs_files: &[std::path::PathBuf]) -> Result<(), Failure> {
    procs_files.iter().try_for_each(|file| {
        write(file, &pid.to_string())
            .step_with(|| format!("put pid {pid} into `{}`", file.display()))
    })
}

/// Sets the limits of another process; those above what we may set are lowered, and noted.
pub(super) fn limit_resources(
    pid: u32,
    process: Option<&ProcessSpec>,
) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for wanted in process.iter().flat_map(|process| &process.rlimits) {
        let name = state::resource_name(&wanted.resource);
        // Names were checked when the spec came in.
        let Some(resource) = process::resource(&name) else { continue };
        let mut apply = || -> io::Result<()> {
            let limit = Limit { soft: wanted.soft, hard: wanted.hard };
            match process::limit(pid, resource, Some(limit)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let hard = process::limit(pid, resource, None)?.hard.min(wanted.hard);
                    let limit = Limit { soft: wanted.soft.min(hard), hard };
                    notes.push(format!("{name} limit lowered to {hard}, the most that is allowed"));
                    process::limit(pid, resource, Some(limit)).map(drop)
                }
                other => other.map(drop),
            }
        };
        apply().step_with(|| format!("limit {name}"))?;
    }
    Ok(notes)
}

/// False if the daemon has gone without starting it.
fn await_start(control: BorrowedFd<'_>, init: &Init) -> Result<bool, Failure> {
    let [order, ended] =
        process::poll([Some(control), Some(init.process.as_fd())], None).step("wait for start")?;
    if ended && !order {
        let error = io::Error::other("it was killed");
        return Err(Failure::new("wait for start", error));
    }
    match protocol::receive::<Order>(control) {
        Ok((Order::Start, _)) => Ok(true),
        Ok(_) => Err(Failure::new("wait for start", io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Failure::new("wait for start", error)),
    }
}

/// Returns once the program was executed. Without our reaper, PID 1 becomes the program, and its
/// end of the channel closes.
fn start(init: &Init) -> Result<(), Failure> {
    init.say(&Word::Start)?;
    match protocol::receive::<Sign>(init.channel.as_fd()) {
        Ok((Sign::Started, _)) => Ok(()),
        Ok((sign, _)) => Err(unexpected(&sign)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(Failure::new("start", error)),
    }
}

/// Copies output to the log until init has ended and everything it left in the pipes is read.
fn watch(init: &Init, outputs: Option<Outputs>) -> io::Result<()> {
    let Some(mut outputs) = outputs else {
        process::poll([Some(init.process.as_fd())], None)?;
        return Ok(());
    };
    let mut reads_left = LAST_READS;
    loop {
        // While the disk refuses, the app waits for it.
        let readable = outputs.log.is_writable();
        let descriptors = [
            outputs.out.as_ref().filter(|_| readable).map(AsFd::as_fd),
            outputs.err.as_ref().filter(|_| readable).map(AsFd::as_fd),
            Some(init.process.as_fd()),
        ];
        let [out, err, ended] = process::poll(descriptors, outputs.log.next_tick())?;
        if out {
            outputs.copy(Stream::Out)?;
        }
        if err {
            outputs.copy(Stream::Err)?;
        }
        outputs.log.tick();
        reads_left -= u32::from(ended);
        if ended && (reads_left == 0 || (!out && !err)) {
            outputs.log.finish(&log::timestamp());
            return Ok(());
        }
    }
}

impl Outputs {
    /// One read; the end of the pipe is remembered.
    fn copy(&mut self, stream: Stream) -> io::Result<()> {
        let pipe = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        let Some(fd) = pipe else { return Ok(()) };
        // On the heap and only while it is needed: 64 KiB for each container would add up.
        let mut buffer = vec![0; READ_SIZE];
        match handover::read(fd.as_fd(), &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(length) => self.log.take(stream, &buffer[..length], &log::timestamp()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Init {
    fn say(&self, word: &Word) -> Result<(), Failure> {
        protocol::send(self.channel.as_fd(), word, &[]).step("speak to init")
    }

    /// What init says next; its end is seen although its side of the channel is still open here.
    fn listen(&self) -> Result<(Sign, Vec<OwnedFd>), Failure> {
        let both = [Some(self.channel.as_fd()), Some(self.process.as_fd())];
        let [word, _ended] = process::poll(both, None).step("listen to init")?;
        if !word {
            let error = io::Error::other("it was killed while being set up");
            return Err(Failure::new("listen to init", error));
        }
        protocol::receive(self.channel.as_fd()).step("listen to init")
    }

    fn expect_ready(&self) -> Result<Option<OwnedFd>, Failure> {
        match self.listen()? {
            (Sign::Ready, mut descriptors) => Ok(descriptors.pop()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The end of a container whose init has ended.
    fn reap(&self, oom_file: Option<&Path>) -> io::Result<ExitRecord> {
        let own = process::wait(Child::Pid(self.pid))?.map(|(_, exit)| exit);
        let told = match protocol::receive(self.channel.as_fd()) {
            Ok((Sign::Exited(code, signal), _)) => Some((code, signal)),
            // It was killed, or there is no reaper: its own end is the end.
            _ => None,
        };
        let (code, signal) = told.unwrap_or(match own {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        });
        let kills = oom_file
            .and_then(|file| fs::read_to_string(file).ok())
            .map_or(0, |text| cgroup::oom_kills(&text));
        Ok(ExitRecord {
            code,
            signal,
            oom_killed: kills > 0,
            oom_kills: kills,
            finished_at: SystemTime::now(),
            reason: None,
        })
    }
}

fn unexpected(sign: &Sign) -> Failure {
    match sign {
        Sign::Failed(message) => Failure::told(message.clone(), io::ErrorKind::Other),
        other => {
            let error = io::Error::other(format!("unexpected {other:?}"));
            Failure::new("listen to init", error)
        }
    }
}

/// Never makes the file: all that is written this way are the kernel's.
pub(super) fn write(path: impl AsRef<Path>, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
