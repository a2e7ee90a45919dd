//! `/ssh-keys`, and `/ssh/exec` for the forced command of the system's sshd.

use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::git::{GitCommand, GitHttpRequest};
use super::session::{Remote, Sessions, Upgrade};
use crate::domain::Actor;
use crate::platform::{Error, Platform};
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{Body, Id, Text};
use crate::wire::{ExecRequest, NewSshKey, SshKey};

/// Starts what an SSH client asks for: git's services and Staithe's commands. The SSH server is the
/// production implementation; it does for the system's sshd what it does for its own clients.
pub trait Shell: Send + Sync {
    /// Starts the command of `request` for `actor`.
    ///
    /// # Errors
    /// If there is no such command or it cannot be started.
    fn open<'a>(
        &'a self,
        actor: &'a Actor,
        request: ExecRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Remote, Error>> + Send + 'a>>;

    /// The command that speaks half of git's conversation over HTTP, for who may.
    ///
    /// # Errors
    /// `Denied`, or `NotFound` for an app that the caller may not see.
    fn git<'a>(&'a self, caller: &'a Caller, request: GitHttpRequest) -> GitCommand<'a>;
}

pub(super) async fn keys(State(platform): State<Platform>) -> Result<Json<Vec<SshKey>>, Refusal> {
    Ok(Json(platform.ssh_keys().await?))
}

pub(super) async fn add_key(
    State(platform): State<Platform>,
    caller: Caller,
    Body(new): Body<NewSshKey>,
) -> Result<Json<SshKey>, Refusal> {
    Ok(Json(platform.add_ssh_key(&caller.actor, new).await?))
}

pub(super) async fn remove_key(
    State(platform): State<Platform>,
    caller: Caller,
    Id(Text(key)): Id<Text>,
) -> Result<Json<()>, Refusal> {
    Ok(Json(platform.remove_ssh_key(&caller.actor, &key).await?))
}

pub(super) async fn exec(
    State(shell): State<Arc<dyn Shell>>,
    State(sessions): State<Sessions>,
    caller: Caller,
    upgrade: Upgrade,
    Body(request): Body<ExecRequest>,
) -> Result<Response, Refusal> {
    let remote = shell.open(&caller.actor, request).await?;
    Ok(sessions.start(remote, upgrade)?)
}
