//! What can go wrong, by operation and container.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An operation on a container that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spec contradicts itself or the runtime's limits.
    #[error("container spec `{id}`: {problem}")]
    InvalidSpec {
        /// The container.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such container.
    #[error("container `{id}` does not exist")]
    NotFound {
        /// The container.
        id: String,
    },
    /// There is one of that name already.
    #[error("container `{id}` exists already")]
    Exists {
        /// The container.
        id: String,
    },
    /// No container is made any more: everything is being taken down.
    #[error("container `{id}` is not made any more, as everything ends")]
    Closed {
        /// The container.
        id: String,
    },
    /// The operation does not fit its state, such as starting it twice.
    #[error("container `{id}` is {status}, cannot {operation}")]
    WrongState {
        /// The container.
        id: String,
        /// Where it is in its life.
        status: &'static str,
        /// What was asked.
        operation: &'static str,
    },
    /// A step of setting up or executing failed in the monitor or inside the container.
    #[error("container `{id}`: {message}")]
    Setup {
        /// The container.
        id: String,
        /// The step, the object and the cause.
        message: String,
    },
    /// The monitor or the exec parent ended or said something unexpected.
    #[error("container `{id}`: its monitor {problem}")]
    Monitor {
        /// The container.
        id: String,
        /// What it did.
        problem: &'static str,
    },
    /// A cgroup file could not be read or written.
    #[error("{operation} cgroup `{path}`")]
    Cgroup {
        /// What was tried.
        operation: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The configured prefix could lead out of its place.
    #[error("container prefix `{prefix}` is not a plain name of a-z A-Z 0-9 . _ -")]
    InvalidPrefix {
        /// The prefix.
        prefix: String,
    },
    /// This machine's cgroups lack something that is needed.
    #[error("cgroup controller `{controller}` is not mounted on this machine")]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// A file of the runtime's own state could not be used.
    #[error("{operation} `{path}`")]
    State {
        /// What was tried.
        operation: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A system call outside of any file failed.
    #[error("container `{id}`: {operation}")]
    System {
        /// The container.
        id: String,
        /// What was tried.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The protected copy of the program or the system call filter could not be made.
    #[error("prepare the container runtime: {operation}")]
    Prepare {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Something took longer than its deadline.
    #[error("container `{id}`: {operation} took longer than {limit:?}")]
    Timeout {
        /// The container.
        id: String,
        /// What did not finish.
        operation: &'static str,
        /// Its deadline.
        limit: Duration,
    },
}
