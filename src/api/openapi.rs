//! `/openapi.json`: the API, described by its own handlers' signatures.

use std::sync::LazyLock;

use aide::generate;
use aide::openapi::{
    Components, Info, OpenApi, ReferenceOr, SecurityRequirement, SecurityScheme, Server,
};
use axum::http::header;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;

use super::router::routes;
use crate::web::routing::Other;
use crate::wire::API_PREFIX;

/// Its text; the same for all who ask.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write the API's description");
        "{}".to_owned()
    });
    text.push('\n');
    text
});

/// The OpenAPI 3.1 document, as JSON.
pub fn openapi() -> &'static str {
    &TEXT
}

pub(super) async fn show() -> Other {
    Other(([(header::CONTENT_TYPE, "application/json")], openapi()).into_response())
}

fn document() -> OpenApi {
    // OpenAPI 3.1 is JSON Schema 2020-12; aide's own default is an older draft.
    generate::reset_context();
    generate::in_context(|context| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = "#/components/schemas/".into();
        });
        context.schema = schemars::SchemaGenerator::new(settings);
    });
    let bearer = SecurityScheme::Http {
        scheme: "bearer".to_owned(),
        bearer_format: Some("stt_<id>_<secret>".to_owned()),
        description: Some("A token of `staithe tokens:create`".to_owned()),
        extensions: Default::default(),
    };
    let mut document = OpenApi {
        info: Info {
            title: "Staithe".to_owned(),
            version: "1".to_owned(),
            description: Some(DESCRIPTION.to_owned()),
            ..Info::default()
        },
        servers: vec![Server { url: API_PREFIX.to_owned(), ..Server::default() }],
        security: vec![SecurityRequirement::from_iter([("token".to_owned(), Vec::new())])],
        components: Some(Components {
            security_schemes: [("token".to_owned(), ReferenceOr::Item(bearer))]
                .into_iter()
                .collect(),
            ..Components::default()
        }),
        ..OpenApi::default()
    };
    drop(routes().into_documented_router(&mut document));
    document
}

/// What holds for all paths.
const DESCRIPTION: &str = "\
Each operation is a verb of the command line (`x-verb`), needs a role (`x-role`) on its app or on the \
platform (`x-on`), and does what the command does. Errors are problem details (RFC 9457). Verbs that \
take a while answer with one JSON value a line, or with server-sent events for `Accept: \
text/event-stream`. docs/API.md has examples.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::openapi;

    /// Verbs of other doors than the web: git over SSH and the hook's, commands over SSH.
    const ELSEWHERE: &[&str] = &[
        "ssh:exec",
        "git:push",
        "git:fetch",
        "git:push-outcome",
        "dashboard:login-as",
        "dashboard:sessions",
        // Asked for beside the verb of a route, for what is in its path or body.
        "logs:drain-private",
        "tokens:of-others",
        "services:link-app",
    ];

    fn parsed() -> Value {
        serde_json::from_str(openapi()).unwrap()
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
        if kept != openapi() {
            let new = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openapi.json");
            let text = openapi().as_bytes();
            crate::support::atomic_file::write_volatile(&new, text, 0o644).unwrap();
            panic!("docs/openapi.json is old: cp {} docs/openapi.json", new.display());
        }
    }

    #[test]
    fn every_verb_of_the_web_is_described() {
        let document = parsed();
        let described: Vec<String> = operations(&document)
            .iter()
            .map(|(_, operation)| operation["x-verb"].as_str().unwrap().to_owned())
            .collect();
        let unique: BTreeSet<_> = described.iter().cloned().collect();
        assert_eq!(unique.len(), described.len(), "a verb has two routes: {described:?}");
        let missing: Vec<_> = crate::domain::access::ALL
            .iter()
            .map(|verb| verb.name)
            .filter(|name| !unique.contains(*name) && !ELSEWHERE.contains(name))
            .collect();
        assert!(missing.is_empty(), "not described (`web::routing` has the methods): {missing:?}");
    }

    #[test]
    fn every_operation_says_what_it_takes_and_gives() {
        for (place, operation) in operations(&parsed()) {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") || responses.contains_key("101"), "{place}");
            for segment in place.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = segment.trim_end_matches('}');
                let named =
                    |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
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
        let document = parsed();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
