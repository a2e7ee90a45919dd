//! The import table of `docs/ARCHITECTURE.md`, executed over `src/`.
//!
//! Reads `crate::module` paths and names of external crates out of the sources; what the table does
//! not allow fails with file and line.

use std::path::{Path, PathBuf};

/// A module, what it may import of ours, and why those.
pub(super) const MODULES: &[(&str, &[&str], &str)] = &[
    ("domain", &[], "words import nothing"),
    ("sys", &[], "ground imports nothing"),
    ("support", &[], "ground imports nothing"),
    ("wire", &["domain"], "JSON shapes are made of words"),
    ("container", &["sys", "support", "domain"], "a mechanism; knows no app"),
    ("image", &["sys", "support"], "a mechanism; knows no app"),
    ("network", &["sys", "support"], "a mechanism; knows no app"),
    ("build", &["domain", "support", "sys"], "a mechanism; its container and store are traits"),
    ("git", &["domain", "support", "sys", "wire"], "a mechanism; its hook is a client of the API"),
    ("proxy", &["domain", "support", "sys"], "a mechanism; a process of its own"),
    ("certificate", &["domain", "support"], "a mechanism; who shows its proofs is a trait"),
    ("archive", &["domain", "support"], "a mechanism; knows no service"),
    ("plugin", &["domain", "support"], "a mechanism; who runs its programs is not its business"),
    ("logs", &["domain", "support", "sys"], "a mechanism; reads what others write"),
    ("store", &["domain", "support"], "a mechanism"),
    ("series", &["domain", "support"], "a mechanism; knows no app"),
    ("host", &["sys"], "a mechanism; reads what the kernel tells"),
    (
        "platform",
        &[
            "domain",
            "support",
            "sys",
            "wire",
            "container",
            "image",
            "network",
            "build",
            "git",
            "proxy",
            "certificate",
            "archive",
            "plugin",
            "logs",
            "store",
            "series",
            "host",
        ],
        "rules compose mechanisms",
    ),
    ("web", &["platform", "domain", "wire", "support"], "what HTTP doors share"),
    ("api", &["web", "platform", "domain", "wire", "support", "sys"], "an interface translates"),
    ("dashboard", &["web", "platform", "domain", "wire", "support"], "an interface translates"),
    ("ssh", &["platform", "domain", "support", "sys", "wire"], "an interface translates"),
    ("cli", &["wire", "domain", "support", "sys"], "a client like any other"),
];

/// Wiring sees everything.
const WIRING: &[&str] = &["main.rs", "lib.rs", "config.rs", "daemon.rs", "daemon"];

/// Crates that only these modules may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum", &["web", "api", "dashboard"]),
    ("aide", &["web", "api"]),
    ("nix", &["sys"]),
    ("libc", &["sys"]),
    ("git2", &["git"]),
    ("rusqlite", &["store", "series"]),
    ("russh", &["ssh"]),
    ("rtnetlink", &["network"]),
    ("seccompiler", &["container", "proxy"]),
    ("httparse", &["proxy"]),
    ("handlebars", &["proxy", "dashboard"]),
    ("croner", &["domain"]),
    ("instant_acme", &["certificate"]),
    ("rcgen", &["certificate", "proxy"]),
    ("x509_parser", &["certificate"]),
    ("object_store", &["archive"]),
    ("oci_spec", &["image", "container"]),
    ("clap", &["cli", "daemon.rs", "main.rs"]),
    ("anyhow", &["cli", "daemon.rs", "daemon", "main.rs"]),
];

/// One source line with its place.
struct Line {
    module: String,
    place: String,
    text: String,
}

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    assert!(files.len() > 50, "the sources were not found");
    files
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap()
}

/// All lines of code, without comments; tests included, since they too must not reach across.
fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for path in sources() {
        let name = relative(&path);
        let module = name.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            let place = format!("src/{}:{}", name.display(), number + 1);
            lines.push(Line { module: module.clone(), place, text: line.to_owned() });
        }
    }
    lines
}

/// The words that follow each occurrence of `start` in `text`.
fn words_after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let apart = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        let rest = &text[at + start.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        apart.then_some(&rest[..end])
    })
}

#[test]
fn modules_import_what_the_table_allows() {
    let mut violations = Vec::new();
    for line in lines() {
        if WIRING.contains(&line.module.as_str()) {
            continue;
        }
        let Some((_, allowed, why)) = MODULES.iter().find(|(module, ..)| *module == line.module)
        else {
            violations
                .push(format!("{}: module `{}` is not in the table", line.place, line.module));
            continue;
        };
        for word in words_after(&line.text, "crate::") {
            let known = MODULES.iter().any(|(module, ..)| *module == word)
                || ["config", "daemon"].contains(&word);
            if known && word != line.module && !allowed.contains(&word) {
                violations.push(format!(
                    "{}: `{}` may not import `{word}`: {why}",
                    line.place, line.module
                ));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn crates_stay_in_their_modules() {
    let mut violations = Vec::new();
    for line in lines() {
        for (name, modules) in RESERVED {
            let start = format!("{name}::");
            let named = words_after(&line.text, &start).next().is_some();
            if named && !modules.contains(&line.module.as_str()) {
                violations.push(format!("{}: `{name}` is reserved to {modules:?}", line.place));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no module comment", path.display());
    }
}

#[test]
fn files_stay_readable() {
    const MAX_LINES: usize = 800;
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        if path.ends_with("tests.rs") {
            continue;
        }
        let count = production.lines().count();
        assert!(count <= MAX_LINES, "{} has {count} lines", path.display());
    }
}

#[test]
fn the_architecture_page_shows_every_module() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md"))
            .unwrap();
    for (module, ..) in MODULES {
        assert!(
            page.contains(&format!("`{module}`")),
            "docs/ARCHITECTURE.md does not show `{module}`"
        );
    }
}
