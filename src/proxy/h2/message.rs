//! Heads between HTTP/2 and the HTTP/1.1 text that the rest of the proxy reads and writes.
//!
//! A request over HTTP/2 becomes the text that an HTTP/1.1 client would have sent, and goes through
//! the same strict reader: whatever is dropped, added or refused there is so for both protocols.
//! Pure; RFC 9113 §8 says what may differ.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use httparse::Header;

use super::websocket;
use crate::proxy::http::body::{BadBody, passed_trailers};
use crate::proxy::http::request::Refusal;
use crate::proxy::http::response::BadResponse;
use crate::proxy::http::{MAX_FIELDS, MAX_HEAD};

/// What a client's request is, beyond its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request like any other.
    Plain,
    /// An extended CONNECT (RFC 8441), written as an HTTP/1.1 upgrade under this key.
    WebSocket(websocket::Key),
}

/// Appends the HTTP/1.1 head that says what `parts` says. `has_body` is false if the request ended
/// with its head.
///
/// # Errors
/// What HTTP/2 itself forbids, or we do.
pub(super) fn request_text(
    parts: &http::request::Parts,
    has_body: bool,
    out: &mut Vec<u8>,
) -> Result<Kind, Refusal> {
    let kind = kind_of(parts)?;
    let method = if kind == Kind::Plain { parts.method.as_str() } else { "GET" };
    // Missing in CONNECT, which is refused above, and nowhere else.
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(authority) = parts.uri.authority() {
        push_field(out, "host", authority.as_str().as_bytes());
    }
    push_fields(parts, kind, out)?;
    match kind {
        Kind::WebSocket(key) => {
            push_field(out, "connection", b"upgrade");
            push_field(out, "upgrade", b"websocket");
            push_field(out, "sec-websocket-key", key.text().as_bytes());
        }
        Kind::Plain if has_body && !parts.headers.contains_key(header::CONTENT_LENGTH) => {
            push_field(out, "transfer-encoding", b"chunked");
        }
        Kind::Plain => {}
    }
    out.extend_from_slice(b"\r\n");
    if out.len() > MAX_HEAD { Err(Refusal::TooLarge) } else { Ok(kind) }
}

fn kind_of(parts: &http::request::Parts) -> Result<Kind, Refusal> {
    if parts.method != Method::CONNECT {
        return Ok(Kind::Plain);
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    match protocol.map(h2::ext::Protocol::as_str) {
        Some("websocket") => Ok(Kind::WebSocket(websocket::Key::new())),
        // RFC 9220 §3 asks for 501 where the protocol is not known; a tunnel to anywhere gets it too.
        _ => Err(Refusal::Connect),
    }
}

fn push_fields(parts: &http::request::Parts, kind: Kind, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut cookies_written = false;
    for (name, value) in &parts.headers {
        match *name {
            // RFC 9113 §8.3.1: what names another host than `:authority` is malformed. Two readers
            // that differ in which of the two they believe are how caches get poisoned.
            header::HOST if parts.uri.authority().is_some() => {
                let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
                if !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                    return Err(Refusal::Malformed("Host and :authority differ"));
                }
            }
            header::COOKIE => {
                if !std::mem::replace(&mut cookies_written, true) {
                    push_cookies(&parts.headers, out);
                }
            }
            // Of the hop: the upgrade has its own.
            header::SEC_WEBSOCKET_KEY | header::CONTENT_LENGTH if kind != Kind::Plain => {}
            // The crate refuses these; that nothing here may frame or upgrade a message must not
            // hang on a version of it.
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => {
                return Err(Refusal::Malformed("a connection-specific header is present"));
            }
            _ => push_field(out, name.as_str(), value.as_bytes()),
        }
    }
    Ok(())
}

/// RFC 9113 §8.2.3: crumbs of a cookie are one field again where HTTP/2 ends.
fn push_cookies(fields: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cookie: ");
    for (index, crumb) in fields.get_all(header::COOKIE).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Names and values of a [`HeaderMap`] hold neither CR, LF nor NUL.
fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The answer that `head`, written for an HTTP/1.1 client, is over HTTP/2. A 101 becomes the 200 that
/// accepts an extended CONNECT.
///
/// # Errors
/// If a field cannot be said in HTTP/2.
pub(super) fn response_of(head: &[u8]) -> Result<Response<()>, BadResponse> {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS + OWN_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, head, &mut storage)
        .map_err(|_| BadResponse("the head is malformed"))?;
    let code = parsed.code.unwrap_or_default();
    let is_upgrade = code == 101;
    let status = if is_upgrade { Ok(StatusCode::OK) } else { StatusCode::from_u16(code) };
    let fields = map_of(head, parsed.headers, |name| match *name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => false,
        header::SEC_WEBSOCKET_ACCEPT => !is_upgrade,
        _ => true,
    });
    let mut response = Response::new(());
    *response.status_mut() = status.map_err(|_| BadResponse("the status code is not one"))?;
    *response.headers_mut() = fields.ok_or(BadResponse("a header cannot be said in HTTP/2"))?;
    Ok(response)
}

/// Fields that the proxy may add to those of an app.
const OWN_FIELDS: usize = 16;

/// The fields as a map; values share one copy of `text`, into which they point.
fn map_of(
    text: &[u8],
    fields: &[Header<'_>],
    keep: impl Fn(&HeaderName) -> bool,
) -> Option<HeaderMap> {
    let shared = Bytes::copy_from_slice(text);
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if keep(&name) {
            let start = field.value.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
            let value = shared.slice(start..start + field.value.len());
            map.append(name, HeaderValue::from_maybe_shared(value).ok()?);
        }
    }
    Some(map)
}

/// The request that `head`, written for an app that speaks HTTP/1.1, is over HTTP/2.
///
/// # Errors
/// If something in it cannot be said in HTTP/2.
pub(super) fn request_of(head: &[u8]) -> Result<Request<()>, Refusal> {
    const UNSAYABLE: Refusal = Refusal::Malformed("a header cannot be said in HTTP/2");
    let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS + OWN_FIELDS];
    let mut parsed = httparse::Request::new(&mut storage);
    parsed.parse(head).map_err(|_| UNSAYABLE)?;
    let host = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
    let host = host.map_or(&b""[..], |field| field.value);
    let uri = Uri::builder().scheme("http").authority(host);
    let uri = uri.path_and_query(parsed.path.unwrap_or_default()).build().map_err(|_| UNSAYABLE)?;
    let fields = map_of(head, parsed.headers, |name| {
        !matches!(
            *name,
            header::HOST | header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE
        )
    });
    let mut request = Request::new(());
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    *request.method_mut() = method.map_err(|_| UNSAYABLE)?;
    *request.uri_mut() = uri;
    *request.headers_mut() = fields.ok_or(UNSAYABLE)?;
    Ok(request)
}

/// Appends the HTTP/1.1 head that says what an app said over HTTP/2. A body without a length is
/// chunked.
pub(super) fn response_text(parts: &http::response::Parts, out: &mut Vec<u8>) {
    let reason = parts.status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", parts.status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &parts.headers {
        push_field(out, name.as_str(), value.as_bytes());
    }
    let may_have_body = parts.status.as_u16() >= 200 && parts.status != StatusCode::NO_CONTENT;
    if may_have_body && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        push_field(out, "transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
}

/// Trailers as lines, those that may be passed on.
///
/// # Errors
/// If there are too many.
pub(super) fn trailer_lines(fields: &HeaderMap) -> Result<Vec<u8>, BadBody> {
    let mut section = Vec::new();
    for (name, value) in fields {
        push_field(&mut section, name.as_str(), value.as_bytes());
    }
    section.extend_from_slice(b"\r\n");
    passed_trailers(&section)
}

/// Lines of trailers as a map.
///
/// # Errors
/// If one cannot be said in HTTP/2.
pub(super) fn trailer_map(lines: &[u8]) -> Result<HeaderMap, BadBody> {
    const MALFORMED: BadBody = BadBody("a trailer is malformed");
    let mut section = lines.to_vec();
    section.extend_from_slice(b"\r\n");
    let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(&section, &mut storage) {
        Ok(httparse::Status::Complete((_, fields))) => {
            map_of(&section, fields, |_| true).ok_or(MALFORMED)
        }
        _ => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> http::request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn text(request: http::request::Builder, has_body: bool) -> Result<String, Refusal> {
        let mut out = Vec::new();
        request_text(&parts(request), has_body, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn get() -> http::request::Builder {
        Request::builder().uri("https://shop.test/a?b")
    }

    #[test]
    fn a_request_becomes_what_an_http_1_client_would_have_sent() {
        let request = get().header("accept", "*/*").header("te", "trailers");
        assert_eq!(
            text(request, false).unwrap(),
            "GET /a?b HTTP/1.1\r\nhost: shop.test\r\naccept: */*\r\nte: trailers\r\n\r\n"
        );
    }

    #[test]
    fn a_body_is_chunked_unless_its_length_is_told() {
        assert!(text(get(), true).unwrap().ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"));
        let told = text(get().header("content-length", "3"), true).unwrap();
        assert!(told.ends_with("\r\ncontent-length: 3\r\n\r\n"), "{told}");
    }

    #[test]
    fn cookie_crumbs_are_one_cookie_again() {
        let request = get().header("cookie", "a=1").header("x", "y").header("cookie", "b=2");
        let text = text(request, false).unwrap();
        assert_eq!(text.matches("cookie").count(), 1);
        assert!(text.contains("\r\ncookie: a=1; b=2\r\n"), "{text}");
    }

    #[test]
    fn host_and_authority_name_one_host() {
        assert!(text(get().header("host", "SHOP.test"), false).unwrap().contains("host: shop"));
        let differ = text(get().header("host", "admin.test"), false);
        assert!(matches!(differ, Err(Refusal::Malformed(_))));
        let without = Request::builder().uri("/").header("host", "shop.test");
        assert!(text(without, false).unwrap().contains("host: shop.test"));
    }

    #[test]
    fn connection_specific_fields_are_refused() {
        for name in ["connection", "transfer-encoding", "upgrade"] {
            assert!(matches!(text(get().header(name, "x"), false), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn a_tunnel_to_anywhere_is_refused() {
        let connect = Request::builder().method("CONNECT").uri("shop.test:443");
        assert_eq!(text(connect, true), Err(Refusal::Connect));
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade_with_a_key_of_ours() {
        let connect = get().method("CONNECT").header("sec-websocket-key", "theirs");
        let connect = connect.extension(h2::ext::Protocol::from_static("websocket"));
        let text = text(connect, true).unwrap();
        assert!(text.starts_with("GET /a?b HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{text}");
        assert!(!text.contains("theirs") && !text.contains("chunked"), "{text}");
    }

    #[test]
    fn an_answer_loses_what_only_http_1_needs() {
        let head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        let response = response_of(head).unwrap();
        let values: Vec<_> = response.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(response.headers().len(), 2);
        let upgraded = b"HTTP/1.1 101 Hi\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        let upgraded = response_of(upgraded).unwrap();
        assert_eq!(upgraded.status(), 200);
        assert_eq!(upgraded.headers().len(), 1);
    }

    #[test]
    fn a_request_for_an_app_that_speaks_http_2_has_no_connection_fields() {
        let head = b"POST /s/m HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\nConnection: te\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        let request = request_of(head).unwrap();
        assert_eq!(request.uri(), "http://shop.test/s/m");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["te"], "trailers");
    }

    #[test]
    fn an_answer_over_http_2_gets_a_framing() {
        let text = |response: http::response::Builder| {
            let mut out = Vec::new();
            response_text(&response.body(()).unwrap().into_parts().0, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(Response::builder().header("grpc-status", "0")),
            "HTTP/1.1 200 OK\r\ngrpc-status: 0\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert!(!text(Response::builder().header("content-length", "1")).contains("chunked"));
        assert!(!text(Response::builder().status(204)).contains("chunked"));
    }

    #[test]
    fn trailers_that_frame_or_vouch_do_not_pass() {
        let mut fields = HeaderMap::new();
        for name in ["grpc-status", "content-length", "authorization", "x-forwarded-for"] {
            fields.insert(name, HeaderValue::from_static("0"));
        }
        let lines = trailer_lines(&fields).unwrap();
        assert_eq!(lines, b"grpc-status: 0\r\n");
        assert_eq!(trailer_map(&lines).unwrap().len(), 1);
    }
}
