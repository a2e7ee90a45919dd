//! SSH keys: who may push and run commands.

use serde_json::json;

use super::events::Change;
use super::{Error, Kind, Platform, Result, SshKey, clock};
use crate::domain::access::Role;
use crate::domain::{Actor, SshPublicKey, UserName};
use crate::store::StoredKey;
use crate::wire::NewSshKey;

impl Platform {
    /// All keys by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>> {
        Ok(self.store.ssh_keys()?.into_iter().map(shown).collect())
    }

    /// Lets the holder of a key push and run commands as `new.user`. Without one the user of the
    /// key's name is meant, and added if need be.
    ///
    /// # Errors
    /// `Invalid` for text that is no OpenSSH public key; `Conflict` for a known name or key;
    /// `NotFound` for a user that is named and not known.
    pub async fn add_ssh_key(&self, actor: &Actor, new: NewSshKey) -> Result<SshKey> {
        // A key has no other characters in its name than a user.
        let owner: UserName = new.name.parse().map_err(|_| {
            let message =
                "a key's name must have 1 to 100 letters, digits or `@._-+`, and not be `root`";
            Error::new(Kind::Invalid, message)
        })?;
        let key: SshPublicKey = new.public_key.parse()?;
        if let Some(known) = self.store.ssh_key(&key.fingerprint())? {
            return Err(Error::new(
                Kind::Conflict,
                format!("this key is known already, as `{}`", known.name),
            ));
        }
        if self.store.ssh_keys()?.iter().any(|known| known.name == new.name) {
            let message = format!("ssh key `{}` exists already", new.name);
            return Err(Error::new(Kind::Conflict, message));
        }
        let user = match (new.user, self.store.user(&owner)?) {
            (Some(user), _) => self.find_user(&user)?.name,
            (None, Some(known)) => known.name,
            (None, None) => {
                let role = new.role.unwrap_or(Role::Admin);
                self.add_user(actor, &owner, Some(role)).await?.name
            }
        };
        let stored = StoredKey {
            name: new.name,
            user: user.as_str().to_owned(),
            fingerprint: key.fingerprint(),
            public_key: key.line().to_owned(),
            added_at: clock::now(),
        };
        self.store.add_ssh_key(&stored)?;
        let message =
            format!("ssh key `{}` of `{user}` added: {}", stored.name, stored.fingerprint);
        let change = Change::new((), facts(&stored));
        self.note_named_change(None, "ssh-key.added", &message, actor, change);
        Ok(shown(stored))
    }

    /// Shuts the holder of a key out; connections that are open go on.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_ssh_key(&self, actor: &Actor, key: &str) -> Result<()> {
        let keys = self.store.ssh_keys()?;
        let known = keys.into_iter().find(|known| known.name == key || known.fingerprint == key);
        let Some(known) = known else {
            return Err(Error::new(Kind::NotFound, format!("there is no ssh key `{key}`"))
                .hint("run `staithe ssh-keys:list` to see them"));
        };
        self.store.remove_ssh_key(key)?;
        let message = format!("ssh key `{}` of `{}` removed", known.name, known.user);
        let change = Change::new(facts(&known), ());
        self.note_named_change(None, "ssh-key.removed", &message, actor, change);
        Ok(())
    }

    /// The user whose key it is; none if it may not come in.
    ///
    /// # Errors
    /// `Internal`.
    pub fn key_owner(&self, fingerprint: &str) -> Result<Option<String>> {
        let Some(key) = self.store.ssh_key(fingerprint)? else { return Ok(None) };
        // None for a user who is kept out.
        Ok(self.store.grants(&key.user)?.map(|_| key.user))
    }
}

fn shown(key: StoredKey) -> SshKey {
    SshKey {
        name: key.name,
        user: key.user,
        fingerprint: key.fingerprint,
        public_key: key.public_key,
        added_at: key.added_at,
    }
}

/// What an event tells of a key.
fn facts(key: &StoredKey) -> serde_json::Value {
    json!({ "name": key.name, "user": key.user, "fingerprint": key.fingerprint })
}
