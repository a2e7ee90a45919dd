//! The process: binds, drops its privileges, runs the cores and the control thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::{atomic_file, report};
use crate::sys;

use super::access_log::{self, AccessLog, LogWriter};
use super::core::{Core, CoreCommand, Shared};
use super::listen::{self, Bound, Listener};
use super::page_files::PageFiles;
use super::protocol::{LISTENER_FILE_NAME, SOCKET_NAME};
use super::router::{Ground, Router};
use super::routes_file::RoutesFile;
use super::seam::Seam;
use super::tls::{CertificateFiles, Tls};
use super::{Config, Error, ListenerFile, ListenerName, ProxyArgs, User};

/// The proxy's directory in the data directory. The process works in it, so that it needs no right
/// to the directories above once it has dropped its privileges.
const DIRECTORY: &str = "proxy";

/// The directory of certificates in the data directory.
const CERTIFICATES: &str = "certificates";

/// Descriptors that are not connections: listeners, runtimes, logs, the seam.
const RESERVED_FILES: u64 = 256;

/// Files of a former user that are taken over; more than there are apps.
const MAX_FILES: usize = 100_000;

/// Commands under way to a core; it answers each at once.
const CORE_QUEUE: usize = 16;

/// Runs the proxy until SIGTERM, SIGINT or a `stop` over the seam; call it before any thread
/// exists. Logs through `tracing`, which the caller has set up.
///
/// # Errors
/// What kept it from starting, or a core that ended.
pub fn main(args: &ProxyArgs) -> Result<(), Error> {
    // Away from the terminal and process group of whoever starts us: their end is not ours. Fails
    // when there is a session already, which is as good.
    let _ = sys::process::new_session();
    let config = &args.config;
    let cores = core_count(config);
    let max_connections = connections_per_core(config, cores);
    let run_dir = absolute(&args.run_dir)?;
    let directory = prepare_directory(&args.data_dir, config.user)?;

    let bound = listen::bind(&Listener::of_config(config), cores)?;
    let seam = bind_seam(&run_dir)?;
    // Before the privileges are gone: the run directory is not ours. Clients may connect from now
    // on; they are served in a moment.
    write_listener_file(&run_dir, &bound)?;
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Prepare { path, source }
    };
    let certificates = CertificateFiles::open(&absolute(&args.data_dir)?.join(CERTIFICATES));
    let pages = PageFiles::open(&absolute(&args.data_dir)?).map_err(prepare(&args.data_dir))?;
    let owner = owner_of(&run_dir).map_err(prepare(&run_dir))?;
    std::env::set_current_dir(&directory).map_err(prepare(&directory))?;
    become_user(config.user)?;

    // All that strangers can reach starts here.
    let routes_file = RoutesFile::in_directory(Path::new("."));
    let tls = Tls::new(certificates);
    let tls = tls.map_err(|source| Error::Start { what: "TLS", source })?;
    let shared = Arc::new(Shared {
        routes: ArcSwap::from_pointee(kept_routes(&routes_file, config, cores, (&pages, &tls))),
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
    });
    let result = run(&shared, bound, seam, Access { owner, routes_file });
    remove_run_files(&run_dir);
    result
}

/// The routes of the process before.
fn kept_routes(
    file: &RoutesFile,
    config: &Config,
    cores: usize,
    (pages, tls): (&PageFiles, &Tls),
) -> Router {
    let table = file.load_or_empty();
    tls.set_table(&table);
    let previous = &Router::default();
    let ground = Ground { config, cores, pages, previous, retired: &[] };
    Router::compile(&table, &ground).unwrap_or_else(|error| {
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

/// Who may use the seam, and what it writes.
struct Access {
    owner: u32,
    routes_file: RoutesFile,
}

/// Runs threads until the end.
fn run(
    shared: &Arc<Shared>,
    bound: Vec<Bound>,
    seam: UnixListener,
    access: Access,
) -> Result<(), Error> {
    let config = &shared.config;
    let log = config.access_log.then(|| LogWriter::start(Path::new("."), config)).transpose();
    let log = log.map_err(|source| Error::Start { what: "the access log", source })?;
    let listening: Vec<_> = bound.iter().map(|bound| bound.listener.address).collect();
    let running = start_cores(shared, bound, log.as_ref())?;
    let routes = shared.routes.load().version;
    tracing::info!(?listening, cores = shared.cores, routes, "proxy ready");
    let result = control(shared, running, seam, access);
    if let (Some(LogWriter { sender, thread }), Ok(CoresEnded::All)) = (log, &result) {
        drop(sender);
        // The last lines; a panic in it was reported already.
        let _ = thread.join();
    }
    result.map(|_| ())
}

fn core_count(config: &Config) -> usize {
    match config.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Raises the soft limit of open files to the hard one; each client takes two, its own and the
/// app's.
fn connections_per_core(config: &Config, cores: usize) -> usize {
    let files = raise_open_files().unwrap_or_else(|error| {
        tracing::warn!(%error, "raise the limit of open files");
        1024
    });
    let total = match config.max_connections {
        0 => usize::try_from(files.saturating_sub(RESERVED_FILES) / 2).unwrap_or(usize::MAX),
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

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Prepare { path: path.to_owned(), source })
}

/// Makes `<data_dir>/proxy`, owned by the proxy's user.
fn prepare_directory(data_dir: &Path, user: User) -> Result<PathBuf, Error> {
    let path = absolute(data_dir)?.join(DIRECTORY);
    let prepare = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
        if is_root()? && owner_of(&path)? != user.uid {
            take_over(&path, user)?;
        }
        Ok(())
    };
    prepare().map_err(|source| Error::Prepare { path: path.clone(), source })?;
    Ok(path)
}

/// Hands the directory and its files to `user`: it is new, or the operator has changed the user.
/// Only plain files with one name: a former user may have left a link to a file that is not ours.
fn take_over(path: &Path, user: User) -> io::Result<()> {
    let directory = sys::fs::open_directory(path)?;
    take_over_files(&directory, user)?;
    match sys::fs::open_directory_beneath(directory.as_fd(), access_log::DIRECTORY) {
        Ok(logs) => take_over_files(&logs, user),
        // None yet, or something that is none of ours.
        Err(_) => Ok(()),
    }
}

fn take_over_files(directory: &OwnedFd, user: User) -> io::Result<()> {
    let User { uid, gid } = user;
    sys::fs::chown(directory.as_fd(), uid, gid)?;
    for name in sys::fs::names(directory.as_fd(), MAX_FILES)? {
        let stat = sys::fs::stat_at(directory.as_fd(), &name)?;
        if stat.kind == sys::fs::FileKind::File && stat.links == 1 {
            sys::fs::chown_at(directory.as_fd(), &name, uid, gid)?;
        }
    }
    Ok(())
}

/// Whether this process is root: by the owner of its own entry in /proc, proc(5).
fn is_root() -> io::Result<bool> {
    Ok(owner_of(Path::new("/proc/self"))? == 0)
}

fn owner_of(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.uid())
}

/// Binds the socket for the control plane, for its user alone from the first moment.
fn bind_seam(run_dir: &Path) -> Result<UnixListener, Error> {
    let path = run_dir.join(SOCKET_NAME);
    if UnixStream::connect(&path).is_ok() {
        return Err(Error::Running { path });
    }
    let temporary = run_dir.join(format!(".{SOCKET_NAME}.{}", std::process::id()));
    let bind = || {
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&temporary, &path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| Error::Prepare { path: path.clone(), source })
}

fn write_listener_file(run_dir: &Path, bound: &[Bound]) -> Result<(), Error> {
    let path = run_dir.join(LISTENER_FILE_NAME);
    let named = |name| {
        let listeners = bound.iter().map(|bound| bound.listener);
        listeners.filter(move |listener| listener.name == name).map(|listener| listener.address)
    };
    let file = ListenerFile {
        pid: std::process::id(),
        listen: named(ListenerName::Http).collect(),
        https: named(ListenerName::Https).collect(),
    };
    let json = serde_json::to_vec(&file).map_err(io::Error::other);
    json.and_then(|json| atomic_file::write_volatile(&path, &json, 0o644))
        .map_err(|source| Error::Prepare { path: path.clone(), source })
}

/// Becomes `user`, for good. A process that is not root stays who it is.
fn become_user(user: User) -> Result<(), Error> {
    let become_user = || {
        if is_root()? {
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

/// The cores while they run.
struct Running {
    commands: Vec<mpsc::Sender<CoreCommand>>,
    /// A message whenever a core ends.
    ended: mpsc::Receiver<()>,
}

fn start_cores(
    shared: &Arc<Shared>,
    bound: Vec<Bound>,
    log: Option<&LogWriter>,
) -> Result<Running, Error> {
    let (ended_tx, ended) = mpsc::channel(shared.cores);
    let mut remaining: Vec<_> =
        bound.into_iter().map(|bound| (bound.listener, bound.sockets.into_iter())).collect();
    let mut commands = Vec::with_capacity(shared.cores);
    for index in 0..shared.cores {
        let listeners = remaining
            .iter_mut()
            .filter_map(|(listener, sockets)| Some((*listener, sockets.next()?)))
            .collect();
        let sender = log.map(|log| log.sender.clone());
        let dropped = Arc::clone(&shared.log_dropped);
        let (shared, ended) = (Arc::clone(shared), ended_tx.clone());
        let (command_tx, command_rx) = mpsc::channel(CORE_QUEUE);
        let run = move || {
            // Told however the thread ends, a panic included.
            let _ended = EndOfCore(ended);
            let core = Core::new(index, shared, AccessLog::new(sender, dropped));
            if let Err(error) = super::core::run(core, listeners, command_rx) {
                tracing::error!(%error, core = index, "run a core");
            }
        };
        std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(run)
            .map_err(|source| Error::Start { what: "a core", source })?;
        commands.push(command_tx);
    }
    Ok(Running { commands, ended })
}

struct EndOfCore(mpsc::Sender<()>);

impl Drop for EndOfCore {
    fn drop(&mut self) {
        // The queue has room for every core, and a control thread that is gone need not know.
        let _ = self.0.try_send(());
    }
}

fn control(
    shared: &Arc<Shared>,
    running: Running,
    seam: UnixListener,
    access: Access,
) -> Result<CoresEnded, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Error::Start { what: "the control runtime", source })?;
    let shared = Arc::clone(shared);
    runtime.block_on(async move {
        let Running { commands, mut ended } = running;
        let (stop_tx, mut stop) = mpsc::channel(1);
        let Access { owner, routes_file } = access;
        let seam = Seam::new(shared.clone(), commands.clone(), routes_file, owner, stop_tx)
            .serve(seam)
            .map_err(|source| Error::Start { what: "the control socket", source })?;
        let mut signals =
            Signals::new().map_err(|source| Error::Start { what: "the signal handler", source })?;
        let grace = tokio::select! {
            // Cancel-safe, all of them: each only waits.
            () = signals.next() => shared.config.shutdown_timeout_ms.into(),
            Some(grace) = stop.recv() => grace,
            _ = ended.recv() => return Err(Error::CoreEnded),
        };
        let cores_ended = end_cores(&commands, &mut ended, grace, &mut signals).await;
        seam.abort();
        Ok(cores_ended)
    })
}

async fn end_cores(
    commands: &[mpsc::Sender<CoreCommand>],
    ended: &mut mpsc::Receiver<()>,
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
        for _ in commands {
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

/// Removes the socket and the listener file. Where the run directory belongs to another user this
/// is left to the control plane.
pub(super) fn remove_run_files(run_dir: &Path) {
    for name in [SOCKET_NAME, LISTENER_FILE_NAME] {
        let _ = std::fs::remove_file(run_dir.join(name));
    }
}
