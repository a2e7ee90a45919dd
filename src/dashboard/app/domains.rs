//! Where an app answers: domains, whether their DNS leads here, their certificates.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::{
    DOMAINS_ADD, DOMAINS_REMOVE, LETSENCRYPT_ENABLE, LETSENCRYPT_RENEW, LETSENCRYPT_SET,
};
use crate::domain::{AppName, Hostname};
use crate::platform::{Error, Kind};
use crate::web::{App, Caller, Query, Refusal};
use crate::wire::{AcmeChange, AcmeReport, CertificateReport};

/// Fewer days than this are worth a word; authorities' certificates are renewed well before.
const SOON_DAYS: i64 = 14;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Whether DNS is asked, which takes a while.
    check: Option<String>,
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app, wanted.check.is_some()).await
}

async fn page(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    check: bool,
) -> Result<Page, Refusal> {
    let report = dashboard.domains(app).await?;
    let certificates = dashboard.certificate_report(app).await?;
    let acme = dashboard.acme_report(Some(app)).await?;
    let dns = if check { dashboard.check_dns(&report.domains).await } else { Vec::new() };
    let may = |verb| can(caller, verb, Some(app));
    let may_remove = may(DOMAINS_REMOVE) && report.custom;
    let rows: Vec<Value> = report
        .domains
        .iter()
        .map(|domain| {
            json!({
                "domain": domain,
                "certificate": certificate(domain, &certificates),
                "acme": progress(domain, &acme),
                "dns": dns.iter().find(|dns| dns.domain == *domain),
                "may_remove": may_remove,
            })
        })
        .collect();
    let context = json!({
        "rows": rows,
        "checked": check,
        "custom": report.custom,
        "global": report.global,
        "acme": {
            "enabled": acme.enabled,
            "email": acme.email,
            "server": acme.server,
            "challenge": acme.challenge,
        },
        "own": certificates.own.map(|own| json!({
            "subject": own.facts.subject,
            "issuer": own.facts.issuer,
            "not_after": own.facts.not_after,
            "days_left": own.days_left,
        })),
        "may_add": may(DOMAINS_ADD),
        "may_enable": may(LETSENCRYPT_ENABLE),
        "may_renew": may(LETSENCRYPT_RENEW),
        "may_set": may(LETSENCRYPT_SET),
    });
    Ok(Page::of_app("app/domains", app, "domains", context).style("forms.css").script("domains.js"))
}

/// The state of a domain's certificate in a word, and when it ends.
fn certificate(domain: &Hostname, report: &CertificateReport) -> Value {
    let shown = report.domains.iter().find(|entry| entry.domain == *domain);
    let Some(id) = shown.and_then(|entry| entry.certificate.clone()) else {
        return json!({ "state": "none" });
    };
    let entry = report.own.iter().chain(&report.automatic).find(|entry| entry.facts.id == id);
    let Some(entry) = entry else { return json!({ "state": "none" }) };
    let covered = shown.is_some_and(|entry| entry.covered);
    let state = match entry.days_left {
        _ if !covered => "wrong name",
        ..0 => "expired",
        0..SOON_DAYS => "expiring",
        _ => "valid",
    };
    json!({
        "state": state,
        "source": entry.source,
        "issuer": entry.facts.issuer,
        "not_after": entry.facts.not_after,
        "days_left": entry.days_left,
        "verified": entry.facts.verified,
    })
}

/// What became of the last attempt to have a certificate.
fn progress(domain: &Hostname, report: &AcmeReport) -> Value {
    let Some(entry) = report.domains.iter().find(|entry| entry.domain == *domain) else {
        return Value::Null;
    };
    json!({
        "renew_at": entry.renew_at,
        "failures": entry.failures,
        "last_failure": entry.last_failure,
        "next_attempt": entry.next_attempt,
        "skipped": entry.skipped,
    })
}

/// One of the page's forms, each with a path and a verb of its own.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Add,
    Remove,
    HttpsOn,
    HttpsOff,
    Renew,
    Email,
}

async fn done(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
    ask: Ask,
) -> Result<Response, Refusal> {
    let outcome = change(dashboard, caller, app, fields, ask).await;
    let page = page(dashboard, caller, app, false);
    answer(outcome, format!("/apps/{app}/domains"), page, fields).await
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
        Ask::Add => {
            let domain: Hostname = fields.need("domain")?;
            let text = format!("{domain} leads to {app} now, once its DNS record points here.");
            dashboard.add_domains(actor, app, vec![domain]).await?;
            Ok(text)
        }
        Ask::Remove => {
            let domain: Hostname = fields.need("domain")?;
            let text = format!("{domain} does not lead to {app} any more.");
            dashboard.remove_domains(actor, app, vec![domain]).await?;
            Ok(text)
        }
        Ask::HttpsOn => {
            let operation = dashboard.enable_acme(actor, app).await?;
            settled(operation, |outcome| certificates_had(outcome.done.len())).await
        }
        Ask::HttpsOff => {
            dashboard.disable_acme(actor, app).await?;
            Ok("Certificates are not renewed by themselves any more.".to_owned())
        }
        Ask::Renew => {
            let operation = dashboard.renew_acme(Some(app), fields.ticked("force")).await?;
            settled(operation, |outcome| certificates_had(outcome.done.len())).await
        }
        Ask::Email => {
            let value = fields.text("email").map(ToOwned::to_owned);
            if value.as_deref().is_some_and(|email| !email.contains('@')) {
                return Err(Error::new(Kind::Invalid, "the address has no `@`"));
            }
            let change = AcmeChange { key: "email".to_owned(), value };
            dashboard.set_acme(actor, Some(app), &change).await?;
            Ok("The authority is told this address.".to_owned())
        }
    }
}

fn certificates_had(count: usize) -> String {
    match count {
        0 => "Every domain has what it needs.".to_owned(),
        1 => "One domain has a new certificate.".to_owned(),
        _ => format!("{count} domains have new certificates."),
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
            done(&dashboard, &caller, &app, &fields, Ask::$ask).await
        }
    )*};
}

forms! {
    add = Add;
    remove = Remove;
    https_on = HttpsOn;
    https_off = HttpsOff;
    renew = Renew;
    email = Email;
}
