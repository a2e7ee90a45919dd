//! The API's description: complete, whole, and the one that is checked in.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use staithe::domain::access;

/// Verbs of other doors than the web: git over SSH and the hook's, commands over SSH.
const ELSEWHERE: &[&str] = &["ssh:exec", "git:push", "git:fetch", "git:push-outcome"];

fn document() -> Value {
    serde_json::from_str(staithe::api::openapi()).unwrap()
}

/// All operations, each with its method and path.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch"] {
            if let Some(operation) = item.get(method) {
                operations.push((format!("{method} {path}"), operation.clone()));
            }
        }
    }
    operations
}

#[test]
fn the_checked_in_document_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept != staithe::api::openapi() {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
        let text = staithe::api::openapi().as_bytes();
        staithe::support::atomic_file::write_volatile(&new, text, 0o644).unwrap();
        panic!("docs/openapi.json is old: cp {} docs/openapi.json", new.display());
    }
}

#[test]
fn every_verb_of_the_web_is_described() {
    let document = document();
    let described: Vec<String> = operations(&document)
        .iter()
        .map(|(_, operation)| operation["x-verb"].as_str().unwrap().to_owned())
        .collect();
    let unique: BTreeSet<_> = described.iter().cloned().collect();
    assert_eq!(unique.len(), described.len(), "a verb has two routes: {described:?}");
    let missing: Vec<_> = access::ALL
        .iter()
        .map(|verb| verb.name)
        .filter(|name| !unique.contains(*name) && !ELSEWHERE.contains(name))
        .collect();
    assert!(missing.is_empty(), "not described (`web::routing` has the methods): {missing:?}");
}

#[test]
fn every_operation_says_what_it_takes_and_gives() {
    for (place, operation) in operations(&document()) {
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("200") || responses.contains_key("101"), "{place}");
        for segment in place.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = segment.trim_end_matches('}');
            let named = |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
            let parameters = operation["parameters"].as_array();
            assert!(parameters.is_some_and(|all| all.iter().any(named)), "{place}: {name}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
