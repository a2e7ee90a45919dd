//! SSH keys that may push and run commands.

use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store, failed, taken};
use crate::domain::Timestamp;

/// A key under the name of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key's name.
    pub name: String,
    /// The user whose key it is.
    pub user: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// OpenSSH's one-line form, without comment.
    pub public_key: String,
    /// When it was added.
    pub added_at: Timestamp,
}

impl Store {
    /// Keeps a key.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the name or the key is known already.
    pub fn add_ssh_key(&self, key: &StoredKey) -> Result<()> {
        self.lock()
            .execute(
                "insert into ssh_keys (name, fingerprint, public_key, added_at, user)
                 select ?, ?, ?, ?, id from users where name = ?",
                params![key.name, key.fingerprint, key.public_key, key.added_at.0, key.user],
            )
            .map_err(taken("ssh key", &key.name, "insert ssh key"))?;
        Ok(())
    }

    /// All keys by name.
    pub fn ssh_keys(&self) -> Result<Vec<StoredKey>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select ssh_keys.name, fingerprint, public_key, added_at, users.name
                 from ssh_keys join users on users.id = ssh_keys.user order by ssh_keys.name",
            )
            .map_err(failed("list ssh keys"))?;
        let rows = statement.query_map([], key_from).map_err(failed("list ssh keys"))?;
        rows.map(|row| row.map_err(failed("list ssh keys"))).collect()
    }

    /// The key with that fingerprint.
    pub fn ssh_key(&self, fingerprint: &str) -> Result<Option<StoredKey>> {
        self.lock()
            .query_row(
                "select ssh_keys.name, fingerprint, public_key, added_at, users.name
                 from ssh_keys join users on users.id = ssh_keys.user where fingerprint = ?",
                [fingerprint],
                key_from,
            )
            .optional()
            .map_err(failed("read ssh key"))
    }

    /// Removes a key by name or fingerprint; says whether there was one.
    pub fn remove_ssh_key(&self, key: &str) -> Result<bool> {
        self.lock()
            .execute("delete from ssh_keys where name = ?1 or fingerprint = ?1", [key])
            .map(|count| count > 0)
            .map_err(failed("remove ssh key"))
    }
}

fn key_from(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    Ok(StoredKey {
        name: row.get(0)?,
        fingerprint: row.get(1)?,
        public_key: row.get(2)?,
        added_at: Timestamp(row.get(3)?),
        user: row.get(4)?,
    })
}
