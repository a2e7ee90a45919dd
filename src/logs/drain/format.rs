//! Lines as other systems take them: RFC 5424 messages, lines of JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::domain::{AppName, LogLevel, LogLine, ReleaseVersion};

/// Facility `local0`, RFC 5424 §6.2.1.
const FACILITY: u8 = 16;
/// The longest host name, RFC 5424 §6.
const MAX_HOSTNAME: usize = 255;
/// The longest app name there.
const MAX_APP_NAME: usize = 48;
/// The longest datagram: every receiver must take 480 bytes and should take this, RFC 5426 §3.2.
pub(super) const MAX_DATAGRAM: usize = 2048;

/// Whose lines they are.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) hostname: String,
    pub(super) app: AppName,
}

impl Sender {
    /// One message, without a frame:
    /// `<134>1 2026-01-02T03:04:05.000006Z host shop web.1 app - text`.
    pub(super) fn syslog(&self, line: &LogLine) -> String {
        let severity = match line.level {
            LogLevel::Error => 3,
            LogLevel::Warn => 4,
            LogLevel::Info => 6,
            LogLevel::Debug => 7,
        };
        let mut message = format!(
            "<{}>1 {} {} {} {} {} - ",
            FACILITY * 8 + severity,
            line.at,
            name(&self.hostname, MAX_HOSTNAME),
            name(self.app.as_str(), MAX_APP_NAME),
            name(&line.process, 128),
            line.source,
        );
        // Some receivers end a message at a line feed or NUL, whatever its length says.
        let text = line.text.chars().map(|c| if matches!(c, '\n' | '\r' | '\0') { ' ' } else { c });
        message.extend(text);
        message
    }

    /// The message with its length before it: RFC 5425 §4.3, RFC 6587 §3.4.1.
    pub(super) fn framed(&self, line: &LogLine, to: &mut String) {
        let message = self.syslog(line);
        // A String takes everything.
        let _ = write!(to, "{} {message}", message.len());
    }

    /// The message as a datagram has it, cut between characters.
    pub(super) fn datagram(&self, line: &LogLine) -> String {
        let mut message = self.syslog(line);
        message.truncate(message.floor_char_boundary(MAX_DATAGRAM));
        message
    }

    /// One line of JSON, its line feed included.
    pub(super) fn json(&self, line: &LogLine, to: &mut Vec<u8>) -> serde_json::Result<()> {
        let line = Line {
            time: &line.at,
            host: &self.hostname,
            app: &self.app,
            process: &line.process,
            source: line.source.as_str(),
            release: line.release,
            level: line.level,
            message: &line.text,
            id: line.cursor.to_string(),
        };
        serde_json::to_writer(&mut *to, &line)?;
        to.push(b'\n');
        Ok(())
    }
}

/// A line of the log in the words that collectors know.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    host: &'a str,
    app: &'a AppName,
    process: &'a str,
    source: &'a str,
    release: Option<ReleaseVersion>,
    level: LogLevel,
    message: &'a str,
    /// The same each time that the line is sent.
    id: String,
}

/// Printable ASCII without blanks, RFC 5424 §6; `-` for nothing.
fn name(text: &str, max: usize) -> String {
    let printable = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
    let name: String = printable.take(max).collect();
    if name.is_empty() { "-".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LogCursor, LogSource, LogStream};

    fn line(text: &str) -> LogLine {
        LogLine {
            at: "2026-01-02T03:04:05.000006Z".into(),
            source: LogSource::App,
            process: "web.1".into(),
            release: Some(ReleaseVersion(7)),
            stream: LogStream::Stderr,
            level: LogLevel::Warn,
            text: text.into(),
            cursor: LogCursor { at: 16, file: 2, offset: 3 },
        }
    }

    fn sender() -> Sender {
        Sender { hostname: "box.example".into(), app: "shop".parse().unwrap() }
    }

    #[test]
    fn messages_are_as_rfc_5424_has_them() {
        let message = sender().syslog(&line("caf\u{e9} <b>\n<9>1 forged"));
        let head = "<132>1 2026-01-02T03:04:05.000006Z box.example shop web.1 app - ";
        assert_eq!(message, format!("{head}caf\u{e9} <b> <9>1 forged"));
        let mut framed = String::new();
        sender().framed(&line("\u{e9}"), &mut framed);
        sender().framed(&line("b"), &mut framed);
        let length = head.len();
        assert_eq!(framed, format!("{} {head}\u{e9}{} {head}b", length + 2, length + 1));
        let datagram = sender().datagram(&line(&"\u{e9}".repeat(4000)));
        assert!(datagram.len() <= MAX_DATAGRAM && datagram.len() > MAX_DATAGRAM - 2);
        let odd = Sender { hostname: "a b\u{e9}".into(), ..sender() };
        assert!(odd.syslog(&line("")).contains("Z a_b_ shop "));
    }

    #[test]
    fn lines_of_json_have_all_that_is_known() {
        let mut bytes = Vec::new();
        sender().json(&line("a\"\n\u{1b}"), &mut bytes).unwrap();
        let expected = r#"{"time":"2026-01-02T03:04:05.000006Z","host":"box.example","app":"shop","process":"web.1","source":"app","release":7,"level":"warn","message":"a\"\n\u001b","id":"10-2-3"}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{expected}\n"));
    }
}
