//! How an error looks on the wire.

use serde::{Deserialize, Serialize};

use super::Kind;

/// An error as RFC 9457 "problem details", with the kind and the next step beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// `urn:staithe:problem:not_found`.
    #[serde(rename = "type")]
    pub uri: String,
    /// The kind in words; the same for all errors of one kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, one sentence.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The kind.
    pub kind: Kind,
    /// What to look for in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem of `kind` that is answered with `status`.
    pub fn new(kind: Kind, status: u16, detail: impl Into<String>) -> Self {
        Self {
            uri: format!("urn:staithe:problem:{}", kind.as_str()),
            title: kind.title().to_owned(),
            status,
            detail: detail.into(),
            hint: None,
            kind,
            request_id: None,
        }
    }
}
