//! The forms of a service's page, each with a path and a verb of its own.

use axum::extract::State;
use axum::response::Response;

use super::{app_of, one};
use crate::dashboard::Dashboard;
use crate::dashboard::fields::{Fields, answer, settled};
use crate::domain::Secret;
use crate::domain::access::SERVICES_LINK;
use crate::domain::{PluginName, ServiceName};
use crate::platform::Error;
use crate::web::{Caller, Refusal, TypeAndName};
use crate::wire::{BackupChange, BackupRequest, LinkService, RestoreRequest};

/// What a form asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Start,
    Stop,
    Restart,
    Link,
    Unlink,
    Promote,
    Expose,
    Unexpose,
    Backup,
    Verify,
    Restore,
    RemoveBackup,
    SetBackups,
    Destroy,
}

/// Who asks for it, and of what.
struct Asked<'a> {
    dashboard: &'a Dashboard,
    caller: &'a Caller,
    kind: &'a PluginName,
    name: &'a ServiceName,
    fields: &'a Fields,
}

impl Asked<'_> {
    async fn done(&self, ask: Ask) -> Result<String, Error> {
        match ask {
            Ask::Start | Ask::Stop | Ask::Restart => self.run(ask).await,
            Ask::Link => self.link().await,
            Ask::Unlink | Ask::Promote => self.change_link(ask).await,
            Ask::Expose | Ask::Unexpose => self.expose(ask).await,
            Ask::Backup | Ask::Verify => self.back_up(ask).await,
            Ask::Restore => self.restore().await,
            Ask::RemoveBackup => self.remove_backup().await,
            Ask::SetBackups => self.set_backups().await,
            Ask::Destroy => {
                self.fields.confirms(self.name.as_str())?;
                self.dashboard.destroy_service(&self.caller.actor, self.kind, self.name).await?;
                Ok(format!("{} is gone, with all that was in it.", self.name))
            }
        }
    }

    async fn run(&self, ask: Ask) -> Result<String, Error> {
        let (actor, dashboard) = (&self.caller.actor, self.dashboard);
        let operation = match ask {
            Ask::Start => dashboard.start_service(actor, self.kind, self.name).await?,
            Ask::Stop => dashboard.stop_service(actor, self.kind, self.name).await?,
            _ => dashboard.restart_service(actor, self.kind, self.name).await?,
        };
        let word = if ask == Ask::Stop { "stopped; its data stays" } else { "serves" };
        settled(operation, |()| format!("{} {word}.", self.name)).await
    }

    async fn link(&self) -> Result<String, Error> {
        let app = app_of(self.fields, self.caller)?;
        self.caller.may(SERVICES_LINK, Some(&app))?;
        let alias = self.fields.text("alias").map(ToOwned::to_owned);
        let wanted = LinkService { app: app.clone(), alias, query: None, no_restart: false };
        let actor = &self.caller.actor;
        let operation = self.dashboard.link_service(actor, self.kind, self.name, wanted).await?;
        settled(operation, |key| format!("{app} finds {} in {key}.", self.name)).await
    }

    async fn change_link(&self, ask: Ask) -> Result<String, Error> {
        let app = app_of(self.fields, self.caller)?;
        let (actor, kind, name) = (&self.caller.actor, self.kind, self.name);
        if ask == Ask::Promote {
            let operation = self.dashboard.promote_service(actor, kind, name, &app).await?;
            return settled(operation, |key| format!("{app} has {name} in {key} now.")).await;
        }
        let operation = self.dashboard.unlink_service(actor, kind, name, &app, false).await?;
        settled(operation, |_| format!("{app} does not know {name} any more.")).await
    }

    async fn expose(&self, ask: Ask) -> Result<String, Error> {
        let (actor, kind, name) = (&self.caller.actor, self.kind, self.name);
        if ask == Ask::Unexpose {
            self.dashboard.unexpose_service(actor, kind, name).await?;
            return Ok(format!("{name} is reached by linked apps only."));
        }
        self.dashboard.expose_service(actor, kind, name, Vec::new()).await?;
        Ok(format!("{name} is reached from outside now; its password is all that protects it."))
    }

    async fn back_up(&self, ask: Ask) -> Result<String, Error> {
        let (actor, kind, name) = (&self.caller.actor, self.kind, self.name);
        let operation = match ask {
            Ask::Backup => {
                let request = BackupRequest::default();
                self.dashboard.backup_service(actor, kind, name, request).await?
            }
            _ => self.dashboard.verify_backup(actor, kind, name, self.fields.maybe("id")?).await?,
        };
        settled(operation, |report| format!("Backup {} is {}.", report.id, report.state)).await
    }

    async fn restore(&self) -> Result<String, Error> {
        let request = RestoreRequest { id: self.fields.maybe("id")?, to: self.fields.maybe("to")? };
        if request.to.is_none() {
            // What was written since is gone from the service, if not from the backup of it.
            self.fields.confirms(self.name.as_str())?;
        }
        let actor = &self.caller.actor;
        let operation =
            self.dashboard.restore_service(actor, self.kind, self.name, request).await?;
        settled(operation, |done| match &done.safety {
            Some(safety) => format!(
                "{} is as backup {} has it; what it was before is backup {safety}.",
                done.service, done.backup
            ),
            None => format!("{} is as backup {} has it.", done.service, done.backup),
        })
        .await
    }

    async fn remove_backup(&self) -> Result<String, Error> {
        let id = self.fields.need("id")?;
        let force = self.fields.ticked("force");
        let actor = &self.caller.actor;
        self.dashboard.remove_backup(actor, self.kind, self.name, &id, force).await?;
        Ok(format!("Backup {id} is gone."))
    }

    async fn set_backups(&self) -> Result<String, Error> {
        let actor = &self.caller.actor;
        for key in ["schedule", "keep", "keep-days", "place"] {
            let Some(value) = self.fields.raw(key) else { continue };
            let change = BackupChange { key: key.to_owned(), value: Secret::new(value.trim()) };
            self.dashboard.set_backups(actor, self.kind, self.name, &change).await?;
        }
        Ok("Backups are made as you said.".to_owned())
    }
}

macro_rules! forms {
    ($($name:ident = $ask:ident;)*) => {$(
        pub(super) async fn $name(
            State(dashboard): State<Dashboard>,
            caller: Caller,
            TypeAndName(kind, name): TypeAndName,
            fields: Fields,
        ) -> Result<Response, Refusal> {
            let asked = Asked {
                dashboard: &dashboard,
                caller: &caller,
                kind: &kind,
                name: &name,
                fields: &fields,
            };
            let outcome = asked.done(Ask::$ask).await;
            let to = match Ask::$ask {
                Ask::Destroy => "/services".to_owned(),
                _ => back(&fields, &kind, &name),
            };
            answer(outcome, to, one::page(&dashboard, &caller, (&kind, &name), false), &fields).await
        }
    )*};
}

forms! {
    start = Start;
    stop = Stop;
    restart = Restart;
    link = Link;
    unlink = Unlink;
    promote = Promote;
    expose = Expose;
    unexpose = Unexpose;
    backup = Backup;
    verify = Verify;
    restore = Restore;
    remove_backup = RemoveBackup;
    set_backups = SetBackups;
    destroy = Destroy;
}

/// Where a form leads: to the app's page if it was asked for there, else to the service's.
fn back(fields: &Fields, kind: &PluginName, name: &ServiceName) -> String {
    match (fields.ticked("from_app"), fields.maybe::<crate::domain::AppName>("app")) {
        (true, Ok(Some(app))) => format!("/apps/{app}/services"),
        _ => format!("/services/{kind}/{name}"),
    }
}
