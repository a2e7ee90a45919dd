//! What verbs are asked with.

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::access::{EventSight, Role};
use crate::domain::{
    AppName, BranchName, BuildId, Bytes, EnvKey, EventFilter, Hostname, MilliCpus, ProcessType,
    ReleaseVersion, Secret, Timestamp, UserName,
};

/// `POST /apps`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    /// Its name.
    pub name: AppName,
}

/// `POST /apps/{app}/rename`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameApp {
    /// The new name.
    pub to: AppName,
}

/// `POST /apps/{app}/clone`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneApp {
    /// The new app's name.
    pub to: AppName,
    /// Leaves the new app without a release.
    #[serde(default)]
    pub skip_deploy: bool,
}

/// `PUT /apps/{app}/deploy-branch`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployBranch {
    /// The branch; none: the next pushed `main` or `master`.
    pub branch: Option<BranchName>,
}

/// `PATCH /apps/{app}/processes`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The wanted counts; types not named stay as they are.
    pub counts: Vec<(ProcessType, u32)>,
}

/// `POST /apps/{app}/rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The release to go back to; none: the last good one before the current.
    pub version: Option<ReleaseVersion>,
}

/// `POST /apps/{app}/builds/cancel`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelBuild {
    /// The build; none: the one going on.
    pub id: Option<BuildId>,
}

/// `POST`, `DELETE` and `PUT` on `/apps/{app}/domains`, and `PUT /domains`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainList {
    /// The domains.
    pub domains: Vec<Hostname>,
}

/// `PATCH /apps/{app}/resources/limits` and `…/reservations`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaRequest {
    /// Which quota.
    pub scope: ResourceScope,
    /// The new values.
    pub change: ResourceChange,
}

/// `PATCH /apps/{app}/checks`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckChange {
    /// `enabled`, `deadline`, `uptime`, `drain` or `stop`.
    pub key: String,
    /// Seconds, `true` or `false`; none: the default.
    pub value: Option<String>,
}

/// `POST /ssh-keys`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSshKey {
    /// What to call it.
    pub name: String,
    /// One line of `authorized_keys`, without options.
    pub public_key: String,
    /// Whose it is, which must be known; the user of the key's name if none, who is then added.
    #[serde(default)]
    pub user: Option<UserName>,
    /// The role on the platform of a user that is added; `admin`, as in Dokku, if none.
    #[serde(default)]
    pub role: Option<Role>,
}

/// `POST /stacks`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStack {
    /// `debian-13`.
    pub name: String,
}

/// A change of config vars.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
///
/// In JSON a missing key leaves the value and `null` removes the setting (as RFC 7396 has it).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceChange {
    /// Memory.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Option<Bytes>>,
    /// Processor time.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Option<MilliCpus>>,
    /// Processes and threads.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub pids: Option<Option<u32>>,
}

/// Tells `null` from a missing key, which serde's own `Option` does not.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// How many entries a list gives if not told.
const DEFAULT_LIMIT: usize = 20;
/// The most entries a list gives: bounds memory and the answer's size.
const MAX_LIMIT: usize = 1000;

/// The query of lists that grow.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListQuery {
    /// How many at most.
    pub limit: Option<usize>,
}

impl ListQuery {
    /// How many at most, within bounds.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }
}

/// The query of `GET /events`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// Only this app's.
    pub app: Option<AppName>,
    /// Only of this kind, or of kinds that begin with it: `release.`.
    pub kind: Option<String>,
    /// Only caused by this user.
    pub actor: Option<String>,
    /// Only from then on, in milliseconds since 1970.
    pub since: Option<Timestamp>,
    /// Only before then, in milliseconds since 1970.
    pub until: Option<Timestamp>,
    /// Only with a lower id: the page before one that began with it.
    pub before: Option<i64>,
    /// Only with a higher id: the first ones after it.
    pub after: Option<i64>,
    /// How many at most.
    pub limit: Option<usize>,
    /// Goes on with new ones as they come.
    #[schemars(skip)]
    pub follow: bool,
}

impl EventQuery {
    /// How many at most, within bounds.
    pub fn limit(&self) -> usize {
        ListQuery { limit: self.limit }.limit()
    }

    /// The events asked for, of those that `sight` holds.
    pub fn filter(&self, sight: EventSight) -> EventFilter {
        EventFilter {
            app: self.app.clone(),
            kind: self.kind.clone(),
            actor: self.actor.clone(),
            since: self.since,
            until: self.until,
            before: self.before,
            after: self.after,
            sight,
        }
    }
}

/// Which lines of an access log to show.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogQuery {
    /// How many of the last lines; a default if none.
    pub num: Option<usize>,
    /// Goes on with new lines as they come.
    pub tail: bool,
}

/// `POST /ssh/exec`: what the forced command of the system's sshd was asked for.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// `SSH_ORIGINAL_COMMAND`; empty for an interactive shell.
    pub command: String,
    /// A terminal of this size, or pipes.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// `TERM`, `LANG`, `LC_…` and `GIT_PROTOCOL` (git(1)) of the client; others are ignored.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TerminalSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A one-off or a guest process.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RefUpdate {
    /// The object name before; zeros for a new ref.
    pub old: String,
    /// The object name after; zeros for a deleted ref.
    pub new: String,
    /// `refs/heads/main`.
    pub name: String,
}

/// A push as the hook reports it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// Made by the hook, unguessable; asks for the outcome if the connection breaks.
    pub id: String,
    /// The app pushed to.
    pub app: AppName,
    /// The refs.
    pub updates: Vec<RefUpdate>,
    /// The quarantine's object directory (`GIT_QUARANTINE_PATH`, git-receive-pack(1)).
    pub quarantine: Option<std::path::PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_a_limit_differs_from_clearing_it() {
        let change =
            ResourceChange { memory: Some(Some(Bytes(512 << 20))), cpu: Some(None), pids: None };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"memory":"512m","cpu":null}"#);
        assert_eq!(serde_json::from_str::<ResourceChange>(&text).unwrap(), change);
    }
}
