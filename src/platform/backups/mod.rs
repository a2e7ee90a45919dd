//! Backups of services: made, looked at, kept, restored.
//!
//! A backup counts as good only once it has been restored into a scratch service and has become what
//! was dumped (`flow.rs`). One service has one backup, look or restore at a time (`Desk`). Records
//! are in the store and outlive the service; files are where the settings say, with all in their
//! manifest that is needed where the records are gone.
//!
//! ```text
//!  backup ─► record `running` ─► export ─► files ─► `stored` ─► scratch service ─► `verified`
//!               │ restart            │                                       └──► `bad`
//!               └────────► `failed` ◄┘                   retention: what is outdated goes
//! ```

mod database;
mod flow;
mod keeper;
mod restore;
mod settings;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{Error, Journal, Kind, Operation, Platform, Result, clock};
use crate::archive::{Archive, Bucket, Place};
use crate::build::Output;
use crate::domain::{
    Actor, Backup, BackupCause, BackupId, BackupPlace, BackupSettings, BackupState, PluginName,
    Service, ServiceName,
};
use crate::plugin::Hook;
use crate::support::report;
use crate::wire::{BackupReport, BackupRequest};
use database::Live;
use flow::{Files, Verdict};

/// Backups and restores at a time on this machine: each has two databases at work.
const AT_ONCE: usize = 2;

/// Who is busy with which service.
#[derive(Debug)]
pub(super) struct Desk {
    busy: Mutex<HashMap<(PluginName, ServiceName), &'static str>>,
    places: Semaphore,
}

impl Default for Desk {
    fn default() -> Self {
        Self { busy: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

/// A service that nobody else backs up or restores until this is dropped.
#[derive(Debug)]
struct Claim {
    platform: Platform,
    key: (PluginName, ServiceName),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.platform.0.backups.lock().remove(&self.key);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, HashMap<(PluginName, ServiceName), &'static str>> {
        // Entries are put and taken as a whole.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platform {
    /// Claims a service for `what`: `being backed up`.
    fn claim(&self, kind: &PluginName, name: &ServiceName, what: &'static str) -> Result<Claim> {
        let key = (kind.clone(), name.clone());
        let mut busy = self.0.backups.lock();
        if let Some(now) = busy.get(&key) {
            let message = format!("{kind} service `{name}` is {now} already");
            return Err(Error::new(Kind::Conflict, message).hint("try again when that has ended"));
        }
        busy.insert(key.clone(), what);
        Ok(Claim { platform: self.clone(), key })
    }

    /// Makes a backup and looks at it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the service does not run, or is being backed up already;
    /// `Invalid` if its type has no backups or the place cannot be used.
    pub async fn backup_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        request: BackupRequest,
    ) -> Result<Operation<BackupReport>> {
        let service = self.find_service(kind, name)?;
        let job = self.prepare_backup(actor, &service, BackupCause::Manual, request.place)?;
        Ok(self.operate(Journal::new(), |platform, output, _| async move {
            let (backup, wrong) = platform.make_and_look(job, &output).await?;
            match wrong {
                None => Ok(BackupReport::new(backup, clock::now())),
                Some(wrong) => Err(unverified(&backup, &wrong)),
            }
        }))
    }

    /// The backups of a service, newest first; also of one that is gone.
    ///
    /// # Errors
    /// `NotFound` if there is neither such a service nor a backup of one.
    pub async fn service_backups(
        &self,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Vec<BackupReport>> {
        let backups = self.store.backups(kind, name)?;
        if backups.is_empty() {
            self.find_service(kind, name)?;
        }
        let now = clock::now();
        Ok(backups.into_iter().map(|backup| BackupReport::new(backup, now)).collect())
    }

    /// One backup of a service.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn service_backup(
        &self,
        kind: &PluginName,
        name: &ServiceName,
        id: BackupId,
    ) -> Result<BackupReport> {
        let backup = self.choose_backup(kind, name, Some(id), |_| true)?;
        Ok(BackupReport::new(backup, clock::now()))
    }

    /// Reads a backup back and restores it into a scratch service.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the service is busy; `Failed` if the backup is bad.
    pub async fn verify_backup(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        id: Option<BackupId>,
    ) -> Result<Operation<BackupReport>> {
        let service = self.find_service(kind, name)?;
        let mut backup = self.choose_backup(kind, name, id, |_| true)?;
        let archive = self.archive_of(&backup)?;
        let claim = self.claim(kind, name, "having a backup looked at")?;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), |platform, output, _| async move {
            let _claim = claim;
            let _place = platform.0.backups.places.acquire().await;
            let live = Live::new(&platform, service);
            match platform.look_at(&live, &archive, &mut backup, &actor, &output).await? {
                None => Ok(BackupReport::new(backup, clock::now())),
                Some(wrong) => Err(unverified(&backup, &wrong)),
            }
        }))
    }

    /// Removes a backup and its record.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for one that is being made, or the last verified one without `force`.
    pub async fn remove_backup(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        id: &BackupId,
        force: bool,
    ) -> Result<BackupReport> {
        let backup = self.choose_backup(kind, name, Some(id.clone()), |_| true)?;
        if backup.state == BackupState::Running {
            return Err(Error::new(Kind::Conflict, format!("backup {id} is being made")));
        }
        let _claim = self.claim(kind, name, "having a backup removed")?;
        let good = |backup: &&Backup| matches!(backup.state, BackupState::Verified { .. });
        let last = self.store.backups(kind, name)?.iter().find(good).map(|last| last.id.clone());
        if last.as_ref() == Some(id) && !force {
            let message =
                format!("backup {id} is the last verified one of {kind} service `{name}`");
            return Err(Error::new(Kind::Conflict, message).hint("--force removes it all the same"));
        }
        self.discard_backup(&backup).await?;
        self.note_backup(&backup, "backup.removed", "was removed", actor);
        Ok(BackupReport::new(backup, clock::now()))
    }

    /// What files of the service's exports end with.
    fn backup_extension(&self, service: &Service) -> Result<String> {
        self.exportable(service)?;
        let plugin = self.find_plugin(&service.kind)?;
        let described = plugin.manifest().service.as_ref();
        Ok(described.and_then(|described| described.backup_extension.clone()).unwrap_or_default())
    }

    fn require_serving(&self, service: &Service) -> Result<()> {
        if self.service_serves(service) {
            return Ok(());
        }
        let (kind, name) = (&service.kind, &service.name);
        Err(Error::new(Kind::Conflict, format!("{} does not run", service.title()))
            .hint(format!("run `staithe {kind}:start {name}`")))
    }

    /// The backup of that name, or the newest that is `fit`.
    fn choose_backup(
        &self,
        kind: &PluginName,
        name: &ServiceName,
        id: Option<BackupId>,
        fit: impl Fn(&Backup) -> bool,
    ) -> Result<Backup> {
        let backups = self.store.backups(kind, name)?;
        let missing = |what: String| {
            Error::new(Kind::NotFound, what)
                .hint(format!("run `staithe {kind}:backup-list {name}` to see those there are"))
        };
        match id {
            Some(id) => backups
                .into_iter()
                .find(|backup| backup.id == id)
                .ok_or_else(|| missing(format!("{kind} service `{name}` has no backup {id}"))),
            None => backups.into_iter().find(fit).ok_or_else(|| {
                missing(format!("{kind} service `{name}` has no backup that can be used"))
            }),
        }
    }

    fn archive_of(&self, backup: &Backup) -> Result<Archive> {
        let settings = self.backup_settings_of(&backup.kind, &backup.service)?;
        self.archive(&backup.place, &settings)
    }

    /// A place, with the credentials that the settings have for it.
    fn archive(&self, place: &BackupPlace, settings: &BackupSettings) -> Result<Archive> {
        let place = match place {
            BackupPlace::Local => Place::Local(self.settings().data_dir.join("backups")),
            BackupPlace::Bucket { bucket, prefix } => {
                let missing = |what: &str| {
                    Error::new(Kind::Invalid, format!("the bucket `{bucket}` needs {what}")).hint(
                        "set it for all services: `staithe <type>:backup-set --global s3-access-key-id …`",
                    )
                };
                let id = settings.s3_access_key_id.clone();
                let secret = settings.s3_secret_access_key.clone();
                Place::Bucket(Bucket {
                    endpoint: settings.s3_endpoint.clone(),
                    region: settings.s3_region.clone().unwrap_or_else(|| "us-east-1".into()),
                    bucket: bucket.clone(),
                    prefix: prefix.as_ref().map(|prefix| prefix.parse()).transpose()?,
                    access_key_id: id.ok_or_else(|| missing("s3-access-key-id"))?,
                    secret_access_key: secret.ok_or_else(|| missing("s3-secret-access-key"))?,
                })
            }
        };
        let tls = self.certificates.trust.client();
        let tls = tls.map_err(|error| Error::internal("cannot set TLS up", error))?;
        Ok(Archive::open(&place, tls)?)
    }

    /// Claims the service, and begins a backup.
    fn prepare_backup(
        &self,
        actor: &Actor,
        service: &Service,
        cause: BackupCause,
        place: Option<BackupPlace>,
    ) -> Result<Job> {
        let claim = self.claim(&service.kind, &service.name, "being backed up")?;
        let job = self.begin_backup(actor, service, cause, place)?;
        Ok(Job { claim: Some(claim), ..job })
    }

    /// Checks what can be checked beforehand, and writes down that a backup begins. The caller has
    /// claimed the service.
    fn begin_backup(
        &self,
        actor: &Actor,
        service: &Service,
        cause: BackupCause,
        place: Option<BackupPlace>,
    ) -> Result<Job> {
        let (kind, name) = (&service.kind, &service.name);
        let extension = self.backup_extension(service)?;
        self.require_serving(service)?;
        let settings = self.backup_settings_of(kind, name)?;
        let place = place.or_else(|| settings.place.clone()).unwrap_or_default();
        let archive = self.archive(&place, &settings)?;
        let backup = Backup {
            id: new_id()?,
            kind: kind.clone(),
            service: name.clone(),
            place,
            created_at: clock::now(),
            finished_at: None,
            cause,
            actor: actor.clone(),
            extension,
            bytes: 0,
            sha256: String::new(),
            facts: String::new(),
            state: BackupState::Running,
        };
        self.store.set_backup(&backup)?;
        Ok(Job { claim: None, service: service.clone(), archive, backup })
    }

    /// Makes the backup and looks at it. What cannot be looked at is kept; the second answer says
    /// what is wrong.
    async fn make_and_look(&self, job: Job, output: &Output) -> Result<(Backup, Option<String>)> {
        let Job { claim, service, archive, mut backup } = job;
        let _place = self.0.backups.places.acquire().await;
        let actor = backup.actor.clone();
        let title = service.title();
        let live = Live::new(self, service);
        self.make(&live, &archive, &mut backup, &title, output).await?;
        let wrong = self.look_at(&live, &archive, &mut backup, &actor, output).await?;
        drop(claim);
        self.apply_retention(&backup.kind, &backup.service).await;
        Ok((backup, wrong))
    }

    async fn make(
        &self,
        live: &Live,
        archive: &Archive,
        backup: &mut Backup,
        title: &str,
        output: &Output,
    ) -> Result<()> {
        output.step(&format!("Backing up {title} to {}", archive.location()));
        let start = Instant::now();
        let limit = self.settings().backup_bytes;
        if let Err(error) = flow::make(live, archive, backup, limit).await {
            let why = report(&error);
            backup.state = BackupState::Failed { why: why.clone() };
            backup.finished_at = Some(clock::now());
            self.store.set_backup(backup)?;
            self.note_backup(backup, "backup.failed", &format!("failed: {why}"), &backup.actor);
            return Err(error);
        }
        backup.state = BackupState::Stored { unverified: None };
        backup.finished_at = Some(clock::now());
        self.store.set_backup(backup)?;
        output.detail(&format!(
            "{} with {} in {:.1} s",
            backup.id,
            bytes(backup.bytes),
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Restores a backup into a scratch service, and records what came of it. Answers what is wrong,
    /// if it is not good.
    async fn look_at(
        &self,
        live: &Live,
        archive: &Archive,
        backup: &mut Backup,
        actor: &Actor,
        output: &Output,
    ) -> Result<Option<String>> {
        output.step("Restoring it into a scratch service");
        let start = Instant::now();
        let verdict = flow::verify(live, archive, backup).await;
        let at = clock::now();
        let (state, event, message): (_, _, String) = match verdict {
            Ok(Verdict::Good) => {
                (BackupState::Verified { at }, "backup.verified", "was restored and is good".into())
            }
            Ok(Verdict::Bad(why)) => {
                let message = format!("is bad: {why}");
                (BackupState::Bad { at, why }, "backup.bad", message)
            }
            Err(error) => {
                let why = report(&error);
                let message = format!("could not be verified: {why}");
                // What was found out before still holds.
                let state = match &backup.state {
                    BackupState::Stored { .. } => BackupState::Stored { unverified: Some(why) },
                    known => known.clone(),
                };
                (state, "backup.unverified", message)
            }
        };
        backup.state = state;
        self.store.set_backup(backup)?;
        self.note_backup(backup, event, &message, actor);
        if event != "backup.verified" {
            return Ok(Some(message));
        }
        let seconds = start.elapsed().as_secs_f64();
        output.detail(&format!("its contents are equal: it is verified, in {seconds:.1} s"));
        Ok(None)
    }

    /// Events and hooks name the service and the backup, never what is in it.
    fn note_backup(&self, backup: &Backup, event: &str, message: &str, actor: &Actor) {
        let (kind, service, id) = (&backup.kind, &backup.service, &backup.id);
        let text = format!("backup {id} of {kind} service `{service}` {message}");
        self.note_named(None, event, &text, actor);
        let hook = match event {
            "backup.verified" => Hook::BackupSucceeded,
            "backup.failed" | "backup.bad" | "backup.unverified" => Hook::BackupFailed,
            _ => return,
        };
        let data = serde_json::json!({
            "service_type": kind, "service": service, "backup": id, "state": backup.state.word(),
            "cause": backup.cause, "bytes": backup.bytes, "message": text,
        });
        self.notify(hook, None, data);
    }

    /// Removes what retention does not keep; what cannot be removed now is tried after the next one.
    async fn apply_retention(&self, kind: &PluginName, name: &ServiceName) {
        let outdated = || -> Result<Vec<Backup>> {
            let retention = self.backup_settings_of(kind, name)?.retention();
            let backups = self.store.backups(kind, name)?;
            Ok(retention.outdated(&backups, clock::now()).into_iter().cloned().collect())
        };
        let outdated = match outdated() {
            Ok(outdated) => outdated,
            Err(error) => {
                tracing::error!(error = report(&error), "cannot tell which backups are outdated");
                return;
            }
        };
        for backup in outdated {
            match self.discard_backup(&backup).await {
                Ok(()) => {
                    tracing::info!(backup = backup.id.as_str(), "an outdated backup was removed");
                }
                Err(error) => tracing::warn!(
                    backup = backup.id.as_str(),
                    error = report(&error),
                    "cannot remove an outdated backup"
                ),
            }
        }
    }

    /// Removes a backup's files and then its record.
    async fn discard_backup(&self, backup: &Backup) -> Result<()> {
        let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
        flow::remove(&self.archive_of(backup)?, &files).await?;
        Ok(self.store.remove_backup(&backup.id)?)
    }
}

/// A backup that is about to be made.
#[derive(Debug)]
struct Job {
    claim: Option<Claim>,
    service: Service,
    archive: Archive,
    backup: Backup,
}

fn new_id() -> Result<BackupId> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| Error::internal("cannot get random bytes", error.to_string()))?;
    BackupId::new(clock::now(), random)
        .ok_or_else(|| Error::internal("the clock is beyond the calendar", "clock"))
}

fn unverified(backup: &Backup, wrong: &str) -> Error {
    let (kind, service, id) = (&backup.kind, &backup.service, &backup.id);
    let error = Error::new(Kind::Failed, format!("backup {id} {wrong}"));
    match backup.state {
        BackupState::Bad { .. } => {
            error.hint("do not rely on it: make another one, and look at what is different")
        }
        _ => error.hint(format!("it is kept; run `staithe {kind}:backup-verify {service} {id}`")),
    }
}

/// A size for people.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}
