//! Who visits, as the frame found out at the beginning of the request.

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use super::cookies::Cookie;
use crate::platform::{Error, Kind, SignedIn, Visitor};
use crate::web::Refusal;

/// The longest path that sign-in leads back to.
const MAX_NEXT: usize = 512;

/// A request's visitor.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The session, if there is one.
    pub session: Option<SignedIn>,
    /// What forms must send back as `_csrf`.
    pub csrf: String,
    /// Whether the browser speaks HTTPS, maybe with a proxy before this server.
    pub https: bool,
    /// From where, and with what.
    pub visitor: Visitor,
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || Error::new(Kind::Internal, "the request has no visitor").into();
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

/// What ties forms to a cookie without telling it: whoever cannot read the cookie cannot make this.
pub(super) fn csrf_of(secret: &str) -> String {
    let hash = Sha256::new().chain_update("staithe csrf\0").chain_update(secret).finalize();
    Base64UrlUnpadded::encode_string(&hash)
}

/// Lets only who has signed in pass; people are led to where they can, programs are told.
pub(super) async fn require(request: Request, next: Next) -> Response {
    let visit = request.extensions().get::<Visit>();
    if visit.is_some_and(|visit| visit.session.is_some()) {
        return next.run(request).await;
    }
    if !wants_html(request.headers()) {
        let text = "sign in first\n";
        return (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "text/plain")], text)
            .into_response();
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let back = request.method() == axum::http::Method::GET && path != "/";
    let to = match back && path.len() <= MAX_NEXT {
        true => format!("/sign-in?next={}", percent(path)),
        false => "/sign-in".to_owned(),
    };
    Redirect::to(&to).into_response()
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let fetched = headers.contains_key("x-fragment");
    !fetched && accept.is_none_or(|accept| accept.contains("text/html") || accept == "*/*")
}

/// Where sign-in leads to: only a path of ours, since anybody can make a link to the sign-in page.
pub(super) fn next_path(next: Option<&str>) -> &str {
    let ours = |path: &&str| {
        path.len() <= MAX_NEXT
            && path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    next.filter(ours).unwrap_or("/")
}

/// Percent-encoding of what is not unreserved (RFC 3986 §2.3) or a slash.
fn percent(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The visitor's cookie, if they have one that can be one of ours.
pub(super) fn cookie(headers: &HeaderMap, https: bool, cookie: Cookie) -> Option<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    cookie.of(headers, https).filter(|value| value.len() <= 4096 && value.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_in_leads_nowhere_else() {
        for (next, expected) in [
            (Some("/apps/shop?x=1"), "/apps/shop?x=1"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("/a\r\nSet-Cookie: x"), "/"),
            (Some("javascript:alert(1)"), "/"),
            (None, "/"),
        ] {
            assert_eq!(next_path(next), expected, "{next:?}");
        }
        assert_eq!(percent("/a b?c=ü"), "/a%20b%3Fc%3D%C3%BC");
    }

    #[test]
    fn the_token_of_forms_does_not_tell_the_cookie() {
        assert_ne!(csrf_of("a"), csrf_of("b"));
        assert_eq!(csrf_of("a").len(), 43);
    }
}
