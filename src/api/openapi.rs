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
