//! Path, query and body parsed into words of the domain, or refused with a sentence.

use std::str::FromStr;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::domain::{AppName, Invalid, PluginName, ServiceName};
use crate::platform::{Error, Kind};

/// `{app}` of the path.
#[derive(Debug)]
pub struct App(pub AppName);

impl<S: Send + Sync> FromRequestParts<S> for App {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(parameter(parts, state, "app").await?.parse()?))
    }
}

/// `{id}` of the path: a build, a release, a key, a stack, a push.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr<Err: Into<Error>>> FromRequestParts<S> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = parameter(parts, state, "id").await?;
        Ok(Self(text.parse().map_err(Into::into)?))
    }
}

/// `{type}` of the path: a type of services.
#[derive(Debug)]
pub struct Type(pub PluginName);

impl<S: Send + Sync> FromRequestParts<S> for Type {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(parameter(parts, state, "type").await?.parse()?))
    }
}

/// `{type}/{name}` of the path: a service.
#[derive(Debug)]
pub struct TypeAndName(pub PluginName, pub ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for TypeAndName {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let kind = parameter(parts, state, "type").await?.parse()?;
        Ok(Self(kind, parameter(parts, state, "name").await?.parse()?))
    }
}

/// Text without rules of its own; whoever looks it up refuses what does not exist.
#[derive(Debug, schemars::JsonSchema)]
#[schemars(transparent)]
pub struct Text(pub String);

impl FromStr for Text {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.is_empty() || text.chars().any(char::is_control) {
            true => Err(Invalid::new("name", text, "must not be empty or have control characters")),
            false => Ok(Self(text.to_owned())),
        }
    }
}

async fn parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, Refusal> {
    let invalid = |message: String| Refusal::from(Error::new(Kind::Invalid, message));
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|rejection| invalid(rejection.body_text()))?;
    let value = params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(|| invalid(format!("the path has no {name}")))
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let refusal = Refusal::from(Error::new(Kind::Invalid, rejection.body_text()));
                let status = rejection.status();
                let own = [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNSUPPORTED_MEDIA_TYPE];
                Err(if own.contains(&status) { refusal.with_status(status) } else { refusal })
            }
        }
    }
}

/// The query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Error::new(Kind::Invalid, rejection.body_text()).into()),
        }
    }
}
