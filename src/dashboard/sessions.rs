//! The visitor's own sessions.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cookies::Cookie;
use super::{Dashboard, Done, Form, Page, Visit};
use crate::platform::{Error, Kind};
use crate::web::{Caller, Refusal};

/// Which session.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    id: i64,
}

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    visit: Visit,
) -> Result<Page, Refusal> {
    let own = visit.session.map(|session| session.id);
    let sessions = dashboard.sessions(&caller.actor.name).await?;
    let rows = sessions.iter().map(|session| {
        json!({
            "session": session,
            "browser": browser(&session.agent),
            "current": Some(session.id) == own,
        })
    });
    let rows: Value = rows.collect();
    Ok(Page::new("sessions", "Your sessions", "", json!({ "sessions": rows })))
}

pub(super) async fn end(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Form(which): Form<Which>,
) -> Result<Done, Refusal> {
    dashboard.end_session(&caller.actor, which.id).await?;
    Ok(Done::to("/sessions").say("The session was ended."))
}

pub(super) async fn end_all(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    visit: Visit,
) -> Result<Done, Refusal> {
    let own = visit.session.map(|session| session.id);
    let count = dashboard.end_sessions(&caller.actor, own).await?;
    Ok(Done::to("/sessions").say(format!("{count} other session(s) ended.")))
}

pub(super) async fn sign_out(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    visit: Visit,
) -> Result<Response, Refusal> {
    let missing = || Error::new(Kind::Internal, "the request has no session");
    let session = visit.session.ok_or_else(missing)?;
    dashboard.end_session(&caller.actor, session.id).await?;
    let mut response = Redirect::to("/sign-in").into_response();
    if let Some(cookie) = Cookie::Session.set("", visit.https) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `Firefox on Linux`, as far as the browser's own words tell.
fn browser(agent: &str) -> String {
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("HeadlessChrome/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        _ => "Unknown browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_recognized() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        assert_eq!(browser(firefox), "Firefox on Linux");
        assert_eq!(browser("<script>"), "Unknown browser");
    }
}
