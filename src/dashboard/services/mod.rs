//! Services: all of them, and one with its links, backups and credentials.

mod asked;
mod one;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{Fields, can, settle};
use super::{Dashboard, Done, Page};
use crate::domain::access::*;
use crate::domain::{AppName, PluginName};
use crate::platform::Error;
use crate::web::{Caller, Query, Refusal, Routes};
use crate::wire::{LinkReport, LinkService, NewService, ServiceReport};

/// What is below `/services`.
pub(super) fn pages() -> Routes<Dashboard> {
    const ONE: &str = "/{type}/{name}";
    let at = |rest: &str| format!("{ONE}{rest}");
    Routes::new()
        .page(SERVICES_LIST, "/", get(list))
        .page(SERVICES_CREATE, "/", post(create))
        .page(SERVICES_LIST, ONE, get(one::show))
        .page(SERVICES_INFO, &at("/credentials"), get(one::credentials))
        .page(SERVICES_START, &at("/start"), post(asked::start))
        .page(SERVICES_STOP, &at("/stop"), post(asked::stop))
        .page(SERVICES_RESTART, &at("/restart"), post(asked::restart))
        .page(SERVICES_LINK, &at("/link"), post(asked::link))
        .page(SERVICES_UNLINK, &at("/unlink"), post(asked::unlink))
        .page(SERVICES_PROMOTE, &at("/promote"), post(asked::promote))
        .page(SERVICES_EXPOSE, &at("/expose"), post(asked::expose))
        .page(SERVICES_UNEXPOSE, &at("/unexpose"), post(asked::unexpose))
        .page(SERVICES_BACKUP, &at("/backup"), post(asked::backup))
        .page(SERVICES_BACKUP_VERIFY, &at("/verify"), post(asked::verify))
        .page(SERVICES_RESTORE, &at("/restore"), post(asked::restore))
        .page(SERVICES_BACKUP_REMOVE, &at("/remove-backup"), post(asked::remove_backup))
        .page(SERVICES_BACKUP_SET, &at("/backup-settings"), post(asked::set_backups))
        .page(SERVICES_DESTROY, &at("/destroy"), post(asked::destroy))
}

/// The types of services that may be created, and all services, without their passwords.
pub(super) async fn all(
    dashboard: &Dashboard,
    caller: &Caller,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut types, mut rows) = (Vec::new(), Vec::new());
    for plugin in dashboard.plugin_list().await? {
        let Some(server) = plugin.service.filter(|_| plugin.damaged.is_none()) else { continue };
        let services = dashboard.services_of(&plugin.name).await?;
        rows.extend(services.iter().map(|service| row(service, caller)));
        if plugin.enabled {
            types.push(json!({
                "name": plugin.name,
                "description": plugin.description,
                "server": server,
                "count": services.len(),
            }));
        }
    }
    Ok((types, rows))
}

/// What a table shows of a service. The address with its password is no part of it.
pub(super) fn row(service: &ServiceReport, caller: &Caller) -> Value {
    json!({
        "path": format!("{}/{}", service.kind, service.name),
        "type": service.kind,
        "name": service.name,
        "status": service.status,
        "version": service.version,
        "created_at": service.created_at,
        "memory_used": service.memory_bytes,
        "memory_most": service.memory_limit.0,
        "disk_used": service.disk_bytes,
        "disk_most": service.disk_limit.map(|size| size.0),
        "disk_full": service.disk_full,
        "restarts": service.restarts,
        "last_exit": service.last_exit,
        "links": links(&service.links, caller),
        "verified_at": service.last_verified_backup.as_ref().and_then(|backup| backup.verified_at),
    })
}

/// Links of apps that the caller may see; how many others there are.
pub(super) fn links(links: &[LinkReport], caller: &Caller) -> Value {
    let seen: Vec<_> = links.iter().filter(|link| caller.grants.sees(&link.app)).collect();
    json!({ "apps": seen, "hidden": links.len() - seen.len() })
}

/// The apps that the caller may see.
pub(super) async fn apps(dashboard: &Dashboard, caller: &Caller) -> Result<Vec<AppName>, Error> {
    let apps = dashboard.apps().await?.into_iter().map(|report| report.app.name);
    Ok(apps.filter(|name| caller.grants.sees(name)).collect())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// The type that the form begins with.
    r#type: Option<String>,
    /// The app that is linked to the new service.
    app: Option<String>,
}

async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Refusal> {
    let mut page = page(&dashboard, &caller).await?;
    if let Value::Object(context) = &mut page.context {
        let fields = json!({ "type": wanted.r#type, "app": wanted.app });
        context.insert("fields".to_owned(), fields);
    }
    Ok(page)
}

async fn page(dashboard: &Dashboard, caller: &Caller) -> Result<Page, Refusal> {
    let (types, rows) = all(dashboard, caller).await?;
    let context = json!({
        "types": types,
        "services": rows,
        "apps": apps(dashboard, caller).await?,
        "may_create": can(caller, SERVICES_CREATE, None),
    });
    Ok(Page::new("services", "Services", "services", context).style("forms.css"))
}

async fn create(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    match make(&dashboard, &caller, &fields).await {
        Ok(done) => Ok(done.into_response()),
        Err(error) => {
            let page = page(&dashboard, &caller).await?;
            Ok(page.refused(&error, fields.again()).into_response())
        }
    }
}

/// Creates a service, and links it if an app is named.
async fn make(dashboard: &Dashboard, caller: &Caller, fields: &Fields) -> Result<Done, Error> {
    let kind: PluginName = fields.need("type")?;
    let new = NewService {
        name: fields.need("name")?,
        memory: fields.maybe("memory")?,
        cpu: fields.maybe("cpu")?,
        size: fields.maybe("size")?,
        password: None,
    };
    let app = seen(fields.maybe("app")?, caller)?;
    let name = new.name.clone();
    let to = format!("/services/{kind}/{name}");
    let operation = dashboard.create_service(&caller.actor, &kind, new).await?;
    if settle(operation).await?.is_none() {
        let text =
            "The first service of a type takes minutes: its packages are fetched. Look again soon.";
        return Ok(Done::to("/services").say(text));
    }
    let Some(app) = app else {
        return Ok(Done::to(to).say(format!("{name} serves; link it to the apps that need it.")));
    };
    caller.may(SERVICES_LINK, Some(&app))?;
    let wanted = LinkService { app: app.clone(), alias: None, query: None, no_restart: false };
    let operation = dashboard.link_service(&caller.actor, &kind, &name, wanted).await?;
    let text = match settle(operation).await? {
        Some(key) => format!("{name} serves, and {app} finds it in {key}."),
        None => format!("{name} serves; {app} is being deployed with its address."),
    };
    Ok(Done::to(to).say(text))
}

/// An app of a form, which looks as if it did not exist if the caller may not see it.
fn seen(app: Option<AppName>, caller: &Caller) -> Result<Option<AppName>, Error> {
    if let Some(app) = &app {
        caller.may(APPS_INFO, Some(app))?;
    }
    Ok(app)
}

/// An app that a form must name.
fn app_of(fields: &Fields, caller: &Caller) -> Result<AppName, Error> {
    let app = fields.need("app")?;
    caller.may(APPS_INFO, Some(&app))?;
    Ok(app)
}
