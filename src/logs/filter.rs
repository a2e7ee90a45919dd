//! Which lines are wanted.

use regex::{Regex, RegexBuilder};

use super::record::Origin;
use crate::domain::{Invalid, LogLevel, LogLine, LogSources, ReleaseVersion};

/// The longest text or expression that is looked for.
const MAX_TEXT: usize = 1000;
/// Memory of one compiled expression. The engine never backtracks: a line costs time by its length
/// times this at worst.
const MAX_PROGRAM: usize = 1 << 20;

/// What is asked for, in words.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Whose lines.
    pub sources: LogSources,
    /// A process type or an instance.
    pub process: Option<String>,
    /// At least as grave.
    pub level: Option<LogLevel>,
    /// Of this release.
    pub release: Option<ReleaseVersion>,
    /// Text to be found.
    pub text: Option<String>,
    /// Whether that is a regular expression.
    pub regex: bool,
}

/// The same, ready for many lines.
#[derive(Debug, Clone)]
pub struct Filter {
    selection: Selection,
    /// What a text must match.
    pattern: Option<Regex>,
    /// Only the container of this number.
    key: Option<u32>,
}

impl Filter {
    /// # Errors
    /// If the text is too long or no expression.
    pub fn new(selection: Selection) -> Result<Self, Invalid> {
        let pattern = selection.text.as_deref().filter(|text| !text.is_empty());
        let pattern = pattern.map(|text| compile(text, selection.regex)).transpose()?;
        Ok(Self { selection, pattern, key: None })
    }

    /// Every line.
    pub fn all() -> Self {
        let selection = Selection { sources: LogSources::ALL, ..Selection::default() };
        Self { selection, pattern: None, key: None }
    }

    /// Every line of one container.
    pub fn container(container: &str) -> Self {
        let suffix = container.rsplit('-').next().unwrap_or(container);
        Self { key: Some(super::files::key_of(suffix)), ..Self::all() }
    }

    /// Whether a file's number is one that is wanted.
    pub(super) fn wants_key(&self, key: u32) -> bool {
        self.key.is_none_or(|wanted| wanted == key)
    }

    /// Whether any line of such a file can be wanted.
    pub(super) fn wants_file(&self, origin: &Origin) -> bool {
        let Selection { sources, process, release, .. } = &self.selection;
        if !sources.has(origin.source()) {
            return false;
        }
        match origin {
            Origin::App { process: name, release: of } => {
                shows(process.as_deref(), name)
                    && (release.is_none() || *of == *release || of.is_none())
            }
            Origin::Router => shows(process.as_deref(), "router"),
            Origin::Platform => shows(process.as_deref(), super::PLATFORM),
        }
    }

    /// Whether a line of a wanted file is wanted.
    pub(super) fn wants(&self, line: &LogLine) -> bool {
        let Selection { level, release, .. } = &self.selection;
        level.is_none_or(|level| line.level >= level)
            && release.is_none_or(|release| line.release == Some(release))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&line.text))
    }
}

fn shows(wanted: Option<&str>, process: &str) -> bool {
    wanted.is_none_or(|wanted| process == wanted || process.split('.').next() == Some(wanted))
}

fn compile(text: &str, is_regex: bool) -> Result<Regex, Invalid> {
    if text.len() > MAX_TEXT {
        return Err(Invalid::new("text", text, "must have at most 1000 bytes"));
    }
    let pattern = if is_regex { text.to_owned() } else { regex::escape(text) };
    RegexBuilder::new(&pattern)
        .case_insensitive(!is_regex)
        .size_limit(MAX_PROGRAM)
        .dfa_size_limit(MAX_PROGRAM)
        .build()
        .map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Invalid::new("expression", text, format!("is not one: {why}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str, regex: bool) -> Result<Filter, Invalid> {
        Filter::new(Selection { text: Some(text.into()), regex, ..Selection::default() })
    }

    fn finds(text: &str, regex: bool, line: &str) -> bool {
        filter(text, regex).unwrap().pattern.unwrap().is_match(line)
    }

    #[test]
    fn text_is_found_in_any_case_and_expressions_as_they_are() {
        assert!(finds("a.b", false, "xA.By"));
        assert!(!finds("a.b", false, "axb"));
        assert!(finds("a.b", true, "axb"));
        assert!(!finds("A.b", true, "axb"));
        assert!(finds("(?i)A.b", true, "axb"));
        assert!(filter("", false).unwrap().pattern.is_none());
    }

    #[test]
    fn hostile_expressions_are_refused() {
        filter("(", true).unwrap_err();
        filter("a{1000}{1000}", true).unwrap_err();
        filter(&"x".repeat(1001), false).unwrap_err();
        filter(r"(\w{500}){500}", true).unwrap_err();
        // Those that make other engines backtrack take linear time here.
        assert!(!finds("(a+)+$", true, &format!("{}b", "a".repeat(16 * 1024))));
    }

    #[test]
    fn a_process_type_shows_all_of_its_instances() {
        assert!(shows(Some("web"), "web.2") && shows(Some("web.2"), "web.2") && shows(None, "x"));
        assert!(!shows(Some("web.1"), "web.2") && !shows(Some("we"), "web.2"));
    }
}
