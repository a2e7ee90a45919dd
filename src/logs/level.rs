//! How grave a line is: guessed from what programs commonly write.

use crate::domain::{LogLevel, LogStream};

/// How much of a line is looked at.
const LOOKED_AT: usize = 512;

/// A word in a line, and what it says. Words in lower case count only at the beginning.
const WORDS: &[(&str, LogLevel)] = &[
    ("EMERG", LogLevel::Error),
    ("EMERGENCY", LogLevel::Error),
    ("ALERT", LogLevel::Error),
    ("FATAL", LogLevel::Error),
    ("CRITICAL", LogLevel::Error),
    ("CRIT", LogLevel::Error),
    ("PANIC", LogLevel::Error),
    ("SEVERE", LogLevel::Error),
    ("ERROR", LogLevel::Error),
    ("ERR", LogLevel::Error),
    ("WARNING", LogLevel::Warn),
    ("WARN", LogLevel::Warn),
    ("NOTICE", LogLevel::Info),
    ("INFO", LogLevel::Info),
    ("DEBUG", LogLevel::Debug),
    ("TRACE", LogLevel::Debug),
    ("VERBOSE", LogLevel::Debug),
];

/// Beginnings of what runtimes print of their own when a program fails.
const FAILURES: &[&str] =
    &["Traceback (most recent call last)", "panic:", "Uncaught ", "Unhandled ", "Exception "];

/// The level of a process's line.
pub(super) fn guess(stream: LogStream, text: &str) -> LogLevel {
    let mut end = text.len().min(LOOKED_AT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let start = text[..end].trim_start();
    if start.starts_with('{')
        && let Some(level) = of_json(text)
    {
        return level;
    }
    if let Some(level) = of_words(start) {
        return level;
    }
    let failed = FAILURES.iter().any(|failure| start.starts_with(failure));
    match stream {
        _ if failed => LogLevel::Error,
        // Much that goes there is no failure (Go's and Python's loggers write nowhere else).
        LogStream::Stderr => LogLevel::Warn,
        LogStream::Stdout => LogLevel::Info,
    }
}

/// `level`, `severity` (Google Cloud) or `lvl` of a JSON object; numbers as pino and bunyan have them.
fn of_json(text: &str) -> Option<LogLevel> {
    #[derive(serde::Deserialize)]
    struct Leveled<'a> {
        #[serde(borrow, alias = "severity", alias = "lvl")]
        level: Option<Level<'a>>,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Level<'a> {
        Word(#[serde(borrow)] std::borrow::Cow<'a, str>),
        Number(f64),
    }
    match serde_json::from_str::<Leveled<'_>>(text).ok()?.level? {
        Level::Word(word) => of_word(&word.to_ascii_uppercase()),
        Level::Number(number) if number >= 50.0 => Some(LogLevel::Error),
        Level::Number(number) if number >= 40.0 => Some(LogLevel::Warn),
        Level::Number(number) if number >= 30.0 => Some(LogLevel::Info),
        Level::Number(_) => Some(LogLevel::Debug),
    }
}

fn of_word(word: &str) -> Option<LogLevel> {
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, level)| *level)
}

/// The first word that is a level: in capitals anywhere, otherwise after `level=` or before a colon
/// or in brackets, so that prose which speaks of errors is none.
fn of_words(text: &str) -> Option<LogLevel> {
    let mut before = "";
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let prefix = if start > 0 { &rest[..start] } else { before };
        let length = rest[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, after) = rest[start..].split_at(length.unwrap_or(rest.len() - start));
        let capitals = word.bytes().all(|c| c.is_ascii_uppercase());
        let marked = after.starts_with([':', ']']) || prefix.ends_with(['[', '=']);
        if (capitals || marked)
            && word.len() <= 9
            && let Some(level) = of_word(&word.to_ascii_uppercase())
        {
            return Some(level);
        }
        before = prefix;
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_guessed_as_programs_write_them() {
        use LogLevel::{Debug, Error, Info, Warn};
        let cases = [
            (r#"{"level":"error","msg":"x"}"#, Error),
            (r#"{"msg":"an ERROR was avoided","level":30}"#, Info),
            (r#"{"severity":"WARNING"}"#, Warn),
            (r#"{"lvl":"dbug"}"#, Info),
            (r#"{"level":50}"#, Error),
            ("2026-01-01 12:00:00 ERROR something", Error),
            ("[error] 12#12: connect() failed", Error),
            ("W, [2026] WARN -- : slow", Warn),
            ("time=x level=warning msg=y", Warn),
            ("DEBUG no errors", Debug),
            ("no error was found", Info),
            ("Traceback (most recent call last):", Error),
            ("panic: runtime error", Error),
            ("ERRORS are not a level", Info),
            ("", Info),
            ("{ not json ERROR", Error),
            ("\u{e4}\u{f6}\u{fc}", Info),
        ];
        for (text, expected) in cases {
            assert_eq!(guess(LogStream::Stdout, text), expected, "{text}");
        }
        assert_eq!(guess(LogStream::Stderr, "listening"), Warn);
        assert_eq!(guess(LogStream::Stderr, "INFO listening"), Info);
        // A character that the look ends in.
        let long = format!("{}\u{e4}", "x".repeat(LOOKED_AT - 1));
        assert_eq!(guess(LogStream::Stdout, &long), Info);
    }
}
