//! Desired state in SQLite: apps, releases, builds, domains, keys, events.
//!
//! One connection behind a mutex; write-ahead log, `synchronous = FULL`, foreign keys. A method is
//! one transaction: when it has returned, its change survives `kill -9` and a power cut. Calls take
//! a few milliseconds at most and are made directly from async code; no request of an app's user
//! ever waits for them.
//!
//! **Invariant.** Nothing here decides: rules are in `domain`, their use in `platform`. Releases are
//! never changed but for their status.

mod apps;
mod backups;
mod build_details;
mod builds;
mod certificates;
mod events;
mod front;
mod keys;
mod logs;
mod migrations;
mod plugins;
mod releases;
mod services;
mod sessions;
mod settings;
mod timers;
mod tokens;
mod users;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

pub use apps::{NewApp, Settings};
pub use build_details::BuildDetails;
pub use builds::NewBuild;
pub use certificates::StoredCertificate;
pub use events::{EventsKept, NewEvent};
pub use keys::StoredKey;
pub use plugins::StoredPlugin;
pub use releases::NewRelease;
pub use sessions::{NewSession, StoredSession};
pub use settings::StoredStack;
pub use timers::TimerState;
pub use tokens::StoredToken;
pub use users::{StoredGrant, StoredUser};

/// What a call to the store can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or is no database.
    #[error("open database `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A migration of the schema failed; the database is as it was before.
    #[error("migrate the database to schema {version}")]
    Migrate {
        /// The schema version aimed at.
        version: usize,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The database was written by a newer Staithe.
    #[error(
        "database `{path}` has schema {found}, this Staithe knows {known}; use a newer Staithe"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: usize,
        /// The newest known here.
        known: usize,
    },
    /// A statement failed.
    #[error("{operation}")]
    Statement {
        /// What was being done: `insert app`.
        operation: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The name or number is taken.
    #[error("{what} `{name}` exists already")]
    Exists {
        /// `app`, `domain`, `ssh key`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A stored value is not what this version writes.
    #[error("read {what} from the database")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// All ranges of user ids are in use.
    #[error("no more {what} fit: {limit} exist")]
    Full {
        /// `apps`, `services`.
        what: &'static str,
        /// The most of them.
        limit: u32,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// The database.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens or creates the database file and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Migrate`] or [`Error::TooNew`].
    pub fn open(path: &Path) -> Result<Self> {
        let connection =
            connect(path).map_err(|source| Error::Open { path: path.into(), source })?;
        migrations::run(&connection, path)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back; the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// Names the operation of a failed statement.
fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| Error::Statement { operation, source }
}

/// Turns a broken uniqueness rule into [`Error::Exists`].
fn taken(
    what: &'static str,
    name: &str,
    operation: &'static str,
) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Error::Exists { what, name: name.to_owned() }
        }
        _ => Error::Statement { operation, source },
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("domain types have string keys and no failing serializers")
}

fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| Error::Corrupt { what, source })
}

/// A value kept as plain text, such as `running`.
fn to_text<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("only types that serialize to strings are kept as text"),
    }
}

fn from_text<T: serde::de::DeserializeOwned>(what: &'static str, text: String) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|source| Error::Corrupt { what, source })
}

#[cfg(test)]
mod tests;
