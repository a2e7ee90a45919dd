//! A response's head: read strictly, and written anew for the client.

use std::mem::MaybeUninit;

use httparse::Header;

use super::body::Framing;
use super::field::{Connection, Field, LineCopier, content_length};
use super::request::{Method, push_decimal};
use super::{MAX_FIELDS, Version};

/// RFC 6797 §6.1.
const HSTS: &str = "Strict-Transport-Security";

/// Why an app's answer cannot be passed on; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::proxy) struct BadResponse(pub(in crate::proxy) &'static str);

/// What of the request and connection decides how an answer is written.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Asked<'a> {
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) version: Version,
    pub(in crate::proxy) upgrade: bool,
    /// Whether the client's connection may go on after this answer.
    pub(in crate::proxy) keep_alive: bool,
    /// An HTTP date, for answers without one (RFC 9110 §6.6.1).
    pub(in crate::proxy) date: &'a str,
    /// `Strict-Transport-Security`, for answers without one.
    pub(in crate::proxy) hsts: Option<&'a str>,
}

/// The facts of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Response {
    pub(in crate::proxy) status: u16,
    /// How the app's body is framed.
    pub(in crate::proxy) framing: Framing,
    /// How the client's body is framed.
    pub(in crate::proxy) sent_framing: Framing,
    /// Whether the app's connection may be used again after the body.
    pub(in crate::proxy) reusable: bool,
    /// Whether the client's connection goes on after the body.
    pub(in crate::proxy) keep_alive: bool,
}

impl Response {
    /// 1xx but 101: the real answer is still to come.
    pub(in crate::proxy) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads the whole head `head`, and appends to `out` the head that the client gets.
///
/// # Errors
/// What makes the answer unfit; `out` is then of no use.
pub(in crate::proxy) fn rewrite(
    head: &[u8],
    asked: &Asked<'_>,
    out: &mut Vec<u8>,
) -> Result<Response, BadResponse> {
    let mut storage = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, head, &mut storage)
        .map_err(|_| BadResponse("the head is malformed"))?;
    if status != httparse::Status::Complete(head.len()) {
        return Err(BadResponse("the head is not one head"));
    }
    let status = parsed.code.unwrap_or_default();
    if !(100..=599).contains(&status) {
        return Err(BadResponse("the status code is not one"));
    }
    if status == 101 && !asked.upgrade {
        return Err(BadResponse("it upgrades a connection that asked for no upgrade"));
    }
    let facts = Facts::read(parsed.headers)?;
    let response = facts.response(status, Version::of(parsed.version), asked)?;
    let writer = Writer { head, fields: parsed.headers, facts: &facts, asked, out };
    writer.write(&response, parsed.reason.unwrap_or_default());
    Ok(response)
}

struct Facts<'b> {
    kinds: [Field; MAX_FIELDS],
    length: Option<u64>,
    chunked: bool,
    connection: Connection<'b>,
    upgrade: Option<&'b [u8]>,
    has_date: bool,
}

impl<'b> Facts<'b> {
    fn read(fields: &[Header<'b>]) -> Result<Self, BadResponse> {
        let mut facts = Self {
            kinds: [Field::Other; MAX_FIELDS],
            length: None,
            chunked: false,
            connection: Connection::default(),
            upgrade: None,
            has_date: false,
        };
        for (index, field) in fields.iter().enumerate() {
            let kind = Field::of(field.name.as_bytes());
            facts.kinds[index] = kind;
            match kind {
                Field::ContentLength => {
                    let length = content_length(field.value);
                    let length = length.ok_or(BadResponse("Content-Length is not a number"))?;
                    if facts.length.replace(length).is_some_and(|first| first != length) {
                        return Err(BadResponse("it has two lengths"));
                    }
                }
                Field::TransferEncoding => {
                    if facts.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(BadResponse("its Transfer-Encoding is not `chunked`"));
                    }
                    facts.chunked = true;
                }
                Field::Connection => facts.connection.read(field.value),
                Field::Upgrade => facts.upgrade = Some(field.value),
                Field::Date => facts.has_date = true,
                _ => {}
            }
        }
        Ok(facts)
    }

    fn response(
        &self,
        status: u16,
        version: Version,
        asked: &Asked<'_>,
    ) -> Result<Response, BadResponse> {
        // RFC 9112 §6.3: a recipient cannot know which of the two an intermediary believed.
        if self.chunked && self.length.is_some() {
            return Err(BadResponse("it has both a Transfer-Encoding and a Content-Length"));
        }
        if self.chunked && version == Version::Http10 {
            return Err(BadResponse("it is HTTP/1.0 and has a Transfer-Encoding"));
        }
        let bodiless = asked.method == Method::Head || matches!(status, 100..=199 | 204 | 304);
        let framing = match (bodiless, self.chunked, self.length) {
            (true, ..) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::UntilClose,
        };
        let sent_framing = match framing {
            Framing::Chunked | Framing::UntilClose if asked.version == Version::Http11 => {
                Framing::Chunked
            }
            Framing::Chunked => Framing::UntilClose,
            framing => framing,
        };
        let persistent = version == Version::Http11 || self.connection.keep_alive;
        Ok(Response {
            status,
            framing,
            sent_framing,
            reusable: persistent && !self.connection.close && framing != Framing::UntilClose,
            keep_alive: asked.keep_alive && sent_framing != Framing::UntilClose,
        })
    }
}

struct Writer<'a, 'b> {
    head: &'b [u8],
    fields: &'a [Header<'b>],
    facts: &'a Facts<'b>,
    asked: &'a Asked<'a>,
    out: &'a mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn write(mut self, response: &Response, reason: &str) {
        self.out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(self.out, response.status.into());
        self.out.push(b' ');
        self.out.extend_from_slice(reason.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.copy_fields(response.status);
        if response.status >= 200 {
            self.write_final(response);
        } else if response.status == 101 {
            self.out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
            self.out.extend_from_slice(self.facts.upgrade.unwrap_or_default());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn copy_fields(&mut self, status: u16) {
        let mut copier = LineCopier::new(self.head);
        let mut length_kept = false;
        for (index, field) in self.fields.iter().enumerate() {
            let kept = match self.facts.kinds[index] {
                // RFC 9110 §8.6: never in 1xx and 204; once, where the app repeats itself.
                Field::ContentLength => {
                    let first = !std::mem::replace(&mut length_kept, true);
                    first && status >= 200 && status != 204
                }
                Field::Connection | Field::Te | Field::TransferEncoding | Field::Upgrade => false,
                Field::Dropped => !is_hop_by_hop(field.name),
                _ => true,
            };
            if kept && !self.facts.connection.nominates(field.name) {
                copier.keep(self.fields, index, self.out);
            }
        }
        copier.flush(self.out);
    }

    fn write_final(&mut self, response: &Response) {
        // HEAD and 304 tell what a GET would have: the coding, though nothing follows.
        let announced = self.facts.chunked && response.framing == Framing::None;
        let announced = announced && !matches!(response.status, 204);
        let chunked = response.sent_framing == Framing::Chunked || announced;
        if chunked && self.asked.version == Version::Http11 {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !self.facts.has_date {
            self.out.extend_from_slice(b"Date: ");
            self.out.extend_from_slice(self.asked.date.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        let is_hsts = |field: &Header<'_>| field.name.eq_ignore_ascii_case(HSTS);
        if let Some(hsts) = self.asked.hsts
            && !self.fields.iter().any(is_hsts)
        {
            for part in [HSTS, ": ", hsts, "\r\n"] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        match (response.keep_alive, self.asked.version) {
            (false, _) => self.out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => self.out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
    }
}

/// Of the fields dropped from requests, those that end here in an answer too.
fn is_hop_by_hop(name: &str) -> bool {
    ["keep-alive", "proxy-connection"].iter().any(|known| name.eq_ignore_ascii_case(known))
}
