//! What can be wrong with a plugin.

use std::path::PathBuf;

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest breaks a rule.
    #[error("plugin.toml: {why}")]
    Manifest {
        /// The rule, with what broke it.
        why: String,
    },
    /// The archive breaks a rule.
    #[error("the plugin's archive is refused: {why}")]
    Archive {
        /// The rule, with what broke it.
        why: String,
    },
    /// What it keeps is too much.
    #[error("it keeps more than {what} in `{path}`; remove some of it, as root")]
    Data {
        /// Where.
        path: PathBuf,
        /// The limit.
        what: String,
    },
    /// The kernel gives no random numbers.
    #[error("no random numbers: {why}")]
    Random {
        /// Its reason.
        why: String,
    },
    /// A file or directory cannot be used.
    #[error("{operation} `{path}`")]
    File {
        /// `write`, `read`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}
