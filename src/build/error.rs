//! Why a build did not become an image.

use std::io;
use std::path::PathBuf;

use super::sandbox::SandboxError;

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The app's source: the pusher can mend it.
    App,
    /// The machine or a buildpack: the operator's.
    Operator,
}

/// A build's failure. Its sentence is for the pusher; `source` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the source breaks its rules.
    #[error("{0}")]
    Source(super::SourceProblem),
    /// No group of buildpacks takes the app.
    #[error("no buildpack recognizes this app: {looked_for}")]
    NothingDetected {
        /// What each bundled buildpack looks for, in one sentence.
        looked_for: String,
    },
    /// A buildpack that was asked for refuses the app.
    #[error("buildpack `{buildpack}` was asked for but does not take this app")]
    Refused {
        /// Its id.
        buildpack: String,
    },
    /// A buildpack was asked for that is not installed.
    #[error("buildpack `{asked}` is not installed here; installed are: {installed}")]
    UnknownBuildpack {
        /// What was asked for.
        asked: String,
        /// The ids there are.
        installed: String,
    },
    /// A buildpack's program failed.
    #[error("{}", failed_step(buildpack, phase, *code, *out_of_memory))]
    Failed {
        /// Its id.
        buildpack: String,
        /// `detect` or `build`.
        phase: &'static str,
        /// The exit code.
        code: i32,
        /// Whether memory ran out.
        out_of_memory: bool,
    },
    /// A buildpack wrote something that the specification forbids.
    #[error("buildpack `{buildpack}` wrote an invalid `{file}`: {why}")]
    Contract {
        /// Its id.
        buildpack: String,
        /// The file, relative to its layers directory.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The image would have no process.
    #[error("nothing says how to start the app: add a Procfile with a line like `web: <command>`")]
    NoProcess,
    /// The container failed the build.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The buildpacks on this machine are damaged.
    #[error("load buildpack {}: {why}", path.display())]
    Buildpack {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file operation on the host failed.
    #[error("{operation} {}", path.display())]
    Files {
        /// What was being done: `create directory`.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The layer store refused a layer.
    #[error("store layer `{layer}`")]
    Store {
        /// Which.
        layer: String,
        /// What the store said.
        source: io::Error,
    },
}

fn failed_step(buildpack: &str, phase: &str, code: i32, out_of_memory: bool) -> String {
    match out_of_memory {
        true => format!(
            "{phase} of buildpack `{buildpack}` ran out of memory: raise the build's limit \
             with `resource:limit --process-type build --memory <size>`"
        ),
        false => format!("{phase} of buildpack `{buildpack}` failed with exit code {code}"),
    }
}

impl Error {
    /// Who can mend it.
    pub fn party(&self) -> Party {
        match self {
            Self::Source(_)
            | Self::NothingDetected { .. }
            | Self::Refused { .. }
            | Self::UnknownBuildpack { .. }
            | Self::Failed { .. }
            | Self::NoProcess
            | Self::Sandbox(SandboxError::Deadline { .. } | SandboxError::Canceled) => Party::App,
            Self::Contract { .. }
            | Self::Sandbox(SandboxError::Run { .. })
            | Self::Buildpack { .. }
            | Self::Files { .. }
            | Self::Store { .. } => Party::Operator,
        }
    }

    /// Makes a mapper for `io::Error`s of `operation` on `path`.
    pub(super) fn files(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { operation, path, source }
    }
}
