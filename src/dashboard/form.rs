//! What a form sends.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::platform::{Error, Kind};
use crate::web::Refusal;

/// The fields of a posted form (`application/x-www-form-urlencoded`). `Form<Vec<(String, String)>>`
/// has all of them, repeated ones too. The frame has checked `_csrf` before.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match axum::Form::<T>::from_request(request, state).await {
            Ok(axum::Form(value)) => Ok(Self(value)),
            Err(rejection) => Err(Error::new(Kind::Invalid, rejection.body_text()).into()),
        }
    }
}
