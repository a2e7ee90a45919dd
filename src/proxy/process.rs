//! The process: binds, drops its privileges, runs the cores and the control thread.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::domain::Millis;
use crate::support::report;
use crate::sys;

use super::access_log::{AccessLog, LogWriter};
use super::confine;
use super::core::{Core, CoreCommand, Gate, Shared};
use super::handover::{Offer, Predecessor};
use super::listen::{self, Bound, Listener};
use super::page_files::PageFiles;
use super::places::{self, Directories, Doors};
use super::router::{Ground, Router, Routes};
use super::routes_file::RoutesFile;
use super::seam::{Identity, Seam};
use super::tls::{CertificateFiles, Tls};
use super::{
    Config, Error, ExtraListener, ListenerFile, ListenerName, ProxyArgs, RouteTable, Start, User,
};

/// Descriptors that are neither connections nor listeners: runtimes, logs, the seam.
const RESERVED_FILES: u64 = 256;

/// Commands under way to a core; it answers each at once.
const CORE_QUEUE: usize = 16;

/// Runs the proxy until SIGTERM, SIGINT or a `stop` over the seam, or until a successor has taken
/// over and nothing is left to do; call it before any thread exists. Logs through `tracing`, which
/// the caller has set up.
///
/// # Errors
/// What kept it from starting, or a core that ended.
pub fn main(args: &ProxyArgs) -> Result<(), Error> {
    // Away from the terminal and process group of whoever starts us: their end is not ours. Fails
    // when there is a session already, which is as good.
    let _ = sys::process::new_session();
    let start = &args.start;
    let config = &start.config;
    let cores = core_count(config);
    let run_dir = places::absolute(&args.run_dir)?;
    let directories = places::make_directories(&args.data_dir, config.user)?;
    let own = &directories.own;
    let table = RoutesFile::in_directory(&own.path).load_or_empty();

    let predecessor = start.take_over.map(|pid| Predecessor::connect(&run_dir, pid)).transpose()?;
    let received = predecessor.as_ref().map_or(Ok(Vec::new()), Predecessor::sockets)?;
    let bound = listen::bind(&wanted_listeners(start, &table), cores, received)?;
    let sockets: usize = bound.iter().map(|bound| bound.sockets.len()).sum();
    let max_connections = connections_per_core(config, cores, sockets);
    // Before the privileges are gone: the run directory is not ours. The control plane may connect
    // from now on; it is served in a moment.
    let doors = Doors::bind(&run_dir)?;
    let certificates = CertificateFiles::open(&directories.certificates.path);
    std::env::set_current_dir(&own.path)
        .map_err(|source| Error::Prepare { path: own.path.clone(), source })?;
    become_user(config.user)?;
    confine(&directories).map_err(|source| Error::Start { what: "the confinement", source })?;
    let pages = PageFiles::in_directory(directories.pages.descriptor);

    // All that strangers can reach starts here.
    let tls = Tls::new(certificates).map_err(|source| Error::Start { what: "TLS", source })?;
    let shared = Arc::new(Shared {
        routes: Routes::new(compile_kept(&table, config, cores, (&pages, &tls)), cores),
        pages,
        tls,
        https_port: https_port(&bound),
        config: config.clone(),
        cores,
        max_connections,
        connections: AtomicU64::new(0),
        unknown_host: AtomicU64::new(0),
        bad_request: AtomicU64::new(0),
        errors: Default::default(),
        ejections: AtomicU64::new(0),
        log_dropped: Arc::default(),
        retiring: false.into(),
    });
    let fingerprint = start.fingerprint.clone();
    let drain = start.drain_ms.unwrap_or(config.upgrade_drain_timeout_ms);
    let result = run(&shared, bound, Neighbors { doors, predecessor, drain, fingerprint });
    places::remove_sockets(&run_dir, std::process::id());
    result
}

fn wanted_listeners(start: &Start, table: &RouteTable) -> Vec<Listener> {
    let extra = start.listeners.as_ref().unwrap_or(&table.listeners);
    let mut wanted = Listener::of_config(&start.config);
    wanted.extend(extra.iter().copied().map(Listener::extra));
    wanted
}

/// The routes of the process before.
fn compile_kept(
    table: &RouteTable,
    config: &Config,
    cores: usize,
    (pages, tls): (&PageFiles, &Tls),
) -> Router {
    tls.set_table(table);
    let previous = &Router::default();
    let ground = Ground { config, cores, pages, previous, retired: &[] };
    Router::compile(table, &ground).unwrap_or_else(|error| {
        // Written by us, so another version's; the control plane sends its own.
        tracing::error!(error = report(&error), "ignore the kept route table");
        Router::default()
    })
}

/// Where plain HTTP is redirected to.
fn https_port(bound: &[Bound]) -> Option<u16> {
    let https = bound.iter().find(|bound| bound.listener.name == ListenerName::Https);
    https.map(|bound| bound.listener.address.port())
}

/// Who else there is: the control plane, who was before us, who comes after us.
struct Neighbors {
    doors: Doors,
    predecessor: Option<Predecessor>,
    /// For what is open in it.
    drain: Millis,
    fingerprint: String,
}

/// Runs threads until the end.
///
/// Everything that can fail comes before the first client is accepted, and that before the
/// predecessor is told: an attempt that fails must not take clients with it, or leave them with
/// nobody who accepts.
fn run(shared: &Arc<Shared>, bound: Vec<Bound>, neighbors: Neighbors) -> Result<(), Error> {
    let config = &shared.config;
    let Neighbors { doors, predecessor, drain, fingerprint } = neighbors;
    let log = config.access_log.then(|| LogWriter::start(Path::new("."), config)).transpose();
    let log = log.map_err(|source| Error::Start { what: "the access log", source })?;
    let listening = listening(&bound);
    let offer = Offer::new(doors.handover, doors.owner, &bound)
        .map_err(|source| Error::Start { what: "the hand-over", source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Start { what: "the control runtime", source })?;
    let mut running = start_cores(shared, bound, log.as_ref())?;
    offer_sockets(shared, offer, running.commands.clone())?;
    let identity = Identity { owner: doors.owner, fingerprint, listening };
    let routes_file = RoutesFile::in_directory(Path::new("."));
    let (stop_tx, stop) = mpsc::channel(1);
    let seam =
        Seam::new(Arc::clone(shared), running.commands.clone(), routes_file, identity, stop_tx);
    let result = runtime.block_on(async {
        let signals =
            Signals::new().map_err(|source| Error::Start { what: "the signal handler", source })?;
        let door = tokio::net::UnixListener::from_std(doors.seam)
            .map_err(|source| Error::Start { what: "the control socket", source })?;
        running.accept();
        let routes = shared.routes.load().version;
        tracing::info!(listening = ?seam.listening(), cores = shared.cores, routes, "proxy ready");
        if let Some(predecessor) = predecessor
            && let Err(error) = predecessor.take_over(drain)
        {
            // It goes on beside us, from the same queues, until the control plane makes it retire.
            tracing::error!(error = report(&error), "tell the predecessor");
        }
        let mut seam = seam.serve(door);
        let result = tokio::select! {
            // Neither is asked again once the other has answered.
            result = control(shared, running, stop, signals) => result,
            // It has no end; this is a panic. Without it there is nobody who can change the routes.
            _ = &mut seam => Err(Error::SeamEnded),
        };
        seam.abort();
        result
    });
    if let (Some(LogWriter { sender, thread }), Ok(CoresEnded::All)) = (log, &result) {
        drop(sender);
        // The last lines; a panic in it was reported already.
        let _ = thread.join();
    }
    result.map(|_| ())
}

fn listening(bound: &[Bound]) -> ListenerFile {
    let mut file = ListenerFile { pid: std::process::id(), ..ListenerFile::default() };
    for Bound { listener, .. } in bound {
        match listener.name {
            ListenerName::Http => file.listen.push(listener.address),
            ListenerName::Https => file.https.push(listener.address),
            ListenerName::Port(port) => {
                file.ports.push(ExtraListener { port, scheme: listener.scheme });
            }
        }
    }
    file
}

/// Waits for a successor, on a thread that ends with the process.
fn offer_sockets(
    shared: &Arc<Shared>,
    offer: Offer,
    cores: Vec<mpsc::Sender<CoreCommand>>,
) -> Result<(), Error> {
    let shared = Arc::clone(shared);
    let retire = move |drain: Duration| {
        tracing::info!(drain_ms = drain.as_millis(), "a successor has taken over");
        shared.retiring.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + drain;
        for core in cores {
            // A core that is gone has nothing to retire.
            let _ = core.blocking_send(CoreCommand::Retire(deadline));
        }
    };
    std::thread::Builder::new()
        .name("hand-over".into())
        .spawn(move || offer.serve(retire))
        .map_err(|source| Error::Start { what: "the hand-over", source })?;
    Ok(())
}

fn core_count(config: &Config) -> usize {
    match config.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Raises the soft limit of open files to the hard one; each client takes two, its own and the
/// app's.
fn connections_per_core(config: &Config, cores: usize, sockets: usize) -> usize {
    let files = raise_open_files().unwrap_or_else(|error| {
        tracing::warn!(%error, "raise the limit of open files");
        1024
    });
    // Listening sockets are held twice, for a successor too.
    let reserved = RESERVED_FILES + 2 * sockets as u64;
    let total = match config.max_connections {
        0 => usize::try_from(files.saturating_sub(reserved) / 2).unwrap_or(usize::MAX),
        connections => connections,
    };
    (total / cores).max(1)
}

fn raise_open_files() -> io::Result<u64> {
    let resource = sys::process::resource("nofile").ok_or(io::ErrorKind::Unsupported)?;
    let process = std::process::id();
    let limit = sys::process::limit(process, resource, None)?;
    let raised = sys::process::Limit { soft: limit.hard, hard: limit.hard };
    sys::process::limit(process, resource, Some(raised))?;
    Ok(limit.hard)
}

/// Becomes `user`, for good. A process that is not root stays who it is.
fn become_user(user: User) -> Result<(), Error> {
    let become_user = || {
        if places::is_root()? {
            // Groups first: without root they could not be dropped any more. The change of the user
            // id empties the capability sets (capabilities(7), "Effect of user ID changes").
            sys::credentials::set_groups(&[])?;
            sys::credentials::set_group(user.gid)?;
            sys::credentials::set_user(user.uid)?;
        }
        sys::credentials::no_new_privileges()
    };
    let User { uid, gid } = user;
    become_user().map_err(|source| Error::BecomeUser { uid, gid, source })
}

/// After the privileges are gone, which the rules need; before there are threads, which inherit them.
fn confine(directories: &Directories) -> io::Result<()> {
    let readable = [&directories.certificates, &directories.pages];
    let readable = readable.map(|directory| directory.descriptor.as_fd());
    confine::confine_files(directories.own.descriptor.as_fd(), &readable)?;
    confine::confine_calls()
}

/// The cores while they run.
struct Running {
    commands: Vec<mpsc::Sender<CoreCommand>>,
    /// What they wait for before they accept.
    gates: Vec<oneshot::Sender<()>>,
    /// A message whenever a core ends.
    ended: mpsc::Receiver<()>,
}

impl Running {
    fn accept(&mut self) {
        for gate in self.gates.drain(..) {
            // A core that has ended has told so.
            let _ = gate.send(());
        }
    }
}

/// Starts the cores; returns when all of them could accept.
fn start_cores(
    shared: &Arc<Shared>,
    bound: Vec<Bound>,
    log: Option<&LogWriter>,
) -> Result<Running, Error> {
    let (ended_tx, ended) = mpsc::channel(shared.cores);
    let mut by_core: Vec<Vec<(Listener, TcpListener)>> =
        std::iter::repeat_with(Vec::new).take(shared.cores).collect();
    for bound in bound {
        bound.listen()?;
        // More sockets than cores, if a predecessor had more cores: none may be left unserved.
        for (index, socket) in bound.sockets.into_iter().enumerate() {
            by_core[index % shared.cores].push((bound.listener, socket));
        }
    }
    let (mut commands, mut gates, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for (index, listeners) in by_core.into_iter().enumerate() {
        let sender = log.map(|log| log.sender.clone());
        let dropped = Arc::clone(&shared.log_dropped);
        let (shared, ended) = (Arc::clone(shared), ended_tx.clone());
        let (command_tx, command_rx) = mpsc::channel(CORE_QUEUE);
        let (ready_tx, ready_rx) = oneshot::channel();
        let (gate_tx, gate_rx) = oneshot::channel();
        let gate = Gate { ready: ready_tx, open: gate_rx };
        let run = move || {
            // Told however the thread ends, a panic included.
            let _ended = EndOfCore(ended);
            let core = Core::new(index, shared, AccessLog::new(sender, dropped));
            if let Err(error) = super::core::run(core, listeners, command_rx, gate) {
                tracing::error!(%error, core = index, "run a core");
            }
        };
        std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(run)
            .map_err(|source| Error::Start { what: "a core", source })?;
        commands.push(command_tx);
        gates.push(gate_tx);
        ready.push(ready_rx);
    }
    for core in ready {
        // Why not is in its last words, in the log.
        core.blocking_recv().map_err(|_| Error::CoreEnded)?;
    }
    Ok(Running { commands, gates, ended })
}

struct EndOfCore(mpsc::Sender<()>);

impl Drop for EndOfCore {
    fn drop(&mut self) {
        // The queue has room for every core, and a control thread that is gone need not know.
        let _ = self.0.try_send(());
    }
}

async fn control(
    shared: &Shared,
    running: Running,
    mut stop: mpsc::Receiver<Duration>,
    mut signals: Signals,
) -> Result<CoresEnded, Error> {
    let Running { commands, mut ended, .. } = running;
    let mut left = commands.len();
    let grace = loop {
        tokio::select! {
            // Cancel-safe, all of them: each only waits.
            () = signals.next() => break shared.config.shutdown_timeout_ms.into(),
            Some(grace) = stop.recv() => break grace,
            _ = ended.recv() => left -= 1,
        }
        if !shared.retiring.load(Ordering::Relaxed) {
            return Err(Error::CoreEnded);
        }
        if left == 0 {
            tracing::info!("everything that was open has ended");
            return Ok(CoresEnded::All);
        }
    };
    Ok(end_cores(&commands, &mut ended, left, grace, &mut signals).await)
}

async fn end_cores(
    commands: &[mpsc::Sender<CoreCommand>],
    ended: &mut mpsc::Receiver<()>,
    left: usize,
    grace: Duration,
    signals: &mut Signals,
) -> CoresEnded {
    tracing::info!(grace_ms = grace.as_millis(), "proxy stopping");
    let deadline = Instant::now() + grace;
    for core in commands {
        // A core that is gone has nothing to end.
        let _ = core.send(CoreCommand::Stop(deadline)).await;
    }
    let all = async {
        for _ in 0..left {
            ended.recv().await;
        }
    };
    tokio::select! {
        () = all => CoresEnded::All,
        // A second signal means now: the threads end with the process.
        () = signals.next() => CoresEnded::NotAll,
    }
}

/// Whether the threads have ended, and the log's senders with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CoresEnded {
    All,
    NotAll,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
