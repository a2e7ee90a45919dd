//! Builds with what they became: the list, one of them live, stop and try again.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lines;
use super::sse::{self, Events, Gone};
use crate::dashboard::{Dashboard, Done, Page};
use crate::domain::access::{BUILDS_CANCEL, PS_REBUILD, RELEASES_ROLLBACK};
use crate::domain::{AppName, BuildId, BuildStage, BuildStages, BuildStatus, StageStatus};
use crate::platform::{Follower, Platform};
use crate::web::{App, Caller, Id, Query, Refusal};
use crate::wire::BuildReport;

/// How many are listed.
const SHOWN: usize = 50;
/// The most bytes of HTML in one event; a build prints up to 16 MiB.
const BATCH: usize = 64 << 10;
/// How often the stages are looked at while nothing is printed.
const LOOK: Duration = Duration::from_millis(500);
/// How many of the last lines a page has at once; `builds:output` has all.
const MAX_LINES: usize = 5_000;

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    let builds = dashboard.build_reports(&app, SHOWN).await?;
    let report = dashboard.app(&app).await?;
    let going_on = builds.iter().any(|told| !told.build.status.is_final());
    let rows: Vec<Value> = builds.iter().map(row).collect();
    let context = json!({
        "builds": rows,
        "going_on": going_on,
        "git_remote": report.git_remote,
        "can_rebuild": caller.may(PS_REBUILD, Some(&app)).is_ok() && !builds.is_empty(),
    });
    let page = Page::of_app("app/deployments", &app, "deployments", context);
    Ok(page.script("refresh.js").style("live.css"))
}

/// One build as a line of a table, also on the overview.
pub(super) fn row(told: &BuildReport) -> Value {
    let build = &told.build;
    let took = build.finished_at.map(|end| end.since(build.created_at).as_millis());
    json!({
        "id": build.id,
        // A build that runs is busy; an instance that runs is fine.
        "status": if build.status == BuildStatus::Running { json!("building") } else { json!(build.status) },
        "commit": build.commit,
        "subject": told.subject,
        "release": build.release.map(|version| version.to_string()),
        "by": build.actor.name,
        "created_at": build.created_at,
        "took_ms": took.and_then(|took| u64::try_from(took).ok()),
        "failure": build.failure,
        "going_on": !build.status.is_final(),
    })
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Id(id): Id<BuildId>,
    headers: HeaderMap,
) -> Result<Page, Refusal> {
    let told = dashboard.build_report(&app, id).await?;
    let mut html = String::new();
    let (mut count, mut skipped) = (0, 0);
    // Scripts that renew what is above the lines have the lines already.
    if !headers.contains_key("x-fragment") {
        let lines = dashboard.build_output(&app, id).await?.lines();
        count = lines.len();
        skipped = count.saturating_sub(MAX_LINES);
        lines.iter().skip(skipped).for_each(|line| lines::of_build(line, &mut html));
    }
    let mut context = state(&dashboard, &caller, &app, &told).await?;
    context["lines"] = Value::String(html);
    context["count"] = json!(count);
    context["skipped"] = json!(skipped);
    let page = Page::of_app("app/deployment", &app, "deployments", context);
    Ok(page.titled(format!("Deployment {id}")).script("deployment.js").style("live.css"))
}

/// What is above the lines, and changes while they come.
async fn state(
    platform: &Platform,
    caller: &Caller,
    app: &AppName,
    told: &BuildReport,
) -> Result<Value, Refusal> {
    let build = &told.build;
    let stages: Vec<Value> = told.stages.iter().map(stage).collect();
    let report = platform.app(app).await?;
    let serves = build.release.is_some() && report.app.current_release == build.release;
    let may = |verb| caller.may(verb, Some(app)).is_ok();
    let going_on = !build.status.is_final();
    let failed = matches!(build.status, BuildStatus::Failed | BuildStatus::Canceled);
    let broken = told.stages.broken().map(crate::domain::Stage::title);
    Ok(json!({
        "build": row(told),
        "stages": stages,
        "cause": build.failure.as_deref().map(crate::dashboard::page::sentence),
        "hint": told.hint.as_deref().map(crate::dashboard::page::sentence),
        "broken": broken,
        "serves": serves,
        "serving": report.app.current_release.map(|version| version.to_string()),
        "url": report.urls.first(),
        "can_cancel": going_on && may(BUILDS_CANCEL),
        "can_retry": failed && may(PS_REBUILD),
        "can_roll_back": serves
            && build.release.is_some_and(|version| version.0 > 1)
            && may(RELEASES_ROLLBACK),
    }))
}

fn stage(stage: &BuildStage) -> Value {
    let took = stage.finished_at.map(|end| end.since(stage.started_at).as_millis());
    let took = took.and_then(|took| u64::try_from(took).ok()).map(span);
    let sign = match stage.status {
        StageStatus::Running => "spin",
        StageStatus::Succeeded => "check",
        StageStatus::Failed => "cross",
        StageStatus::Canceled => "dot",
    };
    json!({
        "title": stage.stage.title(),
        "status_word": stage.status,
        "sign": sign,
        "started_at": stage.started_at,
        "took": took,
    })
}

/// A stage's length: tenths below a minute, since most stages are shorter.
fn span(millis: u64) -> String {
    match millis {
        0..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// Where a stream begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct From {
    from: usize,
}

/// Lines as they are printed; an event `state` when the part above them is another.
pub(super) async fn stream(
    State(dashboard): State<Dashboard>,
    App(app): App,
    Id(id): Id<BuildId>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let follower = dashboard.build_output(&app, id).await?.follow();
    // A browser that was cut off says the id of the last event it has.
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let next = seen.unwrap_or(from.from);
    let platform = Platform::clone(&dashboard);
    let watch = Watch { platform, app, id, follower, next: 0, state: None };
    Ok(sse::answer("dashboard/build", move |events| watch.run(next, events)).into_response())
}

/// One browser that watches a build.
struct Watch {
    platform: Platform,
    app: AppName,
    id: BuildId,
    follower: Follower,
    next: usize,
    state: Option<(BuildStatus, BuildStages)>,
}

impl Watch {
    async fn run(mut self, from: usize, events: Events) -> Result<(), Gone> {
        let mut html = String::new();
        loop {
            let line = tokio::select! {
                biased;
                // Cancel-safe: a line counts as read only when it is returned.
                line = self.follower.next() => match line {
                    Some(line) => Some(line),
                    None => break,
                },
                // Cancel-safe.
                () = tokio::time::sleep(LOOK) => None,
            };
            if let Some(line) = line {
                self.take(&line, from, &mut html);
                self.take_ready(from, &mut html);
                self.send_lines(&mut html, &events).await?;
            }
            self.send_state(&events).await?;
        }
        self.send_state(&events).await?;
        events.send(Event::default().event("end").data("")).await
    }

    fn take(&mut self, line: &str, from: usize, html: &mut String) {
        if self.next >= from {
            lines::of_build(line, html);
        }
        self.next += 1;
    }

    /// All that is there already, up to what fits into an event.
    fn take_ready(&mut self, from: usize, html: &mut String) {
        use futures_util::FutureExt;
        while html.len() < BATCH {
            match self.follower.next().now_or_never() {
                Some(Some(line)) => self.take(&line, from, html),
                // The end is told again by the next look.
                Some(None) | None => return,
            }
        }
    }

    async fn send_lines(&self, html: &mut String, events: &Events) -> Result<(), Gone> {
        if html.is_empty() {
            return Ok(());
        }
        let html = std::mem::take(html);
        let data = json!({ "html": html }).to_string();
        events.send(Event::default().event("lines").id(self.next.to_string()).data(data)).await
    }

    async fn send_state(&mut self, events: &Events) -> Result<(), Gone> {
        // A build that is pruned meanwhile has nothing more to tell.
        let Ok(told) = self.platform.build_report(&self.app, self.id).await else { return Ok(()) };
        let state = Some((told.build.status, told.stages));
        if self.state == state {
            return Ok(());
        }
        self.state = state;
        events.send(Event::default().event("state").data("")).await
    }
}

pub(super) async fn cancel(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Id(id): Id<BuildId>,
) -> Result<Done, Refusal> {
    dashboard.cancel_build(&caller.actor, &app, Some(id)).await?;
    Ok(Done::to(format!("/apps/{app}/deployments/{id}")).say("The build is being stopped."))
}

/// Builds the head of the deploy branch again.
pub(super) async fn rebuild(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Done, Refusal> {
    // It goes on by itself; its page shows what it prints.
    drop(dashboard.rebuild(&caller.actor, &app).await?);
    let newest = dashboard.builds(&app, 1).await?.into_iter().next();
    let to = match newest {
        Some(build) => format!("/apps/{app}/deployments/{}", build.id),
        None => format!("/apps/{app}/deployments"),
    };
    Ok(Done::to(to).say("A new build of the same branch has begun."))
}
