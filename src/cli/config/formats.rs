//! The formats that config vars are exported to and imported from.

use super::ExportFormat;
use crate::cli::exit::Failure;
use crate::cli::output::key_values;
use crate::domain::{EnvKey, Secret};

/// The vars as text; the JSON formats are written elsewhere.
pub(super) fn export(vars: &[(&str, &str)], format: ExportFormat) -> String {
    let (separator, parts): (_, Vec<String>) = match format {
        ExportFormat::Exports => ("\n", map(vars, |k, v| format!("export {k}={}", quoted(v)))),
        ExportFormat::Envfile => ("\n", map(vars, |k, v| format!("{k}={}", double_quoted(v)))),
        ExportFormat::Shell => (" ", map(vars, |k, v| format!("{k}={}", quoted(v)))),
        ExportFormat::DockerArgs => (" ", map(vars, |k, v| format!("--env={k}={}", quoted(v)))),
        ExportFormat::DockerArgsKeys => (" ", map(vars, |k, _| format!("--env={k}"))),
        ExportFormat::PackKeys => (" ", map(vars, |k, _| format!("--env {k}"))),
        ExportFormat::Pretty | ExportFormat::Json | ExportFormat::JsonList => {
            ("\n", key_values(vars.iter().copied()))
        }
    };
    parts.join(separator)
}

fn map(vars: &[(&str, &str)], part: impl Fn(&str, &str) -> String) -> Vec<String> {
    vars.iter().map(|(key, value)| part(key, value)).collect()
}

/// `text` as one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a dotenv file: `KEY=value` lines, with or without `export`; values bare, in single quotes
/// (taken as they are) or in double quotes (with `\n`, `\"`, `\\`, `\$`); both kinds of quoted values
/// may go over several lines. `#` begins a comment. Nothing is expanded.
///
/// # Errors
/// With the number of the first line that is something else; the line itself may hold a secret.
pub(super) fn parse_envfile(text: &str) -> Result<Vec<(EnvKey, Secret)>, Failure> {
    let mut vars = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(vars);
        }
        let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let wrong = |why: &str| Failure::usage(format!("line {number}: {why}"));
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let assignment = rest.strip_prefix("export ").unwrap_or(rest).trim_start();
        let (key, after) = assignment
            .split_once('=')
            .filter(|(key, _)| !key.contains('\n'))
            .ok_or_else(|| wrong("not of the form `KEY=value`"))?;
        let key: EnvKey = key.trim().parse().map_err(|_| wrong("not a config var's name"))?;
        let (value, after) = parse_value(after).ok_or_else(|| wrong("a quote is not closed"))?;
        vars.push((key, Secret::new(value)));
        let (end, next) = after.split_once('\n').unwrap_or((after, ""));
        let end = end.trim();
        if !end.is_empty() && !end.starts_with('#') {
            return Err(wrong("text after the closing quote"));
        }
        rest = next;
    }
}

/// The value at the start of `text`, and what follows it. A quoted one goes on like a shell's word
/// until white space, so that `'it'\''s'` is read as it was exported.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    if !text.starts_with(['\'', '"']) {
        let line = text.lines().next().unwrap_or_default();
        let value = line.find(" #").map_or(line, |comment| &line[..comment]).trim_end();
        return Some((value.to_owned(), &text[line.len()..]));
    }
    let (mut value, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next().filter(|c| !c.is_whitespace()) {
        rest = &rest[c.len_utf8()..];
        match c {
            '\'' => {
                let (quoted, after) = rest.split_once('\'')?;
                value.push_str(quoted);
                rest = after;
            }
            '"' => rest = double_quoted_into(&mut value, rest)?,
            '\\' => {
                let escaped = rest.chars().next()?;
                value.push(escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            bare => value.push(bare),
        }
    }
    Some((value, rest))
}

/// Appends what stands before the closing quote to `value`; answers what follows the quote.
fn double_quoted_into<'a>(value: &mut String, text: &'a str) -> Option<&'a str> {
    let mut chars = text.char_indices();
    while let Some((position, c)) = chars.next() {
        match c {
            '"' => return Some(&text[position + 1..]),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARS: [(&str, &str); 2] = [("A", "it's"), ("B", "x \"$y\"\nz")];

    fn check(format: ExportFormat, expected: &str) {
        assert_eq!(export(&VARS, format), expected);
    }

    #[test]
    fn exports_quote_for_their_reader() {
        check(ExportFormat::Exports, "export A='it'\\''s'\nexport B='x \"$y\"\nz'");
        check(ExportFormat::Envfile, "A=\"it's\"\nB=\"x \\\"\\$y\\\"\\nz\"");
        check(ExportFormat::Shell, "A='it'\\''s' B='x \"$y\"\nz'");
        check(ExportFormat::DockerArgsKeys, "--env=A --env=B");
        check(ExportFormat::PackKeys, "--env A --env B");
    }

    fn parsed(text: &str) -> Vec<(String, String)> {
        let vars = parse_envfile(text).unwrap();
        vars.iter().map(|(key, value)| (key.to_string(), value.expose().to_owned())).collect()
    }

    #[test]
    fn what_was_exported_can_be_imported() {
        for format in [ExportFormat::Envfile, ExportFormat::Exports] {
            let vars = [("A", "it's a b"), ("B", "x \"$y\"\nz\\"), ("C", ""), ("D", "'")];
            let expected: Vec<_> =
                vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parsed(&export(&vars, format)), expected);
        }
    }

    #[test]
    fn dotenv_files_are_read() {
        let text = "# top\n\nexport A=1\nB = two words # why\nC='a # b'\r\nD=\"x\ny\"\nE=\nF=a#b";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "a # b"),
            ("D", "x\ny"),
            ("E", ""),
            ("F", "a#b"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_only() {
        for (text, message) in [
            ("A=1\nsecret", "line 2: not of the form `KEY=value`"),
            ("A='x", "line 1: a quote is not closed"),
            ("\n\n1=2", "line 3: not a config var's name"),
            ("A='x' y", "line 1: text after the closing quote"),
        ] {
            assert_eq!(parse_envfile(text).unwrap_err(), Failure::usage(message), "{text}");
        }
    }
}
