//! `Procfile`: which process types an app has, and the command of each.

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::ProcessType;

/// What is wrong with a file of the source, for the one who pushed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    /// Path in the source.
    pub file: String,
    /// Line, from 1, where known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// Far more than any real Procfile: it bounds what a hostile one costs.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// The processes in the order of the file.
///
/// A line is `type: command`; empty lines and lines that start with `#` do not count; a byte-order
/// mark and Windows line ends are tolerated.
///
/// # Errors
/// The first line that breaks a rule.
pub fn parse(text: &[u8]) -> Result<Vec<(ProcessType, String)>, SourceProblem> {
    if text.len() > MAX_BYTES {
        return Err(problem(
            None,
            "is larger than 64 KiB",
            "keep only `type: command` lines in it",
        ));
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| problem(None, "is not UTF-8 text", "save it as UTF-8 without formatting"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut seen = BTreeSet::new();
    let mut processes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (process_type, command) = process(line, index + 1)?;
        if !seen.insert(process_type.clone()) {
            let what = format!("declares `{process_type}` a second time");
            return Err(problem(Some(index + 1), &what, "remove or rename one of the two"));
        }
        processes.push((process_type, command));
    }
    Ok(processes)
}

fn process(line: &str, number: usize) -> Result<(ProcessType, String), SourceProblem> {
    const FORM: &str = "write it as `type: command`, for example `web: node server.js`";
    let number = Some(number);
    let (name, command) =
        line.split_once(':').ok_or_else(|| problem(number, "has no colon", FORM))?;
    let process_type = name
        .trim_end()
        .parse()
        .map_err(|invalid: crate::domain::Invalid| problem(number, &invalid.to_string(), FORM))?;
    let command = command.trim();
    if command.is_empty() {
        return Err(problem(number, "has no command", FORM));
    }
    if command.contains('\0') {
        return Err(problem(number, "holds a NUL byte", "remove it"));
    }
    Ok((process_type, command.to_owned()))
}

fn problem(line: Option<usize>, problem: &str, remedy: &str) -> SourceProblem {
    SourceProblem { file: "Procfile".into(), line, problem: problem.into(), remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let processes = parse(text.as_bytes()).unwrap();
        let processes: Vec<_> = processes.iter().map(|(t, c)| (t.as_str(), c.as_str())).collect();
        assert_eq!(processes, expected, "{text:?}");
    }

    fn refused(text: &[u8], expected: &str) {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn processes_come_in_the_order_of_the_file() {
        check("web: node a.js\nworker: x", &[("web", "node a.js"), ("worker", "x")]);
        check("\u{feff}web:a\r\n\r\n# note\r\nclock : b:c\r\n", &[("web", "a"), ("clock", "b:c")]);
        check(
            "release: ./migrate && echo 'a: b' # c",
            &[("release", "./migrate && echo 'a: b' # c")],
        );
        check("", &[]);
    }

    #[test]
    fn a_refusal_names_the_line_and_what_to_do() {
        refused(b"web: a\nweb: b", "Procfile line 2: declares `web` a second time; remove");
        refused(b"# x\nnode server.js", "Procfile line 2: has no colon; write it as");
        refused(b"web:   ", "line 1: has no command");
        refused(b"we b: x", "process type `we b`");
        refused(b"../x: y", "process type");
        refused(b"web: a\0b", "NUL");
        refused(b"web: \xff", "not UTF-8");
        refused(&vec![b'\n'; MAX_BYTES + 1], "larger than 64 KiB");
    }

    proptest::proptest! {
        #[test]
        fn no_input_breaks_the_parser(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&text);
        }
    }
}
