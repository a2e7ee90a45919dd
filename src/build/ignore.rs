//! `.slugignore` and `project.toml`'s `exclude`: which files of the source are left out.

use std::path::Path;

use super::tree;

/// Patterns in gitignore's form without negation: `*`, `?`, `**`, a leading `/` for the root, a
/// trailing `/` for directories.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    parts: Vec<String>,
    directory: bool,
}

/// The most patterns: matching costs patterns times files.
const MAX_PATTERNS: usize = 1000;

impl Patterns {
    /// Reads one pattern a line; empty lines, comments and negations do not count.
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let patterns = lines
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
            .map(Pattern::parse)
            .filter(|pattern| !pattern.parts.is_empty());
        Self(patterns.take(MAX_PATTERNS).collect())
    }

    /// Removes what matches from the tree at `root`; returns how many files and directories.
    ///
    /// # Errors
    /// The first failed operation.
    pub(super) fn remove_from(&self, root: &Path) -> std::io::Result<usize> {
        match self.0.is_empty() {
            true => Ok(0),
            false => self.remove_below(root, &mut Vec::new()),
        }
    }

    fn remove_below(&self, dir: &Path, path: &mut Vec<String>) -> std::io::Result<usize> {
        let mut removed = 0;
        for name in tree::names(dir)? {
            let full = dir.join(&name);
            let is_dir = tree::is_dir(&full);
            path.push(name);
            if self.0.iter().any(|pattern| pattern.matches(path, is_dir)) {
                tree::remove(&full)?;
                removed += 1;
            } else if is_dir {
                removed += self.remove_below(&full, path)?;
            }
            path.pop();
        }
        Ok(removed)
    }
}

impl Pattern {
    fn parse(line: &str) -> Self {
        let directory = line.ends_with('/');
        let body = line.trim_end_matches('/');
        let rooted = body.trim_start_matches('/');
        let mut parts: Vec<String> =
            rooted.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // Without a slash inside, a name matches at any depth (gitignore(5)).
        if parts.len() == 1 && rooted.len() == body.len() {
            parts.insert(0, "**".into());
        }
        Self { parts, directory }
    }

    fn matches(&self, path: &[String], is_dir: bool) -> bool {
        (is_dir || !self.directory) && matches_parts(&self.parts, path)
    }
}

fn matches_parts(pattern: &[String], path: &[String]) -> bool {
    let one = |part: &String, name: &String| matches_name(part.as_bytes(), name.as_bytes());
    wildcard(pattern, path, |part| part == "**", one)
}

fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    wildcard(pattern, name, |byte| *byte == b'*', |byte, other| *byte == b'?' || byte == other)
}

/// Whether `text` matches `pattern`, in which a star stands for any sequence. Two pointers and the
/// last star: time is at most the product of the lengths, whatever the pattern.
fn wildcard<T>(
    pattern: &[T],
    text: &[T],
    is_star: impl Fn(&T) -> bool,
    one: impl Fn(&T, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(part) if is_star(part) => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(part) if one(part, &text[t]) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = last_star else { return false };
                last_star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(is_star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let is_dir = path.ends_with('/');
        let path: Vec<String> = path.trim_end_matches('/').split('/').map(str::to_owned).collect();
        assert_eq!(Pattern::parse(pattern).matches(&path, is_dir), expected, "{pattern} {path:?}");
    }

    #[test]
    fn patterns_match_as_in_gitignore() {
        check("*.psd", "a.psd", true);
        check("*.psd", "art/a.psd", true);
        check("/a.psd", "art/a.psd", false);
        check("docs/", "docs/", true);
        check("docs/", "x/docs/", true);
        check("docs/", "docs", false);
        check("a/b", "a/b", true);
        check("a/b", "x/a/b", false);
        check("a/**/b", "a/b", true);
        check("a/**/b", "a/x/y/b", true);
        check("te?t*", "test_it", true);
        check("*", "anything", true);
    }

    #[test]
    fn matching_files_and_directories_are_removed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs/deep")).unwrap();
        std::fs::create_dir_all(root.path().join("src")).unwrap();
        for name in ["docs/deep/a", "src/x.md", "src/x.js"] {
            let path = root.path().join(name);
            crate::support::atomic_file::write_volatile(&path, b"", 0o644).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join("etc.md")).unwrap();
        let patterns = Patterns::parse("# art\n/docs\n*.md\n!src\n".lines());
        assert_eq!(patterns.remove_from(root.path()).unwrap(), 3);
        assert_eq!(tree::names(root.path()).unwrap(), ["src"]);
        assert_eq!(tree::names(&root.path().join("src")).unwrap(), ["x.js"]);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn hostile_patterns_cost_little() {
        let pattern = Pattern::parse(&format!("{}x", "*a".repeat(40)));
        assert!(!pattern.matches(&["a".repeat(200)], false));
    }
}
