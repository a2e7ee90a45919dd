//! Around every request: who visits, whether they may change anything, and HTML of what comes back.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value, json};

use super::cookies::Cookie;
use super::page::{Done, Page, sentence};
use super::visit::{self, Visit, csrf_of};
use super::{Dashboard, layout, origin};
use crate::domain::AppName;
use crate::domain::access::Grants;
use crate::platform::{Error, Kind, Visitor};
use crate::support::report;
use crate::web::{Caller, Origin, Refusal, RequestId, log_failure, problem};

/// What browsers must not do with our pages. No inline script and no inline style: whatever slipped
/// through the templates' escaping would still not run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Of all answers. `same-origin` and not `no-referrer`: with the latter browsers send forms with
/// `Origin: null` (Fetch standard, "append a request Origin header"), which is what we refuse.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
/// The longest sentence that a form leaves for the next page, in bytes: a cookie has to hold it.
const MAX_FLASH: usize = 600;

/// The middleware.
pub(super) async fn frame(
    State(dashboard): State<Dashboard>,
    request: Request,
    next: Next,
) -> Response {
    // What the doors beside this one do not know is refused in their words.
    if ["/api/", "/git/"].iter().any(|prefix| request.uri().path().starts_with(prefix)) {
        return next.run(request).await;
    }
    let request_id =
        request.extensions().get().map_or_else(String::new, |RequestId(id)| id.clone());
    let path = request.uri().path().to_owned();
    let flash = flash_of(request.headers());
    let (visit, new_cookie, response) = match visit_of(&dashboard, &request) {
        Ok((visit, new_cookie)) => {
            let response = run(request, next, &visit, &request_id).await;
            (visit, new_cookie, response)
        }
        Err(error) => (stranger(&request), None, Refusal::from(error).into_response()),
    };
    let view = View { dashboard: &dashboard, visit: &visit, request_id, path, flash };
    let mut response = view.finish(response).await;
    let headers = response.headers_mut();
    if let Some(secret) = new_cookie {
        set_cookie(headers, Cookie::Visitor, &secret, visit.https);
    }
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Finds out who visits. Who is to sign in gets a cookie that ties the form to them.
fn visit_of(dashboard: &Dashboard, request: &Request) -> Result<(Visit, Option<String>), Error> {
    let mut visit = stranger(request);
    let headers = request.headers();
    if let Some(secret) = visit::cookie(headers, visit.https, Cookie::Session)
        && let Some(session) = dashboard.session(&secret, visit.visitor.address.as_deref())?
    {
        visit.csrf = csrf_of(&secret);
        visit.session = Some(session);
        return Ok((visit, None));
    }
    if request.uri().path() != "/sign-in" {
        return Ok((visit, None));
    }
    let known = visit::cookie(headers, visit.https, Cookie::Visitor);
    let new = known.is_none().then(random).transpose()?;
    visit.csrf = csrf_of(known.as_deref().or(new.as_deref()).unwrap_or_default());
    Ok((visit, new))
}

/// A visitor without a session. The token of forms is one that nobody has.
fn stranger(request: &Request) -> Visit {
    let headers = request.headers();
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let origin = request.extensions().get::<Origin>();
    Visit {
        session: None,
        csrf: random().unwrap_or_default(),
        https: origin.is_some_and(|origin| origin.secure),
        visitor: Visitor {
            address: origin.map(|origin| origin.address.to_string()),
            agent: agent.unwrap_or_default().to_owned(),
        },
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(Kind::Internal, "make a token for forms")
            .because(std::io::Error::other(error.to_string()))
    })?;
    Ok(Base64UrlUnpadded::encode_string(&bytes))
}

async fn run(mut request: Request, next: Next, visit: &Visit, request_id: &str) -> Response {
    request.extensions_mut().insert(visit.clone());
    if let Some(session) = &visit.session {
        let (actor, grants) = (session.actor.clone(), session.grants.clone());
        let caller = Caller { actor, grants, request_id: request_id.to_owned() };
        request.extensions_mut().insert(caller);
    }
    // Who is not signed in is led to the sign-in page, whatever their form says.
    let protected = visit.session.is_some() || request.uri().path() == "/sign-in";
    if !protected {
        return next.run(request).await;
    }
    match origin::check(request, &visit.csrf).await {
        Ok(request) => next.run(request).await,
        Err(error) => Refusal::from(error).into_response(),
    }
}

fn set_cookie(headers: &mut HeaderMap, cookie: Cookie, value: &str, https: bool) {
    if let Some(value) = cookie.set(value, https) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// The sentence of the form before.
fn flash_of(headers: &HeaderMap) -> Option<String> {
    let value =
        [true, false].into_iter().find_map(|https| visit::cookie(headers, https, Cookie::Flash))?;
    let bytes = Base64UrlUnpadded::decode_vec(&value).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// One look at a page by one visitor.
struct View<'a> {
    dashboard: &'a Dashboard,
    visit: &'a Visit,
    request_id: String,
    path: String,
    flash: Option<String>,
}

impl View<'_> {
    /// HTML of what a handler answered with.
    async fn finish(&self, mut response: Response) -> Response {
        if let Some(page) = response.extensions_mut().remove::<Page>() {
            let html = self.render(page).await;
            return self.html(response, html);
        }
        if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
            log_failure(&refusal.error);
            let html = self.render(self.problem(&refusal)).await;
            return self.html(response, html);
        }
        if let Some(text) = response.extensions_mut().remove::<Done>().and_then(|done| done.text) {
            let end = text.floor_char_boundary(MAX_FLASH);
            let value = Base64UrlUnpadded::encode_string(&text.as_bytes()[..end]);
            set_cookie(response.headers_mut(), Cookie::Flash, &value, self.visit.https);
        }
        response
    }

    /// Puts `html` into the response, whose status and headers stay.
    fn html(&self, response: Response, html: Result<String, Error>) -> Response {
        let (mut parts, _) = response.into_parts();
        let html = html.unwrap_or_else(|error| {
            log_failure(&error);
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
            format!("This page cannot be shown. The log tells more under {}.\n", self.request_id)
        });
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        parts.headers.insert(header::CONTENT_TYPE, kind);
        if self.flash.is_some() {
            set_cookie(&mut parts.headers, Cookie::Flash, "", self.visit.https);
        }
        Response::from_parts(parts, html.into())
    }

    /// What a person reads when something was refused.
    fn problem(&self, refusal: &Refusal) -> Page {
        let mut problem = problem(&refusal.error, &self.request_id);
        problem.status = refusal.status().as_u16();
        let context = json!({
            "problem": problem,
            "sentence": sentence(&problem.detail),
            "next": problem.hint.as_deref().map(sentence),
        });
        Page::new("problem", problem.title, "", context)
    }

    async fn render(&self, page: Page) -> Result<String, Error> {
        let frame = self.frame_of(&page).await;
        let mut context = match page.context {
            Value::Object(context) => context,
            _ => Map::new(),
        };
        context.insert("frame".into(), frame);
        let mut context = Value::Object(context);
        let body = self.fill(page.template, &context)?;
        context["body"] = Value::String(body);
        let outer = if self.visit.session.is_some() { "layout" } else { "bare" };
        self.fill(outer, &context)
    }

    fn fill(&self, template: &str, context: &Value) -> Result<String, Error> {
        let broken = |source| Error::new(Kind::Internal, "make the page").because(source);
        self.dashboard.0.renderer.render(template, context).map_err(broken)
    }

    /// What the layout, and every template, finds under `frame`.
    async fn frame_of(&self, page: &Page) -> Value {
        let none = Grants::default();
        let session = self.visit.session.as_ref();
        let grants = session.map_or(&none, |session| &session.grants);
        let title = match (&page.app, page.title.as_str()) {
            (Some((_, tab)), "") => layout::tab_title(tab),
            (_, title) => title,
        };
        let mut frame = json!({
            "title": title,
            "path": self.path,
            "csrf": self.visit.csrf,
            "flash": self.flash,
            "me": session.map(|session| json!({ "name": session.actor.name, "role": grants.platform })),
            "rail": layout::rail(grants, page.section),
            "scripts": page.scripts,
            "styles": page.styles,
            "version": env!("CARGO_PKG_VERSION"),
            "can_create": grants.allow(crate::domain::access::APPS_CREATE, None).is_ok(),
        });
        if let Some((app, tab)) = &page.app {
            frame["tabs"] = layout::tabs(grants, app, tab);
            frame["app"] = self.app(app).await;
        }
        frame
    }

    /// The head of an app's pages.
    async fn app(&self, app: &AppName) -> Value {
        match self.dashboard.app(app).await {
            Ok(report) => json!({
                "name": app,
                "status": report.status,
                "url": report.urls.first(),
                "release": report.app.current_release,
            }),
            Err(error) => {
                // The page itself has more to say of it, or had it before.
                tracing::debug!(error = report(&error), "no head for the page of an app");
                json!({ "name": app })
            }
        }
    }
}
