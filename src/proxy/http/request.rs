//! A request's head: read strictly, and written anew for the app.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::Header;

use super::body::Framing;
use super::field::{Connection, Field, LineCopier, content_length, tokens};
use super::host::{FoldedHost, split_absolute};
use super::{MAX_FIELDS, Version};

/// Where [`read`] keeps the fields of a head.
pub(in crate::proxy) type Storage<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// Storage with nothing in it.
pub(in crate::proxy) const fn storage<'b>() -> Storage<'b> {
    [const { MaybeUninit::<Header<'b>>::uninit() }; MAX_FIELDS]
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Refusal {
    /// 400, with what is wrong.
    Malformed(&'static str),
    /// 501: a tunnel to anywhere is not what we are for.
    Connect,
    /// 431: longer than `MAX_HEAD`, or more than `MAX_FIELDS` fields.
    TooLarge,
    /// 501: a transfer coding that only the app could undo, if at all.
    TransferCoding,
    /// 505.
    Version,
}

/// The methods that make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Method {
    /// The usual one.
    Get,
    /// Its answer has no body.
    Head,
    /// Another idempotent one (RFC 9110 §9.2.2): may be sent twice if the first one got no answer.
    Idempotent,
    /// May be sent once.
    Other,
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" | "DELETE" | "OPTIONS" | "TRACE" => Self::Idempotent,
            _ => Self::Other,
        }
    }
}

/// The form in which the client would like to read our own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) enum Wants {
    Html,
    Json,
    #[default]
    Text,
}

/// What the proxy adds to a request.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Forwarding<'a> {
    /// The address that the request came from.
    pub(in crate::proxy) peer: &'a str,
    /// `http` or `https`.
    pub(in crate::proxy) proto: &'a str,
    /// The port that the client reached.
    pub(in crate::proxy) port: u16,
    /// The client's own `X-Forwarded-*`, if the peer is a proxy that may make them.
    pub(in crate::proxy) trusted: Option<&'a Claims<'a>>,
    /// `X-Forwarded-Prefix`: what was taken from the path.
    pub(in crate::proxy) prefix: Option<&'a str>,
    /// Path and query, where they are not to be the client's.
    pub(in crate::proxy) target: Option<&'a str>,
    /// Whether `Authorization` was for us: the app does not get it.
    pub(in crate::proxy) authorized: bool,
    /// Used unless the client brought a usable one.
    pub(in crate::proxy) request_id: &'a str,
    /// When the request came, in milliseconds of Unix time.
    pub(in crate::proxy) start_ms: i64,
}

/// What a request says about the way it took. Nobody believes it but of a trusted proxy.
#[derive(Debug, Clone, Default)]
pub(in crate::proxy) struct Claims<'b> {
    /// All `X-Forwarded-For`, in order.
    pub(in crate::proxy) forwarded_for: Vec<&'b [u8]>,
    /// The last `X-Forwarded-Proto`.
    pub(in crate::proxy) proto: Option<&'b [u8]>,
    /// The last `X-Forwarded-Host`.
    pub(in crate::proxy) host: Option<&'b [u8]>,
    /// The last `X-Forwarded-Port`.
    pub(in crate::proxy) port: Option<&'b [u8]>,
}

impl Forwarding<'_> {
    /// Appends the lines of `X-Forwarded-*` and `X-Request-Start`.
    pub(in crate::proxy) fn write(&self, authority: &str, out: &mut Vec<u8>) {
        let mut push = |bytes: &[u8]| out.extend_from_slice(bytes);
        push(b"X-Forwarded-For: ");
        for hop in self.trusted.iter().flat_map(|claims| &claims.forwarded_for) {
            push(hop);
            push(b", ");
        }
        push(self.peer.as_bytes());
        let claims = self.trusted;
        let proto = claims.and_then(|claims| claims.proto).unwrap_or(self.proto.as_bytes());
        let host = claims.and_then(|claims| claims.host).unwrap_or(authority.as_bytes());
        for (name, value) in [("\r\nX-Forwarded-Proto: ", proto), ("\r\nX-Forwarded-Host: ", host)]
        {
            push(name.as_bytes());
            push(value);
        }
        push(b"\r\nX-Forwarded-Port: ");
        match claims.and_then(|claims| claims.port) {
            Some(port) => push(port),
            None => push_decimal(out, u64::from(self.port)),
        }
        if let Some(prefix) = self.prefix {
            out.extend_from_slice(b"\r\nX-Forwarded-Prefix: ");
            out.extend_from_slice(prefix.as_bytes());
        }
        out.extend_from_slice(b"\r\nX-Request-Start: ");
        push_decimal(out, self.start_ms.unsigned_abs());
        out.extend_from_slice(b"\r\n");
    }
}

/// The facts of a request; the ranges are into the rewritten head.
#[derive(Debug)]
pub(in crate::proxy) struct Request {
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) version: Version,
    pub(in crate::proxy) keep_alive: bool,
    pub(in crate::proxy) framing: Framing,
    /// An `Upgrade` was forwarded, so the app may answer 101.
    pub(in crate::proxy) upgrade: bool,
    pub(in crate::proxy) host: FoldedHost,
    pub(in crate::proxy) wants: Wants,
    pub(in crate::proxy) method_name: Range<usize>,
    pub(in crate::proxy) target: Range<usize>,
    pub(in crate::proxy) referer: Range<usize>,
    pub(in crate::proxy) user_agent: Range<usize>,
    pub(in crate::proxy) id: Range<usize>,
}

impl Request {
    /// Whether the request may be sent again after an upstream closed without a byte of answer.
    pub(in crate::proxy) fn replayable(&self) -> bool {
        self.method != Method::Other && !self.has_body() && !self.upgrade
    }

    pub(in crate::proxy) fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// A request that was read, and not written yet.
pub(in crate::proxy) struct Parsed<'h, 'b> {
    head: &'b [u8],
    fields: &'h [Header<'b>],
    facts: Facts<'b>,
    line: RequestLine<'b>,
    framing: Framing,
    version: Version,
}

/// Reads the whole head `head`.
///
/// # Errors
/// The refusal; the connection must be closed after the answer.
pub(in crate::proxy) fn read<'h, 'b>(
    head: &'b [u8],
    storage: &'h mut Storage<'b>,
) -> Result<Parsed<'h, 'b>, Refusal> {
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(head, storage).map_err(refusal)?;
    if status != httparse::Status::Complete(head.len()) {
        return Err(Refusal::Malformed("the head is not one head"));
    }
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    if method.eq_ignore_ascii_case("CONNECT") {
        return Err(Refusal::Connect);
    }
    let version = Version::of(parsed.version);
    let fields: &'h [Header<'b>] = parsed.headers;
    let facts = Facts::read(fields, version)?;
    let line = RequestLine::read(method, target, &facts)?;
    let framing = facts.framing(version)?;
    Ok(Parsed { head, fields, facts, line, framing, version })
}

impl Parsed<'_, '_> {
    pub(in crate::proxy) fn method(&self) -> Method {
        Method::of(self.line.method)
    }

    pub(in crate::proxy) fn host(&self) -> &FoldedHost {
        &self.line.host
    }

    /// The host as the client wrote it.
    pub(in crate::proxy) fn authority(&self) -> &str {
        self.line.authority
    }

    /// Path and query.
    pub(in crate::proxy) fn target(&self) -> &str {
        &self.line.target
    }

    pub(in crate::proxy) fn content_length(&self) -> Option<u64> {
        self.facts.length
    }

    /// What `Authorization` says, if it is there once.
    pub(in crate::proxy) fn authorization(&self) -> Option<&[u8]> {
        match self.facts.authorization {
            Authorization::Once(value) => Some(value),
            Authorization::Missing | Authorization::Repeated => None,
        }
    }

    pub(in crate::proxy) fn claims(&self) -> &Claims<'_> {
        &self.facts.claims
    }

    /// Appends to `out` the head that the app gets.
    pub(in crate::proxy) fn write(
        &self,
        forwarding: &Forwarding<'_>,
        out: &mut Vec<u8>,
    ) -> Request {
        Writer { head: self.head, fields: self.fields, facts: &self.facts, forwarding, out }.write(
            &self.line,
            self.framing,
            self.version,
        )
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooLarge,
        httparse::Error::Version => Refusal::Version,
        httparse::Error::HeaderName => Refusal::Malformed("a header name is malformed"),
        httparse::Error::HeaderValue => Refusal::Malformed("a header value is malformed"),
        _ => Refusal::Malformed("the request is malformed"),
    }
}

/// What the fields say, each rule of RFC 9112 checked once.
struct Facts<'b> {
    kinds: [Field; MAX_FIELDS],
    host: Option<&'b str>,
    length: Option<u64>,
    chunked: bool,
    connection: Connection<'b>,
    upgrade: Vec<&'b [u8]>,
    te_trailers: bool,
    wants: Wants,
    id: Option<&'b [u8]>,
    authorization: Authorization<'b>,
    claims: Claims<'b>,
}

/// RFC 9110 §11.6.2: one field. Of two, readers differ in which one they believe.
enum Authorization<'b> {
    Missing,
    Once(&'b [u8]),
    Repeated,
}

impl<'b> Facts<'b> {
    fn read(fields: &[Header<'b>], version: Version) -> Result<Self, Refusal> {
        let mut facts = Self {
            kinds: [Field::Other; MAX_FIELDS],
            host: None,
            length: None,
            chunked: false,
            connection: Connection::default(),
            upgrade: Vec::new(),
            te_trailers: false,
            wants: Wants::default(),
            id: None,
            authorization: Authorization::Missing,
            claims: Claims::default(),
        };
        for (index, field) in fields.iter().enumerate() {
            let kind = Field::of(field.name.as_bytes());
            facts.kinds[index] = kind;
            facts.read_field(kind, field.value)?;
        }
        // RFC 9112 §3.2: exactly one Host in HTTP/1.1.
        if facts.host.is_none() && version == Version::Http11 {
            return Err(Refusal::Malformed("the Host header is missing"));
        }
        Ok(facts)
    }

    fn read_field(&mut self, kind: Field, value: &'b [u8]) -> Result<(), Refusal> {
        match kind {
            Field::Host => {
                let text = std::str::from_utf8(value).ok();
                let text = text.ok_or(Refusal::Malformed("the Host header is malformed"))?;
                if self.host.replace(text).is_some() {
                    return Err(Refusal::Malformed("there is more than one Host header"));
                }
            }
            Field::ContentLength => {
                let length = content_length(value);
                let length = length.ok_or(Refusal::Malformed("Content-Length is not a number"))?;
                if self.length.replace(length).is_some() {
                    return Err(Refusal::Malformed("there is more than one Content-Length"));
                }
            }
            Field::TransferEncoding => self.read_transfer_encoding(value)?,
            Field::Connection => self.connection.read(value),
            Field::Upgrade => self.upgrade.extend(tokens(value).filter(|name| may_upgrade(name))),
            Field::Te => {
                self.te_trailers |= tokens(value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
            }
            Field::Accept => self.wants = wants(value),
            Field::Authorization => {
                self.authorization = match self.authorization {
                    Authorization::Missing => Authorization::Once(value),
                    Authorization::Once(_) | Authorization::Repeated => Authorization::Repeated,
                };
            }
            Field::RequestId => self.id = Some(value).filter(|value| is_request_id(value)),
            Field::ForwardedFor => self.claims.forwarded_for.push(value),
            Field::ForwardedProto => self.claims.proto = Some(value),
            Field::ForwardedHost => self.claims.host = Some(value),
            Field::ForwardedPort => self.claims.port = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// Only `chunked`, once: RFC 9112 §6.1 allows other codings below it, but an app that does not
    /// know them reads the body as something else than we do.
    fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::Malformed("there is more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let codings: Vec<&[u8]> = tokens(value).collect();
        let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
        match codings.iter().position(is_chunked) {
            Some(at) if at > 0 && at + 1 == codings.len() => Err(Refusal::TransferCoding),
            _ => Err(Refusal::Malformed("Transfer-Encoding does not end the body with `chunked`")),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            // RFC 9112 §6.1: the classic of request smuggling.
            (true, Some(_)) => {
                Err(Refusal::Malformed("there are both a Transfer-Encoding and a Content-Length"))
            }
            (true, None) if version == Version::Http10 => {
                Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }
}

/// HTTP/2 by upgrade would carry requests past every check of ours ("h2c smuggling"), and TLS by
/// upgrade is not the app's to speak.
fn may_upgrade(protocol: &[u8]) -> bool {
    let starts = |with: &[u8]| {
        protocol.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    !(starts(b"h2") || starts(b"http/") || starts(b"tls"))
}

fn wants(accept: &[u8]) -> Wants {
    let position = |kind: &[u8]| memchr::memmem::find(accept, kind);
    match (position(b"json"), position(b"text/html")) {
        (Some(json), Some(html)) if json < html => Wants::Json,
        (_, Some(_)) => Wants::Html,
        (Some(_), None) => Wants::Json,
        (None, None) => Wants::Text,
    }
}

/// What a client may name a request: it is written to logs and pages.
fn is_request_id(value: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"-_.:+/=@".contains(c);
    (1..=128).contains(&value.len()) && value.iter().all(allowed)
}

/// The request line in origin form, and the host that it is for.
struct RequestLine<'b> {
    method: &'b str,
    target: std::borrow::Cow<'b, str>,
    authority: &'b str,
    host: FoldedHost,
}

impl<'b> RequestLine<'b> {
    fn read(method: &'b str, target: &'b str, facts: &Facts<'b>) -> Result<Self, Refusal> {
        // RFC 9112 §3.2: a fragment is the client's own; readers disagree about what follows it.
        if memchr::memchr(b'#', target.as_bytes()).is_some() {
            return Err(Refusal::Malformed("the request target has a fragment"));
        }
        let is_origin = target.starts_with('/') || (target == "*" && method == "OPTIONS");
        let (target, authority) = if is_origin {
            (target.into(), facts.host.unwrap_or_default())
        } else {
            // RFC 9112 §3.2.2: the target's authority replaces whatever Host says.
            let absolute = split_absolute(target);
            let (authority, path) =
                absolute.ok_or(Refusal::Malformed("the request target is malformed"))?;
            (path.into(), authority)
        };
        let host = FoldedHost::parse(authority);
        let host = host.ok_or(Refusal::Malformed("the host name is malformed"))?;
        Ok(Self { method, target, authority, host })
    }
}

/// Writes the app's head.
struct Writer<'a, 'b> {
    head: &'b [u8],
    fields: &'a [Header<'b>],
    facts: &'a Facts<'b>,
    forwarding: &'a Forwarding<'a>,
    out: &'a mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn write(mut self, line: &RequestLine<'_>, framing: Framing, version: Version) -> Request {
        let method_name = self.push(line.method.as_bytes());
        self.push(b" ");
        let target = self.forwarding.target.unwrap_or(&line.target);
        let target = self.push(target.as_bytes());
        self.push(b" HTTP/1.1\r\nHost: ");
        self.push(line.authority.as_bytes());
        self.push(b"\r\n");
        let (user_agent, referer) = self.copy_fields(version);
        let id = self.write_forwarded(line.authority);
        let upgrade = self.write_connection(framing, version);
        self.write_framing(framing);
        self.push(b"\r\n");
        let connection = &self.facts.connection;
        Request {
            method: Method::of(line.method),
            version,
            keep_alive: !connection.close && (version == Version::Http11 || connection.keep_alive),
            framing,
            upgrade,
            host: line.host.clone(),
            wants: self.facts.wants,
            method_name,
            target,
            referer,
            user_agent,
            id,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        start..self.out.len()
    }

    /// Copies what is between client and app; returns where the user agent's name and the referring
    /// page are.
    fn copy_fields(&mut self, version: Version) -> (Range<usize>, Range<usize>) {
        let mut copier = LineCopier::new(self.head);
        let (mut user_agent, mut referer) = (0..0, 0..0);
        for (index, field) in self.fields.iter().enumerate() {
            let kind = self.facts.kinds[index];
            let kept = match kind {
                Field::Other | Field::Accept | Field::Date | Field::Referer | Field::UserAgent => {
                    true
                }
                // RFC 9110 §10.1.1: an HTTP/1.0 client cannot have meant it.
                Field::Expect => version == Version::Http11,
                Field::Authorization => !self.forwarding.authorized,
                _ => false,
            };
            if !kept || self.facts.connection.nominates(field.name) {
                continue;
            }
            let line_start = copier.keep(self.fields, index, self.out);
            if matches!(kind, Field::UserAgent | Field::Referer) {
                let value = field.value.as_ptr().addr() - field.name.as_ptr().addr();
                let range = line_start + value..line_start + value + field.value.len();
                match kind {
                    Field::Referer => referer = range,
                    _ => user_agent = range,
                }
            }
        }
        copier.flush(self.out);
        (user_agent, referer)
    }

    /// The claims that only we may make, or a proxy before us that is trusted; the client's own were
    /// dropped. Returns where the request's id is.
    fn write_forwarded(&mut self, authority: &str) -> Range<usize> {
        let forwarding = *self.forwarding;
        forwarding.write(authority, self.out);
        self.push(b"X-Request-Id: ");
        let id = self.push(self.facts.id.unwrap_or(forwarding.request_id.as_bytes()));
        self.push(b"\r\n");
        id
    }

    /// Returns whether an upgrade is asked for. With a body it is not: where the tunnel would start
    /// is then a matter of opinion.
    fn write_connection(&mut self, framing: Framing, version: Version) -> bool {
        let facts = self.facts;
        let asked = facts.connection.upgrade && !facts.upgrade.is_empty();
        let bodiless = matches!(framing, Framing::None | Framing::Length(0));
        let upgrade = asked && bodiless && version == Version::Http11;
        if upgrade {
            self.push(b"Upgrade: ");
            self.push(&facts.upgrade.join(&b", "[..]));
            self.push(b"\r\n");
        }
        if facts.te_trailers {
            self.push(b"TE: trailers\r\n");
        }
        match (upgrade, facts.te_trailers) {
            (true, true) => self.push(b"Connection: upgrade, te\r\n"),
            (true, false) => self.push(b"Connection: upgrade\r\n"),
            (false, true) => self.push(b"Connection: te\r\n"),
            (false, false) => 0..0,
        };
        upgrade
    }

    fn write_framing(&mut self, framing: Framing) {
        match framing {
            Framing::Chunked => {
                self.push(b"Transfer-Encoding: chunked\r\n");
            }
            Framing::Length(length) => {
                self.push(b"Content-Length: ");
                push_decimal(self.out, length);
                self.push(b"\r\n");
            }
            Framing::None | Framing::UntilClose => {}
        }
    }
}

/// Appends `number` in decimal.
pub(in crate::proxy) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    // 20 digits hold any u64.
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
