//! Signing in: by a code from the command line, a password, or a token.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::cookies::Cookie;
use super::form::Form;
use super::visit::{Visit, next_path};
use super::{Dashboard, Page};
use crate::platform::Error;
use crate::web::{Query, Refusal};

/// Where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// The form: a code or token, or a name with its password.
#[derive(Deserialize)]
pub(super) struct Fields {
    #[serde(default)]
    secret: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    next: Option<String>,
}

pub(super) async fn show(visit: Visit, Query(next): Query<Next>) -> Result<Response, Refusal> {
    let next = next_path(next.next.as_deref());
    if visit.session.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Ok(page(next).into_response())
}

fn page(next: &str) -> Page {
    Page::new("sign-in", "Sign in", "", json!({ "next": next })).script("sign-in.js")
}

pub(super) async fn submit(
    State(dashboard): State<Dashboard>,
    visit: Visit,
    Form(fields): Form<Fields>,
) -> Result<Response, Refusal> {
    let next = next_path(fields.next.as_deref());
    match sign_in(&dashboard, &visit, &fields).await {
        Ok(secret) => {
            let mut response = Redirect::to(next).into_response();
            let cookies =
                [Cookie::Session.set(&secret, visit.https), Cookie::Visitor.set("", visit.https)];
            for cookie in cookies.into_iter().flatten() {
                let cookie: HeaderValue = cookie;
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Err(error) => {
            Ok(page(next).refused(&error, json!({ "name": fields.name })).into_response())
        }
    }
}

/// The secret of the session that begins.
async fn sign_in(dashboard: &Dashboard, visit: &Visit, fields: &Fields) -> Result<String, Error> {
    let visitor = &visit.visitor;
    match fields.secret.trim() {
        "" => dashboard.sign_in_with_password(&fields.name, &fields.password, visitor).await,
        token if token.starts_with("stt_") => dashboard.sign_in_with_token(token, visitor).await,
        code => dashboard.sign_in_with_code(code, visitor).await,
    }
}
