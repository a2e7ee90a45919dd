//! Routes that cannot be added without saying which verb they are.

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::caller::Caller;
use super::error::Refusal;
use crate::domain::AppName;
use crate::domain::access::Verb;

/// A table of routes, each behind its verb's guard.
#[derive(Debug, Clone)]
pub struct Routes<S>(Router<S>);

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes.
    pub fn new() -> Self {
        Self(Router::new())
    }

    /// `path` with one method, which is `verb`; the app that the verb acts on is `{app}` of the path.
    #[must_use]
    pub fn at(self, verb: Verb, path: &str, method: MethodRouter<S>) -> Self {
        Self(self.0.route(path, method.route_layer(from_fn_with_state(verb, guard))))
    }

    /// `path` with the handlers of a page, whose methods all are `verb`.
    #[must_use]
    pub fn page(self, verb: Verb, path: &str, methods: MethodRouter<S>) -> Self {
        Self(self.0.route(path, methods.route_layer(from_fn_with_state(verb, guard))))
    }

    /// The routes of `other` as well.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }

    /// The routes of `other` below `path`.
    #[must_use]
    pub fn below(self, path: &str, other: Self) -> Self {
        Self(self.0.nest(path, other.0))
    }

    /// For axum, guards in place.
    pub fn into_router(self) -> Router<S> {
        self.0
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets a request pass if its caller may do what its route does.
async fn guard(
    State(verb): State<Verb>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let app = app_of(&mut parts).await?;
    caller.may(verb, app.as_ref())?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// `{app}` of the path, if it has one.
async fn app_of(parts: &mut axum::http::request::Parts) -> Result<Option<AppName>, Refusal> {
    // A path that is no UTF-8 names no app; its handler says what is wrong with it.
    let Ok(params) = RawPathParams::from_request_parts(parts, &()).await else { return Ok(None) };
    let named = params.iter().find(|(key, _)| *key == "app");
    Ok(named.map(|(_, name)| name.parse()).transpose()?)
}
