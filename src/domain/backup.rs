//! Backups of services: what is known of each, where they are kept, which are kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Actor, Invalid, PluginName, Schedule, Secret, ServiceName, Timestamp};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Backups kept where nothing else is said.
const DEFAULT_KEEP: u32 = 14;
/// More would make lists and retention slow, and is rather a mistake.
const MAX_KEEP: u32 = 1000;
const MAX_DAYS: u32 = 3650;
/// Records of failures kept beside the backups.
const KEPT_FAILURES: usize = 20;
/// S3 allows less in each of these.
const MAX_SETTING: usize = 512;

/// A backup's name: when it was begun, to the second, and eight hexadecimal digits, of which three are
/// milliseconds and five are random, as `20261124-143209-2c1b12cd`. Names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId(String);

impl BackupId {
    /// The name of a backup begun at `at`; none for a moment that no calendar has.
    pub fn new(at: Timestamp, random: [u8; 4]) -> Option<Self> {
        let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        let random = u32::from_be_bytes(random) & 0xf_ffff;
        let millis = at.millisecond();
        format!("{}-{millis:03x}{random:05x}", at.strftime("%Y%m%d-%H%M%S")).parse().ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits =
            |part: &str, len: usize| part.len() == len && part.bytes().all(|c| c.is_ascii_digit());
        let hex = |part: &str| {
            part.len() == 8 && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.split('-').collect::<Vec<_>>()[..] {
            [day, time, random] if digits(day, 8) && digits(time, 6) && hex(random) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Invalid::new("backup", text, "must look like 20261124-143209-00ab12cd")),
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(BackupId);

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupCause {
    /// Somebody asked for it.
    Manual,
    /// Its time had come.
    Schedule,
    /// The contents were about to be replaced by a restore.
    Safety,
}

impl fmt::Display for BackupCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::Safety => "safety",
        })
    }
}

/// How far a backup has come.
///
/// ```text
///  Running ─► Stored ─► Verified
///     │          └────► Bad        (and from Verified, when it is looked at again)
///     └─► Failed
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum BackupState {
    /// It is being made.
    Running,
    /// It is whole at its place, and nobody has restored it yet.
    Stored {
        /// Why it could not be looked at, if that was tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unverified: Option<String>,
    },
    /// It was read back and restored, and the contents were those that had been dumped.
    Verified {
        /// When.
        at: Timestamp,
    },
    /// It was read back and is not what had been dumped.
    Bad {
        /// When that was seen.
        at: Timestamp,
        /// What is wrong with it.
        why: String,
    },
    /// There is none.
    Failed {
        /// Why.
        why: String,
    },
}

impl BackupState {
    /// Whether there is a file that can be restored as far as is known.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Verified { .. })
    }

    /// One word for lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stored { .. } => "stored",
            Self::Verified { .. } => "verified",
            Self::Bad { .. } => "bad",
            Self::Failed { .. } => "failed",
        }
    }

    /// What is wrong, if anything is.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Bad { why, .. } | Self::Failed { why } => Some(why),
            Self::Stored { unverified } => unverified.as_deref(),
            Self::Running | Self::Verified { .. } => None,
        }
    }
}

/// A backup as the store keeps it. It outlives its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Backup {
    /// Its name.
    pub id: BackupId,
    /// The type of its service.
    pub kind: PluginName,
    /// The name of its service.
    pub service: ServiceName,
    /// Where it is.
    pub place: BackupPlace,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was whole.
    pub finished_at: Option<Timestamp>,
    /// Why it was made.
    pub cause: BackupCause,
    /// Who asked for it.
    pub actor: Actor,
    /// What its file ends with.
    pub extension: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the dump, hexadecimal.
    pub sha256: String,
    /// What the contents were, as the type's `check` describes them: JSON text.
    pub facts: String,
    /// How far it has come.
    pub state: BackupState,
}

/// Where backups are kept: `local`, or `s3://bucket/prefix`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum BackupPlace {
    /// In the data directory of this machine.
    #[default]
    Local,
    /// In a bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What all names in it begin with.
        prefix: Option<String>,
    },
}

impl FromStr for BackupPlace {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "local" {
            return Ok(Self::Local);
        }
        let invalid = |why: &str| Invalid::new("backup place", text, why);
        let rest = text
            .strip_prefix("s3://")
            .ok_or_else(|| invalid("must be `local` or `s3://bucket/prefix`"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // The rules for names of buckets, of Amazon's older ones too.
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let sound = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(allowed)
            && bucket.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if !sound {
            return Err(invalid("names no bucket: 3 to 63 letters, digits, `.`, `-`, `_`"));
        }
        let part = |part: &str| {
            part.len() <= 96
                && part.bytes().all(allowed)
                && part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
        };
        let prefix = prefix.trim_end_matches('/');
        let sound = prefix.split('/').all(part) && prefix.split('/').count() <= 2;
        if !prefix.is_empty() && !sound {
            return Err(invalid("may have a prefix of one or two plain names"));
        }
        let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Bucket { bucket, prefix: None } => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix: Some(prefix) } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

text_serde!(BackupPlace);

/// What is set about backups, of one service or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct BackupSettings {
    /// Where new ones go.
    pub place: Option<BackupPlace>,
    /// `https://s3.example.com`; none: Amazon's.
    pub s3_endpoint: Option<String>,
    /// The bucket's region.
    pub s3_region: Option<String>,
    /// The public half of the credentials.
    pub s3_access_key_id: Option<String>,
    /// The secret half.
    pub s3_secret_access_key: Option<Secret>,
    /// How many are kept.
    pub keep: Option<u32>,
    /// For how many days they are kept; 0: no limit.
    pub keep_days: Option<u32>,
    /// When they are made.
    pub schedule: Option<Schedule>,
}

/// The names of settings, as `backup-set` takes them.
pub const BACKUP_SETTINGS: [&str; 7] = [
    "place",
    "s3-endpoint",
    "s3-region",
    "s3-access-key-id",
    "s3-secret-access-key",
    "keep",
    "keep-days",
];

impl BackupSettings {
    /// Sets what `key` names; an empty value takes it back. The schedule has verbs of its own.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be meant.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Invalid> {
        let value = value.trim();
        if value.len() > MAX_SETTING || value.chars().any(char::is_control) {
            // The value may be a secret.
            return Err(Invalid::new("setting", key, "must be one line of at most 512 characters"));
        }
        let text = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "place" => self.place = text.map(|text| text.parse()).transpose()?,
            "s3-endpoint" => self.s3_endpoint = text.map(endpoint).transpose()?,
            "s3-region" => self.s3_region = text.map(|text| word("region", text)).transpose()?,
            "s3-access-key-id" => {
                self.s3_access_key_id = text.map(|text| word("access key id", text)).transpose()?;
            }
            "s3-secret-access-key" => self.s3_secret_access_key = text.map(Secret::new),
            "keep" => {
                self.keep = text.map(|text| number("keep", &text, 1, MAX_KEEP)).transpose()?
            }
            "keep-days" => {
                self.keep_days =
                    text.map(|text| number("keep-days", &text, 0, MAX_DAYS)).transpose()?;
            }
            _ => {
                let why = format!("is not one of {}", BACKUP_SETTINGS.join(", "));
                return Err(Invalid::new("setting", key, why));
            }
        }
        Ok(())
    }

    /// These, and those of `all` where these say nothing. Credentials are taken together with their
    /// endpoint, so that those for one server are never shown to another.
    #[must_use]
    pub fn or(&self, all: &Self) -> Self {
        let own_server = self.s3_endpoint.is_some()
            || self.s3_access_key_id.is_some()
            || self.s3_secret_access_key.is_some();
        let server = if own_server { self } else { all };
        Self {
            place: self.place.clone().or_else(|| all.place.clone()),
            s3_endpoint: server.s3_endpoint.clone(),
            s3_region: self.s3_region.clone().or_else(|| all.s3_region.clone()),
            s3_access_key_id: server.s3_access_key_id.clone(),
            s3_secret_access_key: server.s3_secret_access_key.clone(),
            keep: self.keep.or(all.keep),
            keep_days: self.keep_days.or(all.keep_days),
            schedule: self.schedule.clone().or_else(|| all.schedule.clone()),
        }
    }

    /// Which backups are kept.
    pub fn retention(&self) -> Retention {
        Retention {
            count: self.keep.unwrap_or(DEFAULT_KEEP),
            days: self.keep_days.filter(|days| *days > 0),
        }
    }
}

fn endpoint(text: String) -> Result<String, Invalid> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
    match rest {
        Some(host) if !host.is_empty() && host.bytes().all(plain) => Ok(text),
        _ => Err(Invalid::new("endpoint", &text, "must look like https://s3.example.com:9000")),
    }
}

fn word(what: &'static str, text: String) -> Result<String, Invalid> {
    match text.bytes().all(|c| c.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(Invalid::new(what, &text, "may hold no spaces")),
    }
}

fn number(what: &'static str, text: &str, least: u32, most: u32) -> Result<u32, Invalid> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Invalid::new(what, text, format!("must be from {least} to {most}")))
}

/// Which backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest, so many.
    pub count: u32,
    /// Of these, those that are no older.
    pub days: Option<u32>,
}

impl Retention {
    /// Those of one service's `backups` that are not to be kept.
    ///
    /// The last verified one is always kept, and so is the newest usable one: an old backup is
    /// better than none. Those that are known to be bad go when their turn comes; so do records of
    /// failures, of which the newest stay.
    pub fn outdated<'a>(&self, backups: &'a [Backup], now: Timestamp) -> Vec<&'a Backup> {
        let mut newest: Vec<&Backup> = backups.iter().collect();
        newest.sort_by(|a, b| b.id.cmp(&a.id));
        let verified = newest.iter().find(|b| matches!(b.state, BackupState::Verified { .. }));
        let usable = newest.iter().find(|backup| backup.state.is_usable());
        let spared: Vec<&BackupId> =
            [verified, usable].into_iter().flatten().map(|backup| &backup.id).collect();
        let too_old = |backup: &Backup| {
            let days = self.days.map(|days| DAY.saturating_mul(days));
            days.is_some_and(|days| now.since(backup.created_at) > days)
        };
        let (mut kept, mut failures) = (0, 0);
        newest.retain(|backup| match backup.state {
            BackupState::Running => false,
            BackupState::Failed { .. } => {
                failures += 1;
                failures > KEPT_FAILURES
            }
            _ => {
                let keep = kept < self.count && !too_old(backup);
                kept += 1;
                !keep && !spared.contains(&&backup.id)
            }
        });
        newest
    }
}

#[cfg(test)]
mod tests;
