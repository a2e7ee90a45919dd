//! Events: what happened, who did it.

use serde::{Deserialize, Serialize};

use super::{Actor, AppName, Timestamp};

/// One thing that happened, kept for `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// Its number, ascending.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// The app it concerns, under its name at the time.
    pub app: Option<AppName>,
    /// What kind: `app.created`, `release.deployed`, `instance.crashed`.
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// Who caused it.
    pub actor: Actor,
}
