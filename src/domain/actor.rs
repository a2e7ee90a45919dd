//! Who did it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The person or part that caused a change, as recorded in events and releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// The user's name, `root` for the local socket, `staithe` for the platform itself.
    pub name: String,
    /// How they came: `local`, `ssh`, `token`, `dashboard`, `platform`.
    pub via: String,
    /// The address they came from, if over a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Actor {
    /// The user `name`, who came by `via`.
    pub fn new(name: impl Into<String>, via: &str) -> Self {
        Self { name: name.into(), via: via.to_owned(), from: None }
    }

    /// As it is, having come from the address `from`.
    #[must_use]
    pub fn at(self, from: Option<String>) -> Self {
        Self { from, ..self }
    }

    /// The platform acting on its own: restarts, recovery.
    pub fn platform() -> Self {
        Self::new("staithe", "platform")
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
