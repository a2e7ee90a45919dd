//! An app's tasks, when they ran and how that went.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::{CRON_RUN, CRON_SET, CRON_SWITCH};
use crate::domain::{AppName, CronOutcome, CronTaskId};
use crate::platform::{CronRunRequest, Error};
use crate::web::{App, Caller, Refusal};

/// How many runs the page shows.
const RUNS: usize = 30;

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

async fn page(dashboard: &Dashboard, caller: &Caller, app: &AppName) -> Result<Page, Refusal> {
    let report = dashboard.cron(app).await?;
    let runs = dashboard.cron_runs(app, None, RUNS).await?;
    let may = |verb| can(caller, verb, Some(app));
    let context = json!({
        "report": report,
        "runs": runs,
        "may_run": may(CRON_RUN),
        "may_switch": may(CRON_SWITCH),
        "may_set": may(CRON_SET),
    });
    Ok(Page::of_app("app/cron", app, "cron", context).style("forms.css"))
}

pub(super) async fn run(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = run_task(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/cron"), page, &fields).await
}

async fn run_task(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    let id: CronTaskId = fields.need("id")?;
    let request = CronRunRequest::default();
    let operation = dashboard.run_cron(&caller.actor, app, &id, request).await?;
    settled(operation, |run| match run.outcome {
        CronOutcome::Succeeded => "The task has ended well.".to_owned(),
        outcome => format!("The task has ended: {}. Its last lines are below.", outcome.as_str()),
    })
    .await
}

pub(super) async fn switch(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = switch_task(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/cron"), page, &fields).await
}

async fn switch_task(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    let id: CronTaskId = fields.need("id")?;
    let suspended: bool = fields.need("suspended")?;
    dashboard.suspend_cron(&caller.actor, app, &id, suspended).await?;
    let text = if suspended { "The task is suspended." } else { "The task runs by its schedule." };
    Ok(text.to_owned())
}

pub(super) async fn maintenance(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let on: bool = fields.need("maintenance")?;
        let value = on.to_string();
        dashboard.set_cron(&caller.actor, Some(&app), "maintenance", Some(&value)).await?;
        let text = if on { "No task of the app runs by schedule." } else { "Tasks run again." };
        Ok(text.to_owned())
    };
    let outcome = outcome.await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/cron"), page, &fields).await
}
