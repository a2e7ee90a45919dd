//! Which kind of failure it is.

/// The kinds that interfaces translate: to an HTTP status, an exit code, an SSH message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
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

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::Denied,
        Self::Failed,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Conflict => "Conflict",
            Self::Invalid => "Invalid input",
            Self::Denied => "Not allowed",
            Self::Failed => "Failed",
            Self::Unavailable => "Not available now",
            Self::Internal => "Internal error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_serde_writes() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
