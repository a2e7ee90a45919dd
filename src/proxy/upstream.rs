//! Instances, how busy they are, and the connections to them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::unix_ms;
use super::health::Health;
use super::router::Target;

/// How long an instance that refused a connection is passed over while others are there.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How long an idle connection is good for a request that must not be sent twice. Servers close idle
/// connections without warning, the hastiest in common use after 2 s (gunicorn) and 5 s (Node).
const CAUTIOUS_IDLE: Duration = Duration::from_secs(1);

/// Finds instances that vanished: after 10 s of silence a probe every 5 s, gone after 3. They are on
/// this machine, where no probe is lost on the way.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;

/// An instance of an app, shared by all cores.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    cores: Box<[CoreLoad]>,
    /// Not in the table in force: no connection to it is kept.
    removed: AtomicBool,
    /// Somebody waits for `idle`.
    watched: AtomicBool,
    /// Told when the last request of a core ends, if `watched`.
    idle: Notify,
}

/// One core's share, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CoreLoad {
    open: AtomicU64,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, cores: usize) -> Self {
        Self {
            address,
            health: Health::default(),
            cores: (0..cores).map(|_| CoreLoad::default()).collect(),
            removed: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// Open requests over all cores.
    pub(super) fn open(&self) -> u64 {
        self.cores.iter().map(|core| core.open.load(Ordering::SeqCst)).sum()
    }

    pub(super) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Release);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Returns once no request is open. Cancel-safe.
    pub(super) async fn drained(&self) {
        self.watched.store(true, Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            let mut idle = std::pin::pin!(idle);
            // Registered before the look, so that an end in between is not missed.
            idle.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// One open request; closed when dropped.
#[derive(Debug)]
pub(super) struct OpenRequest {
    /// Where it belongs, in the table of its core: no other core counts references to it.
    pub(super) target: Arc<Target>,
    place: usize,
    core: usize,
}

impl OpenRequest {
    /// Counts a request of `core` on the upstream at `place` of those of `target`.
    pub(super) fn new(target: &Arc<Target>, place: usize, core: usize) -> Self {
        let request = Self { target: Arc::clone(target), place, core };
        let open = &request.upstream().cores[core].open;
        open.store(open.load(Ordering::Relaxed) + 1, Ordering::Release);
        request
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.target.upstreams()[self.place]
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let upstream = self.upstream();
        let open = &upstream.cores[self.core].open;
        // Only this core's thread writes here, so the two steps are one.
        let left = open.load(Ordering::Relaxed) - 1;
        // Sequentially consistent with `drained`, which says that it watches and then looks: either
        // it sees this store, or we see that it watches.
        open.store(left, Ordering::SeqCst);
        if left == 0 && upstream.watched.load(Ordering::SeqCst) {
            upstream.idle.notify_waiters();
        }
    }
}

/// A connection between two requests.
#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Instant,
}

/// A connection with a request on it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    /// It carried a request before: the instance may have closed it since.
    pub(super) reused: bool,
}

/// Whether a connection that may be stale is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// The request can be sent again if the connection turns out to be closed.
    Freely,
    /// It cannot: only a connection that was just used, and looked at.
    Cautiously,
    /// A retry: never trust the pool twice.
    Never,
}

/// A core's connections to upstreams.
#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>, RandomState>>,
    refused: RefCell<HashMap<SocketAddr, Instant>>,
    turn: Cell<usize>,
    max_idle: usize,
    max_age: Duration,
    connect_timeout: Duration,
    /// Told when a connection comes into an empty pool.
    filled: Notify,
}

impl Pool {
    pub(super) fn new(config: &super::Config) -> Self {
        Self {
            idle: RefCell::default(),
            refused: RefCell::default(),
            turn: Cell::new(0),
            max_idle: config.upstream_idle_connections,
            max_age: config.upstream_idle_timeout_ms.into(),
            connect_timeout: config.connect_timeout_ms.into(),
            filled: Notify::new(),
        }
    }

    /// The place of the upstream with the fewest open requests of `core`, but for those in `tried`;
    /// equals take turns. One that refused a moment ago, or is ejected, only if there is no other.
    pub(super) fn choose(
        &self,
        upstreams: &[Arc<Upstream>],
        tried: &[SocketAddr],
        core: usize,
    ) -> Option<usize> {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let load = |upstream: &Arc<Upstream>| {
            let open = upstream.cores[core].open.load(Ordering::Relaxed);
            let shunned = self.refused_lately(upstream.address) || is_ejected(upstream);
            (shunned, open)
        };
        (0..upstreams.len())
            .map(|offset| turn.wrapping_add(offset) % upstreams.len())
            .filter(|place| !tried.contains(&upstreams[*place].address))
            .min_by_key(|place| load(&upstreams[*place]))
    }

    fn refused_lately(&self, address: SocketAddr) -> bool {
        let mut refused = self.refused.borrow_mut();
        // Nearly always empty: the common case costs one comparison.
        if refused.is_empty() {
            return false;
        }
        match refused.get(&address) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                refused.remove(&address);
                false
            }
            None => false,
        }
    }

    /// A connection to `address`: an idle one as far as `reuse` allows, or a new one.
    ///
    /// # Errors
    /// Of the connect; `TimedOut` at the configured deadline. Nothing has been sent then.
    pub(super) async fn connect(&self, address: SocketAddr, reuse: Reuse) -> io::Result<Connected> {
        if reuse != Reuse::Never
            && let Some(stream) = self.take_idle(address, reuse)
        {
            return Ok(Connected { stream, reused: true });
        }
        let result = tokio::time::timeout(self.connect_timeout, open(address)).await;
        match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => Ok(Connected { stream, reused: false }),
            Err(error) => {
                self.refused.borrow_mut().insert(address, Instant::now() + REFUSED_PAUSE);
                Err(error)
            }
        }
    }

    fn take_idle(&self, address: SocketAddr, reuse: Reuse) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&address)?;
        // Last in, first out: the others age and are closed.
        while let Some(Idle { stream, since }) = connections.pop() {
            if is_stale(&stream) {
                continue;
            }
            if reuse == Reuse::Freely {
                return Some(stream);
            }
            if since.elapsed() > CAUTIOUS_IDLE {
                // Those below are older still.
                connections.push(Idle { stream, since });
                return None;
            }
            if is_open(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose answer was whole by `now`.
    pub(super) fn keep(&self, upstream: &Upstream, stream: TcpStream, now: Instant) {
        if upstream.is_removed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            self.filled.notify_one();
        }
        let connections = idle.entry(upstream.address).or_default();
        if connections.len() < self.max_idle {
            connections.push(Idle { stream, since: now });
        }
    }

    /// Closes the idle connections to upstreams that `keep` does not want.
    pub(super) fn retain(&self, keep: impl Fn(SocketAddr) -> bool) {
        self.idle.borrow_mut().retain(|address, _| keep(*address));
    }

    /// Closes connections that are too old, or closed by the other side, once a second. Sleeps while
    /// the pool is empty.
    pub(super) async fn keep_fresh(&self) {
        loop {
            if self.idle.borrow().is_empty() {
                self.filled.notified().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = Instant::now();
            self.idle.borrow_mut().retain(|_, connections| {
                let fresh = |idle: &Idle| {
                    now.duration_since(idle.since) < self.max_age && !is_stale(&idle.stream)
                };
                connections.retain(fresh);
                !connections.is_empty()
            });
        }
    }
}

/// Connects to an instance. Cancel-safe.
///
/// Of one that vanishes without a word (its link is cut, its machine is) the kernel finds out. Not
/// by TCP_USER_TIMEOUT, though it would also do so while something sent is not acknowledged: since
/// Linux 5.11 that ends connections to instances that live, but do not read for so long.
pub(super) async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    let keepalive = keepalive.with_interval(KEEPALIVE_EVERY).with_retries(KEEPALIVE_TRIES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

fn is_ejected(upstream: &Upstream) -> bool {
    upstream.health.was_ejected() && upstream.health.is_ejected(unix_ms())
}

/// Whether an idle connection has an end, an error or bytes that nobody asked for. Usually costs no
/// system call: without an event from the kernel there is nothing to read.
fn is_stale(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Asks the kernel itself, whose word may be newer than the last event.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let peeked = SockRef::from(stream).peek(&mut byte);
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(instances: u8) -> Arc<Target> {
        let upstream = |host| Arc::new(Upstream::new(SocketAddr::from(([10, 0, 0, host], 80)), 2));
        Target::with_upstreams((1..=instances).map(upstream).collect())
    }

    #[test]
    fn the_least_loaded_upstream_is_chosen_and_equals_take_turns() {
        let pool = Pool::new(&super::super::Config::default());
        let target = target(3);
        let upstreams = target.upstreams();
        let mut open = Vec::new();
        for _ in 0..30 {
            let chosen = pool.choose(upstreams, &[], 0).unwrap();
            open.push(OpenRequest::new(&target, chosen, 0));
        }
        assert!(upstreams.iter().all(|upstream| upstream.open() == 10));
        open.retain(|request| request.upstream().address != upstreams[1].address);
        assert_eq!(pool.choose(upstreams, &[], 0), Some(1));
        let tried = [upstreams[1].address];
        assert_ne!(pool.choose(upstreams, &tried, 0).unwrap(), 1);
    }

    #[test]
    fn equally_idle_upstreams_share_one_client_after_another() {
        let pool = Pool::new(&super::super::Config::default());
        let target = target(2);
        let first = pool.choose(target.upstreams(), &[], 0).unwrap();
        assert_ne!(pool.choose(target.upstreams(), &[], 0).unwrap(), first);
    }

    #[tokio::test]
    async fn a_drain_ends_with_the_last_open_request() {
        let target = target(1);
        let (first, second) = (OpenRequest::new(&target, 0, 0), OpenRequest::new(&target, 0, 1));
        drop(first);
        let drained = target.upstreams()[0].drained();
        let mut drained = std::pin::pin!(drained);
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, &mut drained).await.is_err());
        drop(second);
        tokio::time::timeout(Duration::from_secs(5), drained).await.unwrap();
    }

    #[tokio::test]
    async fn connections_to_instances_are_probed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = open(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
