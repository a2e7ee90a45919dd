//! An app's log: what it says now, what it said before.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::lines;
use super::sse::{self, Events, Gone};
use crate::dashboard::{Dashboard, Page};
use crate::domain::{AppName, LogCursor, LogLine};
use crate::platform::Error;
use crate::web::{App, Query, Refusal};
use crate::wire::LogQuery;

/// Lines of a page, and of each page before it.
const PAGE: usize = 500;
/// The most lines in one event.
const BATCH: usize = 1000;
/// How long lines are gathered for one event: what a browser draws at once.
const GATHER: Duration = Duration::from_millis(50);
/// Lines that a browser which was cut off is given at most; `logs` has the rest.
const MAX_MISSED: usize = 20_000;

/// What the form above the lines says; empty fields mean anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    process: String,
    source: String,
    level: String,
    text: String,
    regex: String,
    since: String,
    release: String,
    before: String,
    after: String,
}

impl Wanted {
    fn query(&self) -> Result<LogQuery, Error> {
        fn read<T: std::str::FromStr<Err = crate::domain::Invalid>>(
            text: &str,
        ) -> Result<Option<T>, Error> {
            match text.trim() {
                "" => Ok(None),
                text => Ok(Some(text.parse::<T>()?)),
            }
        }
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(LogQuery {
            process: text(self.process.trim()),
            num: Some(PAGE),
            tail: false,
            source: read(&self.source)?,
            level: read(&self.level)?,
            text: text(&self.text),
            regex: !self.regex.is_empty(),
            release: read(&self.release)?,
            since: read(&self.since)?,
            before: read(&self.before)?,
            after: read(&self.after)?,
            ..LogQuery::default()
        })
    }

    /// The same as the query of a path, without a place in the log.
    fn as_path(&self) -> String {
        let fields = [
            ("process", &self.process),
            ("source", &self.source),
            ("level", &self.level),
            ("text", &self.text),
            ("regex", &self.regex),
            ("since", &self.since),
            ("release", &self.release),
        ];
        let set = fields.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> =
            set.map(|(key, value)| format!("{key}={}", percent(value))).collect();
        pairs.join("&")
    }
}

/// Percent-encoding of all but unreserved characters (RFC 3986 §2.3).
fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            false => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Refusal> {
    let report = dashboard.processes(&app).await?;
    let types: Vec<Value> = report.scale.iter().map(|(name, _)| json!(name)).collect();
    let instances: Vec<Value> = report.instances.iter().map(|one| json!(one.name)).collect();
    let choice = |value: &str, title: &str, chosen: &str| json!({ "value": value, "title": title, "chosen": value == chosen });
    let mut context = json!({
        "processes": types.into_iter().chain(instances).collect::<Vec<_>>(),
        "wanted": {
            "process": wanted.process, "text": wanted.text, "since": wanted.since,
            "release": wanted.release, "regex": !wanted.regex.is_empty(),
        },
        "sources": [
            choice("", "App and platform", &wanted.source),
            choice("app", "App", &wanted.source),
            choice("router", "Requests", &wanted.source),
            choice("platform", "Platform", &wanted.source),
            choice("all", "All", &wanted.source),
        ],
        "levels": [
            choice("", "Any level", &wanted.level),
            choice("info", "Info and above", &wanted.level),
            choice("warn", "Warnings and errors", &wanted.level),
            choice("error", "Errors", &wanted.level),
        ],
        "query": wanted.as_path(),
        "filtered": !wanted.as_path().is_empty(),
    });
    let found = async { read(&dashboard, &app, wanted.query()?).await };
    let page = |context| {
        let page = Page::of_app("app/logs", &app, "logs", context);
        page.script("logs.js").style("live.css")
    };
    match found.await {
        Ok(found) => {
            context["lines"] = json!(found.html);
            context["first"] = json!(found.first);
            context["last"] = json!(found.last);
            context["more"] = json!(found.count == PAGE);
            Ok(page(context))
        }
        // What was typed is shown again, with why it cannot be looked for.
        Err(error) => Ok(page(context).refused(&error, json!({}))),
    }
}

/// Lines as HTML with their ends.
#[derive(Debug, Default)]
struct Found {
    html: String,
    count: usize,
    first: Option<LogCursor>,
    last: Option<LogCursor>,
}

impl Found {
    fn add(&mut self, line: &LogLine) {
        lines::of_log(line, &mut self.html);
        self.count += 1;
        self.first.get_or_insert(line.cursor);
        self.last = Some(line.cursor);
    }
}

async fn read(dashboard: &Dashboard, app: &AppName, query: LogQuery) -> Result<Found, Error> {
    let mut lines = dashboard.logs(app, query).await?;
    let mut found = Found::default();
    while let Some(line) = lines.recv().await {
        found.add(&line);
    }
    Ok(found)
}

/// The page of lines before a place, for who scrolls up.
pub(super) async fn older(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let found = read(&dashboard, &app, wanted.query()?).await?;
    let first = found.first.map(|cursor| cursor.to_string()).unwrap_or_default();
    let more = if found.count == PAGE { "1" } else { "" }.to_owned();
    let head = [("x-log-first", first), ("x-log-more", more)];
    Ok((head, Html(found.html)).into_response())
}

/// New lines as they come. Each event's id is the place of its last line, so that a browser that was
/// cut off goes on where it was.
pub(super) async fn stream(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut query = wanted.query()?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    query.after = seen.or(query.after);
    query.tail = true;
    // Without a place it begins now; with one, with what was missed.
    query.num = Some(if query.after.is_some() { MAX_MISSED } else { 0 });
    let lines = dashboard.logs(&app, query).await?;
    Ok(sse::answer("dashboard/logs", move |events| follow(lines, events)))
}

/// Gathers lines for a moment and sends them as one event. A slow browser makes this wait, this makes
/// the reader of the files wait, and nobody else.
async fn follow(mut lines: mpsc::Receiver<LogLine>, events: Events) -> Result<(), Gone> {
    let mut batch = Vec::with_capacity(BATCH);
    while lines.recv_many(&mut batch, BATCH).await > 0 {
        let full = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if lines.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        // Cancel-safe: what was received is in the batch. Lines that come later are in the next one.
        let _ = tokio::time::timeout(GATHER, full).await;
        let mut found = Found::default();
        batch.drain(..).for_each(|line| found.add(&line));
        let data = json!({ "html": found.html, "count": found.count }).to_string();
        let id = found.last.map(|cursor| cursor.to_string()).unwrap_or_default();
        events.send(Event::default().event("lines").id(id).data(data)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_a_query_and_says_what_is_wrong_with_it() {
        let wanted = Wanted { level: "warn".into(), text: "a&b <c>".into(), ..Wanted::default() };
        let query = wanted.query().unwrap();
        assert_eq!(query.text.as_deref(), Some("a&b <c>"));
        assert_eq!(wanted.as_path(), "level=warn&text=a%26b%20%3Cc%3E");
        let bad = Wanted { since: "yesterday".into(), ..Wanted::default() };
        assert!(bad.query().unwrap_err().to_string().contains("yesterday"));
    }

    #[tokio::test]
    async fn a_flood_is_sent_in_few_events_and_no_line_is_lost() {
        let (sender, lines) = mpsc::channel(64);
        let line = |number: u64| LogLine {
            at: "2026-01-02T03:04:05.000006Z".into(),
            source: crate::domain::LogSource::App,
            process: "web.1".into(),
            release: None,
            stream: crate::domain::LogStream::Stdout,
            level: crate::domain::LogLevel::Info,
            text: format!("line {number}"),
            cursor: LogCursor { at: 1, file: 1, offset: number },
        };
        let response = sse::answer("test", move |events| follow(lines, events));
        let feed = async move {
            for number in 0..5000 {
                sender.send(line(number)).await.unwrap();
            }
        };
        let body = axum::body::to_bytes(response.into_body(), 16 << 20);
        let ((), body) = tokio::join!(feed, body);
        let text = String::from_utf8(body.unwrap().to_vec()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        let html: String = events.iter().map(|event| event["html"].as_str().unwrap()).collect();
        let numbers = html
            .match_indices("line ")
            .map(|(at, _)| html[at + 5..].split('<').next().unwrap().parse::<u64>().unwrap());
        assert!(numbers.eq(0..5000));
        assert!(text.contains("id: 1-1-1387"), "the place of the last line");
    }
}
