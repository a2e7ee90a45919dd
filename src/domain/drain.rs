//! Drains: where an app's log is sent to, and what is kept of it here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::invalid::{Invalid, text_serde};
use super::log::{parse_span, write_span};
use super::{Bytes, Hostname, Timestamp};

/// The longest URL.
const MAX_URL: usize = 2048;
/// Drains of one app: each is read for and sent to by itself.
const MAX_DRAINS: usize = 5;
/// Less is no log, more is a disk.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// An hour to ten years, in seconds.
const AGES: std::ops::RangeInclusive<u64> = 3600..=315_360_000;

/// How lines travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DrainScheme {
    /// RFC 5425: syslog over TLS.
    SyslogTls,
    /// RFC 6587: syslog over TCP, each message with its length.
    SyslogTcp,
    /// RFC 5426: syslog over UDP.
    SyslogUdp,
    /// Lines of JSON in the bodies of requests.
    Https,
}

impl DrainScheme {
    const ALL: [Self; 4] = [Self::SyslogTls, Self::SyslogTcp, Self::SyslogUdp, Self::Https];

    /// As URLs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyslogTls => "syslog+tls",
            Self::SyslogTcp => "syslog+tcp",
            Self::SyslogUdp => "syslog+udp",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::SyslogTls => 6514,
            Self::SyslogTcp => 601,
            Self::SyslogUdp => 514,
            Self::Https => 443,
        }
    }
}

/// Where a drain leads. It may hold credentials, which `Display` shows and `masked` does not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DrainUrl {
    text: String,
    scheme: DrainScheme,
    host: DrainHost,
    port: u16,
    /// `user:password` of an https URL, as written.
    credentials: Option<String>,
    /// Path and query, of an https URL.
    path: String,
}

/// The machine that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DrainHost {
    /// By name.
    Name(Hostname),
    /// By address.
    Address(IpAddr),
}

impl fmt::Display for DrainHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl DrainUrl {
    /// How lines travel.
    pub fn scheme(&self) -> DrainScheme {
        self.scheme
    }

    /// Whom to connect to.
    pub fn host(&self) -> &DrainHost {
        &self.host
    }

    /// At which port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `user:password`, percent-encoding undone.
    pub fn credentials(&self) -> Option<String> {
        self.credentials.as_deref().map(unescape)
    }

    /// Host and port, as a `Host` header and messages have them.
    pub fn authority(&self) -> String {
        match &self.host {
            DrainHost::Address(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }

    /// The URL without what may be secret: credentials and the query.
    pub fn masked(&self) -> String {
        let credentials = if self.credentials.is_some() { "***@" } else { "" };
        let path = match self.path.split_once('?') {
            Some((path, _)) => format!("{path}?***"),
            None => self.path.clone(),
        };
        format!("{}://{credentials}{}{path}", self.scheme.as_str(), self.authority())
    }
}

/// Bytes of `%41`; what is no such sequence stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Debug for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DrainUrl({})", self.masked())
    }
}

impl fmt::Display for DrainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DrainUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // What is refused is repeated to whoever wrote it, and may end in a log: not its secrets.
        let shown = text.split_once('@').map_or(text, |(_, rest)| rest);
        let invalid = |why: &str| Invalid::new("drain", shown, why);
        if text.len() > MAX_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("must be a URL of at most 2048 printable ASCII characters"));
        }
        let forms = "must begin with syslog+tls://, syslog+tcp://, syslog+udp:// or https://";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(forms))?;
        let scheme = DrainScheme::ALL.into_iter().find(|known| known.as_str() == scheme);
        let scheme = scheme.ok_or_else(|| invalid(forms))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if path.contains('#') {
            return Err(invalid("must not have a fragment (`#`)"));
        }
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials.to_owned()), address),
            None => (None, authority),
        };
        if scheme != DrainScheme::Https && (credentials.is_some() || !["", "/"].contains(&path)) {
            return Err(invalid("must have a host and a port only: syslog knows no more"));
        }
        let (host, port) = split_port(address).ok_or_else(|| invalid("has a bad port"))?;
        let host = parse_host(host).ok_or_else(|| invalid("has no good host"))?;
        let path = match (scheme, path) {
            (DrainScheme::Https, path) if !path.starts_with('/') => format!("/{path}"),
            (DrainScheme::Https, path) => path.to_owned(),
            _ => String::new(),
        };
        let port = port.unwrap_or(scheme.default_port());
        Ok(Self { text: text.to_owned(), scheme, host, port, credentials, path })
    }
}

/// The port is none if there is none.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let colon = address.rfind(':').filter(|colon| !address[*colon..].contains(']'));
    let Some(colon) = colon else { return Some((address, None)) };
    let digits = &address[colon + 1..];
    let port = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok());
    port.flatten().filter(|port| *port > 0).map(|port| (&address[..colon], Some(port)))
}

fn parse_host(text: &str) -> Option<DrainHost> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']')?.parse().ok()?;
        return Some(DrainHost::Address(IpAddr::V6(address)));
    }
    if let Ok(address) = text.parse() {
        return Some(DrainHost::Address(IpAddr::V4(address)));
    }
    let name: Hostname = text.parse().ok()?;
    // Resolvers take `0x7f.1` and `2130706433` for addresses.
    let last = text.trim_end_matches('.').rsplit('.').next()?;
    let is_name = last.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains('*');
    is_name.then_some(DrainHost::Name(name))
}

text_serde!(DrainUrl);

/// One drain of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDrain {
    /// Where it leads.
    pub url: DrainUrl,
    /// Whether it may lead to private addresses: an admin of the platform set it.
    pub private: bool,
    /// When it was set: what came before is not sent.
    pub since: Timestamp,
}

/// What is set about an app's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// Bytes that are kept of it.
    pub max_size: Option<Bytes>,
    /// How long its lines are kept.
    pub max_age: Option<LogAge>,
    /// Where it is sent to.
    pub drains: Vec<LogDrain>,
}

/// How long lines are kept: `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogAge(pub Duration);

impl FromStr for LogAge {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let span = parse_span(text).filter(|span| AGES.contains(&span.as_secs()));
        span.map(Self).ok_or_else(|| {
            Invalid::new("age", text, "must be from 1h to 3650d, such as `12h` or `30d`")
        })
    }
}

impl fmt::Display for LogAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_span(self.0))
    }
}

text_serde!(LogAge);

impl LogSettings {
    /// Sets `max-size`, `max-age` or `drain`; without values, its default. A drain that stays goes on
    /// where it was.
    ///
    /// # Errors
    /// For an unknown key and values that break a rule.
    pub fn set(
        &mut self,
        key: &str,
        values: &[String],
        (private, now): (bool, Timestamp),
    ) -> Result<(), Invalid> {
        match (key, values) {
            ("drain", values) => self.drains = self.new_drains(values, private, now)?,
            (_, [_, _, ..]) => {
                return Err(Invalid::new("property", key, "takes one value"));
            }
            ("max-size", values) => self.max_size = values.first().map(|v| size(v)).transpose()?,
            ("max-age", values) => self.max_age = values.first().map(|v| v.parse()).transpose()?,
            _ => {
                return Err(Invalid::new("property", key, "must be max-size, max-age or drain"));
            }
        }
        Ok(())
    }

    fn new_drains(
        &self,
        values: &[String],
        private: bool,
        now: Timestamp,
    ) -> Result<Vec<LogDrain>, Invalid> {
        let mut drains: Vec<LogDrain> = Vec::new();
        for value in values {
            let url: DrainUrl = value.parse()?;
            if drains.iter().any(|drain| drain.url == url) {
                return Err(Invalid::new("drain", &url.masked(), "is named twice"));
            }
            let known = self.drains.iter().find(|drain| drain.url == url);
            let since = known.map_or(now, |drain| drain.since);
            let private = private || known.is_some_and(|drain| drain.private);
            drains.push(LogDrain { url, private, since });
        }
        match drains.len() > MAX_DRAINS {
            true => {
                let count = drains.len().to_string();
                Err(Invalid::new("number of drains", &count, "must be at most 5"))
            }
            false => Ok(drains),
        }
    }
}

fn size(text: &str) -> Result<Bytes, Invalid> {
    let size: Bytes = text.parse()?;
    match SIZES.contains(&size.0) {
        true => Ok(size),
        false => Err(Invalid::new("size", text, "must be from 1m to 1t")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DrainUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_say_how_and_where() {
        let tls = url("syslog+tls://logs.example.com");
        assert_eq!((tls.scheme(), tls.port()), (DrainScheme::SyslogTls, 6514));
        assert_eq!(url("syslog+udp://10.0.0.1:99").authority(), "10.0.0.1:99");
        assert_eq!(url("syslog+tcp://[fd00::1]/").authority(), "[fd00::1]:601");
        let https = url("https://us%40er:p%3Aw@in.example.com/v1?token=secret");
        assert_eq!(https.credentials().unwrap(), "us@er:p:w");
        assert_eq!((https.path(), https.port()), ("/v1?token=secret", 443));
        assert_eq!(https.masked(), "https://***@in.example.com:443/v1?***");
        assert_eq!(format!("{https:?}"), format!("DrainUrl({})", https.masked()));
        assert_eq!(url("https://in.example.com?x=1").path(), "/?x=1");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for bad in [
            "",
            "http://x.example",
            "file:///etc/passwd",
            "syslog+tls://",
            "syslog+tls://x.example:0",
            "syslog+tls://x.example:99999",
            "syslog+tls://x.example:+1",
            "syslog+tls://u@x.example",
            "syslog+tcp://x.example/path",
            "https://x.example/#a",
            "https://x.example/a b",
            "https://x.example\r\nHost: y",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://*.example.com/",
            "https://[::1/",
            "https://@/",
        ] {
            assert!(bad.parse::<DrainUrl>().is_err(), "{bad}");
        }
        let secret = "gopher://user:secret@x".parse::<DrainUrl>().unwrap_err().to_string();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn properties_are_set_and_cleared() {
        let mut settings = LogSettings::default();
        let mut set = |key: &str, values: &[&str], private, now| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            settings.set(key, &values, (private, Timestamp(now))).map(|()| settings.clone())
        };
        let all = set("max-size", &["50m"], false, 1).unwrap();
        assert_eq!(all.max_size, Some(Bytes(50 << 20)));
        assert_eq!(set("max-age", &["7d"], false, 1).unwrap().max_age.unwrap().to_string(), "7d");
        assert_eq!(set("max-size", &[], false, 1).unwrap().max_size, None);
        let (a, b) = ("syslog+tls://a.example", "syslog+tls://b.example");
        set("drain", &[a], true, 1).unwrap();
        let drains = set("drain", &[a, b], false, 2).unwrap().drains;
        // The one that was there goes on as it was.
        assert_eq!(
            drains.iter().map(|d| (d.private, d.since.0)).collect::<Vec<_>>(),
            [(true, 1), (false, 2)]
        );
        set("drain", &[a, a], false, 2).unwrap_err();
        let many: Vec<_> = (0..6).map(|n| format!("syslog+tls://n{n}.example")).collect();
        set("drain", &many.iter().map(String::as_str).collect::<Vec<_>>(), false, 2).unwrap_err();
        assert_eq!(set("drain", &[], false, 3).unwrap().drains, []);
        for (key, value) in [("max-size", "1k"), ("max-age", "1m"), ("max-age", "x"), ("mx", "1")] {
            set(key, &[value], false, 1).unwrap_err();
        }
    }
}
