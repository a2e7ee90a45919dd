//! The SSH door: git and commands for people with a known public key.
//!
//! ```text
//!  client ──TCP── Server ── Access::authorize (which actor has this key?)
//!                   │ exec "git-receive-pack 'shop'" ── Commands::git  ─┐
//!                   │ exec "ps:scale shop web=2"     ── Commands::exec ─┤
//!                   └──────────────── streams, signals, exit code ── child process
//!  system's sshd ── `staithe ssh-command` ── control socket ── relay::open ───┘
//! ```
//!
//! **Invariants.**
//! - Public keys are the only way in, and a session is the only thing inside: no forwarding, no
//!   agent, no subsystem.
//! - A child never outlives its client by more than [`Config::hang_up_grace_secs`].
//! - What a client sends and a child does not read is bounded, see `gate`.

mod config;
mod connection;
mod gate;
mod host_keys;
mod job;
pub mod relay;
mod request;
mod server;
pub mod system;

use std::future::Future;

use tokio::process::Command;

use crate::domain::{Actor, AppName};

pub use config::Config;
pub use request::{GitService, Request, RequestError};
pub use server::{Error, Server};

/// Knows whose key is whose.
pub trait Access: Send + Sync + 'static {
    /// The actor that owns the key with this fingerprint (`SHA256:…`, as OpenSSH prints it), or
    /// none. Asked twice in each login: before the client has proved that it has the private key,
    /// and after.
    fn authorize(&self, fingerprint: &str) -> impl Future<Output = Option<Actor>> + Send;
}

/// Turns requests into processes. The standard streams and the process group of the commands are
/// set here, and the variables `LANG`, `LC_…` and `TERM` that the client sent.
pub trait Commands: Send + Sync + 'static {
    /// One of git's services on an app's repository; creates the app on its first push.
    fn git(
        &self,
        actor: &Actor,
        request: GitRequest,
    ) -> impl Future<Output = Result<Command, Refused>> + Send;

    /// A command of Staithe's.
    fn exec(
        &self,
        actor: &Actor,
        request: ExecRequest,
    ) -> impl Future<Output = Result<Command, Refused>> + Send;

    /// What somebody sees who asks for a shell; lines end with `\n`.
    fn greeting(&self, actor: &Actor) -> String;
}

/// A client's wish to push, fetch or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// Which of git's services.
    pub service: GitService,
    /// On which app's repository.
    pub app: AppName,
    /// The client's `GIT_PROTOCOL`, unchecked.
    pub protocol: Option<String>,
}

/// A client's wish to run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The words of the command, at least one.
    pub arguments: Vec<String>,
    /// Whether the streams are a terminal.
    pub terminal: bool,
}

/// A request that is not granted; each line is shown to the user after the mark of errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// One or more lines without a mark, ending without `\n`.
    pub message: String,
    /// What the session exits with.
    pub exit_code: u8,
}
