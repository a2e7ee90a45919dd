//! `/apps/{app}/certificate`, and `/letsencrypt` of one app and of all.

use crate::web::routing::IntoApiResponse;
use crate::web::routing::{delete, get, patch, post, put};
use axum::Json;
use axum::extract::State;

use super::router::Parts;
use super::stream::{self, OnDrop};
use crate::domain::Secret;
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::Routes;
use crate::web::{App, Body};
use crate::wire::{
    AcmeChange, AcmeDomain, AcmeRenew, AcmeReport, CertificateChange, CertificateReport,
    GenerateCertificate, GeneratedCertificate, NewCertificate,
};

/// Below `/apps/{app}`.
pub(super) fn app_routes() -> Routes<Parts> {
    Routes::new()
        .at(CERTS_REPORT, "/certificate", get(report))
        .at(CERTS_ADD, "/certificate", put(add))
        .at(CERTS_REMOVE, "/certificate", delete(remove))
        .at(CERTS_GENERATE, "/certificate/generate", post(generate))
        .at(CERTS_CHAIN, "/certificate/chain", get(chain))
        .at(CERTS_KEY, "/certificate/key", post(key))
        .at(LETSENCRYPT_REPORT, "/letsencrypt", get(acme_report))
        .at(LETSENCRYPT_SET, "/letsencrypt", patch(set_acme))
        .at(LETSENCRYPT_ENABLE, "/letsencrypt/enable", post(enable))
        .at(LETSENCRYPT_DISABLE, "/letsencrypt/disable", post(disable))
        .at(LETSENCRYPT_RENEW, "/letsencrypt/renew", post(renew))
        .at(LETSENCRYPT_REVOKE, "/letsencrypt/revoke", post(revoke))
}

/// `/letsencrypt`.
pub(super) fn machine_routes() -> Routes<Parts> {
    Routes::new()
        .at(LETSENCRYPT_REPORT_GLOBAL, "/letsencrypt", get(global_acme))
        .at(LETSENCRYPT_SET_GLOBAL, "/letsencrypt", patch(set_global_acme))
        .at(LETSENCRYPT_LIST, "/letsencrypt/certificates", get(acme_list))
        .at(LETSENCRYPT_AUTO_RENEW, "/letsencrypt/renew", post(renew_all))
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
) -> Result<impl IntoApiResponse, Refusal> {
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
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.renew_acme(Some(&app), request.force).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

/// `/letsencrypt/renew`.
pub(super) async fn renew_all(
    State(platform): State<Platform>,
    caller: Caller,
    Body(request): Body<AcmeRenew>,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.renew_acme(None, request.force).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}

async fn revoke(
    State(platform): State<Platform>,
    caller: Caller,
    App(app): App,
) -> Result<impl IntoApiResponse, Refusal> {
    let operation = platform.revoke_acme(&caller.actor, &app).await?;
    Ok(stream::operation(operation, OnDrop::Continue, caller.request_id))
}
