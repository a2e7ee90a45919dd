//! What programs print, as HTML: colors become classes, all else that steers a terminal goes.
//!
//! ```text
//!  "\x1b[1;31mno\x1b[0m <b>"  ─►  <span class="a-bold a-f1">no</span> &lt;b&gt;
//! ```
//!
//! The one place where text of apps meets markup. Styles are classes from a fixed set, because the
//! pages' policy allows no inline style. Of 256 and 16 million colors the nearest of sixteen is
//! taken, so that both themes stay legible.
//!
//! **Invariant.** Whatever comes in, what goes out has no tag but `span`, no attribute but `class`,
//! and every span that is opened is closed.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The longest line that is shown, in characters; what follows is cut with a sign. A browser that
/// lays out a line of a megabyte stands still.
const MAX_CHARS: usize = 8 << 10;
/// The longest string of a title or a link that is skipped as one.
const MAX_STRING: usize = 4096;

/// One line as HTML.
pub(super) fn to_html(line: &str) -> String {
    let mut html = String::with_capacity(line.len() + 16);
    let (mut style, mut shown) = (Style::default(), 0);
    let mut open = false;
    let mut wanted = style;
    let mut chars = line.chars().peekable();
    while let Some(character) = chars.next() {
        if character == '\u{1b}' {
            if let Some(parameters) = escape(&mut chars) {
                wanted.set(&parameters);
            }
            continue;
        }
        let visible = character == '\t' || !(character.is_control() || steers(character));
        if !visible {
            continue;
        }
        if shown == MAX_CHARS {
            html.push('…');
            break;
        }
        if wanted != style {
            if open {
                html.push_str("</span>");
            }
            style = wanted;
            open = style.open(&mut html);
        }
        shown += 1;
        push(&mut html, character);
    }
    if open {
        html.push_str("</span>");
    }
    html
}

fn push(html: &mut String, character: char) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        other => html.push(other),
    }
}

/// Bidirectional controls (CVE-2021-42574), line separators and the byte-order mark.
fn steers(character: char) -> bool {
    matches!(character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Consumes what follows an ESC (ECMA-48); the parameters if it sets colors.
fn escape(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    match chars.peek() {
        Some('[') => {
            chars.next();
            let mut parameters = String::new();
            while let Some(character) = chars.next_if(|c| (' '..='?').contains(c)) {
                // More than any color needs is only skipped.
                if parameters.len() < 64 {
                    parameters.push(character);
                }
            }
            let last = chars.next_if(|c| ('@'..='~').contains(c));
            (last == Some('m')).then_some(parameters)
        }
        // OSC, DCS, SOS, PM, APC: a string up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            for _ in 0..MAX_STRING {
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

/// How text looks now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    /// 0 to 15.
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
    strike: bool,
}

impl Style {
    /// Applies the parameters of an SGR sequence (ECMA-48 8.3.117). What is not known is skipped.
    fn set(&mut self, parameters: &str) {
        let mut codes = parameters.split([';', ':']).map(|code| match code.is_empty() {
            true => Some(0_u16),
            false => code.parse().ok(),
        });
        while let Some(code) = codes.next() {
            match code.unwrap_or(u16::MAX) {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.inverse = true,
                9 => self.strike = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                29 => self.strike = false,
                code @ 30..=37 => self.foreground = small(code - 30),
                38 => self.foreground = extended(&mut codes).or(self.foreground),
                39 => self.foreground = None,
                code @ 40..=47 => self.background = small(code - 40),
                48 => self.background = extended(&mut codes).or(self.background),
                49 => self.background = None,
                code @ 90..=97 => self.foreground = small(code - 82),
                code @ 100..=107 => self.background = small(code - 92),
                _ => {}
            }
        }
    }

    /// Writes the span that text of this style is in; none for plain text.
    fn open(self, html: &mut String) -> bool {
        if self == Self::default() {
            return false;
        }
        html.push_str("<span class=\"");
        let flags = [
            (self.bold, "a-bold"),
            (self.dim, "a-dim"),
            (self.italic, "a-italic"),
            (self.underline, "a-underline"),
            (self.inverse, "a-inverse"),
            (self.strike, "a-strike"),
        ];
        let mut first = true;
        let mut class = |html: &mut String, name: std::fmt::Arguments<'_>| {
            if !std::mem::take(&mut first) {
                html.push(' ');
            }
            // Writing to a string cannot fail.
            let _ = html.write_fmt(name);
        };
        for (_, name) in flags.iter().filter(|(set, _)| *set) {
            class(html, format_args!("{name}"));
        }
        if let Some(color) = self.foreground {
            class(html, format_args!("a-f{color}"));
        }
        if let Some(color) = self.background {
            class(html, format_args!("a-b{color}"));
        }
        html.push_str("\">");
        true
    }
}

fn small(color: u16) -> Option<u8> {
    u8::try_from(color).ok().filter(|color| *color < 16)
}

/// `5;n` and `2;r;g;b` after 38 or 48.
fn extended(codes: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    let mut next = || codes.next().flatten();
    match next()? {
        5 => match next()? {
            color @ 0..=15 => small(color),
            // A cube of 6 × 6 × 6, then 24 shades of gray (xterm's palette).
            color @ 16..=231 => {
                let level = |value: u16| if value == 0 { 0 } else { 55 + value * 40 };
                let color = color - 16;
                Some(nearest(level(color / 36), level(color / 6 % 6), level(color % 6)))
            }
            color @ 232..=255 => {
                let level = 8 + (color - 232) * 10;
                Some(nearest(level, level, level))
            }
            _ => None,
        },
        2 => Some(nearest(next()?.min(255), next()?.min(255), next()?.min(255))),
        _ => None,
    }
}

/// Of the sixteen colors the one that looks most like it.
fn nearest(red: u16, green: u16, blue: u16) -> u8 {
    const PALETTE: [(u16, u16, u16); 16] = [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229, 229, 229),
        (127, 127, 127),
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255, 255, 255),
    ];
    let square = |a: u16, b: u16| u32::from(a.abs_diff(b)).pow(2);
    let distances =
        PALETTE.iter().map(|(r, g, b)| square(*r, red) + square(*g, green) + square(*b, blue));
    let best = distances.zip(0_u8..).min();
    best.map_or(7, |(_, color)| color)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: &str) {
        assert_eq!(to_html(line), expected, "{line:?}");
    }

    #[test]
    fn colors_become_classes_and_end_with_the_line() {
        check("plain", "plain");
        check("\u{1b}[31mred\u{1b}[0m text", "<span class=\"a-f1\">red</span> text");
        check("\u{1b}[1;97;44mx", "<span class=\"a-bold a-f15 a-b4\">x</span>");
        check("\u{1b}[m\u{1b}[32ma\u{1b}[39mb", "<span class=\"a-f2\">a</span>b");
        check("\u{1b}[1ma\u{1b}[22mb", "<span class=\"a-bold\">a</span>b");
        check("\u{1b}[38;5;196ma", "<span class=\"a-f9\">a</span>");
        check("\u{1b}[48;2;0;0;0ma", "<span class=\"a-b0\">a</span>");
        check("\u{1b}[38:2:255:255:255ma", "<span class=\"a-f15\">a</span>");
        check("\u{1b}[31m\u{1b}[0m", "");
    }

    #[test]
    fn markup_is_text() {
        check("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;");
        // All up to the `i` is one sequence, as a terminal reads it (ECMA-48 5.4).
        check("\u{1b}[31\"><img src=x>", "mg src=x&gt;");
        check("\u{1b}]8;;javascript:alert(1)\u{7}link\u{1b}]8;;\u{7}", "link");
        check("<\u{1b}[1mscript>", "&lt;<span class=\"a-bold\">script&gt;</span>");
    }

    #[test]
    fn what_steers_a_terminal_is_dropped() {
        check("a\u{1b}[2Jb\u{1b}[10;10Hc", "abc");
        check("\u{1b}]0;title\u{1b}\\x", "x");
        check("\u{1b}P+q544e\u{1b}\\x\u{1b}c\u{1b}(By", "xy");
        check("a\u{8}\u{0}\u{7f}\u{9b}31mb", "a31mb");
        check("abc\u{202e}def\u{2066}", "abcdef");
        check("\u{1b}", "");
        check("\u{1b}[38;5m\u{1b}[38;2;1mx", "x");
        check("\u{1b}[38;5;999mx\u{1b}[99999999999mx", "xx");
        check("tab\tstays", "tab\tstays");
    }

    #[test]
    fn an_endless_line_is_cut() {
        let html = to_html(&"<".repeat(1 << 20));
        assert!(html.ends_with("&lt;…") && html.len() < 5 * MAX_CHARS, "{}", html.len());
        assert_eq!(to_html(&format!("\u{1b}[{}m", "1;".repeat(1 << 20))), "");
    }

    proptest! {
        #[test]
        fn nothing_but_closed_spans_with_classes_comes_out(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("\u{1b}[".to_owned()), Just("m".to_owned()), Just("\u{1b}]".to_owned()),
                    Just("31".to_owned()), Just(";".to_owned()), Just("</span>".to_owned()),
                    Just("<span class=\"".to_owned()), any::<String>(),
                ],
                0..24,
            )
        ) {
            let html = to_html(&parts.concat());
            let mut rest = html.as_str();
            let mut depth = 0;
            while let Some(at) = rest.find('<') {
                rest = &rest[at..];
                if let Some(after) = rest.strip_prefix("</span>") {
                    (depth, rest) = (depth - 1, after);
                    continue;
                }
                let after = rest.strip_prefix("<span class=\"").expect("no other tag");
                let (class, after) = after.split_once("\">").expect("a whole tag");
                prop_assert!(class.chars().all(|c| c.is_ascii_alphanumeric() || "- ".contains(c)));
                (depth, rest) = (depth + 1, after);
                prop_assert_eq!(depth, 1);
            }
            prop_assert_eq!(depth, 0);
            let steering = |c: char| (c.is_control() && c != '\t') || steers(c);
            prop_assert!(!html.contains(steering));
        }
    }
}
