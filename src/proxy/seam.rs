//! The proxy's side of `proxy-<pid>.sock`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::codec::{Framed, LinesCodec};

use crate::domain::Millis;
use crate::support::{report, tasks};

use super::clock::unix_ms;
use super::core::{CoreCommand, Shared};
use super::page;
use super::protocol::{
    Answer, Command, Drained, Hello, ListenerFile, MAX_MESSAGE, Metrics, PROTOCOL, Reply, Request,
    Status, UpstreamStatus,
};
use super::router::{Ground, Router};
use super::routes_file::RoutesFile;
use super::upstream::Upstream;
use super::{Error, RouteTable};

/// Requests of one connection that may wait for their answers.
const MAX_PENDING: usize = 320;

/// Drains among them. They may wait for an hour, and must not keep a table from being read.
const MAX_DRAINS: usize = 256;

/// How long a core may take to notice a switch. It does so within one turn of its loop; a core that
/// does not is stuck, and the switch is in force all the same.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Who speaks, and to whom.
#[derive(Debug)]
pub(super) struct Identity {
    /// The user who may connect beside root.
    pub(super) owner: u32,
    pub(super) fingerprint: String,
    pub(super) listening: ListenerFile,
}

/// Serves the control plane.
#[derive(Debug)]
pub(super) struct Seam {
    shared: Arc<Shared>,
    cores: Vec<mpsc::Sender<CoreCommand>>,
    routes_file: RoutesFile,
    stop: mpsc::Sender<Duration>,
    identity: Identity,
    /// Upstreams that left the table with requests open. A tokio mutex because it is held while a
    /// table is written to disk: switches are one after the other.
    retired: Mutex<Vec<Arc<Upstream>>>,
}

impl Seam {
    pub(super) fn new(
        shared: Arc<Shared>,
        cores: Vec<mpsc::Sender<CoreCommand>>,
        routes_file: RoutesFile,
        identity: Identity,
        stop: mpsc::Sender<Duration>,
    ) -> Arc<Self> {
        Arc::new(Self { shared, cores, routes_file, stop, identity, retired: Mutex::default() })
    }

    /// Where clients are taken.
    pub(super) fn listening(&self) -> &ListenerFile {
        &self.identity.listening
    }

    /// Starts serving.
    pub(super) fn serve(self: Arc<Self>, listener: UnixListener) -> tokio::task::JoinHandle<()> {
        tasks::spawn("proxy/seam", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if self.may_talk(&stream) => {
                        tasks::spawn("proxy/seam-peer", Arc::clone(&self).serve_peer(stream));
                    }
                    Ok(_) => tracing::warn!("refuse a stranger on the control socket"),
                    Err(error) => {
                        tracing::warn!(%error, "accept on the control socket");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        })
    }

    /// The socket's mode says the same; this holds when somebody changes it.
    fn may_talk(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.identity.owner)
    }

    async fn serve_peer(self: Arc<Self>, stream: UnixStream) {
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_MESSAGE));
        let mut pending = FuturesUnordered::new();
        let mut message = encode(&self.hello());
        loop {
            if lines.send(message).await.is_err() {
                // The control plane has gone; the routes stay.
                return;
            }
            // Both arms are cancel-safe: a line not read whole stays in the codec, an answer not
            // taken in its future.
            message = loop {
                tokio::select! {
                    line = lines.next(), if pending.len() < MAX_PENDING => match line {
                        Some(Ok(line)) => {
                            let room = MAX_DRAINS.saturating_sub(pending.len());
                            pending.push(Arc::clone(&self).handle(line, room));
                        }
                        Some(Err(_)) | None => return,
                    },
                    Some(reply) = pending.next() => break encode(&reply),
                }
            };
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            routes: self.shared.routes.load().version,
            fingerprint: self.identity.fingerprint.clone(),
            retiring: self.shared.retiring.load(Ordering::Relaxed),
            listening: self.identity.listening.clone(),
        }
    }

    /// Answers a request; a drain only if there is room for one more that waits.
    async fn handle(self: Arc<Self>, line: String, room: usize) -> Reply {
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("not a request: {error}");
                return Reply { id: 0, answer: Answer::Error { message } };
            }
        };
        let answer = match request.command {
            Command::Routes(table) => self.set_routes(table).await,
            Command::Drain { .. } if room == 0 => {
                let message = format!("{MAX_DRAINS} drains wait already; ask again later");
                Answer::Error { message }
            }
            Command::Drain { upstreams, deadline_ms } => self.drain(&upstreams, deadline_ms).await,
            Command::Status {} => Answer::Status(self.status().await),
            Command::Metrics {} => Answer::Metrics(self.metrics()),
            Command::Stop { deadline_ms } => {
                // A full queue means that it was asked to already.
                let _ = self.stop.try_send(deadline_ms.into());
                Answer::Stopping {}
            }
        };
        Reply { id: request.id, answer }
    }

    /// Runs as a task of its own: a switch must not stop half way when the control plane goes.
    async fn set_routes(self: Arc<Self>, table: RouteTable) -> Answer {
        let switch = tasks::spawn("proxy/switch", async move { self.switch(table).await });
        match switch.await {
            Ok(Ok(version)) => Answer::Routed { version },
            Ok(Err(error)) => Answer::Error { message: report(&error) },
            Err(error) => Answer::Error { message: error.to_string() },
        }
    }

    async fn switch(&self, table: RouteTable) -> Result<u64, Error> {
        let mut retired = self.retired.lock().await;
        let current = self.shared.routes.load_full();
        if table.version < current.version {
            let (offered, current) = (table.version, current.version);
            return Err(Error::StaleRoutes { offered, current });
        }
        let ground = Ground {
            config: &self.shared.config,
            cores: self.shared.cores,
            pages: &self.shared.pages,
            previous: &current,
            retired: &retired,
        };
        let router = Router::compile(&table, &ground)?;
        // First, so that no name is found that has no certificate yet.
        self.shared.tls.set_table(&table);
        let file = self.routes_file.clone();
        let version = table.version;
        // The file is the successor's, if there is one.
        if !self.shared.retiring.load(Ordering::Relaxed) {
            let saved = tokio::task::spawn_blocking(move || file.save(&table)).await;
            saved.map_err(|source| Error::PersistRoutes { source: source.into() })??;
        }

        retire(&mut retired, &current, &router);
        self.shared.routes.store(router);
        self.await_cores().await;
        tracing::debug!(version, "routes switched");
        Ok(version)
    }

    /// Returns when every core has let go of the table before.
    async fn await_cores(&self) {
        let mut answers = Vec::with_capacity(self.cores.len());
        for core in &self.cores {
            let (done_tx, done) = oneshot::channel();
            if core.send(CoreCommand::Switched(done_tx)).await.is_ok() {
                answers.push(done);
            }
        }
        let all = futures_util::future::join_all(answers);
        if tokio::time::timeout(SWITCH_TIMEOUT, all).await.is_err() {
            tracing::error!("a core did not notice the new routes in time");
        }
    }

    async fn drain(&self, addresses: &[SocketAddr], deadline: Millis) -> Answer {
        let upstreams = self.known_upstreams().await;
        let wanted: Vec<_> =
            addresses.iter().filter_map(|address| upstreams.get(address)).collect();
        let all = futures_util::future::join_all(wanted.iter().map(|upstream| upstream.drained()));
        // Whoever is late is in the answer.
        let _ = tokio::time::timeout(deadline.into(), all).await;
        let open = wanted.iter().map(|upstream| (upstream.address, upstream.open()));
        Answer::Drained(Drained { open: open.filter(|(_, open)| *open > 0).collect() })
    }

    async fn known_upstreams(&self) -> HashMap<SocketAddr, Arc<Upstream>> {
        let retired = self.retired.lock().await;
        let mut upstreams = self.shared.routes.load().upstreams.clone();
        for upstream in retired.iter() {
            upstreams.entry(upstream.address).or_insert_with(|| Arc::clone(upstream));
        }
        upstreams
    }

    async fn status(&self) -> Status {
        let upstreams = self.known_upstreams().await;
        let now_ms = unix_ms();
        let open = |upstream: Arc<Upstream>| UpstreamStatus {
            open: upstream.open(),
            ejected: upstream.health.is_ejected(now_ms),
        };
        let router = self.shared.routes.load();
        Status {
            pid: std::process::id(),
            routes: router.version,
            connections: self.shared.connections.load(Ordering::Relaxed),
            apps: router
                .apps
                .iter()
                .map(|(app, counters)| (app.clone(), counters.status(app)))
                .collect(),
            unknown_host: self.shared.unknown_host.load(Ordering::Relaxed),
            bad_request: self.shared.bad_request.load(Ordering::Relaxed),
            upstreams: upstreams.into_iter().map(|(at, upstream)| (at, open(upstream))).collect(),
            access_log_dropped: self.shared.log_dropped.load(Ordering::Relaxed),
            ejections: self.shared.ejections.load(Ordering::Relaxed),
            generations: Vec::new(),
        }
    }

    fn metrics(&self) -> Metrics {
        let shared = &self.shared;
        let router = shared.routes.load();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let codes = page::CODES.iter().zip(&shared.errors);
        Metrics {
            routes: router.version,
            connections: get(&shared.connections),
            tls_handshakes: get(&shared.tls.handshakes),
            tls_failures: get(&shared.tls.failures),
            unknown_host: get(&shared.unknown_host),
            bad_request: get(&shared.bad_request),
            ejections: get(&shared.ejections),
            access_log_dropped: get(&shared.log_dropped),
            errors: codes.map(|(code, count)| ((*code).to_owned(), get(count))).collect(),
            releases: router.apps.iter().flat_map(|(app, counters)| counters.read(app)).collect(),
        }
    }
}

/// Notes which upstreams leave with `current` and which come (back) with `next`.
fn retire(retired: &mut Vec<Arc<Upstream>>, current: &Router, next: &Router) {
    retired.retain(|upstream| upstream.open() > 0);
    for (address, upstream) in &current.upstreams {
        if !next.upstreams.contains_key(address) {
            upstream.set_removed(true);
            retired.push(Arc::clone(upstream));
        }
    }
    for upstream in next.upstreams.values() {
        upstream.set_removed(false);
        retired.retain(|other| other.address != upstream.address);
    }
}

fn encode(message: &impl serde::Serialize) -> String {
    // Our messages are structs with text keys, which always have a JSON form.
    serde_json::to_string(message).unwrap_or_default()
}
