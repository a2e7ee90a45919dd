//! What the environment says: where the server is and for whom we act. Read here, once.

use std::env;
use std::path::{Path, PathBuf};

/// Where the server's run-time files are unless told otherwise.
const DEFAULT_RUN_DIR: &str = "/run/staithe";

/// The settings of one invocation.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// The person at the other end of an SSH connection; none for a local user.
    pub(super) actor: Option<String>,
    /// Their address.
    pub(super) actor_from: Option<String>,
    /// Whether color is welcome.
    pub(super) colors: bool,
    /// The terminal's kind.
    pub(super) term: Option<String>,
}

impl Settings {
    /// From the process's environment.
    pub(super) fn from_env() -> Self {
        Self::read(|name| env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = text("TERM");
        Self {
            socket: text("STAITHE_CONTROL_SOCKET").map_or_else(
                || in_run_dir(&text("STAITHE_RUN_DIR").unwrap_or(DEFAULT_RUN_DIR.into())),
                PathBuf::from,
            ),
            actor: text("STAITHE_ACTOR"),
            actor_from: text("STAITHE_ACTOR_FROM"),
            colors: text("NO_COLOR").is_none() && term.as_deref() != Some("dumb"),
            term,
        }
    }

    /// Whether the command came over SSH: files named on its command line would be the server's,
    /// not the user's.
    pub(super) fn is_remote(&self) -> bool {
        self.actor.is_some()
    }
}

/// The control socket of the server with this run directory.
pub(super) fn in_run_dir(directory: &str) -> PathBuf {
    Path::new(directory).join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[(&str, &str)], socket: &str) {
        let settings = Settings::read(|name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(settings.socket, Path::new(socket));
    }

    #[test]
    fn the_socket_is_named_directly_or_by_its_directory() {
        check(&[], "/run/staithe/control.sock");
        check(&[("STAITHE_RUN_DIR", "/tmp/x")], "/tmp/x/control.sock");
        let both = [("STAITHE_RUN_DIR", "/tmp/x"), ("STAITHE_CONTROL_SOCKET", "/a.sock")];
        check(&both, "/a.sock");
        check(&[("STAITHE_RUN_DIR", "")], "/run/staithe/control.sock");
    }
}
