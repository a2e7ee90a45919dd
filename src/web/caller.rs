//! For whom a request is made, and what they may do.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::Refusal;
use super::identify::unauthenticated;
use crate::domain::access::{Grants, Verb};
use crate::domain::{Actor, AppName};
use crate::platform::Error;

/// The person a request is made for, their grants at its beginning, and the request's id. Put in
/// place by the door.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, and from where.
    pub actor: Actor,
    /// What they may do.
    pub grants: Grants,
    /// The request's id, as in its answer and in the log.
    pub request_id: String,
}

impl Caller {
    /// For handlers whose app is in the body: whether the caller may.
    ///
    /// # Errors
    /// `Denied`, or `NotFound` for an app that the caller may not see.
    pub fn may(&self, verb: Verb, app: Option<&AppName>) -> Result<(), Error> {
        Ok(self.grants.allow(verb, app)?)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || unauthenticated("this needs to know who asks");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}
