//! What verbs are asked with.

use serde::{Deserialize, Serialize};

use crate::domain::{Bytes, EnvKey, MilliCpus, ProcessType, Secret};

/// A change of config vars.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigChange {
    /// Vars to set.
    pub set: Vec<(EnvKey, Secret)>,
    /// Vars to remove.
    pub unset: Vec<EnvKey>,
    /// Whether all vars not in `set` are removed (`config:clear`, `config:import --replace`).
    pub replace: bool,
    /// Leaves the running release as it is (`--no-restart`).
    pub no_restart: bool,
}

/// Which quota a `resource:` verb speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceScope {
    /// Every process type without an own setting.
    Default,
    /// One process type; `build` for builds.
    Type(ProcessType),
    /// All instances of the app together (`--total`).
    App,
}

/// New limits; outer `None` leaves a value, inner `None` (`clear`) removes the setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceChange {
    /// Memory.
    pub memory: Option<Option<Bytes>>,
    /// Processor time.
    pub cpu: Option<Option<MilliCpus>>,
    /// Processes and threads.
    pub pids: Option<Option<u32>>,
}

/// Which log lines to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogQuery {
    /// Only this process type or instance (`web`, `web.2`).
    pub process: Option<String>,
    /// How many of the last lines; a default if none.
    pub num: Option<usize>,
    /// Goes on with new lines as they come.
    pub tail: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A one-off or a guest process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunRequest {
    /// For `enter`: the instance (`web.1`) or the type (`web`); for `run`: unused.
    pub process: Option<String>,
    /// Program and arguments; a single one naming a process type runs that type's command.
    pub args: Vec<String>,
    /// Extra environment, for this process only.
    pub env: Vec<(EnvKey, Secret)>,
    /// A terminal of this size, or pipes.
    pub terminal: Option<TerminalSize>,
    /// The terminal's kind (`TERM`).
    pub term: Option<String>,
}

/// One ref of a push, as `pre-receive` gets it (githooks(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The object name before; zeros for a new ref.
    pub old: String,
    /// The object name after; zeros for a deleted ref.
    pub new: String,
    /// `refs/heads/main`.
    pub name: String,
}

/// A push as the hook reports it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// Made by the hook, unguessable; asks for the outcome if the connection breaks.
    pub id: String,
    /// The app pushed to.
    pub app: crate::domain::AppName,
    /// The refs.
    pub updates: Vec<RefUpdate>,
    /// The quarantine's object directory (`GIT_QUARANTINE_PATH`, git-receive-pack(1)).
    pub quarantine: Option<std::path::PathBuf>,
}
