//! Whose request it is, at the web door: a token's, a session's, or nobody's.
//!
//! Nobody's requests pass as well, without a [`Caller`]: the guard of each route refuses them, and
//! pages that let people sign in have none.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};

use super::caller::Caller;
use super::edge::RequestId;
use super::error::Refusal;
use super::origin::Origin;
use super::rate::Rates;
use crate::domain::Actor;
use crate::domain::access::Grants;
use crate::platform::{Error, Kind};

/// A session's cookie where the client speaks TLS to the proxy; RFC 6265bis §4.1.3.2.
pub const SECURE_COOKIE: &str = "__Host-staithe";
/// The same over plain HTTP, where browsers refuse the prefix.
pub const PLAIN_COOKIE: &str = "staithe";
/// No token and no session's id is longer.
const MAX_CREDENTIAL_BYTES: usize = 512;

/// What a look-up of a token or a session ends with.
pub type Found =
    Pin<Box<dyn Future<Output = Result<Option<(Actor, Grants)>, Error>> + Send + 'static>>;

/// Looks a token or a session up: the text that the client has shown, and the client's address.
pub type Lookup = Arc<dyn Fn(String, String) -> Found + Send + Sync>;

/// How the web door knows people.
#[derive(Clone, Default)]
pub struct Identities {
    /// Of `Authorization: Bearer`, and of the password of `Basic`.
    pub token: Option<Lookup>,
    /// Of the session's cookie.
    pub session: Option<Lookup>,
    /// Bounds of what one client may ask.
    pub rates: Arc<Rates>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

/// What the client shows.
#[derive(Debug, PartialEq, Eq)]
enum Credential {
    Token(String),
    Session(String),
}

/// The document of a realm is whatever this door leads to.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"staithe\"", "Basic realm=\"staithe\""];

/// Puts the caller in place, and a challenge (RFC 9110 §11.6.1) on what is refused for want of one:
/// `Basic` where git asks, which knows nothing else; never to browsers, which would ask in a window
/// of their own.
pub(super) async fn identify(
    State(identities): State<Identities>,
    origin: Origin,
    request: Request,
    next: Next,
) -> Response {
    let of_git = request.uri().path().starts_with("/git/");
    let mut response = match identified(&identities, &origin, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(CHALLENGES[usize::from(of_git)]);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Puts the caller in place, if there is one. A token that is no good is refused at once: who shows
/// one wants to be somebody.
async fn identified(
    identities: &Identities,
    origin: &Origin,
    mut request: Request,
) -> Result<Request, Refusal> {
    let address = origin.address;
    let caller = match credential(request.headers())? {
        None => None,
        Some(Credential::Token(token)) => {
            identities.rates.may_try(address)?;
            let found = look_up(identities.token.as_ref(), token, origin).await?;
            if found.is_none() {
                identities.rates.failed(address);
                return Err(unauthenticated("the token is not valid (any more)"));
            }
            found
        }
        Some(Credential::Session(id)) => {
            // Cookies come along with what other pages of the same site make the browser ask.
            if !request.method().is_safe() && !origin.is_own_page(request.headers()) {
                let error = Error::new(Kind::Denied, "the request was made by another site");
                return Err(error.hint("make it from a page of this one, or with a token").into());
            }
            look_up(identities.session.as_ref(), id, origin).await?
        }
    };
    if let Some((actor, grants)) = caller {
        let request_id =
            request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
        request.extensions_mut().insert(Caller { actor, grants, request_id });
    }
    Ok(request)
}

async fn look_up(
    lookup: Option<&Lookup>,
    shown: String,
    origin: &Origin,
) -> Result<Option<(Actor, Grants)>, Refusal> {
    match lookup {
        Some(lookup) => Ok(lookup(shown, origin.address.to_string()).await?),
        None => Ok(None),
    }
}

/// The answer to who must say who they are.
pub(super) fn unauthenticated(why: &str) -> Refusal {
    let error = Error::new(Kind::Denied, why)
        .hint("send `Authorization: Bearer <token>`; `staithe tokens:create <name>` makes a token");
    Refusal::from(error).with_status(StatusCode::UNAUTHORIZED)
}

fn credential(headers: &HeaderMap) -> Result<Option<Credential>, Refusal> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(token_of);
        let unreadable = || unauthenticated("the Authorization header cannot be read");
        return Ok(Some(Credential::Token(token.ok_or_else(unreadable)?)));
    }
    Ok(session_of(headers).map(Credential::Session))
}

/// RFC 6750 §2.1, and RFC 7617 §2 with the token as the password.
fn token_of(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if rest.len() > MAX_CREDENTIAL_BYTES {
        return None;
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(Base64::decode_vec(rest).ok()?).ok()?;
    Some(decoded.split_once(':')?.1.to_owned())
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, id) = named.find(|(name, _)| [SECURE_COOKIE, PLAIN_COOKIE].contains(name))?;
    (!id.is_empty() && id.len() <= MAX_CREDENTIAL_BYTES).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)], expected: Result<Option<Credential>, ()>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        assert_eq!(credential(&map).map_err(drop), expected, "{headers:?}");
    }

    fn token(text: &str) -> Result<Option<Credential>, ()> {
        Ok(Some(Credential::Token(text.into())))
    }

    #[test]
    fn a_token_outranks_a_session() {
        check(&[], Ok(None));
        check(&[("authorization", "Bearer stt_1_x")], token("stt_1_x"));
        check(&[("authorization", "bearer stt_1_x"), ("cookie", "staithe=a")], token("stt_1_x"));
        // `git:stt_1_x`
        check(&[("authorization", "Basic Z2l0OnN0dF8xX3g=")], token("stt_1_x"));
        let session = |id: &str| Ok(Some(Credential::Session(id.into())));
        check(&[("cookie", "a=b; __Host-staithe=xyz")], session("xyz"));
        check(&[("cookie", "a=b"), ("cookie", "staithe=xyz")], session("xyz"));
        check(&[("cookie", "staithe=")], Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_not_ignored() {
        for value in ["Bearer", "Digest x", "Basic ???", "Basic Z2l0", ""] {
            check(&[("authorization", value), ("cookie", "staithe=a")], Err(()));
        }
        let long = format!("Bearer {}", "x".repeat(MAX_CREDENTIAL_BYTES + 1));
        check(&[("authorization", &long)], Err(()));
    }
}
