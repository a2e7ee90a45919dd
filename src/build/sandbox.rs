//! What a build needs of others, in its own words: a place to run steps, and a store for layers.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which of a step's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One program to run inside the build container, as the app's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is, for messages: `detect staithe/nodejs`.
    pub name: String,
    /// Program (absolute path) and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute working directory inside the container.
    pub cwd: String,
    /// After this long the sandbox kills the step and its children, and reports
    /// [`SandboxError::Deadline`].
    pub deadline: Duration,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepExit {
    /// Exit code; 128 + signal number when a signal ended it.
    pub code: i32,
    /// Whether the kernel killed the step, or a child, for want of memory.
    pub out_of_memory: bool,
}

/// Why a step has no exit code.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The step ran longer than its deadline and was killed.
    #[error("step `{step}` took longer than {} s and was stopped", limit.as_secs())]
    Deadline {
        /// [`Step::name`].
        step: String,
        /// [`Step::deadline`].
        limit: Duration,
    },
    /// The build was canceled.
    #[error("the build was canceled")]
    Canceled,
    /// The container could not run the step, or is gone.
    #[error("run step `{step}` in the build container")]
    Run {
        /// [`Step::name`].
        step: String,
        /// What the container said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A running build container.
pub trait Sandbox: Send + Sync {
    /// Runs a step to its end and hands each line of its output, without its newline and at most
    /// 64 KiB long (longer ones in pieces), to `output` as it appears.
    ///
    /// Output is hostile bytes made UTF-8 (lossy), control characters included.
    ///
    /// # Errors
    /// When there is no exit code to report. A non-zero exit is not an error.
    ///
    /// # Cancellation
    /// Dropping the future must kill the step.
    fn exec(
        &self,
        step: &Step,
        output: &(dyn Fn(Stream, &str) + Send + Sync),
    ) -> impl Future<Output = Result<StepExit, SandboxError>> + Send;
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// `sha256:<64 hex>` of its uncompressed tar (the OCI diffID).
    pub digest: String,
    /// Bytes of that tar.
    pub size: u64,
}

/// The layer store; blocking.
pub trait LayerSink: Send + Sync {
    /// Takes the tree at `dir` (gone afterwards) as a layer that mounts at `/`. On disk its owners
    /// are the container's ids plus `id_base`; whiteouts and opaque directories are overlayfs's.
    ///
    /// With `id_base` 0 the tree may hold hard links to files of other layers of this store:
    /// these are already as the store wants them and must not be changed in place.
    ///
    /// # Errors
    /// Whatever the store says; the layer does not exist then.
    fn add_layer(&self, dir: &Path, id_base: u32) -> io::Result<LayerRef>;

    /// Where the layer's snapshot is.
    fn layer_path(&self, digest: &str) -> PathBuf;

    /// The layer, if the store still has it.
    fn layer(&self, digest: &str) -> Option<LayerRef>;

    /// Whether the directory, in an overlay's upper, hides what lies below it
    /// (`trusted.overlay.opaque`, or `user.overlay.opaque`).
    ///
    /// # Errors
    /// If the attribute cannot be read.
    fn is_opaque(&self, dir: &Path) -> io::Result<bool>;
}
