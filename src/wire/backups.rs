//! What is said about backups.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Backup, BackupCause, BackupId, BackupPlace, BackupState, PluginName, ServiceName, Timestamp,
};

/// `POST /services/{type}/{name}/backups`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Where this one goes; none: where the settings say.
    #[serde(default)]
    pub place: Option<BackupPlace>,
}

/// `POST /services/{type}/{name}/backups/verify` and `…/remove`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupChoice {
    /// Which one; none: the newest.
    #[serde(default)]
    pub id: Option<BackupId>,
}

/// `POST /services/{type}/{name}/restore`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Which one; none: the last verified.
    #[serde(default)]
    pub id: Option<BackupId>,
    /// A new service that becomes what the backup is of; none: the service itself.
    #[serde(default)]
    pub to: Option<ServiceName>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Restored {
    /// What was restored.
    pub backup: BackupId,
    /// Into which service.
    pub service: ServiceName,
    /// The backup of what was there before, if anything was.
    pub safety: Option<BackupId>,
}

/// `PATCH /services/{type}/{name}/backup-settings` and `PATCH /backup-settings`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupChange {
    /// What to set: one of `domain::BACKUP_SETTINGS`, or `schedule`.
    pub key: String,
    /// To what; empty takes it back.
    pub value: crate::domain::Secret,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupReport {
    /// Its name.
    pub id: BackupId,
    /// The type of its service.
    #[serde(rename = "type")]
    pub kind: PluginName,
    /// Its service.
    pub service: ServiceName,
    /// `running`, `stored`, `verified`, `bad` or `failed`.
    pub state: String,
    /// What is wrong, if anything is.
    pub why: Option<String>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was restored into a scratch service and found equal.
    pub verified_at: Option<Timestamp>,
    /// How long ago it was begun.
    pub age_ms: u64,
    /// Why it was made.
    pub cause: BackupCause,
    /// Who asked for it.
    pub actor: String,
    /// Where it is.
    pub place: BackupPlace,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the dump.
    pub sha256: String,
    /// What the contents were.
    pub facts: serde_json::Value,
}

impl BackupReport {
    /// The backup as it stands at `now`.
    pub fn new(backup: Backup, now: Timestamp) -> Self {
        let verified_at = match backup.state {
            BackupState::Verified { at } => Some(at),
            _ => None,
        };
        let age = now.since(backup.created_at).as_millis();
        Self {
            state: backup.state.word().to_owned(),
            why: backup.state.why().map(ToOwned::to_owned),
            verified_at,
            age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            // What cannot be read was never written by this program.
            facts: serde_json::from_str(&backup.facts).unwrap_or_default(),
            id: backup.id,
            kind: backup.kind,
            service: backup.service,
            created_at: backup.created_at,
            cause: backup.cause,
            actor: backup.actor.name,
            place: backup.place,
            bytes: backup.bytes,
            sha256: backup.sha256,
        }
    }
}

/// How a service stands with its backups; without a service, what is set for all.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupStatus {
    /// Where new ones go.
    pub place: BackupPlace,
    /// When they are made; none: only when somebody asks.
    pub schedule: Option<String>,
    /// When the next one is made.
    pub next_at: Option<Timestamp>,
    /// How many are kept.
    pub keep: u32,
    /// For how many days they are kept.
    pub keep_days: Option<u32>,
    /// Another server than Amazon's.
    pub s3_endpoint: Option<String>,
    /// The buckets' region.
    pub s3_region: Option<String>,
    /// Whether there are credentials.
    pub s3_credentials: bool,
    /// How many there are that can be restored, as far as is known.
    pub usable: usize,
    /// Bytes of all that are kept.
    pub bytes: u64,
    /// The newest of all, also if it failed.
    pub last: Option<BackupReport>,
    /// The newest that was verified.
    pub last_verified: Option<BackupReport>,
}
