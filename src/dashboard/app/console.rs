//! A terminal in the browser: into an instance, or a one-off beside them.

mod relay;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboard::cookies::Cookie;
use crate::dashboard::{Dashboard, Page, Visit, visit};
use crate::domain::AppName;
use crate::domain::access::{ENTER_START, Grants, RUN_START, Verb};
use crate::platform::{Error, Kind, RunRequest, TerminalSize};
use crate::web::{App, Caller, Origin, Query, Refusal};
use crate::wire::InstanceStatus;

use relay::Relay;

/// The largest message of a browser: what somebody pastes.
const MAX_MESSAGE: usize = 64 << 10;
/// The longest command, in bytes.
const MAX_COMMAND: usize = 4 << 10;
/// What terminals in browsers are.
const TERM: &str = "xterm-256color";

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    let report = dashboard.app(&app).await?;
    let instances: Vec<Value> = report
        .instances
        .iter()
        .filter(|instance| instance.status == InstanceStatus::Running)
        .map(|instance| json!({ "name": instance.name }))
        .collect();
    let context = json!({
        "instances": instances,
        "deployed": report.app.current_release.is_some(),
        "can_run": caller.may(RUN_START, Some(&app)).is_ok(),
        "can_enter": caller.may(ENTER_START, Some(&app)).is_ok(),
    });
    let page = Page::of_app("app/console", &app, "console", context);
    Ok(page.script("console.js").style("vendor/xterm.css").style("live.css"))
}

/// What is to be opened.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// `web.1`.
    instance: Option<String>,
    command: String,
    columns: Option<u16>,
    rows: Option<u16>,
}

impl Wanted {
    fn request(&self) -> Result<RunRequest, Error> {
        let command = self.command.trim();
        if command.len() > MAX_COMMAND || command.contains('\0') {
            return Err(Error::new(Kind::Invalid, "the command is too long, or no text"));
        }
        let size = TerminalSize {
            columns: self.columns.unwrap_or(80).clamp(1, 1000),
            rows: self.rows.unwrap_or(24).clamp(1, 1000),
        };
        Ok(RunRequest {
            process: self.instance.clone(),
            args: (!command.is_empty()).then(|| command.to_owned()).into_iter().collect(),
            terminal: Some(size),
            term: Some(TERM.into()),
            ..RunRequest::default()
        })
    }
}

/// A terminal in a running instance.
pub(super) async fn enter(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Query(wanted): Query<Wanted>,
    OwnPage(ticket): OwnPage,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let place = place(&dashboard)?;
    let session = dashboard.enter(&caller.actor, &app, wanted.request()?).await?;
    let may = Standing { dashboard, ticket, verb: ENTER_START, app };
    Ok(start(upgrade, Relay { session, place, may }))
}

/// A terminal in a container of its own.
pub(super) async fn run(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Query(wanted): Query<Wanted>,
    OwnPage(ticket): OwnPage,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let place = place(&dashboard)?;
    let mut request = wanted.request()?;
    if request.args.is_empty() {
        request.args.push("bash".into());
    }
    let session = dashboard.run(&caller.actor, &app, request).await?;
    let may = Standing { dashboard, ticket, verb: RUN_START, app };
    Ok(start(upgrade, Relay { session, place, may }))
}

fn place(dashboard: &Dashboard) -> Result<tokio::sync::OwnedSemaphorePermit, Error> {
    dashboard.consoles().try_acquire_owned().map_err(|_| {
        Error::new(Kind::Unavailable, "too many consoles are open")
            .hint("close one of them and try again")
    })
}

fn start(upgrade: WebSocketUpgrade, relay: Relay) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| relay.run(socket))
}

/// What keeps a console open: its person may still do this. Asked again and again, so that whoever
/// is signed out, or is no longer let in, does not go on where they are.
struct Standing {
    dashboard: Dashboard,
    ticket: Ticket,
    verb: Verb,
    app: AppName,
}

impl Standing {
    fn holds(&self) -> bool {
        self.ticket
            .grants(&self.dashboard)
            .is_some_and(|grants| grants.allow(self.verb, Some(&self.app)).is_ok())
    }
}

/// The session that a console was opened with.
pub(super) struct Ticket(Option<String>);

impl Ticket {
    fn of(headers: &HeaderMap, visit: &Visit) -> Self {
        Self(visit::cookie(headers, visit.https, Cookie::Session))
    }

    /// What its person may do now; none if it has ended.
    fn grants(&self, dashboard: &Dashboard) -> Option<Grants> {
        dashboard.session(self.0.as_deref()?, None).ok().flatten().map(|session| session.grants)
    }
}

/// A WebSocket that a page of ours opened (CSWSH: browsers send cookies with any WebSocket, and
/// there is no token in its handshake). RFC 6455 §10.2: browsers always send `Origin`.
pub(super) struct OwnPage(Ticket);

impl<S: Sync> FromRequestParts<S> for OwnPage {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let visit = Visit::from_request_parts(parts, state).await?;
        let host = Origin::from_request_parts(parts, state).await?.host;
        let origin = parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        if !same_origin(origin, host.as_deref().unwrap_or_default()) {
            let refusal = Error::new(Kind::Denied, "the console was opened by another site");
            return Err(refusal.hint("open it from its own page").into());
        }
        Ok(Self(Ticket::of(&parts.headers, &visit)))
    }
}

fn same_origin(origin: Option<&str>, host: &str) -> bool {
    let from = origin.and_then(|origin| origin.split_once("://"));
    from.is_some_and(|(_, from)| !host.is_empty() && from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_this_host_opens_a_console() {
        assert!(same_origin(Some("https://ops.example.com"), "ops.example.com"));
        assert!(same_origin(Some("http://127.0.0.1:7070"), "127.0.0.1:7070"));
        for origin in
            [None, Some("null"), Some("https://evil.example"), Some("https://shop.example.com")]
        {
            assert!(!same_origin(origin, "ops.example.com"), "{origin:?}");
        }
        assert!(!same_origin(Some("http://127.0.0.1:8080"), "127.0.0.1:7070"));
        assert!(!same_origin(Some("http://"), ""));
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let wanted = Wanted { command: " ls -l ".into(), columns: Some(0), ..Wanted::default() };
        let request = wanted.request().unwrap();
        assert_eq!(request.args, ["ls -l"]);
        let size = request.terminal.unwrap();
        assert_eq!((size.columns, size.rows), (1, 24));
        let long = Wanted { command: "x".repeat(5000), ..Wanted::default() };
        long.request().unwrap_err();
    }
}
