//! Routes that cannot be added without saying which verb they are.

use aide::axum::ApiRouter;
use aide::axum::routing::ApiMethodRouter;
use aide::openapi::{OpenApi, PathItem};
use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::caller::Caller;
use super::error::Refusal;
use crate::domain::AppName;
use crate::domain::access::{On, Verb};

/// A table of routes, each behind its verb's guard.
#[derive(Debug, Clone)]
pub struct Routes<S> {
    everywhere: ApiRouter<S>,
    /// Those of the control socket alone.
    local: Router<S>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes.
    pub fn new() -> Self {
        Self { everywhere: ApiRouter::new(), local: Router::new() }
    }

    /// `path` with one method, which is `verb`; the app that the verb acts on is `{app}` of the path.
    /// Handlers by [`super::routing`] describe themselves in the OpenAPI document; axum's do not.
    #[must_use]
    pub fn at(mut self, verb: Verb, path: &str, method: impl Into<ApiMethodRouter<S>>) -> Self {
        let method = method.into().route_layer(from_fn_with_state(verb, guard));
        self.everywhere = self.everywhere.api_route_with(path, method, |mut item| {
            describe(item.inner_mut(), verb);
            item
        });
        self
    }

    /// The same, for those only whom the kernel vouches for: on the control socket.
    #[must_use]
    pub fn local(mut self, verb: Verb, path: &str, method: impl Into<ApiMethodRouter<S>>) -> Self {
        let method: MethodRouter<S> = method.into().into();
        self.local = self.local.route(path, method.route_layer(from_fn_with_state(verb, guard)));
        self
    }

    /// `path` with the handlers of a page, whose methods all are `verb`.
    #[must_use]
    pub fn page(mut self, verb: Verb, path: &str, methods: MethodRouter<S>) -> Self {
        self.everywhere =
            self.everywhere.route(path, methods.route_layer(from_fn_with_state(verb, guard)));
        self
    }

    /// The routes of `other` as well.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            everywhere: self.everywhere.merge(other.everywhere),
            local: self.local.merge(other.local),
        }
    }

    /// The routes of `other` below `path`.
    #[must_use]
    pub fn below(self, path: &str, other: Self) -> Self {
        Self {
            everywhere: self.everywhere.nest(path, other.everywhere),
            local: self.local.nest(path, other.local),
        }
    }

    /// For axum, guards in place: what everybody reaches.
    pub fn into_router(self) -> Router<S> {
        self.everywhere.into()
    }

    /// The same, and what only the control socket has.
    pub fn into_local_router(self) -> Router<S> {
        Router::from(self.everywhere).merge(self.local)
    }

    /// For axum, and described in `document`.
    pub fn into_documented_router(self, document: &mut OpenApi) -> Router<S> {
        self.everywhere.finish_api(document)
    }
}

/// The verb as the operation's name, and what it needs.
fn describe(item: &mut PathItem, verb: Verb) {
    let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    for operation in methods.into_iter().flatten() {
        operation.operation_id = Some(verb.name.replace([':', '-'], "_"));
        operation.summary = Some(verb.name.to_owned());
        operation.tags = verb.name.split(':').take(1).map(str::to_owned).collect();
        let on = match verb.on {
            On::App => "app",
            On::Platform => "platform",
            On::Anybody => "anybody",
        };
        operation.extensions.extend([
            ("x-verb".to_owned(), verb.name.into()),
            ("x-role".to_owned(), verb.needs.as_str().into()),
            ("x-on".to_owned(), on.into()),
        ]);
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
