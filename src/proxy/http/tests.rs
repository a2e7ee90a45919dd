//! Table and property tests of the wire.

use proptest::prelude::*;

use super::body::{BodyReader, Envelope, Framing};
use super::field::Field;
use super::host::{FoldedHost, split_absolute};
use super::request::{self, Forwarding, Refusal, Request, Wants};
use super::response::{self, Asked};
use super::scan::{BareLineFeed, HeadScan};
use super::{Version, request::Method};

const FORWARDING: Forwarding<'static> = Forwarding {
    peer: "192.0.2.7",
    proto: "http",
    port: 80,
    trusted: None,
    prefix: None,
    target: None,
    authorized: false,
    request_id: "fresh-id",
    start_ms: 1_700_000_000_123,
};

const ADDED: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
X-Forwarded-Host: a.b\r\nX-Forwarded-Port: 80\r\nX-Request-Start: 1700000000123\r\n\
X-Request-Id: fresh-id\r\n";

fn rewrite(
    head: &[u8],
    forwarding: &Forwarding<'_>,
    out: &mut Vec<u8>,
) -> Result<Request, Refusal> {
    let mut storage = request::storage();
    Ok(request::read(head, &mut storage)?.write(forwarding, out))
}

fn read(head: &str) -> Result<(Request, String), Refusal> {
    let mut out = Vec::new();
    let request = rewrite(head.as_bytes(), &FORWARDING, &mut out)?;
    Ok((request, String::from_utf8(out).unwrap()))
}

/// The fields that follow `GET / HTTP/1.1` and a Host, as they are forwarded.
#[track_caller]
fn check_fields(fields: &str, forwarded: &str) {
    let (_, head) = read(&format!("GET / HTTP/1.1\r\nHost: a.b\r\n{fields}\r\n")).unwrap();
    let rest = head.strip_prefix("GET / HTTP/1.1\r\nHost: a.b\r\n").unwrap();
    assert_eq!(rest.replace(ADDED, "+").strip_suffix("\r\n").unwrap(), forwarded);
}

#[track_caller]
fn check_refused(head: &str, part: &str) {
    match read(head) {
        Err(Refusal::Malformed(why)) => assert!(why.contains(part), "{why:?} of {head:?}"),
        other => panic!("{head:?} gave {other:?}"),
    }
}

#[test]
fn other_fields_pass_byte_for_byte_in_order() {
    check_fields(
        "aCCept:  text/html \r\nX-B: 1\r\nx-b: \t2\r\nCookie: a=\"b\"; c\r\nX-Empty:\r\n",
        "aCCept:  text/html \r\nX-B: 1\r\nx-b: \t2\r\nCookie: a=\"b\"; c\r\nX-Empty:\r\n+",
    );
}

#[test]
fn claims_that_only_a_proxy_may_make_are_replaced() {
    check_fields(
        "X-Forwarded-For: 1.2.3.4\r\nA: 1\r\nx-FORWARDED-proto: https\r\nForwarded: for=1.2.3.4\r\n\
         X-Real-IP: 1.2.3.4\r\nX-Forwarded-Prefix: /x\r\nX-Request-Start: 0\r\nB: 2\r\n",
        "A: 1\r\nB: 2\r\n+",
    );
    check_fields("X_Forwarded_For: 1.2.3.4\r\nX-Forwarded_Proto: https\r\n", "+");
    check_fields(
        "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nMy_Own: 1\r\n",
        "My_Own: 1\r\n+",
    );
    check_fields("Proxy: http://evil\r\n", "+");
}

#[test]
fn hop_by_hop_fields_end_here() {
    check_fields(
        "Connection: close, X-Mine\r\nx-mine: 1\r\nKeep-Alive: 5\r\nA: 1\r\n",
        "A: 1\r\n+",
    );
    check_fields("Proxy-Authorization: x\r\nProxy-Connection: keep-alive\r\n", "+");
    check_fields("TE: trailers, gzip\r\n", "+TE: trailers\r\nConnection: te\r\n");
    // Naming our fields does not take them away.
    check_fields("Connection: X-Forwarded-For, Host, Content-Length\r\n", "+");
}

#[test]
fn upgrades_pass_but_for_those_that_would_bypass_us() {
    check_fields(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n",
        "Sec-WebSocket-Key: k\r\n+Upgrade: websocket\r\nConnection: upgrade\r\n",
    );
    check_fields(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
        "+",
    );
    check_fields(
        "Connection: upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n",
        "+Upgrade: foo/2\r\nConnection: upgrade\r\n",
    );
    check_fields("Upgrade: websocket\r\n", "+");
    check_fields(
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
        "+Content-Length: 3\r\n",
    );
}

#[test]
fn a_request_id_is_kept_if_it_is_harmless() {
    let id = |value: &str| {
        let fields = format!("X-Request-Id: {value}\r\n");
        let (request, head) =
            read(&format!("GET / HTTP/1.1\r\nHost: a.b\r\n{fields}\r\n")).unwrap();
        head[request.id].to_owned()
    };
    assert_eq!(id("abc-DEF_1.2:3/4"), "abc-DEF_1.2:3/4");
    for bad in ["", "a b", "a\"b", "<x>", &"a".repeat(129)] {
        assert_eq!(id(bad), "fresh-id", "{bad:?}");
    }
}

#[test]
fn the_ranges_point_at_what_they_name() {
    let fields = "A: 1\r\nUser-Agent:  curl/8 \r\nForwarded: x\r\nB: 2\r\n";
    let (request, head) =
        read(&format!("POST /a?b HTTP/1.1\r\nHost: A.b.:80\r\n{fields}\r\n")).unwrap();
    assert_eq!(&head[request.method_name.clone()], "POST");
    assert_eq!(&head[request.target.clone()], "/a?b");
    assert_eq!(&head[request.user_agent.clone()], "curl/8");
    assert_eq!(request.host.as_str(), "a.b");
    assert!(head.contains("\r\nX-Forwarded-Host: A.b.:80\r\n"), "{head}");
}

#[test]
fn one_framing_or_none() {
    let framing = |head: &str| read(head).map(|(request, _)| request.framing);
    let post = |fields: &str| framing(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(post(""), Ok(Framing::None));
    assert_eq!(post("Content-Length: 42\r\n"), Ok(Framing::Length(42)));
    assert_eq!(post("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(post("Transfer-Encoding: gzip, chunked\r\n"), Err(Refusal::TransferCoding));
    for bad in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 1\r\n",
    ] {
        assert!(matches!(post(bad), Err(Refusal::Malformed(_))), "{bad:?} gave {:?}", post(bad));
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(matches!(framing(old), Err(Refusal::Malformed(_))));
}

#[test]
fn malformed_heads_are_refused() {
    for (head, part) in [
        ("GET / HTTP/1.1\r\n\r\n", "Host header is missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "host name"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host name"),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "host name"),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "host name"),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "host name"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\n A: b\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n", "header value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "header name"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "malformed"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed"),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "malformed"),
        ("G@T@ / HTTP/1.1x\r\nHost: a\r\n\r\n", "malformed"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("GET http://a#b/x HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
        ("GET /\r\nHost: a\r\n\r\n", "malformed"),
        ("\x16\x03\x01\r\n\r\n", "malformed"),
    ] {
        match read(head) {
            Err(Refusal::Version) if part == "malformed" => {}
            _ => check_refused(head, part),
        }
    }
}

#[test]
fn other_refusals_have_their_own_status() {
    let connect = "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n";
    assert_eq!(read(connect).unwrap_err(), Refusal::Connect);
    assert_eq!(read("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), Refusal::Version);
    let many = "A: b\r\n".repeat(super::MAX_FIELDS);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(read(&head).unwrap_err(), Refusal::TooLarge);
}

#[test]
fn an_absolute_target_replaces_the_host() {
    let (request, head) =
        read("GET HTTP://Shop.Example:8080?q HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_eq!(request.host.as_str(), "shop.example");
    assert!(head.starts_with("GET /?q HTTP/1.1\r\nHost: Shop.Example:8080\r\n"), "{head}");
    assert!(!head.contains("other"));
}

#[test]
fn hosts_are_folded() {
    for (value, folded) in [
        ("Shop.Example.COM", "shop.example.com"),
        ("shop.example.com.", "shop.example.com"),
        ("shop.example.com:8080", "shop.example.com"),
        ("shop.example.com.:80", "shop.example.com"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(FoldedHost::parse(value).unwrap().as_str(), folded, "{value}");
    }
    for bad in ["a b", "a/b", "[::1", "[::1]x", "a:80:80", "a:999999", "::1", "a%2eb", "\u{e9}.b"] {
        assert_eq!(FoldedHost::parse(bad), None, "{bad}");
    }
    assert_eq!(split_absolute("http://a"), Some(("a", "/".into())));
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let keep = |head: &str| read(head).unwrap().0.keep_alive;
    assert!(keep("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
    assert!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

#[test]
fn pages_come_in_the_form_that_is_asked_for() {
    let wants = |accept: &str| {
        read(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).unwrap().0.wants
    };
    assert_eq!(wants("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), Wants::Html);
    assert_eq!(wants("application/json, text/plain, */*"), Wants::Json);
    assert_eq!(wants("application/problem+json"), Wants::Json);
    assert_eq!(wants("*/*"), Wants::Text);
}

#[test]
fn a_head_ends_at_its_empty_line_and_nowhere_else() {
    let end = |bytes: &[u8]| HeadScan::default().end(bytes);
    assert_eq!(end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"), Ok(Some(24)));
    assert_eq!(end(b"GET / HTTP/1.1\r\nA: b\r\n"), Ok(None));
    assert_eq!(end(b"GET / HTTP/1.1\n\n"), Err(BareLineFeed));
    assert_eq!(end(b"GET / HTTP/1.1\r\nA: b\n\r\n"), Err(BareLineFeed));
    assert_eq!(end(b"\n"), Err(BareLineFeed));
}

fn answer(
    head: &str,
    method: Method,
    version: Version,
) -> Result<(response::Response, String), response::BadResponse> {
    let mut out = Vec::new();
    let asked =
        Asked { method, version, upgrade: false, keep_alive: true, date: "now", hsts: None };
    let response = response::rewrite(head.as_bytes(), &asked, &mut out)?;
    Ok((response, String::from_utf8(out).unwrap()))
}

#[track_caller]
fn check_answer(head: &str, expected: &str) -> response::Response {
    let (response, out) = answer(head, Method::Idempotent, Version::Http11).unwrap();
    assert_eq!(out, expected);
    response
}

#[test]
fn answers_keep_their_fields_and_lose_their_hop() {
    let response = check_answer(
        "HTTP/1.1 200 Okay then\r\nDate: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nX-Forwarded-For: me\r\n\
         Content-Length: 3\r\n\r\n",
        "HTTP/1.1 200 Okay then\r\nDate: x\r\nset-COOKIE: a\r\nSet-Cookie: b\r\n\
         X-Forwarded-For: me\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(response.reusable && response.keep_alive);
    let response = check_answer(
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: now\r\n\r\n",
    );
    assert_eq!(response.framing, Framing::UntilClose);
    assert!(!response.reusable);
    check_answer(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 204 \r\nDate: x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 \r\nDate: x\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 9\r\n\r\n",
    );
}

#[test]
fn an_old_client_gets_no_chunks() {
    let head = "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (response, out) = answer(head, Method::Idempotent, Version::Http10).unwrap();
    assert_eq!(out, "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: close\r\n\r\n");
    assert_eq!(response.sent_framing, Framing::UntilClose);
    assert!(!response.keep_alive && response.reusable);
}

#[test]
fn unfit_answers_are_refused() {
    for (head, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two lengths"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "not `chunked`"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "no upgrade"),
        ("HTTP/1.1 099 X\r\n\r\n", "status"),
        ("HTTP/1.1 600 X\r\n\r\n", "status"),
        ("hello\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "malformed"),
    ] {
        let error = answer(head, Method::Idempotent, Version::Http11).unwrap_err();
        assert!(error.0.contains(why), "{} for {head:?}", error.0);
    }
}

/// All payload, trailers and how many bytes belong to the body, fed in pieces cut at `cuts`.
fn take_all(
    framing: Framing,
    bytes: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Vec<u8>, usize), &'static str> {
    let mut body = BodyReader::new(framing);
    let (mut payload, mut window, mut consumed) = (Vec::new(), Vec::new(), 0);
    for part in bytes.chunks(piece.max(1)) {
        window.extend_from_slice(part);
        let taken = body.take(&mut window).map_err(|bad| bad.0)?;
        payload.extend_from_slice(&window[taken.payload]);
        window.drain(..taken.consumed);
        consumed += taken.consumed;
        if taken.done {
            return Ok((payload, body.trailers().to_vec(), consumed));
        }
    }
    Err("not done")
}

#[test]
fn chunks_come_apart_wherever_they_are_cut() {
    let bytes = b"5\r\nhello\r\n1;a=\"b\"\r\n \r\nA\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\nGET /";
    for piece in 1..bytes.len() {
        let (payload, trailers, consumed) = take_all(Framing::Chunked, bytes, piece).unwrap();
        assert_eq!(payload, b"hello 0123456789");
        assert_eq!(trailers, b"X-Sum: 1\r\n");
        assert_eq!(consumed, bytes.len() - 5);
    }
}

#[test]
fn broken_chunks_are_refused() {
    for bytes in [
        b"5\nhello\r\n0\r\n\r\n".as_slice(),
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5 x\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"10000000000000000\r\nx",
        b"5;\0\r\nhello\r\n0\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
    ] {
        let result = take_all(Framing::Chunked, bytes, bytes.len());
        let text = String::from_utf8_lossy(bytes);
        assert!(!matches!(result, Ok(_) | Err("not done")), "{text:?} gave {result:?}");
    }
    let long = format!("5;{}\r\nhello\r\n", "a".repeat(300));
    assert!(take_all(Framing::Chunked, long.as_bytes(), 7).is_err());
}

#[test]
fn trailers_that_would_pass_for_head_fields_are_dropped() {
    let bytes = b"0\r\nContent-Length: 5\r\nGrpc-Status: 0\r\nX-Forwarded-For: me\r\nCookie: a\r\n\
        Host: b\r\nX-Checksum: 1\r\nx_forwarded_for: me\r\n\r\n";
    let (_, trailers, _) = take_all(Framing::Chunked, bytes, bytes.len()).unwrap();
    assert_eq!(trailers, b"Grpc-Status: 0\r\nX-Checksum: 1\r\n");
}

#[test]
fn an_envelope_is_what_a_reader_takes_apart() {
    let written = |framing, payload: &[u8], last| {
        let envelope = Envelope::new(framing, payload.len(), last);
        let slices = envelope.slices(b"HEAD", payload, b"T: 1\r\n");
        slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!(written(Framing::Chunked, b"hello", false), b"HEAD5\r\nhello\r\n");
    assert_eq!(written(Framing::Chunked, b"hello", true), b"HEAD5\r\nhello\r\n0\r\nT: 1\r\n\r\n");
    assert_eq!(written(Framing::Chunked, b"", true), b"HEAD0\r\nT: 1\r\n\r\n");
    assert_eq!(written(Framing::Chunked, b"", false), b"HEAD");
    assert_eq!(written(Framing::Length(5), b"hello", true), b"HEADhello");
}

#[test]
fn names_are_known_in_any_case() {
    assert_eq!(Field::of(b"hOsT"), Field::Host);
    assert_eq!(Field::of(b"X-FORWARDED-ANYTHING"), Field::Dropped);
    assert_eq!(Field::of(b"X-Forwarded"), Field::Other);
    assert_eq!(Field::of(b"user_agent"), Field::Other);
    assert_eq!(Field::of(b"x_request_id"), Field::Dropped);
}

/// Heads made of the pieces that smuggling is made of.
fn hostile_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\n"),
        Just("POST /x HTTP/1.0\r\n"),
        Just("Host: a\r\n"),
        Just("Host:b\r\n"),
        Just("Content-Length: 5\r\n"),
        Just("Content-Length: 5, 6\r\n"),
        Just("Content-Length : 6\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Transfer-Encoding:\tchunked \r\n"),
        Just("Transfer-Encoding: x, chunked\r\n"),
        Just("transfer_encoding: chunked\r\n"),
        Just("Connection: close, transfer-encoding\r\n"),
        Just("X: y\r\n"),
        Just(" folded\r\n"),
        Just("X: y\n"),
        Just("X: y\rZ: 1\r\n"),
        Just("\r\n"),
        Just("\0"),
        Just(":"),
    ];
    let text = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    (text, proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(
        |(text, edits)| {
            let mut bytes = text.into_bytes();
            for (at, byte) in edits {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.extend_from_slice(b"\r\n");
            bytes
        },
    )
}

/// How a lenient server might read the fields of a head: any line end, any space, any case.
fn lenient_lengths(head: &[u8]) -> (usize, usize) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase().replace('_', "-");
    let lines = text.split(['\n', '\r']);
    let name = |line: &str| line.split(':').next().unwrap_or("").trim().to_owned();
    let names: Vec<String> = lines.map(name).collect();
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    (count("content-length"), count("transfer-encoding"))
}

proptest! {
    #[test]
    fn what_is_forwarded_has_one_framing_for_every_reader(bytes in hostile_head()) {
        let mut scan = HeadScan::default();
        if let Ok(Some(end)) = scan.end(&bytes) {
            let mut out = Vec::new();
            if let Ok(request) = rewrite(&bytes[..end], &FORWARDING, &mut out) {
                let expected = match request.framing {
                    Framing::None | Framing::UntilClose => (0, 0),
                    Framing::Length(_) => (1, 0),
                    Framing::Chunked => (0, 1),
                };
                prop_assert_eq!(lenient_lengths(&out), expected);
                prop_assert_eq!(HeadScan::default().end(&out), Ok(Some(out.len())));
                // Forwarding what we forwarded changes nothing about it.
                let mut again = Vec::new();
                let second = rewrite(&out, &FORWARDING, &mut again).unwrap();
                prop_assert_eq!(second.framing, request.framing);
                prop_assert_eq!(second.host, request.host);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..64_usize) {
        let mut out = Vec::new();
        let _ = rewrite(&bytes, &FORWARDING, &mut out);
        let asked = Asked { method: Method::Other, version: Version::Http11, upgrade: true, keep_alive: true, date: "" , hsts: None };
        let _ = response::rewrite(&bytes, &asked, &mut out);
        let _ = take_all(Framing::Chunked, &bytes, piece);
        let _ = HeadScan::default().end(&bytes);
    }

    #[test]
    fn a_scan_in_pieces_is_a_scan(bytes in hostile_head(), piece in 1..16_usize) {
        let whole = HeadScan::default().end(&bytes);
        let mut scan = HeadScan::default();
        let mut pieces = Ok(None);
        for end in (0..bytes.len()).step_by(piece).skip(1).chain([bytes.len()]) {
            pieces = scan.end(&bytes[..end]);
            if pieces != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn chunks_carry_any_payload(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8), piece in 1..300_usize) {
        let mut wire = Vec::new();
        for part in &parts {
            let envelope = Envelope::new(Framing::Chunked, part.len(), false);
            envelope.slices(b"", part, b"").iter().for_each(|slice| wire.extend_from_slice(slice));
        }
        let envelope = Envelope::new(Framing::Chunked, 0, true);
        envelope.slices(b"", b"", b"").iter().for_each(|slice| wire.extend_from_slice(slice));
        let (payload, _, consumed) = take_all(Framing::Chunked, &wire, piece).unwrap();
        prop_assert_eq!(payload, parts.concat());
        prop_assert_eq!(consumed, wire.len());
    }
}
