//! Figures over time in a bounded file: one row of numbers for each series at each step.
//!
//! ```text
//!  record ─► recent (a row each step) ─► raw + fine (20 steps each) ─► coarse (120 steps each)
//!               until its block is full      kept 5,760 steps             kept 172,800 steps
//!                                            raw; fine 40,320
//! ```
//!
//! With the usual step of 15 s that is: each sample for a day, means and extremes of 5 minutes for a
//! week, of half an hour for 30 days. It is a file of its own, apart from what is wanted of the
//! platform: losing it loses pictures only, so it is not forced to disk with each step, and one that
//! is damaged is set aside for a new one.
//!
//! **Invariants.** One [`Series::record`] is one transaction. The file's use never grows beyond
//! [`Config::max_bytes`] for longer than a block, nor the number of series beyond
//! [`Config::max_series`]. What is missing stays missing: no value is made up.

mod block;
mod file;
mod read;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use serde::Deserialize;

pub use block::Cell;
pub use read::{Columns, Window};
pub use write::{Recorded, Row};

use write::Head;

/// Blocks in a row of the coarsest table.
const COARSE_BLOCKS: i64 = 6;
/// How long each sample is kept, in blocks.
const KEPT_RAW: i64 = 288;
/// How long the means of blocks are kept, in blocks.
const KEPT_FINE: i64 = 2_016;
/// How long the coarsest are kept, in blocks.
const KEPT_COARSE: i64 = 8_640;

/// Settings of `[metrics]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds between two samples, 1 to 60. All spans for which samples are kept are multiples of
    /// it. A file with another step is set aside. Default 15: each sample is kept for a day, means
    /// of 5 minutes for a week, of 30 minutes for 30 days.
    pub sample_s: u32,
    /// The most bytes that the file's rows take; beyond it the oldest detail goes first.
    /// Default 536870912, 512 MiB.
    pub max_bytes: u64,
    /// The most series: one for each app and each instance, three for the machine. Default 10000.
    pub max_series: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { sample_s: 15, max_bytes: 512 << 20, max_series: 10_000 }
    }
}

impl Config {
    /// Milliseconds between two samples.
    pub fn step_ms(&self) -> i64 {
        i64::from(self.sample_s.clamp(1, 60)) * 1000
    }
}

/// What a call can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or made.
    #[error("open the metrics file `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A damaged file cannot be moved out of the way.
    #[error("set the metrics file `{}` aside", path.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A statement failed.
    #[error("{operation}")]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

impl Error {
    /// Whether the file itself is at fault, and a new one would help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Statement { source, .. } => file::is_damage(source),
            Self::Open { .. } | Self::SetAside { .. } => false,
        }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// A file that was of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// The series and their file.
#[derive(Debug)]
pub struct Series {
    path: PathBuf,
    config: Config,
    /// The connection that writes, and the block it is filling.
    writer: Mutex<Writer>,
    /// The connection that reads: a query never waits for a transaction.
    reader: Mutex<Connection>,
    set_aside: Mutex<Option<SetAside>>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    head: Head,
}

impl Series {
    /// Opens or makes the file. One that is damaged, of another make or of another step is set
    /// aside.
    ///
    /// # Errors
    /// Where a new file cannot be made either.
    pub fn open(path: &Path, config: Config) -> Result<Self> {
        let (files, set_aside) = match file::open(path, &config) {
            Ok(files) => (files, None),
            Err(Unusable::Failed(error)) => return Err(error),
            Err(Unusable::Damaged(why)) => {
                let aside = file::set_aside(path, why)?;
                let files = file::open(path, &config).map_err(|again| again.into_error(path))?;
                (files, Some(aside))
            }
        };
        let (connection, reader, head) = files;
        let writer = Mutex::new(Writer { connection, head });
        let (reader, set_aside) = (Mutex::new(reader), Mutex::new(set_aside));
        Ok(Self { path: path.to_owned(), config, writer, reader, set_aside })
    }

    /// What was set aside when it was opened; told once.
    pub fn take_set_aside(&self) -> Option<SetAside> {
        lock(&self.set_aside).take()
    }

    /// Puts a new file in the place of one that turned out to be damaged.
    ///
    /// # Errors
    /// Where that cannot be made.
    pub fn start_anew(&self, why: &Error) -> Result<SetAside> {
        let mut writer = self.writer();
        let mut reader = lock(&self.reader);
        let memory = || {
            Connection::open_in_memory()
                .map_err(|source| Error::Open { path: self.path.clone(), source })
        };
        // Closes the old file before it is moved.
        (writer.connection, *reader) = (memory()?, memory()?);
        let aside = file::set_aside(&self.path, crate::support::report(why))?;
        let files = file::open(&self.path, &self.config);
        let (connection, read, head) = files.map_err(|again| again.into_error(&self.path))?;
        *writer = Writer { connection, head };
        *reader = read;
        Ok(aside)
    }

    /// Milliseconds between two samples.
    pub fn step_ms(&self) -> i64 {
        self.config.step_ms()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held rolled its transaction back; the connection is sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a file cannot be used.
#[derive(Debug)]
enum Unusable {
    /// A new file would not help.
    Failed(Error),
    /// A new file would.
    Damaged(String),
}

impl Unusable {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Damaged(why) => Error::SetAside {
                path: path.to_owned(),
                source: std::io::Error::other(format!("a new file is damaged too: {why}")),
            },
        }
    }
}

/// Names the operation of a failed statement.
fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| Error::Statement { operation, source }
}

#[cfg(test)]
mod tests;
