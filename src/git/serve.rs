//! The commands that serve a repository to a client.

use std::path::Path;

use tokio::process::Command;

use super::{Config, Error, Places, PushOutput, Repositories};
use crate::domain::{Actor, AppName};

/// Where system programs are; the daemon's own `PATH` may be anything.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Runs the arguments with the error stream also at descriptor 3, for the hook.
const KEEP_ERRORS: &str = "exec \"$@\" 3>&2";

/// One of git's server programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `git push`.
    ReceivePack,
    /// `git fetch`, `git clone`.
    UploadPack,
    /// `git archive --remote`.
    UploadArchive,
}

/// On whose behalf a repository is served.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who is recorded for a push.
    pub actor: Actor,
    /// What the client asked for by `GIT_PROTOCOL`; see gitprotocol-v2(5). Anything but
    /// `version=0` to `version=2` is dropped.
    pub protocol: Option<String>,
    /// Which half of a conversation over HTTP this is; none over a connection of its own.
    pub http: Option<HttpHalf>,
}

/// The two requests of git's smart HTTP; see gitprotocol-http(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpHalf {
    /// What refs there are.
    Advertise,
    /// One round of the conversation.
    Answer,
}

impl Service {
    /// The service that a client calls `name`, with or without `git-` before it.
    pub fn by_name(name: &str) -> Option<Self> {
        match name.strip_prefix("git-").unwrap_or(name) {
            "receive-pack" => Some(Self::ReceivePack),
            "upload-pack" => Some(Self::UploadPack),
            "upload-archive" => Some(Self::UploadArchive),
            _ => None,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::ReceivePack => "receive-pack",
            Self::UploadPack => "upload-pack",
            Self::UploadArchive => "upload-archive",
        }
    }
}

impl Repositories {
    /// The command that speaks git's protocol on its standard input and output, as the
    /// repositories' owner, with an environment of its own and in a process group of its own, to
    /// which a hang-up is to be sent when the client goes away.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no repository.
    pub fn serve(
        &self,
        app: &AppName,
        service: Service,
        session: &Session,
    ) -> Result<Command, Error> {
        let path = self.existing(app)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEP_ERRORS, "sh", "git"]);
        for (key, value) in policy(&self.config, &self.hooks()) {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        command.arg(service.program());
        match session.http {
            None => {}
            Some(HttpHalf::Advertise) => {
                command.args(["--stateless-rpc", "--http-backend-info-refs"]);
            }
            Some(HttpHalf::Answer) => {
                command.arg("--stateless-rpc");
            }
        }
        command.arg(&path);
        self.confine(&mut command);
        hook_environment(&mut command, &self.config, &self.places);
        if session.http.is_some() {
            // There is no stream for errors beside the answer.
            command.env("STAITHE_PUSH_OUTPUT", "sideband");
        }
        let actor = &session.actor;
        command.env("STAITHE_APP", app.as_str()).env("STAITHE_ACTOR", &actor.name);
        command.env("STAITHE_ACTOR_VIA", &actor.via);
        if let Some(from) = &actor.from {
            command.env("STAITHE_ACTOR_FROM", from);
        }
        let protocols = ["version=0", "version=1", "version=2"];
        if let Some(protocol) = session.protocol.as_deref().filter(|p| protocols.contains(p)) {
            command.env("GIT_PROTOCOL", protocol);
        }
        Ok(command)
    }

    /// The command that copies all branches and tags of `from` to the empty repository of `to`.
    ///
    /// # Errors
    /// [`Error::Missing`] when one of the repositories does not exist.
    pub fn copy(&self, from: &AppName, to: &AppName) -> Result<Command, Error> {
        let mut command = Command::new("git");
        let refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        command.args(["-c", "gc.auto=0", "fetch", "--quiet"]).arg(self.existing(from)?).args(refs);
        command.current_dir(self.existing(to)?);
        self.confine(&mut command);
        Ok(command)
    }

    /// The command that packs `app`'s objects when there are many loose ones or many packs; to be
    /// run when nothing else is going on, since pushes do not do it.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no repository.
    pub fn maintain(&self, app: &AppName) -> Result<Command, Error> {
        let mut command = Command::new("git");
        // One thread and little memory: this runs beside the apps. A week is long enough for any
        // push to have left its quarantine.
        let bounds = ["pack.threads=1", "pack.windowMemory=64m", "gc.autoDetach=false"];
        for setting in bounds.iter().chain(&["gc.pruneExpire=1.week.ago"]) {
            command.args(["-c", setting]);
        }
        command.args(["gc", "--auto", "--quiet"]).current_dir(self.existing(app)?);
        self.confine(&mut command);
        command.stdin(std::process::Stdio::null());
        Ok(command)
    }

    /// The owner's ids, no environment but what git needs, a process group of its own.
    pub(super) fn confine(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/nonexistent")
            .env("LANG", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            // std drops root's supplementary groups when it sets the user id.
            .uid(self.config.owner_uid)
            .gid(self.config.owner_gid)
            .process_group(0)
            .kill_on_drop(true);
    }
}

fn hook_environment(command: &mut Command, config: &Config, places: &Places) {
    let output = match config.push_output {
        PushOutput::Direct => "direct",
        PushOutput::Sideband => "sideband",
        PushOutput::Overwrite => "overwrite",
    };
    command
        .env("STAITHE_HOOK_EXECUTABLE", &places.hook_executable)
        .env("STAITHE_CONTROL_SOCKET", &places.control_socket)
        .env("STAITHE_PUSH_OUTPUT", output);
}

/// Settings that outrank the repository's own, see git-config(1).
fn policy(config: &Config, hooks: &Path) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("core.hooksPath", hooks.display().to_string()),
        // Crafted objects have been the way into clients and servers (CVE-2018-11235,
        // CVE-2024-32002).
        ("transfer.fsckObjects", "true".to_owned()),
        ("receive.maxInputSize", config.max_push_bytes.to_string()),
    ];
    settings.extend(
        [
            // Loose objects and refs too, so that none of them is found empty after a power cut.
            // Their names are the matter of the `post-receive` hook.
            ("core.fsync", "committed,reference"),
            ("core.fsyncMethod", "batch"),
            // Pushes from shallow clones, as CI systems make them, are welcome. Refused, they
            // would be refused after `pre-receive`, that is, after the deploy.
            ("receive.shallowUpdate", "true"),
            // Whether a deletion is allowed is the platform's decision.
            ("receive.denyDeleteCurrent", "ignore"),
            ("receive.denyCurrentBranch", "ignore"),
            ("receive.denyNonFastForwards", "false"),
            ("receive.denyDeletes", "false"),
            // Packing would go on after the push in a process nobody waits for.
            ("receive.autogc", "false"),
            // Something crosses the connection at least this often (seconds), also while a build
            // is silent.
            ("receive.keepAlive", "5"),
            ("receive.advertisePushOptions", "false"),
            ("uploadpack.allowAnySHA1InWant", "false"),
            ("uploadpack.allowFilter", "true"),
            ("uploadarchive.allowUnreachable", "false"),
            ("safe.directory", "*"),
            ("pack.threads", "1"),
            ("pack.windowMemory", "128m"),
        ]
        .map(|(key, value)| (key, value.to_owned())),
    );
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_the_names_that_clients_use() {
        assert_eq!(Service::by_name("git-receive-pack"), Some(Service::ReceivePack));
        assert_eq!(Service::by_name("upload-pack"), Some(Service::UploadPack));
        assert_eq!(Service::by_name("git-upload-archive"), Some(Service::UploadArchive));
        assert_eq!(Service::by_name("git-shell"), None);
    }
}
