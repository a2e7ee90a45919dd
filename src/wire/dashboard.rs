//! Signing in to the dashboard.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;

/// Asks for a code to sign in with (`dashboard:login`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLoginCode {
    /// For whom; the caller if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A code to sign in with, once.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoginCode {
    /// For whom.
    pub user: String,
    /// The code: a secret.
    pub code: String,
    /// Where it is used: the sign-in page, with the code behind `#`, which no log ever sees.
    pub link: String,
    /// Until when.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for LoginCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginCode").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A session of the dashboard.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SessionReport {
    /// Its number.
    pub id: i64,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// From where it began.
    pub address: Option<String>,
    /// The browser, in its own words.
    pub agent: String,
    /// The token that was used to sign in, by id.
    pub token: Option<String>,
}
