//! Who may do what.

use super::{Error, Kind, Platform, Result};
use crate::domain::Actor;
use crate::domain::access::Grants;

impl Platform {
    /// What `actor` may do, as of now.
    ///
    /// # Errors
    /// `Denied` for a user that does not exist (any more).
    pub async fn grants(&self, actor: &Actor) -> Result<Grants> {
        // The kernel vouches for root, and nobody else comes in as `local` or `platform`.
        if matches!(actor.via.as_str(), "local" | "platform") {
            return Ok(Grants::everything());
        }
        self.store.grants(&actor.name)?.ok_or_else(|| {
            Error::new(Kind::Denied, format!("there is no user `{}`", actor.name))
                .hint("an admin adds users: `staithe users:add <name>`")
        })
    }
}
