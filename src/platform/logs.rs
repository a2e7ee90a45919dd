//! An app's log: what its processes, the proxy and the platform say of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{LogLine, LogQuery, Platform, Result, clock};
use crate::domain::{App, AppId, AppName, LogLevel};
use crate::logs::{Bounds, Entry, Filter, History, Places, RouterLog, Selection, Span, Tail, say};
use crate::support::tasks;

/// Lines shown unless told otherwise (Dokku's and Heroku's default).
const DEFAULT_LINES: usize = 100;
/// The most lines one query shows of the past.
const MAX_LINES: usize = 100_000;
/// Between two looks for new lines while somebody follows.
const POLL: Duration = Duration::from_millis(100);
/// Lines on their way to a reader; a slow reader slows down our reading, never the app.
const QUEUE: usize = 1024;
/// What may wait for a follower in files that are being removed.
const MAX_BACKLOG: u64 = 64 << 20;

impl Platform {
    /// The app's log lines, oldest first; ends unless `tail`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a text that cannot be looked for.
    pub async fn logs(&self, name: &AppName, query: LogQuery) -> Result<mpsc::Receiver<LogLine>> {
        let app = self.find_app(name)?;
        let oldest = clock::now_us() - micros(self.log_bounds(app.id)?.max_age);
        follow(self.log_places(&app), query, oldest)
    }

    /// Where all that an app's log is made of lies.
    pub(super) fn log_places(&self, app: &App) -> Places {
        let router = RouterLog::new(self.proxy_directory(), &app.name);
        Places { app: self.log_dir(app.id), router: Some(router) }
    }

    /// The last lines that a container wrote.
    pub(super) async fn last_log_lines(
        &self,
        app: AppId,
        container: &str,
        count: usize,
    ) -> Vec<String> {
        let places = Places { app: self.log_dir(app), router: None };
        let filter = Filter::container(container);
        let span = Span { count, ..Span::default() };
        let read = move || History::read(&places, &filter, &span, None, || true);
        let history = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        history.lines.into_iter().map(|line| line.text).collect()
    }

    /// How much is kept of an app's log.
    pub(super) fn log_bounds(&self, app: AppId) -> Result<Bounds> {
        let (set, default) = (self.store.log_settings(app)?, self.default_log_bounds());
        Ok(Bounds {
            max_bytes: set.max_size.map_or(default.max_bytes, |size| size.0),
            max_age: set.max_age.map_or(default.max_age, |age| age.0),
        })
    }

    /// The same where nothing was set.
    pub(super) fn default_log_bounds(&self) -> Bounds {
        let settings = self.settings();
        let max_age = Duration::from_secs(u64::from(settings.log_days_per_app) * 86_400);
        Bounds { max_bytes: settings.log_bytes_per_app, max_age }
    }

    /// Removes the oldest log files of an app beyond its limits; those of living containers stay.
    pub(super) async fn prune_logs(&self, app: AppId) {
        let alive: Vec<String> =
            self.0.instances.of_app(app).into_iter().map(|i| i.container).collect();
        match self.log_bounds(app) {
            Ok(bounds) => self.prune_log_dir(self.log_dir(app), bounds, alive).await,
            Err(error) => tracing::warn!(%error, "cannot tell how much of a log is kept"),
        }
    }

    /// Removes the oldest files below a directory of logs beyond the limits, but for those that
    /// living containers write to.
    pub(super) async fn prune_log_dir(
        &self,
        directory: PathBuf,
        bounds: Bounds,
        alive: Vec<String>,
    ) {
        let living = move |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_of = |id: &String| {
                name.ends_with(&format!("-{}.log", id.rsplit('-').next().unwrap_or(id)))
            };
            name == "platform.log" || alive.iter().any(is_of)
        };
        let prune = move || crate::logs::prune(&directory, bounds, living);
        // A panic was reported by the hook; the next time is soon.
        let _ = tokio::task::spawn_blocking(prune).await;
    }

    /// Keeps all apps' logs within their limits, also of apps that nothing happens to.
    pub async fn prune_all_logs(&self) {
        let apps = self.store.apps().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the apps whose logs are kept");
            Vec::new()
        });
        for app in apps {
            self.prune_logs(app.id).await;
        }
    }

    /// Puts what happened to an app into its log.
    pub(super) fn log_event(&self, app: &AppName, kind: &str, text: &str) {
        // An app that is just gone has no log any more.
        let Ok(Some(app)) = self.store.app(app) else { return };
        let directory = self.log_dir(app.id);
        let what = (app.current_release, level_of(kind));
        let written = self.0.platform_log.write(&directory, clock::now_us(), what, text);
        if let Err(error) = written {
            tracing::warn!(app.name = app.name.as_str(), %error, "cannot write to an app's log");
        }
    }
}

/// How grave an event is.
fn level_of(kind: &str) -> LogLevel {
    match kind.rsplit('.').next().unwrap_or(kind) {
        "crashed" | "failed" => LogLevel::Error,
        "limits" | "canceled" | "lost" => LogLevel::Warn,
        _ => LogLevel::Info,
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The lines of what lies at `places`, oldest first, none older than `oldest`; ends unless
/// `query.tail`.
pub(super) fn follow(
    places: Places,
    query: LogQuery,
    oldest: i64,
) -> Result<mpsc::Receiver<LogLine>> {
    let now = clock::now_us();
    if query.tail && (query.until.is_some() || query.before.is_some()) {
        let message = "what ends in the past cannot be followed";
        return Err(super::Error::new(super::Kind::Invalid, message)
            .hint("leave out `tail`, or `until` and `before`"));
    }
    let count = match (query.num, query.after) {
        (None, Some(_)) => MAX_LINES,
        (num, _) => num.unwrap_or(DEFAULT_LINES).min(MAX_LINES),
    };
    let span = Span {
        count,
        since: Some(query.since.map_or(oldest, |since| since.resolve(now).max(oldest))),
        until: query.until.map(|until| until.resolve(now)),
        before: query.before,
        after: query.after,
    };
    let filter = Filter::new(Selection {
        sources: query.source.unwrap_or_default(),
        process: query.process,
        level: query.level,
        release: query.release,
        text: query.text,
        regex: query.regex,
    })?;
    let (tx, rx) = mpsc::channel(QUEUE);
    let tail = query.tail;
    tasks::spawn("logs", async move {
        let asked = tx.clone();
        let begin = tokio::task::spawn_blocking(move || {
            let tail = tail.then(|| {
                Tail::at_end(places.clone(), filter.clone(), MAX_BACKLOG, clock::now_us())
            });
            let ends = tail.as_ref().map(Tail::positions);
            let goes_on = || !asked.is_closed();
            let history = History::read(&places, &filter, &span, ends.as_ref(), goes_on);
            (history, tail)
        });
        let Ok((history, tail)) = begin.await else { return };
        if span.after.is_some() && history.more {
            let text = "older lines are left out here: there are more than are shown at once";
            let at = history.lines.first().map_or(now, |line| line.cursor.at);
            if tx.send(say(at, text.into())).await.is_err() {
                return;
            }
        }
        if send_all(&tx, history.lines).await
            && let Some(tail) = tail
        {
            send_new(&tx, tail).await;
        }
    });
    Ok(rx)
}

/// What is appended, until the reader goes away.
async fn send_new(tx: &mpsc::Sender<LogLine>, mut tail: Tail) {
    loop {
        let Some((returned, entries)) = poll(tail).await else { return };
        tail = returned;
        let lines = entries.into_iter().map(|entry| entry.line).collect();
        if !send_all(tx, lines).await {
            return;
        }
        if tail.backlog() == 0 {
            tokio::select! {
                // Cancel-safe: only observe.
                () = tx.closed() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// One look for new lines, off the threads that serve.
pub(super) async fn poll(mut tail: Tail) -> Option<(Tail, Vec<Entry>)> {
    let polled = tokio::task::spawn_blocking(move || {
        let entries = tail.poll(clock::now_us());
        (tail, entries)
    });
    // A panic, which the hook has reported, ends the reader; it may ask again.
    polled.await.ok()
}

async fn send_all(tx: &mpsc::Sender<LogLine>, lines: Vec<LogLine>) -> bool {
    for line in lines {
        if tx.send(line).await.is_err() {
            return false;
        }
    }
    !tx.is_closed()
}
