//! `/apps/{app}/certificate`, and `/letsencrypt` of one app and of all.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};

use super::caller::Caller;
use super::error::Refusal;
use super::extract::{App, Body};
use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::Secret;
use crate::platform::Platform;
use crate::wire::{
    AcmeChange, AcmeDomain, AcmeRenew, AcmeReport, CertificateChange, CertificateReport,
    GenerateCertificate, GeneratedCertificate, NewCertificate,
};

/// Below `/apps/{app}`.
pub(super) fn app_routes() -> Router<Parts> {
    Router::new()
        .route("/certificate", get(report).put(add).delete(remove))
        .route("/certificate/generate", post(generate))
        .route("/certificate/chain", get(chain))
        .route("/certificate/key", post(key))
        .route("/letsencrypt", get(acme_report).patch(set_acme))
        .route("/letsencrypt/enable", post(enable))
        .route("/letsencrypt/disable", post(disable))
        .route("/letsencrypt/renew", post(renew))
        .route("/letsencrypt/revoke", post(revoke))
}

/// `/letsencrypt`.
pub(super) fn acme_routes() -> MethodRouter<Parts> {
    get(global_acme).patch(set_global_acme)
}

async fn report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<CertificateReport>, Refusal> {
    Ok(Json(platform.certificate_report(&app).await?))
}

async fn add(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(new): Body<NewCertificate>,
) -> Result<Json<CertificateChange>, Refusal> {
    Ok(Json(platform.add_certificate(&caller.actor, &app, new).await?))
}

async fn remove(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Json<CertificateReport>, Refusal> {
    Ok(Json(platform.remove_certificate(&caller.actor, &app).await?))
}

async fn generate(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<GenerateCertificate>,
) -> Result<Json<GeneratedCertificate>, Refusal> {
    Ok(Json(platform.generate_certificate(&caller.actor, &app, &request.domain).await?))
}

async fn chain(State(platform): State<Platform>, App(app): App) -> Result<Json<String>, Refusal> {
    Ok(Json(platform.certificate_chain(&app).await?))
}

/// A key is given to whoever may use commands, and noted: so it is no `GET`.
async fn key(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Json<Secret>, Refusal> {
    Ok(Json(platform.certificate_key(&caller.actor, &app).await?))
}

async fn acme_report(
    State(platform): State<Platform>,
    App(app): App,
) -> Result<Json<AcmeReport>, Refusal> {
    Ok(Json(platform.acme_report(Some(&app)).await?))
}

async fn set_acme(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(change): Body<AcmeChange>,
) -> Result<Json<AcmeReport>, Refusal> {
    Ok(Json(platform.set_acme(&caller.actor, Some(&app), &change).await?))
}

async fn global_acme(State(platform): State<Platform>) -> Result<Json<AcmeReport>, Refusal> {
    Ok(Json(platform.acme_report(None).await?))
}

async fn set_global_acme(
    State(platform): State<Platform>,
    caller: Caller,
    Body(change): Body<AcmeChange>,
) -> Result<Json<AcmeReport>, Refusal> {
    Ok(Json(platform.set_acme(&caller.actor, None, &change).await?))
}

/// `/letsencrypt/certificates`.
pub(super) async fn acme_list(
    State(platform): State<Platform>,
) -> Result<Json<Vec<AcmeDomain>>, Refusal> {
    Ok(Json(platform.acme_list().await?))
}

async fn enable(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Response, Refusal> {
    let operation = platform.enable_acme(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn disable(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Json<AcmeReport>, Refusal> {
    Ok(Json(platform.disable_acme(&caller.actor, &app).await?))
}

async fn renew(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
    Body(request): Body<AcmeRenew>,
) -> Result<Response, Refusal> {
    let operation = platform.renew_acme(Some(&app), request.force).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

/// `/letsencrypt/renew`.
pub(super) async fn renew_all(
    State(platform): State<Platform>,
    caller: Caller,
    Body(request): Body<AcmeRenew>,
) -> Result<Response, Refusal> {
    let operation = platform.renew_acme(None, request.force).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn revoke(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<Response, Refusal> {
    let operation = platform.revoke_acme(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
