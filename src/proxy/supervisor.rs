//! Keeps a proxy running: adopts the one there is, starts one where there is none, replaces one
//! that is not as it should be.
//!
//! ```text
//!             adopt or start            its socket closes
//!   absent ───────────────────► running ─────────────────► absent (start again, with back-off)
//!                              │  ▲  │ stop
//!                      upgrade │  │  └──────► stopped
//!                              ▼  │
//!                        a successor takes over; the process before retires until what was open
//!                        has ended (generations.rs)
//! ```
//!
//! **Invariants.** An upgrade that fails leaves the process as it was. Whoever is replaced retires,
//! gets every table, and is asked in every drain, as long as it lives; a new control plane adopts
//! all of them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::Millis;
use crate::support::backoff::Backoff;
use crate::support::{atomic_file, report, tasks};

use super::control::ProxyHandle;
use super::generations::{self, Retiring, Survey, Terms};
use super::launch::START_TIMEOUT;
use super::protocol::LISTENER_FILE_NAME;
use super::{
    Config, Drained, Error, ExtraListener, ListenerFile, RouteTable, Start, Status, SupervisorSpec,
    listen, places,
};

/// The waits between failed starts. The first start after a death does not wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// For a process that was told to end; longer than any grace that makes sense.
const REAP_TIMEOUT: Duration = Duration::from_secs(60);

/// For what is open in a process of another protocol, which cannot be told of new routes.
const FOREIGN_DRAIN: Millis = Millis(60_000);

/// For an upgrade: a start, and before it perhaps the restart of a process that has just died.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps a proxy running. Cheap to clone. When all clones are dropped the supervision ends, and the
/// proxy goes on.
#[derive(Debug, Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
    current: watch::Receiver<Option<ProxyHandle>>,
    upgrades: mpsc::Sender<Upgrade>,
    /// Ends the supervision with the last clone.
    _supervision: Arc<DropGuard>,
}

/// A wish for a new process.
#[derive(Debug)]
struct Upgrade {
    /// Ports beyond those of the settings.
    listeners: Option<Vec<ExtraListener>>,
    done: oneshot::Sender<Result<Upgraded, Error>>,
}

/// An upgrade that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgraded {
    /// The process that retires.
    pub before: u32,
    /// The process that takes new clients.
    pub pid: u32,
}

#[derive(Debug)]
struct Inner {
    spec: SupervisorSpec,
    /// The last table that was set, for a successor that does not have it.
    table: Mutex<Option<RouteTable>>,
    retiring: Arc<Retiring>,
    /// Tables and upgrades come one after the other: a process that is being replaced must not be
    /// the only one to know a table. A tokio mutex, because it is held while the proxy is asked.
    order: tokio::sync::Mutex<()>,
    ending: CancellationToken,
}

impl Supervisor {
    /// Adopts the proxy that runs in `spec.run_dir`, or starts one; from then on starts another
    /// whenever it dies, with the routes it had. One with other settings, or of another program, is
    /// replaced without a lost connection; if that fails it is kept as it is, which is logged.
    /// Returns when the proxy answers.
    ///
    /// # Errors
    /// What kept it from starting, with the words of its log (a port that is taken).
    pub async fn ensure_running(spec: SupervisorSpec) -> Result<Self, Error> {
        let inner = Arc::new(Inner {
            spec,
            table: Mutex::default(),
            retiring: Arc::default(),
            order: tokio::sync::Mutex::default(),
            ending: CancellationToken::new(),
        });
        let (handle, child) = inner.open().await?;
        inner.write_listener_file(&handle);
        let (current_tx, current) = watch::channel(Some(handle.clone()));
        let (upgrades, upgrades_rx) = mpsc::channel(1);
        let life =
            Life { inner: Arc::clone(&inner), current: current_tx, child, upgrades: upgrades_rx };
        tasks::spawn("proxy/supervisor", life.supervise(handle));
        let supervision = Arc::new(inner.ending.clone().drop_guard());
        Ok(Self { inner, current, upgrades, _supervision: supervision })
    }

    /// The proxy now; waits for one that is being started, up to 10 s.
    ///
    /// # Errors
    /// `Timeout`, when no proxy comes up.
    pub async fn handle(&self) -> Result<ProxyHandle, Error> {
        let mut current = self.current.clone();
        let is_open =
            |handle: &Option<ProxyHandle>| handle.as_ref().is_some_and(ProxyHandle::is_open);
        let running = timeout(START_TIMEOUT, current.wait_for(is_open)).await;
        match running.map_err(|_| Error::Timeout { after: START_TIMEOUT })? {
            Ok(handle) => handle.clone().ok_or(Error::Gone),
            Err(_) => Err(Error::Gone),
        }
    }

    /// [`ProxyHandle::set_routes`] on the proxy now, and on every later one. Ports that the table
    /// has and the proxy has not are opened first, and others closed, by an upgrade.
    ///
    /// # Errors
    /// As there; if the proxy dies meanwhile its successor is asked. `Port`, if one that the table
    /// before did not have cannot be opened; the table before stays in force then.
    pub async fn set_routes(&self, table: &RouteTable) -> Result<(), Error> {
        let _order = self.inner.order.lock().await;
        self.open_ports(table).await?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.handle().await?.set_routes(table).await {
                Ok(()) => break,
                // Its successor is asked, which `handle` waits for.
                Err(Error::Gone) if Instant::now() < deadline => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
        self.inner.retiring.set_routes(table, self.inner.terms().grace).await;
        self.inner.remember(table);
        Ok(())
    }

    /// [`ProxyHandle::drain`], over all processes, those that take over meanwhile too; one that dies
    /// has nothing open.
    ///
    /// # Errors
    /// As there.
    pub async fn drain(
        &self,
        upstreams: &[SocketAddr],
        deadline: Duration,
    ) -> Result<Drained, Error> {
        let end = Instant::now() + deadline;
        let mut current = self.current.clone();
        let mut asked: Vec<ProxyHandle> = Vec::new();
        let mut answers = FuturesUnordered::new();
        let (mut drained, mut failed) = (Drained::default(), None);
        // One that is being started may have the upstreams in its table.
        self.handle().await?;
        loop {
            let serving = current.borrow_and_update().clone();
            for handle in serving.into_iter().chain(self.inner.retiring.all()) {
                if !asked.iter().any(|other| other.is(&handle)) {
                    asked.push(handle.clone());
                    answers.push(generations::drain(handle, upstreams, end));
                }
            }
            tokio::select! {
                // Both are cancel-safe: an answer not taken stays in its future.
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => drained.add(answer),
                    // The others are waited for all the same: they may have requests open.
                    Some(Err(error)) => failed = failed.or(Some(error)),
                    None => return failed.map_or(Ok(drained), Err),
                },
                Ok(()) = current.changed() => {}
            }
        }
    }

    /// What the process that takes new clients has counted: counters that start anew are understood
    /// by all who read them, sums that shrink when an earlier process ends are not.
    ///
    /// # Errors
    /// As [`ProxyHandle::metrics`].
    pub async fn metrics(&self) -> Result<super::Metrics, Error> {
        self.handle().await?.metrics().await
    }

    /// As [`ProxyHandle::metrics`], of each process by its number: the one that takes new clients
    /// first, then those that it succeeded.
    ///
    /// # Errors
    /// As there; retiring processes that do not answer are left out, they are about to end.
    pub async fn metrics_of_all(&self) -> Result<Vec<(u32, super::Metrics)>, Error> {
        let serving = self.handle().await?;
        let mut all = vec![(serving.pid(), serving.metrics().await?)];
        for handle in self.inner.retiring.all() {
            match handle.metrics().await {
                Ok(metrics) => all.push((handle.pid(), metrics)),
                Err(Error::Gone) => {}
                Err(error) => {
                    let (pid, error) = (handle.pid(), report(&error));
                    tracing::warn!(pid, error, "ask a retiring proxy for its counters");
                }
            }
        }
        Ok(all)
    }

    /// What all processes have counted and have open.
    ///
    /// # Errors
    /// As [`ProxyHandle::status`].
    pub async fn status(&self) -> Result<Status, Error> {
        let handle = self.handle().await?;
        let mut status = handle.status().await?;
        status.generations.push(generations::generation(&handle, &status, false));
        self.inner.retiring.add_to(&mut status).await;
        Ok(status)
    }

    /// Replaces the process by a new one of the program and the settings. No connection is refused
    /// or reset: the new one takes the listening sockets over, the old one serves what is open.
    ///
    /// # Errors
    /// What kept the new process from starting; the old one goes on as before.
    pub async fn upgrade(&self) -> Result<Upgraded, Error> {
        let _order = self.inner.order.lock().await;
        self.upgrade_with(self.inner.table().map(|table| table.listeners)).await
    }

    async fn upgrade_with(&self, listeners: Option<Vec<ExtraListener>>) -> Result<Upgraded, Error> {
        let (done, upgraded) = oneshot::channel();
        let ask = async {
            let upgrade = Upgrade { listeners, done };
            self.upgrades.send(upgrade).await.map_err(|_| Error::Gone)?;
            upgraded.await.map_err(|_| Error::Gone)?
        };
        let after = UPGRADE_TIMEOUT;
        timeout(after, ask).await.map_err(|_| Error::Timeout { after })?
    }

    async fn open_ports(&self, table: &RouteTable) -> Result<(), Error> {
        let bound = self.handle().await?.listening().ports.clone();
        let before = self.inner.table().map(|table| table.listeners);
        let ports = Ports::compare(&table.listeners, &bound, before.as_deref());
        for listener in &ports.new {
            listen::probe(listener.port)
                .map_err(|source| Error::Port { port: listener.port, source })?;
        }
        if !ports.differ {
            return Ok(());
        }
        let upgraded = self.upgrade_with(Some(table.listeners.clone())).await;
        match upgraded {
            Ok(_) => {}
            // After a restart the apps must come back, whoever took a port meanwhile.
            Err(error) if before.is_none() => {
                tracing::error!(error = report(&error), "open the ports of the route table");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let bound = &self.handle().await?.listening().ports.clone();
        match ports.new.iter().find(|listener| !bound.contains(listener)) {
            // Taken between our look and the start.
            Some(ExtraListener { port, .. }) => {
                Err(Error::Port { port: *port, source: io::ErrorKind::AddrInUse.into() })
            }
            None => Ok(()),
        }
    }

    /// The settings that a proxy is started with.
    pub fn config(&self) -> &Config {
        &self.inner.spec.config
    }

    /// Where the proxy listens.
    ///
    /// # Errors
    /// `Gone`, while there is no proxy.
    pub fn listening(&self) -> Result<ListenerFile, Error> {
        self.current.borrow().as_ref().map(|handle| handle.listening().clone()).ok_or(Error::Gone)
    }

    /// Ends supervision and all processes, and removes their sockets.
    ///
    /// # Errors
    /// As [`ProxyHandle::stop`].
    pub async fn stop(&self, deadline: Duration) -> Result<(), Error> {
        self.inner.ending.cancel();
        let running = self.current.borrow().clone();
        let run_dir = &self.inner.spec.run_dir;
        let retiring = self.inner.retiring.all();
        let current = async {
            match &running {
                Some(handle) => handle.stop(deadline).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(current, self.inner.retiring.stop(deadline))?;
        for handle in running.iter().chain(&retiring) {
            places::remove_sockets(run_dir, handle.pid());
        }
        let _ = std::fs::remove_file(run_dir.join(LISTENER_FILE_NAME));
        Ok(())
    }
}

/// What a table wants of ports, and what there is.
#[derive(Debug, PartialEq, Eq)]
struct Ports {
    /// Asked for now, by nobody before.
    new: Vec<ExtraListener>,
    /// Whether a process with other ports is needed.
    differ: bool,
}

impl Ports {
    /// Ports that the table before had too, and that could not be opened then, are no reason to do
    /// anything: every change of any app would be one.
    fn compare(
        wanted: &[ExtraListener],
        bound: &[ExtraListener],
        before: Option<&[ExtraListener]>,
    ) -> Self {
        let missing = wanted.iter().copied().filter(|wanted| !bound.contains(wanted));
        let known =
            |listener: &ExtraListener| before.is_none_or(|before| before.contains(listener));
        let (lost, mut new): (Vec<ExtraListener>, Vec<ExtraListener>) = missing.partition(known);
        let closed = bound.iter().any(|bound| !wanted.contains(bound));
        let differ = closed || !new.is_empty() || (before.is_none() && !lost.is_empty());
        // A port that only changes what is spoken on it is ours already.
        new.retain(|new| bound.iter().all(|bound| bound.port != new.port));
        Self { new, differ }
    }
}

impl Inner {
    /// The process to begin with, and its child, if it is ours.
    async fn open(&self) -> Result<(ProxyHandle, Option<Child>), Error> {
        let spec = &self.spec;
        let survey = Survey::take(&spec.run_dir).await;
        for handle in survey.retiring {
            tracing::info!(pid = handle.pid(), "retiring proxy adopted");
            self.retiring.add(&spec.run_dir, handle, None, self.terms());
        }
        let Some(handle) = survey.serving else {
            return self.succeed_foreign(&survey.foreign).await;
        };
        tracing::info!(pid = handle.pid(), "proxy adopted");
        if handle.hello().fingerprint == spec.fingerprint()? {
            return Ok((handle, None));
        }
        tracing::info!(pid = handle.pid(), "replace it: its program or its settings are others");
        match self.succeed(&handle, None).await {
            Ok((successor, child)) => {
                self.retire(handle, None);
                Ok((successor, Some(child)))
            }
            Err(error) => {
                let error = report(&error);
                tracing::error!(error, "the proxy goes on with the program and settings it has");
                Ok((handle, None))
            }
        }
    }

    /// Starts a process in the place of one whose protocol is not ours, if there is one.
    async fn succeed_foreign(
        &self,
        foreign: &[u32],
    ) -> Result<(ProxyHandle, Option<Child>), Error> {
        for pid in foreign {
            let start =
                Start { take_over: Some(*pid), drain_ms: Some(FOREIGN_DRAIN), ..Start::default() };
            match self.spec.start(start).await {
                Ok((handle, child)) => return Ok((handle, Some(child))),
                // One that retires itself has nothing to hand over.
                Err(error) => tracing::warn!(pid, error = report(&error), "succeed a proxy"),
            }
        }
        let (handle, child) = self.spec.start(Start::default()).await?;
        Ok((handle, Some(child)))
    }

    async fn succeed(
        &self,
        handle: &ProxyHandle,
        listeners: Option<Vec<ExtraListener>>,
    ) -> Result<(ProxyHandle, Child), Error> {
        let start = Start { take_over: Some(handle.pid()), listeners, ..Start::default() };
        self.spec.start(start).await
    }

    fn retire(&self, handle: ProxyHandle, child: Option<Child>) {
        self.retiring.add(&self.spec.run_dir, handle, child, self.terms());
    }

    /// For processes that are replaced.
    fn terms(&self) -> Terms {
        let Config { upgrade_drain_timeout_ms, shutdown_timeout_ms, .. } = self.spec.config;
        Terms { drain: upgrade_drain_timeout_ms, grace: shutdown_timeout_ms.into() }
    }

    fn remember(&self, table: &RouteTable) {
        // The value is replaced as a whole, so a panic elsewhere cannot have broken it.
        let mut kept = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| kept.version <= table.version) {
            *kept = Some(table.clone());
        }
    }

    fn table(&self) -> Option<RouteTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For scripts and people.
    fn write_listener_file(&self, handle: &ProxyHandle) {
        let path = self.spec.run_dir.join(LISTENER_FILE_NAME);
        let json = serde_json::to_vec(handle.listening()).map_err(io::Error::other);
        let written = json.and_then(|json| atomic_file::write_volatile(&path, &json, 0o644));
        if let Err(error) = written {
            tracing::error!(%error, path = %path.display(), "write where the proxy listens");
        }
    }
}

/// The task that watches.
struct Life {
    inner: Arc<Inner>,
    current: watch::Sender<Option<ProxyHandle>>,
    /// The process, if we started it: ours to reap.
    child: Option<Child>,
    upgrades: mpsc::Receiver<Upgrade>,
}

impl Life {
    async fn supervise(mut self, mut handle: ProxyHandle) {
        let ending = self.inner.ending.clone();
        loop {
            let upgrade = tokio::select! {
                // All of them only wait. The end first: nothing is started after it.
                biased;
                () = ending.cancelled() => break,
                () = handle.closed() => None,
                Some(upgrade) = self.upgrades.recv() => match upgrade.done.is_closed() {
                    false => Some(upgrade),
                    // Whoever asked has given up, and would not know of it.
                    true => continue,
                },
            };
            let next = async {
                match upgrade {
                    Some(upgrade) => self.upgrade(&handle, upgrade).await,
                    None => self.replace_dead(&handle).await,
                }
            };
            handle = tokio::select! {
                // A start that is given up leaves a process that the next control plane adopts.
                biased;
                () = ending.cancelled() => break,
                next = next => next,
            };
        }
        drop(handle);
        // Whoever ends the proxy waits for its socket; the process must be reaped all the same.
        if let Some(mut child) = self.child.take() {
            let _ = timeout(REAP_TIMEOUT, child.wait()).await;
        }
    }

    async fn replace_dead(&mut self, handle: &ProxyHandle) -> ProxyHandle {
        match handle.again().await {
            Some(again) if !again.hello().retiring => {
                tracing::warn!(pid = again.pid(), "the connection to the proxy was lost");
                self.announce(&again).await;
                return again;
            }
            // A successor that is not ours has taken over.
            Some(again) => {
                self.inner.retire(again, self.child.take());
                self.current.send_replace(None);
                return self.start_again().await;
            }
            None => {}
        }
        tracing::warn!(pid = handle.pid(), "proxy gone");
        self.current.send_replace(None);
        generations::reap(self.child.take()).await;
        places::remove_sockets(&self.inner.spec.run_dir, handle.pid());
        self.start_again().await
    }

    /// Returns who takes clients from now on.
    async fn upgrade(&mut self, handle: &ProxyHandle, upgrade: Upgrade) -> ProxyHandle {
        let Upgrade { listeners, done } = upgrade;
        let (next, result) = match self.inner.succeed(handle, listeners).await {
            Ok((successor, child)) => {
                self.inner.retire(handle.clone(), self.child.replace(child));
                let upgraded = Upgraded { before: handle.pid(), pid: successor.pid() };
                self.announce(&successor).await;
                (successor, Ok(upgraded))
            }
            Err(error) if self.has_retired(handle).await => {
                // The successor died between its last words to it and its first to us.
                self.inner.retire(handle.clone(), self.child.take());
                self.current.send_replace(None);
                (self.start_again().await, Err(error))
            }
            Err(error) => (handle.clone(), Err(error)),
        };
        // Whoever asked may have given up.
        let _ = done.send(result);
        next
    }

    async fn has_retired(&self, handle: &ProxyHandle) -> bool {
        let now = ProxyHandle::connect_to(&self.inner.spec.run_dir, handle.pid()).await;
        now.is_ok_and(|now| now.hello().retiring)
    }

    async fn start_again(&mut self) -> ProxyHandle {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let listeners = self.inner.table().map(|table| table.listeners);
            match self.inner.spec.start(Start { listeners, ..Start::default() }).await {
                Ok((handle, child)) => {
                    self.child = Some(child);
                    self.announce(&handle).await;
                    return handle;
                }
                Err(error) => tracing::error!(error = report(&error), "start the proxy again"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Gives a new process its routes and makes it the one that is asked.
    async fn announce(&self, handle: &ProxyHandle) {
        self.inner.write_listener_file(handle);
        self.send_table(handle).await;
        self.current.send_replace(Some(handle.clone()));
    }

    /// The new process has read the table from disk; this is for a disk that lost it.
    async fn send_table(&self, handle: &ProxyHandle) {
        let Some(table) = self.inner.table() else { return };
        if table.version > handle.routes_version()
            && let Err(error) = handle.set_routes(&table).await
        {
            tracing::error!(error = report(&error), "give the new proxy its routes");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::Scheme;

    use super::*;

    fn ports(ports: &[u16]) -> Vec<ExtraListener> {
        ports.iter().map(|port| ExtraListener { port: *port, scheme: Scheme::Http }).collect()
    }

    #[test]
    fn ports_are_new_lost_or_to_be_closed() {
        let compare = |wanted: &[u16], bound: &[u16], before: Option<&[u16]>| {
            let before = before.map(ports);
            let found = Ports::compare(&ports(wanted), &ports(bound), before.as_deref());
            (found.new.iter().map(|new| new.port).collect::<Vec<_>>(), found.differ)
        };
        assert_eq!(compare(&[1], &[1], Some(&[1])), (vec![], false));
        assert_eq!(compare(&[1, 2], &[1], Some(&[1])), (vec![2], true));
        assert_eq!(compare(&[1], &[1, 2], Some(&[1, 2])), (vec![], true));
        // Lost before: left alone, until the ports change; tried once after a restart.
        assert_eq!(compare(&[1, 2], &[1], Some(&[1, 2])), (vec![], false));
        assert_eq!(compare(&[1, 2, 3], &[1], Some(&[1, 2])), (vec![3], true));
        assert_eq!(compare(&[1, 2], &[1], None), (vec![], true));
    }

    #[test]
    fn a_port_that_changes_its_scheme_is_ours_already() {
        let https = [ExtraListener { port: 1, scheme: Scheme::Https }];
        let found = Ports::compare(&https, &ports(&[1]), Some(&ports(&[1])));
        assert_eq!(found, Ports { new: vec![], differ: true });
    }
}
