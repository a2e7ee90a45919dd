//! What a push prints: Heroku's grammar, in one place.
//!
//! ```text
//! -----> a step
//!        a detail of it, also each line of a program's output
//!  !     a warning or an error
//! ```

use std::fmt;
use std::sync::Mutex;

use super::sandbox::Stream;

/// Where a build's lines go; every line is rendered, cleaned and counted here.
pub struct Output {
    max_line_chars: usize,
    sink: Box<dyn Fn(&str) + Send + Sync>,
    budget: Mutex<Budget>,
}

/// How much more output there may be.
struct Budget {
    left: u64,
    dropped: u64,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

const STEP: &str = "-----> ";
const DETAIL: &str = "       ";
const NOTICE: &str = " !     ";
/// Dokku's mark of a larger section.
const SECTION: &str = "=====> ";

impl Output {
    /// Lines go to `sink`, rendered, without their newline. `max_log_bytes` bounds their sum,
    /// `max_line_chars` each of them.
    pub fn new(config: &super::Config, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            max_line_chars: config.max_line_chars,
            sink: Box::new(sink),
            budget: Mutex::new(Budget { left: config.max_log_bytes, dropped: 0 }),
        }
    }

    /// A section, such as the end of a deploy: `=====> `.
    pub fn section(&self, text: &str) {
        self.own(SECTION, text);
    }

    /// A step: `-----> `.
    pub fn step(&self, text: &str) {
        self.own(STEP, text);
    }

    /// A detail of the last step: seven spaces.
    pub fn detail(&self, text: &str) {
        self.own(DETAIL, text);
    }

    /// A warning or an error: ` !     `.
    pub fn notice(&self, text: &str) {
        self.own(NOTICE, text);
    }

    /// A line that a program printed: hostile text. Lines that already speak the grammar stay as
    /// they are, others are indented as details.
    pub fn program(&self, _stream: Stream, line: &str) {
        let line = neutralized(line, self.max_line_chars);
        let speaks = [SECTION, STEP, DETAIL, NOTICE].iter().any(|mark| line.starts_with(mark));
        let rendered = match speaks || line.is_empty() {
            true => line,
            false => format!("{DETAIL}{line}"),
        };
        self.emit(&rendered, Kind::Program);
    }

    /// Says how much was left out, if any was. Call once at the end.
    pub fn finish(&self) {
        let dropped = self.lock().dropped;
        if dropped > 0 {
            self.notice(&format!("{dropped} more lines of output were left out: too much of it"));
        }
    }

    /// Staithe's own words may hold names from the source: cleaned like all else, one line each.
    fn own(&self, mark: &str, text: &str) {
        for line in text.lines() {
            let line = neutralized(line, self.max_line_chars);
            self.emit(&format!("{mark}{line}"), Kind::Own);
        }
    }

    /// Only programs have a budget: what Staithe itself says is short, and must reach the user.
    fn emit(&self, line: &str, kind: Kind) {
        if kind == Kind::Program && !self.spend(line.len()) {
            return;
        }
        (self.sink)(line);
    }

    fn spend(&self, bytes: usize) -> bool {
        let mut budget = self.lock();
        let cost = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1);
        if budget.dropped == 0 && cost <= budget.left {
            budget.left -= cost;
            return true;
        }
        budget.dropped += 1;
        let first = budget.dropped == 1;
        drop(budget);
        if first {
            self.notice("the log is full: further output of this build is left out");
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Budget> {
        // A panic while counting leaves the numbers usable.
        self.budget.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Program,
}

/// A line made safe to show on a terminal and to keep in a log: of escape sequences only colors
/// (SGR) stay, closed at the end of the line; other control characters, and the Unicode ones that
/// reorder text, go. A progress bar's line is what it showed last.
pub fn neutralized(line: &str, max_chars: usize) -> String {
    let visible = last_overwrite(line);
    let mut result = String::with_capacity(visible.len());
    let mut chars = visible.chars().peekable();
    let (mut shown, mut colored) = (0, false);
    while let Some(character) = chars.next() {
        if shown == max_chars {
            result.push('…');
            break;
        }
        match character {
            '\u{1b}' => {
                if let Some(color) = escape_sequence(&mut chars) {
                    colored = color != "0" && !color.is_empty();
                    result.push_str("\u{1b}[");
                    result.push_str(&color);
                    result.push('m');
                }
            }
            '\t' => {
                result.push(character);
                shown += 1;
            }
            _ if character.is_control() || reorders_text(character) => {}
            _ => {
                result.push(character);
                shown += 1;
            }
        }
    }
    if colored {
        result.push_str("\u{1b}[0m");
    }
    result
}

/// What a carriage return left on the line.
fn last_overwrite(line: &str) -> &str {
    let line = line.trim_end_matches(['\r', '\n']);
    line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default()
}

/// The longest color sequence: `38;2;255;255;255;48;2;255;255;255` and some.
const MAX_COLOR: usize = 48;
/// The longest terminal string (window title and so on) that is skipped as one.
const MAX_TERMINAL_STRING: usize = 4096;

/// Consumes what follows an ESC (ECMA-48); the parameters if it sets colors.
fn escape_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    match chars.peek() {
        Some('[') => {
            chars.next();
            let mut parameters = String::new();
            while let Some(character) = chars.next_if(|c| (' '..='?').contains(c)) {
                parameters.push(character);
            }
            let last = chars.next_if(|c| ('@'..='~').contains(c));
            let plain = parameters.chars().all(|c| c.is_ascii_digit() || c == ';');
            (last == Some('m') && plain && parameters.len() <= MAX_COLOR).then_some(parameters)
        }
        // OSC, DCS, SOS, PM, APC: a string up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            for _ in 0..MAX_TERMINAL_STRING {
                match chars.next() {
                    None | Some('\u{7}' | '\u{9c}') => break,
                    Some('\u{1b}') => {
                        chars.next_if_eq(&'\\');
                        break;
                    }
                    Some(_) => {}
                }
            }
            None
        }
        Some(' '..='~') => {
            while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
            chars.next_if(|c| ('0'..='~').contains(c));
            None
        }
        _ => None,
    }
}

/// Bidirectional controls (CVE-2021-42574), line separators and the byte-order mark.
fn reorders_text(character: char) -> bool {
    matches!(character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
