//! Header fields: which ones mean something to a proxy, and copying the others as they are.

use httparse::Header;

/// Fields that a proxy reads, replaces or drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Field {
    Accept,
    Authorization,
    Connection,
    ContentLength,
    Date,
    Expect,
    Host,
    Referer,
    Te,
    TransferEncoding,
    Upgrade,
    UserAgent,
    RequestId,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    ForwardedPort,
    /// Hop-by-hop beyond `Connection`, or a claim that only a proxy may make.
    Dropped,
    /// Everything else: none of our business.
    Other,
}

impl Field {
    /// Classifies a field name.
    pub(in crate::proxy) fn of(name: &[u8]) -> Self {
        if memchr::memchr(b'_', name).is_some() {
            return Self::of_underscored(name);
        }
        Self::of_plain(name)
    }

    /// CGI, WSGI, Rack and PHP turn both `-` and `_` into `_`: `X_Forwarded_For` would reach the app
    /// as `HTTP_X_FORWARDED_FOR` beside ours. A name that is only one of ours by underscores is
    /// dropped; all others pass.
    fn of_underscored(name: &[u8]) -> Self {
        let dashed: Vec<u8> = name.iter().map(|&c| if c == b'_' { b'-' } else { c }).collect();
        match Self::of_plain(&dashed) {
            Self::Other | Self::Accept | Self::Date | Self::Referer | Self::UserAgent => {
                Self::Other
            }
            _ => Self::Dropped,
        }
    }

    fn of_plain(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            4 if is("date") => Self::Date,
            // `Proxy` becomes the variable HTTP_PROXY of a CGI program: CVE-2016-5385.
            5 if is("proxy") => Self::Dropped,
            6 if is("accept") => Self::Accept,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            7 if is("referer") => Self::Referer,
            9 if is("forwarded") || is("x-real-ip") => Self::Dropped,
            10 if is("connection") => Self::Connection,
            10 if is("user-agent") => Self::UserAgent,
            10 if is("keep-alive") => Self::Dropped,
            12 if is("x-request-id") => Self::RequestId,
            13 if is("authorization") => Self::Authorization,
            14 if is("content-length") => Self::ContentLength,
            15 if is("x-request-start") => Self::Dropped,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            16 if is("x-forwarded-port") => Self::ForwardedPort,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            16 if is("proxy-connection") => Self::Dropped,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            19 if is("proxy-authorization") => Self::Dropped,
            _ if starts_with(name, "x-forwarded-") => Self::Dropped,
            _ => Self::Other,
        }
    }
}

fn starts_with(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// What the `Connection` fields of a message say.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Connection<'b> {
    pub(in crate::proxy) close: bool,
    pub(in crate::proxy) keep_alive: bool,
    pub(in crate::proxy) upgrade: bool,
    /// Fields meant for this hop only (RFC 9110 §7.6.1).
    nominated: Vec<&'b [u8]>,
}

impl<'b> Connection<'b> {
    /// Adds one field's options.
    pub(in crate::proxy) fn read(&mut self, value: &'b [u8]) {
        for option in tokens(value) {
            let is = |known: &str| option.eq_ignore_ascii_case(known.as_bytes());
            match option {
                _ if is("close") => self.close = true,
                _ if is("keep-alive") => self.keep_alive = true,
                _ if is("upgrade") => self.upgrade = true,
                _ => self.nominated.push(option),
            }
        }
    }

    /// Whether the sender meant the field `name` for us alone.
    pub(in crate::proxy) fn nominates(&self, name: &str) -> bool {
        self.nominated.iter().any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// The members of a comma-separated list, without empty ones (RFC 9110 §5.6.1.2).
pub(in crate::proxy) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&c| c == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A `Content-Length`: digits only, no sign, no list (RFC 9110 §8.6).
pub(in crate::proxy) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Copies header lines as bytes: name, case, order and spacing stay. Neighboring lines are copied
/// at once.
#[derive(Debug)]
pub(in crate::proxy) struct LineCopier<'b> {
    head: &'b [u8],
    run: std::ops::Range<usize>,
}

impl<'b> LineCopier<'b> {
    /// Copies out of `head`, which includes its empty line.
    pub(in crate::proxy) fn new(head: &'b [u8]) -> Self {
        Self { head, run: 0..0 }
    }

    /// Takes the line of `fields[index]`; returns where in `out` it will start.
    pub(in crate::proxy) fn keep(
        &mut self,
        fields: &[Header<'b>],
        index: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = self.offset(fields[index].name.as_bytes());
        let end = match fields.get(index + 1) {
            Some(next) => self.offset(next.name.as_bytes()),
            None => self.head.len() - 2,
        };
        if self.run.end != start {
            self.flush(out);
            self.run.start = start;
        }
        self.run.end = end;
        out.len() + (start - self.run.start)
    }

    /// Writes what was taken.
    pub(in crate::proxy) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[self.run.clone()]);
        self.run = 0..0;
    }

    /// Where `part`, a slice of the head, starts in it.
    fn offset(&self, part: &[u8]) -> usize {
        part.as_ptr().addr() - self.head.as_ptr().addr()
    }
}
