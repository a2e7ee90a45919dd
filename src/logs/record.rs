//! From the bytes of a file to lines: the monitors' records, the platform's, the proxy's.

use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;

use super::level;
use crate::domain::{LogCursor, LogLevel, LogLine, LogSource, LogStream, ReleaseVersion};

/// Whose file it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A container of the app's.
    App { process: Arc<str>, release: Option<ReleaseVersion> },
    /// The proxy's, of the app's requests.
    Router,
    /// The platform's, of what happened to the app.
    Platform,
}

impl Origin {
    pub(super) fn source(&self) -> LogSource {
        match self {
            Self::App { .. } => LogSource::App,
            Self::Router => LogSource::Router,
            Self::Platform => LogSource::Platform,
        }
    }
}

/// The line that stands at `offset` of the file; none if it is no record.
pub(super) fn parse(origin: &Origin, (file, offset): (u32, u64), bytes: &[u8]) -> Option<LogLine> {
    let text = String::from_utf8_lossy(bytes);
    let place = |at| LogCursor { at, file, offset };
    match origin {
        Origin::App { process, release } => {
            let Record { at, at_text, stream, text } = Record::of(&text)?;
            Some(LogLine {
                at: at_text.into(),
                source: LogSource::App,
                process: process.to_string(),
                release: *release,
                stream,
                level: level::guess(stream, text),
                text: text.into(),
                cursor: place(at),
            })
        }
        Origin::Platform => {
            let Record { at, at_text, stream, text } = Record::of(&text)?;
            let mut words = text.splitn(3, ' ');
            let (release, level) = (words.next()?, words.next()?);
            Some(LogLine {
                at: at_text.into(),
                source: LogSource::Platform,
                process: super::PLATFORM.into(),
                release: release.parse().ok(),
                stream,
                level: level.parse().ok()?,
                text: words.next().unwrap_or_default().into(),
                cursor: place(at),
            })
        }
        Origin::Router => {
            let request = Request::of(&text)?;
            Some(LogLine {
                at: write_time(request.at),
                source: LogSource::Router,
                process: "router".into(),
                release: request.release,
                stream: LogStream::Stdout,
                level: request.level,
                text: request.text,
                cursor: place(request.at),
            })
        }
    }
}

/// When the record was written, in microseconds since the Unix epoch.
pub(super) fn time_of(origin: &Origin, bytes: &[u8]) -> Option<i64> {
    match origin {
        Origin::Router => Some(Request::of(&String::from_utf8_lossy(bytes))?.at),
        _ => {
            let end = memchr::memchr(b' ', bytes)?;
            read_time(std::str::from_utf8(&bytes[..end]).ok()?)
        }
    }
}

fn read_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

/// As records have it.
pub(super) fn write_time(at: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// `<time> <o|e>[p] <text>`.
struct Record<'a> {
    at: i64,
    at_text: &'a str,
    stream: LogStream,
    text: &'a str,
}

impl<'a> Record<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (at_text, rest) = line.split_once(' ')?;
        let (stream, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let stream = match stream.as_bytes().first()? {
            b'o' => LogStream::Stdout,
            b'e' => LogStream::Stderr,
            _ => return None,
        };
        Some(Self { at: read_time(at_text)?, at_text, stream, text })
    }
}

/// A request, in one line of words.
struct Request {
    at: i64,
    release: Option<ReleaseVersion>,
    level: LogLevel,
    text: String,
}

/// What of the access log's JSON is shown. It is the proxy's, which is not trusted.
#[derive(Deserialize)]
struct Access {
    time: String,
    request_id: String,
    release: Option<ReleaseVersion>,
    client: String,
    protocol: Option<String>,
    method: String,
    host: String,
    target: String,
    status: u16,
    bytes: u64,
    duration_ms: u64,
    upstream: Option<String>,
    error: Option<String>,
    detail: Option<String>,
}

impl Request {
    fn of(line: &str) -> Option<Self> {
        if !line.starts_with('{') {
            return Self::of_combined(line);
        }
        let access: Access = serde_json::from_str(line).ok()?;
        // Lines are written when requests end; that is their place among other lines.
        let spent = i64::try_from(access.duration_ms).ok()?.checked_mul(1000)?;
        let at = read_time(&access.time)?.checked_add(spent)?;
        let mut text = format!(
            "method={} path={} host={} status={} bytes={} duration={}ms client={} protocol={} request_id={}",
            word(&access.method),
            quoted(&access.target),
            word(&access.host),
            access.status,
            access.bytes,
            access.duration_ms,
            word(&access.client),
            word(access.protocol.as_deref().unwrap_or("-")),
            word(&access.request_id),
        );
        let more = [("upstream", &access.upstream), ("error", &access.error)];
        for (name, value) in more {
            if let Some(value) = value {
                // A String takes everything.
                let _ = write!(text, " {name}={}", word(value));
            }
        }
        if let Some(detail) = &access.detail {
            let _ = write!(text, " detail={}", quoted(detail));
        }
        Some(Self { at, release: access.release, level: of_status(access.status), text })
    }

    /// Apache's combined format: the time in brackets, whole seconds, and the rest as it is.
    fn of_combined(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once('[')?;
        let (time, rest) = rest.split_once(']')?;
        let time = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?;
        let at = time.to_timestamp().ok()?.as_microsecond();
        // The request's text has its quotes escaped.
        let status = rest.split("\" ").nth(1)?.split(' ').next()?.parse().ok()?;
        let text = line.chars().map(printable).collect();
        Some(Self { at, release: None, level: of_status(status), text })
    }
}

fn of_status(status: u16) -> LogLevel {
    match status {
        500.. => LogLevel::Error,
        _ => LogLevel::Info,
    }
}

fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

/// A value without blanks as it is, any other in quotes.
fn word(value: &str) -> String {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '"' && c != '=';
    match !value.is_empty() && value.chars().all(plain) {
        true => value.to_owned(),
        false => quoted(value),
    }
}

/// In JSON's quotes: what a client sent never ends its field.
fn quoted(value: &str) -> String {
    let value: String = value.chars().map(printable).collect();
    serde_json::Value::String(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> Origin {
        Origin::App { process: "web.1".into(), release: Some(ReleaseVersion(3)) }
    }

    #[test]
    fn records_have_a_time_a_stream_and_any_text() {
        let parsed = |text: &str| parse(&app(), (7, 40), text.as_bytes());
        let line = parsed("2026-01-02T03:04:05.000006Z e  two  spaces").unwrap();
        assert_eq!((line.stream, line.text.as_str()), (LogStream::Stderr, " two  spaces"));
        assert_eq!(line.release, Some(ReleaseVersion(3)));
        assert_eq!(line.cursor, LogCursor { at: 1_767_323_045_000_006, file: 7, offset: 40 });
        assert_eq!(write_time(line.cursor.at), line.at);
        assert_eq!(parsed("2026-01-02T03:04:05.000006Z o ").unwrap().text, "");
        assert_eq!(parsed("2026-01-02T03:04:05.000006Z op part").unwrap().text, "part");
        for bad in ["garbage", "", "2026 o text", "2026-01-02T03:04:05Z x text", " o text"] {
            assert!(parsed(bad).is_none(), "{bad}");
        }
        let hostile = parse(&app(), (0, 0), b"2026-01-02T03:04:05Z o \xff\x00\x1b[2J<b>").unwrap();
        assert_eq!(hostile.text, "\u{fffd}\0\u{1b}[2J<b>");
    }

    #[test]
    fn requests_are_lines_of_words_that_a_client_cannot_forge() {
        let json = r#"{"time":"2026-01-02T03:04:05.006Z","request_id":"id","app":"shop","release":2,"client":"192.0.2.1","protocol":"HTTP/1.1","tls":null,"method":"GET","host":"a b","target":"/\" status=200\n","referer":"","user_agent":"x","status":502,"bytes":12,"received":0,"duration_ms":1500,"upstream":"10.0.0.2:5000","upstream_ms":null,"error":"app-closed-connection","detail":"it \"ended\""}"#;
        let line = parse(&Origin::Router, (0, 0), json.as_bytes()).unwrap();
        assert_eq!((line.level, line.release), (LogLevel::Error, Some(ReleaseVersion(2))));
        assert_eq!(line.at, "2026-01-02T03:04:06.506000Z");
        assert_eq!(
            line.text,
            "method=GET path=\"/\\\" status=200\u{fffd}\" host=\"a b\" status=502 bytes=12 \
             duration=1500ms client=192.0.2.1 protocol=HTTP/1.1 request_id=id \
             upstream=10.0.0.2:5000 error=app-closed-connection detail=\"it \\\"ended\\\"\""
        );
        let endless = json.replace("1500", "18446744073709551615");
        assert!(parse(&Origin::Router, (0, 0), endless.as_bytes()).is_none());
        assert!(parse(&Origin::Router, (0, 0), b"{\"time\":1}").is_none());
    }

    #[test]
    fn combined_lines_are_requests_too() {
        let line =
            r#"192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a\"b HTTP/1.1" 503 2326 "-" "-""#;
        let parsed = parse(&Origin::Router, (0, 0), line.as_bytes()).unwrap();
        assert_eq!(
            (parsed.at.as_str(), parsed.level),
            ("2000-10-10T13:55:36.000000Z", LogLevel::Error)
        );
        assert_eq!(parsed.text, line);
    }

    #[test]
    fn what_the_platform_says_has_a_release_and_a_level() {
        let text = b"2026-01-02T03:04:05Z o v12 error web.1 ended: exit code 1";
        let line = parse(&Origin::Platform, (0, 0), text).unwrap();
        assert_eq!((line.release, line.level), (Some(ReleaseVersion(12)), LogLevel::Error));
        assert_eq!(line.text, "web.1 ended: exit code 1");
        let text = b"2026-01-02T03:04:05Z o - info app created";
        assert_eq!(parse(&Origin::Platform, (0, 0), text).unwrap().release, None);
    }
}
