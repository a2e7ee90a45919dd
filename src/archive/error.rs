//! What a place can fail with.

use std::io;
use std::path::PathBuf;

use super::Key;

/// Why a file cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was set cannot be meant.
    #[error("the place of backups cannot be used: {0}")]
    Settings(String),
    /// No space is left.
    #[error("no space is left at `{location}`")]
    Full {
        /// Where.
        location: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// More was written than was allowed.
    #[error("it has more than the {limit} bytes that are allowed")]
    TooMuch {
        /// The most bytes.
        limit: u64,
    },
    /// A file that should be small is not.
    #[error("`{key}` has more than {limit} bytes")]
    TooLarge {
        /// Which.
        key: Key,
        /// The most bytes.
        limit: u64,
    },
    /// There is no such file, or no such bucket.
    #[error("`{key}` is not at `{location}`{}", code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Missing {
        /// Which.
        key: String,
        /// Where.
        location: String,
        /// What the server calls it: `NoSuchBucket`.
        code: Option<String>,
    },
    /// A file or directory of this machine.
    #[error("{operation} `{}`", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers there, or not in time.
    #[error("`{location}` cannot be reached: {why}")]
    Unreachable {
        /// Where.
        location: String,
        /// What was tried, and what came of it.
        why: String,
    },
    /// The credentials are wrong, or are not allowed this.
    #[error("`{location}` refuses the credentials ({code})")]
    Denied {
        /// Where.
        location: String,
        /// What the server calls it: `SignatureDoesNotMatch`.
        code: String,
    },
    /// The server answers, but not with what was asked.
    #[error("`{location}` does not do it: {why}")]
    Refused {
        /// Where.
        location: String,
        /// The server's code, or what is wrong with its answer.
        why: String,
    },
}

impl Error {
    /// What to do next, if that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full { .. } => Some("make room there, or keep backups elsewhere: `backup-set`"),
            Self::Denied { .. } => Some(
                "see `s3-access-key-id`, `s3-secret-access-key` and `s3-region` of `backup-set`",
            ),
            Self::Unreachable { .. } => Some(
                "see `s3-endpoint` of `backup-set`, and whether this machine may connect there",
            ),
            Self::Missing { code: Some(code), .. } if code == "NoSuchBucket" => {
                Some("make the bucket, or name another one with `backup-set … place s3://bucket`")
            }
            _ => None,
        }
    }
}
