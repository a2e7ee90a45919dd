//! Errors on their way out: kind → status, sentence → problem details.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::platform::{Error, Kind};
use crate::wire::{PROBLEM_JSON, Problem};

/// The HTTP status of each kind of failure.
pub(super) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Invalid | Kind::Failed => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The public side of `error`; what it came from stays in the log under `request_id`.
pub fn problem(error: &Error, request_id: &str) -> Problem {
    let mut problem = Problem::new(error.kind(), status(error.kind()).as_u16(), error.to_string());
    problem.request_id = Some(request_id.to_owned());
    problem.hint = error.next_step().map(str::to_owned);
    if problem.hint.is_none() && error.kind() == Kind::Internal {
        problem.hint = Some(format!("the server's log tells more under request {request_id}"));
    }
    problem
}

/// What a handler that refuses returns. It is rendered and logged once, by `edge`, which knows the
/// request's id.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why.
    pub error: Arc<Error>,
    /// The status where it is not the kind's: HTTP knows more ways to refuse than the platform.
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { error: Arc::new(error.into()), status: None, headers: Vec::new() }
    }
}

impl Refusal {
    /// With another status than its kind's.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| status(self.error.kind()))
    }

    /// As problem details, for a request of this id.
    pub fn render(&self, request_id: &str) -> Response {
        let mut problem = problem(&self.error, request_id);
        problem.status = self.status().as_u16();
        let mut response = problem_response(&problem);
        response.headers_mut().extend(self.headers.iter().cloned());
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// `problem` as an answer.
pub fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    (status, [content_type], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_status() {
        let table = Kind::ALL.map(|kind| (kind.as_str(), status(kind).as_u16()));
        let expected = [
            ("not_found", 404),
            ("conflict", 409),
            ("invalid", 422),
            ("denied", 403),
            ("failed", 422),
            ("unavailable", 503),
            ("internal", 500),
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn a_problem_hides_the_source_and_names_the_request() {
        let error = Error::new(Kind::Internal, "read the app's releases")
            .because(std::io::Error::other("disk on fire"));
        let problem = problem(&error, "abc");
        let text = serde_json::to_string(&problem).unwrap();
        assert!(!text.contains("fire"), "{text}");
        assert_eq!(problem.hint.as_deref(), Some("the server's log tells more under request abc"));
    }
}
