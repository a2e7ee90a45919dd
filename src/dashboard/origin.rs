//! Whether a request that changes something was made by a page of ours (CSRF).
//!
//! Three things must hold: the cookie is `SameSite=Lax`; the browser's own word (`Sec-Fetch-Site`, or
//! `Origin`) says that the request comes from here; and the request has the token that only a page of
//! ours was given, in the field `_csrf` or the header `x-csrf-token`.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;

use crate::platform::{Error, Kind};
use crate::web::Origin;

/// The largest posted form: all config vars of an app (512 KiB) with every byte percent-encoded.
const MAX_FORM_BYTES: usize = 2 << 20;
/// The header that scripts send the token in.
const TOKEN_HEADER: &str = "x-csrf-token";

/// The request again if it may change something.
pub(super) async fn check(request: Request, csrf: &str) -> Result<Request, Error> {
    if request.method().is_safe() {
        return Ok(request);
    }
    let origin = request.extensions().get::<Origin>();
    if !origin.is_some_and(|origin| origin.is_own_page(request.headers())) {
        return Err(refused("the request was made by another site"));
    }
    let missing = || refused("the form has no valid token");
    if let Some(token) = request.headers().get(TOKEN_HEADER) {
        return same(token.as_bytes(), csrf).then_some(request).ok_or_else(missing);
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let urlencoded = |value: &[u8]| value.starts_with(b"application/x-www-form-urlencoded");
    if !content_type.is_some_and(|value| urlencoded(value.as_bytes())) {
        return Err(missing());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_FORM_BYTES).await.map_err(|_| {
        Error::new(Kind::Invalid, format!("the form has more than {MAX_FORM_BYTES} bytes"))
    })?;
    // Nothing in the token needs an escape, so its pair can be looked for as it is.
    let mut pairs = body.split(|byte| *byte == b'&');
    let token = pairs.find_map(|pair| pair.strip_prefix(b"_csrf="));
    if !token.is_some_and(|token| same(token, csrf)) {
        return Err(missing());
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn refused(why: &str) -> Error {
    Error::new(Kind::Denied, why).hint("open the page anew and send the form again")
}

/// Compares in time that does not tell where they differ.
fn same(token: &[u8], csrf: &str) -> bool {
    let csrf = csrf.as_bytes();
    token.len() == csrf.len() && token.iter().zip(csrf).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Method;

    async fn check_one(headers: &[(&str, &str)], body: &'static str) -> Result<(), String> {
        let mut request = Request::builder().method(Method::POST).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let host = Some("host:7070".to_owned());
        request.extensions_mut().insert(Origin { address, secure: false, host });
        check(request, "token").await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_change_needs_the_token_and_our_own_page() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let ours = ("sec-fetch-site", "same-origin");
        assert!(check_one(&[form, ours], "a=b&_csrf=token&c=d").await.is_ok());
        assert!(check_one(&[form, ("origin", "http://host:7070")], "_csrf=token").await.is_ok());
        assert!(check_one(&[form], "_csrf=token").await.is_ok());
        assert!(check_one(&[ours, ("x-csrf-token", "token")], "{}").await.is_ok());
        let token = Err("the form has no valid token".to_owned());
        assert_eq!(check_one(&[form, ours], "a=b").await, token);
        assert_eq!(check_one(&[form, ours], "_csrf=tokem").await, token);
        assert_eq!(check_one(&[form, ours], "x_csrf=token").await, token);
        assert_eq!(check_one(&[ours], "_csrf=token").await, token, "no form");
        assert_eq!(check_one(&[ours, ("x-csrf-token", "")], "").await, token);
        let site = Err("the request was made by another site".to_owned());
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "null"),
            ("origin", "https://evil.example"),
            ("origin", "http://host:7071"),
        ] {
            assert_eq!(check_one(&[form, (name, value)], "_csrf=token").await, site, "{value}");
        }
    }
}
