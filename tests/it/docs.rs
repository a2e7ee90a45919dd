//! What is kept in step by hand, and is checked here: `config.example.toml` against the structs that
//! are read, the pages in `docs/` against the sources they speak of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use staithe::config::Config;

use super::architecture::MODULES;

/// What a reader is to take in at one sitting.
const MAX_ARCHITECTURE_LINES: usize = 250;

/// Ends the line of a setting that has no default.
const EXAMPLE: &str = "  # example";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The doc sentences of settings, by `section.key`.
type Settings = BTreeMap<String, String>;

/// The sections of the operator's file, and the types that `config.rs` reads them into.
fn sections() -> Vec<(String, String)> {
    let source = read("src/config.rs");
    let fields = fields(&source, "Config", "src/config.rs");
    let sections: Vec<_> = fields.into_iter().map(|field| (field.name, field.kind)).collect();
    for (name, _) in &sections {
        assert!(
            source.contains(&format!("section(&mut table, \"{name}\"")),
            "src/config.rs does not read the section `{name}`"
        );
    }
    sections
}

struct Field {
    name: String,
    kind: String,
    doc: String,
}

/// The public fields of a struct but those that are not read from a file.
fn fields(source: &str, name: &str, place: &str) -> Vec<Field> {
    let start = format!("pub struct {name} {{\n");
    let (_, body) =
        source.split_once(&start).unwrap_or_else(|| panic!("{place}: no struct {name}"));
    let (body, _) = body.split_once("\n}").unwrap();
    let mut fields = Vec::new();
    let (mut doc, mut skipped) = (Vec::new(), false);
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line == "#[serde(skip)]" {
            skipped = true;
        } else if let Some(field) = line.strip_prefix("pub ") {
            let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
            if !std::mem::take(&mut skipped) {
                let doc = doc.join(" ");
                fields.push(Field { name: name.into(), kind: kind.into(), doc });
            }
            doc.clear();
        }
    }
    fields
}

/// The source that defines the type of a section: `Server` in `config.rs`, `ssh::Config` in `src/ssh`.
fn definition(kind: &str) -> (String, String, String) {
    let Some((module, name)) = kind.split_once("::") else {
        return (read("src/config.rs"), kind.to_owned(), "src/config.rs".to_owned());
    };
    let start = format!("pub struct {name} {{\n");
    let directory = root().join("src").join(module);
    let mut found = files_below(&directory, "rs")
        .into_iter()
        .map(|path| (std::fs::read_to_string(&path).unwrap(), path))
        .filter(|(source, _)| source.contains(&start));
    let (source, path) = found.next().unwrap_or_else(|| panic!("no source defines `{kind}`"));
    assert!(found.next().is_none(), "`{kind}` is defined twice");
    (source, name.to_owned(), path.display().to_string())
}

fn settings_of_the_sources() -> Settings {
    let mut settings = Settings::new();
    for (section, kind) in sections() {
        let (source, name, place) = definition(&kind);
        let fields = fields(&source, &name, &place);
        assert!(!fields.is_empty(), "{place}: `{name}` has no settings");
        settings.extend(
            fields.into_iter().map(|field| (format!("{section}.{}", field.name), field.doc)),
        );
    }
    settings
}

/// The key of a line such as `#key = value`. Sentences begin with a blank.
fn key(line: &str) -> Option<&str> {
    let line = line.strip_prefix('#')?;
    let (key, _) = line.split_once(" = ")?;
    key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_').then_some(key)
}

fn settings_of_the_example() -> Settings {
    let mut settings = Settings::new();
    let (mut section, mut doc) = (String::new(), Vec::new());
    for line in read("config.example.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            doc.clear();
        } else if let Some(key) = key(line) {
            let before = settings.insert(format!("{section}.{key}"), doc.join(" "));
            assert!(before.is_none(), "config.example.toml shows {section}.{key} twice");
            doc.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            doc.push(text.to_owned());
        } else {
            doc.clear();
        }
    }
    settings
}

/// The example with its settings in force; those without a default only if `examples`.
fn uncommented(examples: bool) -> String {
    let shown = |line: &str| key(line).is_some() && (examples || !line.ends_with(EXAMPLE));
    let example = read("config.example.toml");
    example
        .lines()
        .map(|line| if shown(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[allow(clippy::disallowed_methods, reason = "half a file of a test's own harms nobody")]
fn load(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("staithe.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path, true, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_example_shows_every_setting_with_its_sentence() {
    let (wanted, shown) = (settings_of_the_sources(), settings_of_the_example());
    let missing: Vec<_> = wanted.keys().filter(|key| !shown.contains_key(*key)).collect();
    assert!(missing.is_empty(), "config.example.toml does not show {missing:?}");
    let unknown: Vec<_> = shown.keys().filter(|key| !wanted.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "config.example.toml shows {unknown:?}, which do not exist");
    for (key, doc) in wanted {
        // More may follow that the source says elsewhere.
        assert!(
            shown[&key].starts_with(&doc),
            "config.example.toml: the sentence of {key} should begin with:\n{doc}\nand is:\n{}",
            shown[&key]
        );
    }
}

#[test]
fn all_settings_of_the_example_are_valid() {
    load(&uncommented(true));
}

#[test]
fn the_example_shows_the_defaults() {
    let default = format!("{:#?}", load(""));
    let shown = format!("{:#?}", load(&uncommented(false)));
    for (shown, default) in shown.lines().zip(default.lines()) {
        assert_eq!(shown, default, "config.example.toml shows another default");
    }
    assert_eq!(shown, default);
}

#[test]
fn the_architecture_page_has_the_table_that_is_executed() {
    let page = read("docs/ARCHITECTURE.md");
    for (module, allowed, _) in MODULES {
        let allowed = if allowed.is_empty() { "-".to_owned() } else { allowed.join(", ") };
        let row = format!("| `{module}` | {allowed} |");
        assert!(page.lines().any(|line| line == row), "docs/ARCHITECTURE.md should have: {row}");
        let entry = format!("- `{module}`: ");
        let (_, text) = page.split_once(&entry).unwrap_or_else(|| panic!("no entry of {module}"));
        let text = text.split("\n- `").next().unwrap_or(text);
        assert!(text.contains("**Invariant:**"), "the entry of {module} has no invariant");
    }
    let count = page.lines().count();
    assert!(count <= MAX_ARCHITECTURE_LINES, "docs/ARCHITECTURE.md has {count} lines");
}

#[test]
fn the_pages_name_sources_that_exist() {
    let mut sources = files_below(&root().join("src"), "rs");
    sources.extend(files_below(&root().join("tests"), "rs"));
    for page in files_below(&root().join("docs"), "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")) {
            let known = sources.iter().any(|source| source.ends_with(name));
            assert!(known, "{}: there is no `{name}`", page.display());
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in files_below(&root().join("docs"), "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let path = page.parent().unwrap().join(file);
            assert!(path.exists(), "{}: `{link}` leads nowhere", page.display());
        }
    }
}

#[test]
fn the_page_on_access_has_every_verb_as_it_is() {
    let page = read("docs/ACCESS.md");
    let table = page.split_once("| verb | on | needs |\n|---|---|---|\n").unwrap().1;
    let expected: String = staithe::domain::access::ALL
        .iter()
        .map(|verb| {
            let on = format!("{:?}", verb.on).to_lowercase();
            let needs = if on == "anybody" { "-" } else { verb.needs.as_str() };
            format!("| `{}` | {on} | {needs} |\n", verb.name)
        })
        .collect();
    assert!(table == expected, "the table should be:\n{expected}");
}
