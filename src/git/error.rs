//! What can go wrong with repositories.

use std::io;
use std::path::{Path, PathBuf};

use super::CommitId;
use crate::domain::AppName;

/// An operation on a repository that failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message names")]
pub enum Error {
    /// There is no repository of this name.
    #[error("repository `{0}` does not exist")]
    Missing(AppName),
    /// The name is taken.
    #[error("repository `{0}` exists already")]
    Exists(AppName),
    /// A file operation failed.
    #[error("{operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// An object could not be read.
    #[error("read {what} `{id}`")]
    Object {
        what: &'static str,
        id: String,
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
    /// The repository could not be opened or asked.
    #[error("{operation} of repository `{}`", path.display())]
    Repository {
        operation: &'static str,
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
    /// A quarantine that is not this repository's.
    #[error("`{}` is not a quarantine of repository `{repository}`", path.display())]
    ForeignQuarantine { repository: AppName, path: PathBuf },
    /// `git` could not be run, failed, or took too long.
    #[error("git {operation}: {detail}")]
    Git { operation: &'static str, detail: String },
    /// A name in the tree that must not reach a file system.
    #[error("commit {commit} holds the path `{path}`, which is refused: {reason}")]
    Path { commit: CommitId, path: String, reason: &'static str },
    /// The tree is larger than the operator allows.
    #[error("the source tree has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    /// The time for the export is up.
    #[error("writing the source tree took longer than {seconds} s")]
    Deadline { seconds: u64 },
    /// The caller gave up.
    #[error("writing the source tree was canceled")]
    Canceled,
    /// A submodule cannot be had.
    #[error("submodule `{path}` ({url}): {reason}")]
    Submodule { path: String, url: String, reason: String },
}

impl Error {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}
