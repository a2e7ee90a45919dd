//! A core: one thread with its own runtime, listeners, upstream connections and log batch.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::access_log::AccessLog;
use super::client::Client;
use super::clock::{Clock, RequestIds, unix_ms};
use super::h2::Origins;
use super::listen::Listener;
use super::page::{self, Page};
use super::page_files::PageFiles;
use super::router::{Routes, Target};
use super::tls::Tls;
use super::upstream::{OpenRequest, Pool, Upstream};
use super::{Config, connection};

/// How long accepting rests when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Scratch buffers for heads that a core keeps, and the largest it keeps.
const MAX_SCRATCH: usize = 64;
const MAX_SCRATCH_BYTES: usize = 8 * 1024;

/// What all cores read.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) routes: Routes,
    /// Pages of apps' own.
    pub(super) pages: PageFiles,
    /// Where redirects to HTTPS go; `None` if it is not spoken.
    pub(super) https_port: Option<u16>,
    /// How many cores there are.
    pub(super) cores: usize,
    /// Client connections that one core takes at once.
    pub(super) max_connections: usize,
    pub(super) connections: AtomicU64,
    pub(super) unknown_host: AtomicU64,
    pub(super) bad_request: AtomicU64,
    /// What clients were told instead of an app's answer, as `page::CODES` orders it.
    pub(super) errors: [AtomicU64; page::CODES.len()],
    /// Instances left alone for their failures.
    pub(super) ejections: AtomicU64,
    pub(super) log_dropped: Arc<AtomicU64>,
    /// A successor has taken over: what is kept on disk is its own affair now.
    pub(super) retiring: AtomicBool,
    pub(super) tls: Tls,
}

/// What the control thread tells a core.
#[derive(Debug)]
pub(super) enum CoreCommand {
    /// The table was switched. The answer says that no lookup in the old one is under way any more
    /// and that idle connections to upstreams it has lost are closed.
    Switched(oneshot::Sender<()>),
    /// A successor takes the new connections; those there are end as their clients like, or at the
    /// deadline. Idle ones are kept: a client that sends a request just then would find it lost.
    Retire(Instant),
    /// Take no more connections and close idle ones; end when those there are have ended, or at the
    /// deadline.
    Stop(Instant),
}

/// A core's state; one thread's, so without locks.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    /// Connections to instances that speak HTTP/2.
    pub(super) origins: Origins,
    pub(super) clock: Clock,
    pub(super) ids: RequestIds,
    pub(super) log: AccessLog,
    /// The process retires or stops: connections close after their request.
    pub(super) draining: Cell<bool>,
    /// The process stops: idle connections close.
    pub(super) stopping: Cell<bool>,
    connections: RefCell<Connections>,
    /// Those of them that are no clients, but listeners, which are woken too.
    listeners: Cell<usize>,
    /// Told when a connection ends, and when the process is about to.
    ended: Notify,
    scratch: RefCell<Vec<Vec<u8>>>,
}

/// The tasks to wake when the process is about to end, by slot.
#[derive(Debug, Default)]
struct Connections {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Connections {
    /// A place that is counted, though nobody is to be woken there yet.
    fn take_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        })
    }

    fn count(&self) -> usize {
        self.wakers.len() - self.free.len()
    }
}

/// Where a request goes, at this instant.
#[derive(Debug)]
pub(super) enum Lease {
    /// To an instance, on which it is counted from now on.
    Open(OpenRequest),
    /// Nowhere: the app's state.
    Unavailable { target: Arc<Target>, page: Page },
    /// Nowhere: every instance was tried.
    Exhausted,
    /// The route is gone.
    Gone,
}

impl Core {
    pub(super) fn new(index: usize, shared: Arc<Shared>, log: AccessLog) -> Self {
        Self {
            index,
            pool: Pool::new(&shared.config),
            origins: Origins::new(&shared.config),
            shared,
            clock: Clock::default(),
            ids: RequestIds::new(),
            log,
            draining: Cell::new(false),
            stopping: Cell::new(false),
            connections: RefCell::default(),
            listeners: Cell::new(0),
            ended: Notify::new(),
            scratch: RefCell::default(),
        }
    }

    /// Opens a request on the best upstream not in `tried` of the route that `admitted` belongs to,
    /// as it is in the table in force. The lookup and the count are one step for this core, on which
    /// `CoreCommand::Switched` relies.
    pub(super) fn lease(&self, admitted: &Arc<Target>, tried: &[SocketAddr]) -> Lease {
        let router = self.shared.routes.of_core(self.index);
        let Some(target) = router.successor(admitted) else { return Lease::Gone };
        if let Some(page) = target.page() {
            return Lease::Unavailable { target: Arc::clone(target), page };
        }
        match self.pool.choose(target.upstreams(), tried, self.index) {
            Some(place) => Lease::Open(OpenRequest::new(target, place, self.index)),
            None => Lease::Exhausted,
        }
    }

    /// Notes that `upstream` took no connection, or hung up without an answer.
    pub(super) fn note_failure(&self, upstream: &Upstream) {
        if upstream.health.failed(unix_ms()) {
            self.shared.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(address = %upstream.address, "leave an instance alone that keeps failing");
        }
    }

    /// A scratch buffer; empty, usually with capacity.
    pub(super) fn take_scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_scratch(&self, mut scratch: Vec<u8>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < MAX_SCRATCH && scratch.capacity() <= MAX_SCRATCH_BYTES {
            scratch.clear();
            kept.push(scratch);
        }
    }

    fn stop_soon(&self) {
        self.stopping.set(true);
        self.retire();
    }

    fn retire(&self) {
        self.draining.set(true);
        for waker in self.connections.borrow().wakers.iter().flatten() {
            waker.wake_by_ref();
        }
        // A listener that waits for room must let go of its port.
        self.ended.notify_waiters();
    }
}

/// A task's place among those that are woken when the process is about to end.
#[derive(Debug)]
pub(super) struct Registration {
    core: Rc<Core>,
    slot: usize,
}

impl Registration {
    /// Takes a place. It counts from now on, before its task has run for the first time: a core that
    /// retires must not end between accepting a connection and serving it.
    pub(super) fn new(core: Rc<Core>) -> Self {
        let slot = core.connections.borrow_mut().take_place();
        core.shared.connections.fetch_add(1, Ordering::Relaxed);
        Self { core, slot }
    }

    /// The calling task is the one to wake.
    pub(super) async fn attend(&self) {
        let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
        self.core.connections.borrow_mut().wakers[self.slot] = Some(waker);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut connections = self.core.connections.borrow_mut();
        connections.wakers[self.slot] = None;
        connections.free.push(self.slot);
        self.core.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.core.ended.notify_waiters();
    }
}

/// What a core waits for before it accepts: that everything else is there too.
#[derive(Debug)]
pub(super) struct Gate {
    /// Told that nothing can fail here any more; dropped if something has.
    pub(super) ready: oneshot::Sender<()>,
    /// Dropped if the process gives up.
    pub(super) open: oneshot::Receiver<()>,
}

/// Runs a core on the calling thread until it is told to stop.
///
/// # Errors
/// If its runtime cannot be made, or a listener not be watched, before anything is accepted; or if it
/// does not accept from one of its listeners any more.
pub(super) fn run(
    core: Core,
    listeners: Vec<(Listener, std::net::TcpListener)>,
    commands: mpsc::Receiver<CoreCommand>,
    gate: Gate,
) -> io::Result<()> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().build_local(LocalOptions::default())?;
    runtime.block_on(serve(Rc::new(core), listeners, commands, gate))
}

async fn serve(
    core: Rc<Core>,
    listeners: Vec<(Listener, std::net::TcpListener)>,
    mut commands: mpsc::Receiver<CoreCommand>,
    Gate { ready, open }: Gate,
) -> io::Result<()> {
    let watch = |(listener, socket)| Ok((listener, TcpListener::from_std(socket)?));
    let listeners = listeners.into_iter().map(watch).collect::<io::Result<Vec<_>>>()?;
    if ready.send(()).is_err() || open.await.is_err() {
        // Whoever started us has given up.
        return Ok(());
    }
    core.listeners.set(listeners.len());
    let mut accepting = JoinSet::new();
    for (listener, socket) in listeners {
        accepting.spawn_local(accept(Rc::clone(&core), Rc::new(listener), socket));
    }
    for housekeeping in [Housekeeping::Pool, Housekeeping::Log] {
        tokio::task::spawn_local(housekeeping.run(Rc::clone(&core)));
    }
    let stop = tokio::select! {
        // Neither is asked again once the other has answered.
        stop = obey(&core, &mut commands) => stop,
        () = one_lost(&mut accepting, &core.draining) => {
            return Err(io::Error::other("a listener is not accepted from any more"));
        }
    };
    if let Some(deadline) = stop {
        core.stop_soon();
        // Past the deadline the connections are cut, with the runtime.
        let _ = tokio::time::timeout_at(deadline, all_ended(&core)).await;
    }
    core.log.flush();
    Ok(())
}

/// Returns when a task that accepts has ended before its time: a panic in it would leave clients in
/// a queue that nobody looks at.
async fn one_lost(accepting: &mut JoinSet<()>, draining: &Cell<bool>) {
    while accepting.join_next().await.is_some() {
        if !draining.get() {
            return;
        }
    }
    // All have ended, as they should.
    std::future::pending().await
}

/// Does what it is told until it is to stop, and returns by when; or until a retired core has
/// nothing left to do.
async fn obey(core: &Core, commands: &mut mpsc::Receiver<CoreCommand>) -> Option<Instant> {
    let mut retirement = None;
    loop {
        let command = match retirement {
            None => commands.recv().await,
            Some(deadline) => tokio::select! {
                // Cancel-safe, all of them: each only waits.
                command = commands.recv() => command,
                () = all_ended(core) => return None,
                () = tokio::time::sleep_until(deadline) => return Some(deadline),
            },
        };
        match command {
            Some(CoreCommand::Switched(done)) => {
                let router = core.shared.routes.of_core(core.index);
                core.pool.retain(|address| router.upstreams.contains_key(&address));
                core.origins.retain(|address| router.upstreams.contains_key(&address));
                // The control thread may have given up waiting.
                let _ = done.send(());
            }
            Some(CoreCommand::Retire(deadline)) => {
                core.retire();
                retirement = Some(deadline);
            }
            Some(CoreCommand::Stop(deadline)) => return Some(deadline),
            None => return Some(Instant::now()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Housekeeping {
    Pool,
    Log,
}

impl Housekeeping {
    async fn run(self, core: Rc<Core>) {
        match self {
            Self::Pool => core.pool.keep_fresh().await,
            Self::Log => core.log.keep_flushed().await,
        }
    }
}

async fn all_ended(core: &Core) {
    loop {
        let ended = core.ended.notified();
        if core.connections.borrow().count() == 0 {
            return;
        }
        ended.await;
    }
}

/// Takes connections until the process is about to end; those the kernel has taken by then too.
async fn accept(core: Rc<Core>, listener: Rc<Listener>, socket: TcpListener) {
    let registration = Registration::new(Rc::clone(&core));
    registration.attend().await;
    // A listener is registered to be woken, and is no client.
    core.shared.connections.fetch_sub(1, Ordering::Relaxed);
    loop {
        wait_for_room(&core).await;
        match next_connection(&core, &socket).await {
            None => break,
            Some(Ok((stream, peer))) => {
                let client = Client::new(peer, Rc::clone(&listener));
                let registration = Registration::new(Rc::clone(&core));
                let serve = connection::serve(registration, Rc::clone(&core), stream, client);
                tokio::task::spawn_local(serve);
            }
            Some(Err(error)) => {
                // The client may be gone already (ECONNABORTED); the rest is a shortage.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, listener = %listener.address, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    core.shared.connections.fetch_add(1, Ordering::Relaxed);
    drop(registration);
}

async fn wait_for_room(core: &Core) {
    loop {
        let ended = core.ended.notified();
        let count = core.connections.borrow().count();
        let room = core.shared.max_connections.saturating_add(core.listeners.get());
        if count < room || core.draining.get() {
            return;
        }
        ended.await;
    }
}

async fn next_connection(
    core: &Core,
    socket: &TcpListener,
) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    std::future::poll_fn(|cx| match socket.poll_accept(cx) {
        std::task::Poll::Pending if core.draining.get() => std::task::Poll::Ready(None),
        poll => poll.map(Some),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_before_its_task_has_run() {
        let mut connections = Connections::default();
        let (first, second) = (connections.take_place(), connections.take_place());
        assert_eq!((first, second, connections.count()), (0, 1, 2));
        connections.free.push(first);
        assert_eq!(connections.count(), 1);
        assert_eq!(connections.take_place(), first);
    }

    #[test]
    fn the_end_of_a_task_that_accepts_is_noticed_unless_the_process_is_about_to_end() {
        let local = LocalOptions::default();
        let runtime = Builder::new_current_thread().enable_time().build_local(local).unwrap();
        runtime.block_on(async {
            let lost = async |draining| {
                let mut accepting = JoinSet::new();
                accepting.spawn_local(async { panic!("a listener's task") });
                accepting.spawn_local(std::future::pending());
                let draining = Cell::new(draining);
                let lost = one_lost(&mut accepting, &draining);
                tokio::time::timeout(Duration::from_millis(100), lost).await.is_ok()
            };
            assert!(lost(false).await);
            assert!(!lost(true).await);
        });
    }
}
