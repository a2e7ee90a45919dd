//! What the SSH server asks of the platform: whose key is whose, and what a request runs.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use crate::api::{GitCommand, GitHttpRequest, GitOverHttp, Process, Remote, Shell};
use crate::config::Config;
use crate::domain::access::Grants;
use crate::domain::{Actor, AppName};
use crate::git::{HttpHalf, Service, Session};
use crate::platform::{Error, Kind, Opening, Platform};
use crate::ssh::{Access, Commands, ExecRequest, GitRequest, GitService, Refused, relay};
use crate::support::report;
use crate::web::Caller;

/// Dokku's exit code for an app that does not exist.
const EXIT_NO_APP: u8 = 20;

/// The platform behind the SSH server and the system's sshd. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Doors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    platform: Platform,
    executable: PathBuf,
    control_socket: PathBuf,
    owner: (u32, u32),
    system_user: Option<u32>,
    grace: Duration,
}

impl Doors {
    pub(super) fn new(config: &Config, platform: Platform) -> Self {
        Self(Arc::new(Inner {
            platform,
            executable: config.server.data_dir.join("bin").join("staithe"),
            control_socket: config.control_socket(),
            owner: (config.git.owner_uid, config.git.owner_gid),
            system_user: config.ssh.system_uid,
            grace: Duration::from_secs(config.ssh.hang_up_grace_secs),
        }))
    }

    /// The users that may act for the person they name: our own children, and the account of the
    /// system's sshd.
    pub(super) fn trusted_users(&self) -> Vec<u32> {
        std::iter::once(self.0.owner.0).chain(self.0.system_user).collect()
    }
}

impl Access for Doors {
    async fn authorize(&self, fingerprint: &str) -> Option<Actor> {
        match self.0.platform.key_owner(fingerprint) {
            Ok(owner) => owner.map(|name| Actor::new(name, "ssh")),
            Err(error) => {
                tracing::error!(error = report(&error), "cannot look a key up");
                None
            }
        }
    }
}

impl Commands for Doors {
    async fn git(&self, actor: &Actor, request: GitRequest) -> Result<Command, Refused> {
        let service = match request.service {
            GitService::ReceivePack => Service::ReceivePack,
            GitService::UploadPack => Service::UploadPack,
            GitService::UploadArchive => Service::UploadArchive,
        };
        let platform = &self.0.platform;
        let grants = platform.grants(actor).await.map_err(|error| refused(&error))?;
        let protocol = request.protocol;
        let session = Session { actor: actor.clone(), protocol, http: None };
        let opened = self.open_git(session, &grants, &request.app, service).await;
        opened.map_err(|error| refused(&error))
    }

    async fn exec(&self, actor: &Actor, request: ExecRequest) -> Result<Command, Refused> {
        let mut command = Command::new(&self.0.executable);
        command
            .args(&request.arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("STAITHE_ACTOR", &actor.name)
            .env("STAITHE_CONTROL_SOCKET", &self.0.control_socket)
            .current_dir("/")
            .uid(self.0.owner.0)
            .gid(self.0.owner.1);
        if let Some(from) = &actor.from {
            command.env("STAITHE_ACTOR_FROM", from);
        }
        Ok(command)
    }

    fn greeting(&self, actor: &Actor) -> String {
        let host = &self.0.platform.public_host();
        format!(
            "Hello {actor}: this is Staithe, a place to `git push` to. There is no shell here.\n\
             \n\
             \x20 git remote add staithe <user>@{host}:<app> && git push staithe main    deploys an app\n\
             \x20 ssh <user>@{host} apps:list                                            lists the apps\n\
             \x20 ssh <user>@{host} help                                                 lists all commands\n"
        )
    }
}

impl Doors {
    /// The command that serves a repository to who may use it; the first push makes the app, and
    /// nothing else does.
    async fn open_git(
        &self,
        session: Session,
        grants: &Grants,
        app: &AppName,
        service: Service,
    ) -> Result<Command, Error> {
        let platform = &self.0.platform;
        let opening = platform.may_use_git(grants, app, service)?;
        let path = format!("/apps/{app}/git");
        let method = if service == Service::ReceivePack { "POST" } else { "GET" };
        platform.authorize(&session.actor, method, &path).await?;
        if opening == Opening::ToBeMade {
            // Two pushes may begin at once.
            match platform.create_app(&session.actor, app).await {
                Err(error) if error.kind() == Kind::Conflict => {}
                created => drop(created?),
            }
        }
        let command = platform.repositories.serve(app, service, &session);
        command.map_err(|error| {
            Error::new(Kind::Internal, "the repository cannot be served").because(error)
        })
    }
}

fn refused(error: &Error) -> Refused {
    let hint = error.next_step().map_or_else(String::new, |hint| format!("\n{hint}"));
    let exit_code = if error.kind() == Kind::NotFound { EXIT_NO_APP } else { 1 };
    Refused { message: format!("{error}{hint}"), exit_code }
}

impl Shell for Doors {
    fn git<'a>(&'a self, caller: &'a Caller, request: GitHttpRequest) -> GitCommand<'a> {
        Box::pin(async move {
            let service = match request.service {
                GitOverHttp::ReceivePack => Service::ReceivePack,
                GitOverHttp::UploadPack => Service::UploadPack,
            };
            let half = if request.advertise { HttpHalf::Advertise } else { HttpHalf::Answer };
            let (actor, protocol) = (caller.actor.clone(), request.protocol);
            let session = Session { actor, protocol, http: Some(half) };
            self.open_git(session, &caller.grants, &request.app, service).await
        })
    }

    fn open<'a>(
        &'a self,
        actor: &'a Actor,
        request: crate::wire::ExecRequest,
    ) -> Pin<Box<dyn Future<Output = Result<Remote, Error>> + Send + 'a>> {
        Box::pin(async move {
            let opened =
                relay::open(self, actor, request, self.0.grace).await.map_err(|error| {
                    let kind = if matches!(error, relay::OpenError::Refused(_)) {
                        Kind::Denied
                    } else {
                        Kind::Internal
                    };
                    Error::new(kind, error.to_string())
                })?;
            let process = Box::new(Relay(opened.child));
            Ok(Remote {
                input: opened.input,
                output: opened.output,
                errors: opened.errors,
                process,
            })
        })
    }
}

/// A child of the SSH server's, as the API relays it.
struct Relay(relay::Relayed);

impl Process for Relay {
    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        let resized = self.0.resize(columns, rows);
        resized.map_err(|error| {
            Error::new(Kind::Internal, "the terminal cannot be resized").because(error)
        })
    }

    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + '_>> {
        Box::pin(async move {
            let ended = self.0.wait().await;
            ended.map_err(|error| {
                Error::new(Kind::Internal, "the command's end cannot be learned").because(error)
            })
        })
    }
}
