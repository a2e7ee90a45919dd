//! What a verb can fail with.

use crate::wire::Kind;

/// A refusal or failure of a verb.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is one sentence for the user, lower case, no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// What to do next, as a sentence: ``run `staithe apps:list` to see them``.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What it came from.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do next, if anything can be done.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<crate::domain::Invalid> for Error {
    fn from(invalid: crate::domain::Invalid) -> Self {
        Self::new(Kind::Invalid, invalid.to_string())
    }
}
