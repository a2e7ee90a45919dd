//! SSH keys: who may push and run commands.

use super::{Error, Kind, Platform, Result, SshKey, clock};
use crate::domain::access::Role;
use crate::domain::{Actor, SshPublicKey};
use crate::store::StoredKey;

/// The longest name of a key's owner.
const MAX_NAME: usize = 100;

impl Platform {
    /// All keys by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>> {
        Ok(self.store.ssh_keys()?.into_iter().map(shown).collect())
    }

    /// Lets the holder of a key push and run commands, under `name`.
    ///
    /// # Errors
    /// `Invalid` for text that is no OpenSSH public key; `Conflict` for a known name or key.
    pub async fn add_ssh_key(&self, actor: &Actor, name: &str, public_key: &str) -> Result<SshKey> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "@._-+".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) || name == "root"
        {
            let message =
                "a key's name must have 1 to 100 letters, digits or `@._-+`, and not be `root`";
            return Err(Error::new(Kind::Invalid, message));
        }
        let key: SshPublicKey = public_key.parse()?;
        if let Some(known) = self.store.ssh_key(&key.fingerprint())? {
            return Err(Error::new(
                Kind::Conflict,
                format!("this key is known already, as `{}`", known.name),
            ));
        }
        if self.store.grants(name)?.is_none() {
            self.store.add_user(name, Some(Role::Admin), clock::now())?;
        }
        let stored = StoredKey {
            name: name.to_owned(),
            user: name.to_owned(),
            fingerprint: key.fingerprint(),
            public_key: key.line().to_owned(),
            added_at: clock::now(),
        };
        self.store.add_ssh_key(&stored)?;
        self.note_named(
            None,
            "ssh-key.added",
            &format!("ssh key `{name}` added: {}", stored.fingerprint),
            actor,
        );
        Ok(shown(stored))
    }

    /// Shuts the holder of a key out; connections that are open go on.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_ssh_key(&self, actor: &Actor, key: &str) -> Result<()> {
        if !self.store.remove_ssh_key(key)? {
            return Err(Error::new(Kind::NotFound, format!("there is no ssh key `{key}`"))
                .hint("run `staithe ssh-keys:list` to see them"));
        }
        self.note_named(None, "ssh-key.removed", &format!("ssh key `{key}` removed"), actor);
        Ok(())
    }

    /// The user whose key it is; none if it may not come in.
    ///
    /// # Errors
    /// `Internal`.
    pub fn key_owner(&self, fingerprint: &str) -> Result<Option<String>> {
        Ok(self.store.ssh_key(fingerprint)?.map(|key| key.user))
    }
}

fn shown(key: StoredKey) -> SshKey {
    SshKey {
        name: key.name,
        fingerprint: key.fingerprint,
        public_key: key.public_key,
        added_at: key.added_at,
    }
}
