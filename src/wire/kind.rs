//! Which kind of failure it is.

/// The kinds that interfaces translate: to an HTTP status, an exit code, an SSH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// It exists already, or is in a state that excludes the verb.
    Conflict,
    /// The input breaks a rule.
    Invalid,
    /// The caller may not.
    Denied,
    /// The user's app, build or check failed; the platform did its part.
    Failed,
    /// Not now; the same request may work later.
    Unavailable,
    /// The platform's own fault; the log has the chain.
    Internal,
}
