//! Who did it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The person or part that caused a change, as recorded in events and releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// The name of the SSH key, `root` for the local socket, `staithe` for the platform itself.
    pub name: String,
    /// How they came: `ssh`, `local`, `platform`.
    pub via: String,
}

impl Actor {
    /// The platform acting on its own: restarts, recovery.
    pub fn platform() -> Self {
        Self { name: "staithe".into(), via: "platform".into() }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
