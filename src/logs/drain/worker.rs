//! One drain at work.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::format::Sender;
use crate::domain::{AppName, DrainUrl, Timestamp};
use crate::logs::{Entry, Filter, Places, Positions, Tail};
use crate::support::backoff::Backoff;
use crate::support::{atomic_file, report};

/// Between two looks for new lines.
const POLL: Duration = Duration::from_millis(200);
/// Lines that are sent at once.
const BATCH: usize = 1000;
/// Bytes of text that are sent at once; of one line at least.
const BATCH_BYTES: usize = 512 * 1024;
/// Between two writings of the position: what is sent again after a sudden end.
const SAVE: Duration = Duration::from_secs(1);
/// The waits before what was not taken is sent again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What a drain needs.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Where it leads.
    pub url: DrainUrl,
    /// Whether it may lead to private addresses.
    pub private: bool,
    /// Whose lines they are.
    pub app: AppName,
    /// What this machine is called.
    pub hostname: String,
    /// Where the lines are.
    pub places: Places,
    /// Where its position is kept.
    pub state: PathBuf,
    /// What may wait, in bytes of the files.
    pub max_backlog: u64,
    /// Who is trusted.
    pub tls: Arc<ClientConfig>,
}

/// How it does; shared with whoever asks.
#[derive(Debug, Clone, Default)]
pub struct DrainStatus {
    /// Lines that were taken.
    pub sent: u64,
    /// Lines that were left out.
    pub lost: u64,
    /// Bytes that wait.
    pub backlog: u64,
    /// When lines were last taken.
    pub last_sent_at: Option<Timestamp>,
    /// What went wrong at last, if it has not gone well since.
    pub error: Option<String>,
}

/// Sends the app's lines until `cancel`; keeps its position then.
pub async fn run(drain: Drain, status: Arc<Mutex<DrainStatus>>, cancel: CancellationToken) {
    let Some(mut worker) = Worker::start(drain, status).await else { return };
    tokio::select! {
        // Cancel-safe: the position is that of the last batch that was taken; what was under way is
        // sent again by the next worker.
        () = worker.work() => {}
        () = cancel.cancelled() => {}
    }
    worker.save();
}

struct Worker {
    drain: Drain,
    sender: Sender,
    status: Arc<Mutex<DrainStatus>>,
    /// Taken while it is looked at on another thread.
    tail: Option<Tail>,
    positions: Positions,
    saved: Instant,
    dirty: bool,
    /// Lines that were read and not taken yet.
    waiting: Vec<Entry>,
    connection: Option<Connection>,
}

fn lock(status: &Mutex<DrainStatus>) -> MutexGuard<'_, DrainStatus> {
    // Every section leaves it whole.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The position that was kept; none if there is none, or it is damaged.
fn kept(path: &Path) -> Option<Positions> {
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a drain's position is damaged; it goes on with new lines");
        })
        .ok()
}

impl Worker {
    async fn start(drain: Drain, status: Arc<Mutex<DrainStatus>>) -> Option<Self> {
        let (places, state, max) = (drain.places.clone(), drain.state.clone(), drain.max_backlog);
        let open = move || match kept(&state) {
            Some(positions) => (Tail::resume(places, Filter::all(), max, &positions), positions),
            None => {
                let tail = Tail::at_end(places, Filter::all(), max, now_us());
                let positions = tail.positions();
                (tail, positions)
            }
        };
        // A panic was reported by the hook.
        let (tail, positions) = tokio::task::spawn_blocking(open).await.ok()?;
        let sender = Sender { hostname: drain.hostname.clone(), app: drain.app.clone() };
        let mut worker = Self {
            drain,
            sender,
            status,
            tail: Some(tail),
            positions,
            saved: Instant::now(),
            dirty: true,
            waiting: Vec::new(),
            connection: None,
        };
        worker.save();
        Some(worker)
    }

    async fn work(&mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            if self.waiting.is_empty() {
                match self.on_tail(|tail| tail.poll(now_us())).await {
                    Some(entries) => self.waiting = entries,
                    None => return,
                }
            }
            if self.waiting.is_empty() {
                self.save_if_due();
                tokio::time::sleep(POLL).await;
                continue;
            }
            let count = batch(&self.waiting);
            match self.send(count).await {
                Ok(()) => {
                    backoff.reset();
                    self.taken(count);
                }
                Err(error) => {
                    self.connection = None;
                    let told = report(&error);
                    tracing::debug!(
                        drain = self.drain.url.masked(),
                        error = told,
                        "lines were not taken"
                    );
                    lock(&self.status).error = Some(told);
                    if !self.wait(backoff.next_delay()).await {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&mut self, count: usize) -> io::Result<()> {
        let Drain { url, private, tls, .. } = &self.drain;
        if self.connection.as_mut().is_some_and(|connection| !connection.is_open()) {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(url, *private, tls).await?),
        };
        connection.send(url, &self.sender, &self.waiting[..count]).await
    }

    fn taken(&mut self, count: usize) {
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.positions.advance(&taken);
        self.dirty = true;
        {
            let mut status = lock(&self.status);
            status.sent += taken.len() as u64;
            status.last_sent_at = Some(Timestamp(now_us() / 1000));
            status.error = None;
        }
        self.save_if_due();
    }

    /// Waits before the next try; what is removed meanwhile stays readable, within the limit.
    async fn wait(&mut self, delay: Duration) -> bool {
        let end = Instant::now() + delay;
        while Instant::now() < end {
            if self.on_tail(Tail::look).await.is_none() {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Works on the files, off the threads that serve.
    async fn on_tail<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tail) -> T + Send + 'static,
    ) -> Option<T> {
        let mut tail = self.tail.take()?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut tail);
            (tail, result)
        });
        // A panic, which the hook has reported, ends the drain until the next start.
        let (tail, result) = done.await.ok()?;
        let mut status = lock(&self.status);
        status.backlog = tail.backlog();
        status.lost = tail.left_out();
        drop(status);
        self.tail = Some(tail);
        Some(result)
    }

    fn save_if_due(&mut self) {
        if self.dirty && self.saved.elapsed() > SAVE {
            self.save();
        }
    }

    fn save(&mut self) {
        if let Some(tail) = &self.tail {
            tail.forget_gone(&mut self.positions);
        }
        let saved = serde_json::to_vec(&self.positions).map_err(io::Error::other);
        // Not synced: after a power cut, lines of the last seconds are sent again.
        let saved =
            saved.and_then(|text| atomic_file::write_volatile(&self.drain.state, &text, 0o600));
        if let Err(error) = saved {
            tracing::warn!(path = %self.drain.state.display(), %error, "cannot keep a drain's position");
        }
        self.saved = Instant::now();
        self.dirty = false;
    }
}

/// How many of the lines are sent at once.
fn batch(lines: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.line.text.len();
        bytes <= BATCH_BYTES
    };
    lines.iter().take(BATCH).take_while(fits).count().max(1)
}
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
