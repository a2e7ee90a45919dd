//! Sessions of the dashboard, and the codes that begin them. Secrets are here as hashes only.

use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store, failed};
use crate::domain::Timestamp;

/// A session that begins.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Whose.
    pub user: &'a str,
    /// The token that was used to sign in, by id: the session may do no more than it.
    pub token: Option<&'a str>,
    /// When.
    pub at: Timestamp,
    /// From where.
    pub address: Option<&'a str>,
    /// Which browser, in its own words.
    pub agent: &'a str,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub user: String,
    /// The token that was used to sign in, by id.
    pub token: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// From where it began.
    pub address: Option<String>,
    /// Which browser, in its own words.
    pub agent: String,
}

const COLUMNS: &str = "sessions.id, users.name, token, sessions.created_at, seen_at, address, agent
     from sessions join users on users.id = sessions.user";

impl Store {
    /// Keeps a session, and of each user the newest `most` only.
    pub fn add_session(&self, new: &NewSession<'_>, most: u32) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("insert session"))?;
        transaction
            .execute(
                "insert into sessions (hash, user, token, created_at, seen_at, address, agent)
                 select ?1, id, ?3, ?4, ?4, ?5, ?6 from users where name = ?2",
                params![&new.hash[..], new.user, new.token, new.at.0, new.address, new.agent],
            )
            .map_err(failed("insert session"))?;
        transaction
            .execute(
                "delete from sessions where user = (select id from users where name = ?1)
                 and id not in (select sessions.id from sessions join users on users.id = user
                                where name = ?1 order by sessions.id desc limit ?2)",
                params![new.user, most],
            )
            .map_err(failed("prune sessions"))?;
        transaction.commit().map_err(failed("insert session"))
    }

    /// The session with that hash of its secret.
    pub fn session(&self, hash: &[u8; 32]) -> Result<Option<StoredSession>> {
        self.lock()
            .query_row(&format!("select {COLUMNS} where hash = ?"), [&hash[..]], session_from)
            .optional()
            .map_err(failed("read session"))
    }

    /// A user's sessions, the newest first.
    pub fn sessions(&self, user: &str) -> Result<Vec<StoredSession>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(&format!(
                "select {COLUMNS} where users.name = ? order by sessions.id desc"
            ))
            .map_err(failed("list sessions"))?;
        let rows = statement.query_map([user], session_from).map_err(failed("list sessions"))?;
        rows.map(|row| row.map_err(failed("list sessions"))).collect()
    }

    /// Notes that a session was used.
    pub fn touch_session(&self, id: i64, at: Timestamp) -> Result<()> {
        self.lock()
            .execute("update sessions set seen_at = ? where id = ?", params![at.0, id])
            .map_err(failed("touch session"))?;
        Ok(())
    }

    /// Ends one session of a user, or all but `except`; says how many there were.
    pub fn end_sessions(&self, user: &str, id: Option<i64>, except: Option<i64>) -> Result<usize> {
        self.lock()
            .execute(
                "delete from sessions where user = (select id from users where name = ?1)
                 and (?2 is null or id = ?2) and (?3 is null or id <> ?3)",
                params![user, id, except],
            )
            .map_err(failed("end sessions"))
    }

    /// Drops sessions and codes that can never be used again.
    pub fn prune_sessions(&self, began: Timestamp, seen: Timestamp, now: Timestamp) -> Result<()> {
        let connection = self.lock();
        connection
            .execute(
                "delete from sessions where created_at < ? or seen_at < ?",
                params![began.0, seen.0],
            )
            .map_err(failed("prune sessions"))?;
        connection
            .execute("delete from login_codes where expires_at < ?", [now.0])
            .map_err(failed("prune login codes"))?;
        Ok(())
    }

    /// Keeps a code for one sign-in.
    pub fn add_login_code(&self, hash: &[u8; 32], user: &str, expires_at: Timestamp) -> Result<()> {
        self.lock()
            .execute(
                "insert into login_codes (hash, user, expires_at)
                 select ?1, id, ?3 from users where name = ?2",
                params![&hash[..], user, expires_at.0],
            )
            .map_err(failed("insert login code"))?;
        Ok(())
    }

    /// Uses a code up: whose it was, if it was good.
    pub fn take_login_code(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<String>> {
        let connection = self.lock();
        let user = connection
            .query_row(
                "select users.name from login_codes join users on users.id = login_codes.user
                 where hash = ? and expires_at >= ?",
                params![&hash[..], now.0],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("read login code"))?;
        connection
            .execute("delete from login_codes where hash = ?", [&hash[..]])
            .map_err(failed("use login code"))?;
        Ok(user)
    }
}

fn session_from(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    Ok(StoredSession {
        id: row.get(0)?,
        user: row.get(1)?,
        token: row.get(2)?,
        created_at: Timestamp(row.get(3)?),
        seen_at: Timestamp(row.get(4)?),
        address: row.get(5)?,
        agent: row.get(6)?,
    })
}
