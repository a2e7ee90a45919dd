//! The processes of one proxy: the one that takes new clients, and those that it succeeded.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, timeout};

use crate::domain::Millis;
use crate::support::{report, tasks};

use super::control::ProxyHandle;
use super::handover::Predecessor;
use super::protocol::Generation;
use super::{Drained, Error, RouteTable, Status, places};

/// For a process whose socket has closed to end by itself, before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Processes that may retire at once; each takes memory, and one that is asked for again and again
/// must not fill the machine. The oldest is ended first.
const MAX_RETIRING: usize = 8;

/// How long two processes may both say that they take clients: between the last steps of a
/// hand-over.
const SETTLE: Duration = Duration::from_secs(5);
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// How long a process that lives and does not answer is waited for, which has the ports: the machine
/// may be busy, and another process could not start beside it.
const SILENCE: Duration = Duration::from_secs(30);

/// What runs in a run directory.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The process that takes new clients.
    pub(super) serving: Option<ProxyHandle>,
    pub(super) retiring: Vec<ProxyHandle>,
    /// Processes that speak another protocol.
    pub(super) foreign: Vec<u32>,
}

impl Survey {
    /// Looks until it is clear which process serves. Removes what processes left that have ended.
    pub(super) async fn take(run_dir: &Path) -> Self {
        let start = Instant::now();
        loop {
            let mut survey = Self::default();
            let (mut serving, mut silent) = (Vec::new(), false);
            for pid in places::generations(run_dir) {
                match ProxyHandle::connect_to(run_dir, pid).await {
                    Ok(handle) if handle.hello().retiring => survey.retiring.push(handle),
                    Ok(handle) => serving.push(handle),
                    Err(Error::Protocol { .. }) => survey.foreign.push(pid),
                    Err(error) if is_silent(&error) && is_process(pid) => {
                        tracing::warn!(pid, error = report(&error), "a proxy does not answer");
                        silent = true;
                    }
                    Err(_) => places::remove_sockets(run_dir, pid),
                }
            }
            let patience = match (silent, serving.len()) {
                (true, _) => SILENCE,
                (false, 0 | 1) => Duration::ZERO,
                (false, _) => SETTLE,
            };
            if start.elapsed() < patience {
                tokio::time::sleep(SETTLE_POLL).await;
                continue;
            }
            // A hand-over that never came to its end: the one with the newest routes stays.
            serving.sort_by_key(ProxyHandle::routes_version);
            survey.serving = serving.pop();
            survey.retiring.extend(serving);
            return survey;
        }
    }
}

/// Whether somebody has the socket open, and says nothing. Unlike what a process leaves that has
/// ended: nobody listens there.
fn is_silent(error: &Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let Error::Connect { source, .. } = error else { return true };
    !matches!(source.kind(), ConnectionRefused | NotFound)
}

/// Whether there is a process of this number; another's, perhaps.
fn is_process(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// What processes that retire are given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// For what is open.
    pub(super) drain: Millis,
    /// For the same, where a process must end before its time.
    pub(super) grace: Duration,
}

/// The retiring processes. They get every table: an instance that goes away under a request is a
/// request lost.
#[derive(Debug, Default)]
pub(super) struct Retiring(Mutex<Vec<ProxyHandle>>);

impl Retiring {
    /// Watches `handle` until it ends, and clears up after it. Tells it to retire, if nobody has.
    /// `child` is reaped, if it is ours.
    pub(super) fn add(
        self: &Arc<Self>,
        run_dir: &Path,
        handle: ProxyHandle,
        child: Option<Child>,
        terms: Terms,
    ) {
        let oldest = {
            let mut all = self.lock();
            all.push(handle.clone());
            (all.len() > MAX_RETIRING).then(|| all.remove(0))
        };
        if let Some(oldest) = oldest {
            tracing::warn!(pid = oldest.pid(), "end the oldest of many that retire");
            tasks::spawn("proxy/end-generation", async move { end(&oldest, terms.grace).await });
        }
        let (retiring, run_dir) = (Arc::clone(self), run_dir.to_owned());
        tasks::spawn("proxy/generation", async move {
            see_retire(&run_dir, &handle, terms).await;
            let mut handle = handle;
            handle.closed().await;
            while let Some(again) = handle.again().await {
                tracing::warn!(pid = again.pid(), "the connection to a retiring proxy was lost");
                retiring.replace(&again);
                handle = again;
                handle.closed().await;
            }
            tracing::info!(pid = handle.pid(), "a proxy that was replaced has ended");
            places::remove_sockets(&run_dir, handle.pid());
            retiring.lock().retain(|other| other.pid() != handle.pid());
            reap(child).await;
        });
    }

    /// Asks `again` in the place of the connection that was lost, unless it is to end.
    fn replace(&self, again: &ProxyHandle) {
        let mut all = self.lock();
        if let Some(lost) = all.iter_mut().find(|other| other.pid() == again.pid()) {
            *lost = again.clone();
        }
    }

    pub(super) fn all(&self) -> Vec<ProxyHandle> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ProxyHandle>> {
        // One element at a time is added or removed, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `table` in force in all of them. One that cannot follow is told to end, so that it
    /// sends nobody to instances that are gone.
    pub(super) async fn set_routes(&self, table: &RouteTable, grace: Duration) {
        let set = |handle: ProxyHandle| async move {
            match handle.set_routes(table).await {
                Ok(()) | Err(Error::Gone) => {}
                Err(error) => {
                    tracing::error!(pid = handle.pid(), error = report(&error), "route there too");
                    end(&handle, grace).await;
                }
            }
        };
        futures_util::future::join_all(self.all().into_iter().map(set)).await;
    }

    /// Adds what they count to `status`, the serving process's.
    pub(super) async fn add_to(&self, status: &mut Status) {
        for handle in self.all() {
            // One that ends meanwhile has nothing to add.
            let Ok(own) = handle.status().await else { continue };
            status.generations.push(generation(&handle, &own, true));
            status.add(own);
        }
    }

    /// Ends all, giving what is open until `deadline`.
    pub(super) async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        let all = self.all();
        let stops = all.iter().map(|handle| handle.stop(deadline));
        futures_util::future::try_join_all(stops).await.map(|_| ())
    }
}

async fn end(handle: &ProxyHandle, grace: Duration) {
    if let Err(error) = handle.stop(grace).await {
        tracing::error!(pid = handle.pid(), error = report(&error), "end a proxy");
    }
}

/// Sees to it that `handle` accepts nobody any more. Its successor should have told it; where that
/// failed it would take clients from the same queues for good, and never end.
async fn see_retire(run_dir: &Path, handle: &ProxyHandle, terms: Terms) {
    let pid = handle.pid();
    if !is_serving(run_dir, pid).await {
        return;
    }
    tracing::warn!(pid, "tell a proxy that was replaced to retire");
    let directory = run_dir.to_owned();
    let told = tokio::task::spawn_blocking(move || {
        let predecessor = Predecessor::connect(&directory, pid)?;
        // Open until it has let go of them; whoever serves holds its own.
        let _sockets = predecessor.sockets()?;
        predecessor.take_over(terms.drain)
    });
    let error = match told.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => report(&error),
        Err(error) => error.to_string(),
    };
    // Its successor may have had the last word meanwhile.
    if is_serving(run_dir, pid).await {
        tracing::error!(pid, error, "end a proxy that cannot be told to retire");
        end(handle, terms.grace).await;
    }
}

async fn is_serving(run_dir: &Path, pid: u32) -> bool {
    // What does not answer has ended, or is seen to by whoever waits for its end.
    ProxyHandle::connect_to(run_dir, pid).await.is_ok_and(|now| !now.hello().retiring)
}

/// Waits until `handle` has no request open to `upstreams`, or for `end`.
pub(super) async fn drain(
    mut handle: ProxyHandle,
    upstreams: &[SocketAddr],
    end: Instant,
) -> Result<Drained, Error> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match handle.drain(upstreams, left).await {
            Err(Error::Gone) => {}
            result => return result,
        }
        match handle.again().await {
            Some(again) if Instant::now() < end => handle = again,
            Some(_) => return Err(Error::Gone),
            // What has ended has nothing open, and what does not answer is ended.
            None => return Ok(Drained::default()),
        }
    }
}

/// What is told of a process.
pub(super) fn generation(handle: &ProxyHandle, status: &Status, retiring: bool) -> Generation {
    Generation {
        pid: handle.pid(),
        software: handle.hello().software.clone(),
        retiring,
        routes: status.routes,
        connections: status.connections,
    }
}

/// Waits for the end of a process whose socket has closed.
pub(super) async fn reap(child: Option<Child>) {
    let Some(mut child) = child else { return };
    match timeout(END_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) => tracing::info!(%status, "proxy ended"),
        Ok(Err(error)) => tracing::warn!(%error, "wait for the proxy"),
        // Without its socket it is of no use, and it holds the ports.
        Err(_) => {
            if let Err(error) = child.kill().await {
                tracing::error!(%error, "kill a proxy that does not end");
            }
        }
    }
}
