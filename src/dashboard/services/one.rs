//! One service: how it stands, who uses it, its backups; its credentials if asked.

use axum::extract::State;
use serde_json::{Value, json};

use super::{apps, row};
use crate::dashboard::fields::can;
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::*;
use crate::domain::{PluginName, ServiceName};
use crate::web::{Caller, Refusal, TypeAndName};
use crate::wire::BackupReport;

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, (&kind, &name), false).await
}

/// The same page with the address that apps are given. A path of its own, because it is a verb of
/// its own.
pub(super) async fn credentials(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    TypeAndName(kind, name): TypeAndName,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, (&kind, &name), true).await
}

pub(super) async fn page(
    dashboard: &Dashboard,
    caller: &Caller,
    (kind, name): (&PluginName, &ServiceName),
    reveal: bool,
) -> Result<Page, Refusal> {
    let report = dashboard.service(kind, name).await?;
    let status = dashboard.backup_status(kind, name).await?;
    let backups = dashboard.service_backups(kind, name).await?;
    let may = |verb| can(caller, verb, None);
    let context = json!({
        "service": row(&report, caller),
        "host": report.host,
        "ports": report.ports,
        "exposed": report.exposed,
        "image": report.image,
        "dsn": reveal.then_some(&report.dsn),
        "apps": apps(dashboard, caller).await?,
        "backups": backups.iter().map(backup).collect::<Vec<_>>(),
        "plan": {
            "place": status.place,
            "schedule": status.schedule,
            "next_at": status.next_at,
            "keep": status.keep,
            "keep_days": status.keep_days,
            "bytes": status.bytes,
            "usable": status.usable,
        },
        "may": {
            "info": may(SERVICES_INFO),
            "link": may(SERVICES_LINK),
            "unlink": may(SERVICES_UNLINK),
            "promote": may(SERVICES_PROMOTE),
            "expose": may(SERVICES_EXPOSE),
            "start": may(SERVICES_START),
            "stop": may(SERVICES_STOP),
            "restart": may(SERVICES_RESTART),
            "backup": may(SERVICES_BACKUP),
            "verify": may(SERVICES_BACKUP_VERIFY),
            "restore": may(SERVICES_RESTORE),
            "remove": may(SERVICES_BACKUP_REMOVE),
            "set": may(SERVICES_BACKUP_SET),
            "destroy": may(SERVICES_DESTROY),
        },
    });
    let title = format!("{kind}/{name}");
    Ok(Page::new("service", title, "services", context).style("forms.css"))
}

fn backup(report: &BackupReport) -> Value {
    json!({
        "id": report.id,
        "state": report.state,
        "why": report.why,
        "created_at": report.created_at,
        "verified_at": report.verified_at,
        "cause": report.cause,
        "place": report.place,
        "bytes": report.bytes,
        "usable": report.state == "stored" || report.state == "verified",
    })
}
