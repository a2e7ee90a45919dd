//! What is said of an app as a whole: its name, its branch, whether it is up, its end.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Done, Page};
use crate::domain::AppName;
use crate::domain::access::{
    APPS_DESTROY, APPS_RENAME, APPS_SET_DEPLOY_BRANCH, MAINTENANCE_SET, PS_RESTART, PS_START,
    PS_STOP,
};
use crate::platform::{Error, Switch};
use crate::web::{App, Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

async fn page(dashboard: &Dashboard, caller: &Caller, app: &AppName) -> Result<Page, Refusal> {
    let report = dashboard.app(app).await?;
    let maintenance = dashboard.maintenance(app).await?;
    let may = |verb| can(caller, verb, Some(app));
    let context = json!({
        "app": report.app,
        "status": report.status,
        "git_remote": report.git_remote,
        "maintenance": maintenance.enabled,
        "may_rename": may(APPS_RENAME),
        "may_destroy": may(APPS_DESTROY),
        "may_branch": may(APPS_SET_DEPLOY_BRANCH),
        "may_maintain": may(MAINTENANCE_SET),
        "may_start": may(PS_START),
        "may_stop": may(PS_STOP),
        "may_restart": may(PS_RESTART),
    });
    Ok(Page::of_app("app/settings", app, "settings", context).style("forms.css"))
}

/// The page's forms that end where they began.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Branch,
    Maintenance,
    Start,
    Stop,
    Restart,
}

async fn change(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
    ask: Ask,
) -> Result<String, Error> {
    let actor = &caller.actor;
    match ask {
        Ask::Branch => {
            let branch = fields.maybe("branch")?;
            dashboard.set_deploy_branch(actor, app, branch.clone()).await?;
            Ok(match branch {
                Some(branch) => format!("Pushes to {branch} are deployed."),
                None => "The next pushed main or master is deployed.".to_owned(),
            })
        }
        Ask::Maintenance => {
            let enabled: bool = fields.need("maintenance")?;
            dashboard.set_maintenance(actor, app, Switch { enabled }).await?;
            let on = "Visitors see the maintenance page now.";
            Ok(if enabled { on } else { "Visitors see the app again." }.to_owned())
        }
        Ask::Start => {
            let operation = dashboard.start(actor, app).await?;
            settled(operation, |()| "The app is started.".to_owned()).await
        }
        Ask::Stop => {
            let operation = dashboard.stop(actor, app).await?;
            settled(operation, |()| "The app is stopped.".to_owned()).await
        }
        Ask::Restart => {
            let operation = dashboard.restart(actor, app).await?;
            settled(operation, |()| "All instances are replaced by new ones.".to_owned()).await
        }
    }
}

macro_rules! forms {
    ($($name:ident = $ask:ident;)*) => {$(
        pub(super) async fn $name(
            State(dashboard): State<Dashboard>,
            caller: Caller,
            App(app): App,
            fields: Fields,
        ) -> Result<Response, Refusal> {
            let outcome = change(&dashboard, &caller, &app, &fields, Ask::$ask).await;
            let page = page(&dashboard, &caller, &app);
            answer(outcome, format!("/apps/{app}/settings"), page, &fields).await
        }
    )*};
}

forms! {
    branch = Branch;
    maintenance = Maintenance;
    start = Start;
    stop = Stop;
    restart = Restart;
}

pub(super) async fn rename(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let to: AppName = fields.need("name")?;
        dashboard.rename_app(&caller.actor, &app, &to).await?;
        Ok(to)
    };
    match outcome.await {
        Ok(to) => {
            let text = format!("{app} is called {to} now; its git remote has changed as well.");
            Ok(Done::to(format!("/apps/{to}/settings")).say(text).into_response())
        }
        Err(error) => {
            let error: Error = error;
            let page = page(&dashboard, &caller, &app).await?;
            Ok(page.refused(&error, fields.again()).into_response())
        }
    }
}

pub(super) async fn destroy(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        fields.confirms(app.as_str())?;
        dashboard.destroy_app(&caller.actor, &app).await?;
        Ok(format!("{app} is gone, with its releases, logs and config."))
    };
    let outcome = outcome.await;
    answer(outcome, "/".to_owned(), page(&dashboard, &caller, &app), &fields).await
}
