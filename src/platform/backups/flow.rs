//! How a backup is made and looked at, whatever database it is of and wherever it is kept.
//!
//! ```text
//!  export ─► hash ─► dump ─► manifest.json            it exists once the manifest does
//!  dump ─► hash ─► import into a scratch service ─► check = the facts of the export?
//!                                                  └─► verified.json
//! ```
//!
//! Here are no containers and no records: both are the caller's.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Error, Kind, Result};
use crate::archive::{Archive, Key, Reader, Stored, Sum, Writer};
use crate::domain::{Backup, BackupId, PluginName, ServiceName, Timestamp};
use crate::support::report;

/// Facts are some hundred bytes for each table.
const MAX_MANIFEST: u64 = 8 << 20;
/// What manifests say they are.
const VERSION: u32 = 1;

/// A database, as far as backups are concerned.
pub(super) trait Database: Send + Sync {
    /// Another one of the same type, empty; gone with everything when dropped.
    type Scratch: Database;

    /// Writes a dump, and answers the facts about the very contents that were dumped.
    fn export(
        &self,
        id: &BackupId,
        dump: &mut Writer,
    ) -> impl Future<Output = Result<String>> + Send;

    /// Replaces the contents by a dump, which is added up on its way.
    fn import(
        &self,
        dump: &mut Reader,
        sum: &mut Sum,
    ) -> impl Future<Output = std::result::Result<(), ImportError>> + Send;

    /// The facts about the contents.
    fn check(&self) -> impl Future<Output = Result<String>> + Send;

    /// Makes an empty one.
    fn scratch(&self) -> impl Future<Output = Result<Self::Scratch>> + Send;
}

/// Why a dump was not taken.
#[derive(Debug)]
pub(super) enum ImportError {
    /// The dump cannot be read: this says nothing about it.
    Read(crate::archive::Error),
    /// The database does not want it.
    Refused(String),
    /// Nothing to do with the dump.
    Other(Error),
}

/// `manifest.json`: what is needed to restore a backup where nobody remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// Its name.
    pub(super) id: BackupId,
    /// The type of its service.
    pub(super) kind: PluginName,
    /// The name of its service.
    pub(super) service: ServiceName,
    /// When it was begun.
    pub(super) created_at: Timestamp,
    /// What its file ends with.
    pub(super) extension: String,
    /// Its size.
    pub(super) bytes: u64,
    /// SHA-256 of the dump.
    pub(super) sha256: String,
    /// What the contents were.
    pub(super) facts: serde_json::Value,
}

/// The names of a backup's files.
pub(super) struct Files {
    /// The contents.
    pub(super) dump: Key,
    /// Written last.
    pub(super) manifest: Key,
    /// Written once it was verified.
    pub(super) verified: Key,
}

impl Files {
    /// Those of the backup of that name.
    pub(super) fn of(kind: &PluginName, service: &ServiceName, id: &BackupId) -> Result<Self> {
        let directory: Key = format!("{kind}/{service}/{id}").parse()?;
        Ok(Self {
            dump: directory.join("dump")?,
            manifest: directory.join("manifest.json")?,
            verified: directory.join("verified.json")?,
        })
    }
}

/// Makes a backup: fills in what is known of it then. On failure nothing is left but what the place
/// cannot be asked to remove.
pub(super) async fn make<D: Database>(
    database: &D,
    archive: &Archive,
    backup: &mut Backup,
    limit: u64,
) -> Result<()> {
    let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
    let mut writer = archive.create(&files.dump, limit).await?;
    let facts = match database.export(&backup.id, &mut writer).await {
        Ok(facts) => facts,
        Err(error) => {
            writer.abort().await;
            return Err(error);
        }
    };
    let stored = writer.finish().await?;
    let finished = finish(archive, &files, backup, stored, facts).await;
    if finished.is_err()
        && let Err(error) = remove(archive, &files).await
    {
        let error = report(&error);
        tracing::warn!(backup = backup.id.as_str(), error, "half a backup is left");
    }
    finished
}

async fn finish(
    archive: &Archive,
    files: &Files,
    backup: &mut Backup,
    stored: Stored,
    facts: String,
) -> Result<()> {
    if stored.bytes == 0 {
        return Err(Error::new(Kind::Failed, "the export is empty"));
    }
    let value = parse_facts(&facts)?;
    (backup.bytes, backup.sha256, backup.facts) = (stored.bytes, stored.sha256, facts);
    let manifest = Manifest {
        version: VERSION,
        id: backup.id.clone(),
        kind: backup.kind.clone(),
        service: backup.service.clone(),
        created_at: backup.created_at,
        extension: backup.extension.clone(),
        bytes: backup.bytes,
        sha256: backup.sha256.clone(),
        facts: value,
    };
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::internal("cannot write a manifest", error))?;
    archive.put(&files.manifest, text.into()).await?;
    Ok(())
}

/// A backup's manifest, as its place has it.
pub(super) async fn manifest(archive: &Archive, files: &Files) -> Result<Manifest> {
    let text = archive.get(&files.manifest, MAX_MANIFEST).await?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| {
        Error::new(Kind::Failed, format!("`{}` is no manifest of a backup", files.manifest))
            .because(error)
    })?;
    match manifest.version {
        VERSION => Ok(manifest),
        other => Err(Error::new(
            Kind::Failed,
            format!("`{}` has version {other}, this Staithe knows {VERSION}", files.manifest),
        )),
    }
}

/// What was found out about a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be restored, to what was dumped.
    Good,
    /// It cannot, or not to that.
    Bad(String),
}

/// Reads a backup back and restores it into a scratch service.
///
/// # Errors
/// If nothing could be found out: the place does not answer, no scratch service can be made.
pub(super) async fn verify<D: Database>(
    database: &D,
    archive: &Archive,
    backup: &Backup,
) -> Result<Verdict> {
    let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
    let mut reader = match archive.open_file(&files.dump).await {
        Ok(reader) => reader,
        Err(crate::archive::Error::Missing { code: None, .. }) => {
            return Ok(Verdict::Bad(format!("it is not at {} any more", archive.location())));
        }
        Err(error) => return Err(error.into()),
    };
    let scratch = database.scratch().await?;
    let mut sum = Sum::default();
    let refused = match scratch.import(&mut reader, &mut sum).await {
        Ok(()) => None,
        Err(ImportError::Refused(why)) => Some(why),
        Err(ImportError::Read(error)) => return Err(error.into()),
        Err(ImportError::Other(error)) => return Err(error),
    };
    // A dump that was refused half-way was not read to its end.
    while let Some(piece) = reader.next().await? {
        sum.update(&piece);
    }
    if let Some(why) = damage(backup, &sum.finish()) {
        return Ok(Verdict::Bad(why));
    }
    if let Some(why) = refused {
        return Ok(Verdict::Bad(format!("it cannot be restored: {why}")));
    }
    let (found, expected) = (parse_facts(&scratch.check().await?)?, parse_facts(&backup.facts)?);
    if found != expected {
        let why = format!("it restores to other contents: {}", difference(&expected, &found));
        return Ok(Verdict::Bad(why));
    }
    let note = serde_json::json!({ "id": backup.id, "sha256": backup.sha256 }).to_string();
    archive.put(&files.verified, Bytes::from(note)).await?;
    Ok(Verdict::Good)
}

/// Whether what is at its place is what was put there.
///
/// # Errors
/// If it cannot be read.
pub(super) async fn intact(archive: &Archive, backup: &Backup) -> Result<Verdict> {
    let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
    let mut reader = archive.open_file(&files.dump).await?;
    let mut sum = Sum::default();
    while let Some(piece) = reader.next().await? {
        sum.update(&piece);
    }
    Ok(damage(backup, &sum.finish()).map_or(Verdict::Good, Verdict::Bad))
}

/// Puts a backup into a database, and looks whether it has become what was dumped.
///
/// The dump is read twice: what is not whole must not replace what is there.
pub(super) async fn restore<D: Database>(
    database: &D,
    archive: &Archive,
    backup: &Backup,
) -> Result<()> {
    if let Verdict::Bad(why) = intact(archive, backup).await? {
        return Err(Error::new(Kind::Failed, format!("backup {} is damaged: {why}", backup.id))
            .hint("nothing was changed; choose another one"));
    }
    let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
    let mut reader = archive.open_file(&files.dump).await?;
    let mut sum = Sum::default();
    match database.import(&mut reader, &mut sum).await {
        Ok(()) => {}
        Err(ImportError::Read(error)) => return Err(error.into()),
        Err(ImportError::Other(error)) => return Err(error),
        Err(ImportError::Refused(why)) => {
            let message = format!("backup {} cannot be restored: {why}", backup.id);
            return Err(Error::new(Kind::Failed, message));
        }
    }
    let (found, expected) = (parse_facts(&database.check().await?)?, parse_facts(&backup.facts)?);
    match found == expected {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Failed,
            format!(
                "the contents are not those of backup {}: {}",
                backup.id,
                difference(&expected, &found)
            ),
        )
        .hint("apps that write meanwhile make them differ: stop them, and restore again")),
    }
}

/// Removes a backup's files; the manifest first, so that half of one never looks like a whole.
pub(super) async fn remove(archive: &Archive, files: &Files) -> Result<()> {
    for key in [&files.manifest, &files.verified, &files.dump] {
        archive.delete(key).await?;
    }
    Ok(())
}

fn damage(backup: &Backup, found: &Stored) -> Option<String> {
    if found.bytes != backup.bytes {
        return Some(format!("it has {} bytes, not {}", found.bytes, backup.bytes));
    }
    (found.sha256 != backup.sha256).then(|| "its contents have changed (SHA-256 differs)".into())
}

fn parse_facts(text: &str) -> Result<serde_json::Value> {
    match serde_json::from_str(text) {
        Ok(facts @ serde_json::Value::Object(_)) => Ok(facts),
        _ => Err(Error::new(
            Kind::Failed,
            "the plugin does not describe the contents: its `check` must print one JSON object",
        )),
    }
}

/// Names the first facts that differ, not their values in full: a table's name and its rows.
fn difference(expected: &serde_json::Value, found: &serde_json::Value) -> String {
    const SHOWN: usize = 3;
    let mut differing = Vec::new();
    collect(expected, found, String::new(), &mut differing);
    let more = differing.len().saturating_sub(SHOWN);
    differing.truncate(SHOWN);
    let tail = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{tail}", differing.join(", "))
}

fn collect(
    expected: &serde_json::Value,
    found: &serde_json::Value,
    path: String,
    differing: &mut Vec<String>,
) {
    use serde_json::Value;
    if let (Value::Object(a), Value::Object(b)) = (expected, found) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (a, b) = (a.get(key), b.get(key));
            collect(a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null), path, differing);
        }
        return;
    }
    if expected != found {
        let short = |value: &Value| -> String { value.to_string().chars().take(40).collect() };
        let path: String = path.chars().filter(|c| !c.is_control()).take(80).collect();
        differing.push(format!("{path} is {}, not {}", short(found), short(expected)));
    }
}

#[cfg(test)]
mod tests;
