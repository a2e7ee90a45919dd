//! Routes whose handlers' signatures describe them: for the OpenAPI document.
//!
//! Extractors say what they take, answers what they give. Handlers that answer with one type use
//! axum's `Json`; those that stream, [`Streamed`].

use std::marker::PhantomData;

use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Response as Answer, SchemaObject};
use aide::{OperationInput, OperationOutput};
use axum::extract::{Json, Path};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;

use super::caller::Caller;
use super::error::Refusal;
use super::extract::{App, Body, Id, Query, Type, TypeAndName};
use super::origin::Origin;
use crate::domain::{AppName, PluginName, ServiceName};
use crate::wire::{NDJSON, PROBLEM_JSON, Problem, SSE, StreamItem};

pub use aide::axum::IntoApiResponse;
pub use aide::axum::routing::{delete, get, patch, post, put};

impl OperationInput for Caller {}
impl OperationInput for Origin {}

/// The parameters `app`, `id` and so on of a path, as a schema.
macro_rules! path_parameters {
    ($name:ident { $($field:ident: $type:ty),* } for $extractor:ty $(, $generic:ident)?) => {
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "only its schema is of use")]
        struct $name$(<$generic>)? { $($field: $type),* }

        impl$(<$generic: JsonSchema>)? OperationInput for $extractor {
            fn operation_input(context: &mut GenContext, operation: &mut Operation) {
                Path::<$name$(<$generic>)?>::operation_input(context, operation);
            }
        }
    };
}

path_parameters!(AppPath { app: AppName } for App);
path_parameters!(IdPath { id: T } for Id<T>, T);
path_parameters!(TypePath { r#type: PluginName } for Type);
path_parameters!(ServicePath { r#type: PluginName, name: ServiceName } for TypeAndName);

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(context, operation);
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        axum::extract::Query::<T>::operation_input(context, operation);
    }
}

impl OperationOutput for Refusal {
    type Inner = Problem;

    fn inferred_responses(
        context: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Answer)> {
        let schema = context.schema.subschema_for::<Problem>();
        let description = "A problem (RFC 9457), with the platform's kind of error".to_owned();
        vec![(None, of_media_types(description, [PROBLEM_JSON], schema))]
    }
}

/// An answer that is there already, and the type that the API's document says of it.
macro_rules! described_answer {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<T>(Response, PhantomData<fn() -> T>);

        impl<T> $name<T> {
            /// `response`, which is what the type says.
            pub fn new(response: Response) -> Self {
                Self(response, PhantomData)
            }
        }

        impl<T> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl<T> IntoResponse for $name<T> {
            fn into_response(self) -> Response {
                self.0
            }
        }
    };
}

described_answer! {
    /// An answer that takes a while: lines, and then a `T` or a problem.
    Streamed
}

impl<T: JsonSchema> OperationOutput for Streamed<T> {
    type Inner = StreamItem<T>;

    fn inferred_responses(
        context: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Answer)> {
        let schema = context.schema.subschema_for::<StreamItem<T>>();
        let description = "One JSON value a line as it happens, or server-sent events if asked for; \
                           the schema is that of one line";
        vec![(Some(200), of_media_types(description.to_owned(), [NDJSON, SSE], schema))]
    }
}

described_answer! {
    /// A stream without an end of its own: each line is a `T`.
    Lines
}

impl<T: JsonSchema> OperationOutput for Lines<T> {
    type Inner = T;

    fn inferred_responses(
        context: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Answer)> {
        let schema = context.schema.subschema_for::<T>();
        let description = "One JSON value a line, or server-sent events if asked for; the schema is \
                           that of one line";
        vec![(Some(200), of_media_types(description.to_owned(), [NDJSON, SSE], schema))]
    }
}

described_answer! {
    /// A `T` as of now, or its changes as server-sent events if asked for.
    Watched
}

impl<T: JsonSchema> OperationOutput for Watched<T> {
    type Inner = T;

    fn inferred_responses(
        context: &mut GenContext,
        _: &mut Operation,
    ) -> Vec<(Option<u16>, Answer)> {
        let schema = context.schema.subschema_for::<T>();
        let mut answer = of_media_types("As of now".to_owned(), ["application/json"], schema);
        let events = of_media_types(String::new(), [SSE], schemars::json_schema!(true));
        answer.content.extend(events.content);
        vec![(Some(200), answer)]
    }
}

/// An answer of some other media type than JSON.
#[derive(Debug)]
pub struct Other(pub Response);

impl IntoResponse for Other {
    fn into_response(self) -> Response {
        self.0
    }
}

impl OperationOutput for Other {
    type Inner = ();

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, Answer)> {
        let schema = schemars::json_schema!(true);
        vec![(Some(200), of_media_types("The text".to_owned(), ["*/*"], schema))]
    }
}

fn of_media_types<const N: usize>(
    description: String,
    types: [&str; N],
    json_schema: schemars::Schema,
) -> Answer {
    let content = types.map(|name| {
        let schema =
            SchemaObject { json_schema: json_schema.clone(), external_docs: None, example: None };
        (name.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })
    });
    Answer { description, content: content.into_iter().collect(), ..Answer::default() }
}
