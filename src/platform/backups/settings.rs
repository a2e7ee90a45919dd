//! What is set about backups, and how a service stands with them.

use super::super::{Error, Kind, Platform, Result, clock};
use crate::domain::{
    Actor, Backup, BackupPlace, BackupSettings, BackupState, PluginName, ServiceName,
};
use crate::wire::{BackupChange, BackupReport, BackupStatus};

impl Platform {
    /// What is in force for a service: its own settings over those of all.
    pub(super) fn backup_settings_of(
        &self,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<BackupSettings> {
        let own = self.store.backup_settings(kind, name)?;
        Ok(own.or(&self.store.global_backup_settings()?))
    }

    /// The newest backup of a service that was restored and found equal.
    pub(in crate::platform) fn last_verified_backup(
        &self,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Option<BackupReport>> {
        let backups = self.store.backups(kind, name)?;
        Ok(last_verified(&backups).map(|backup| BackupReport::new(backup.clone(), clock::now())))
    }

    /// How a service stands with its backups; also one that is gone but has some.
    ///
    /// # Errors
    /// `NotFound` if there is neither such a service nor a backup of one.
    pub async fn backup_status(
        &self,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<BackupStatus> {
        let backups = self.store.backups(kind, name)?;
        if backups.is_empty() {
            self.find_service(kind, name)?;
        }
        Ok(status(&self.backup_settings_of(kind, name)?, &backups))
    }

    /// What is set for all services.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn global_backup_status(&self) -> Result<BackupStatus> {
        Ok(status(&self.store.global_backup_settings()?, &[]))
    }

    /// Changes a setting of a service's backups.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an unknown key or a value that cannot be meant.
    pub async fn set_backups(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        change: &BackupChange,
    ) -> Result<BackupStatus> {
        let service = self.find_service(kind, name)?;
        if change.key == "schedule" && !change.value.expose().is_empty() {
            self.backup_extension(&service)?;
        }
        let mut settings = self.store.backup_settings(kind, name)?;
        apply(&mut settings, change)?;
        self.store.set_backup_settings(kind, name, &settings)?;
        let message = format!("{} of backups of {} was set", change.key, service.title());
        self.note_named(None, "backup.set", &message, actor);
        self.0.clock.wake();
        self.backup_status(kind, name).await
    }

    /// Changes a setting for all services that set nothing themselves.
    ///
    /// # Errors
    /// `Invalid` for an unknown key or a value that cannot be meant.
    pub async fn set_global_backups(
        &self,
        actor: &Actor,
        change: &BackupChange,
    ) -> Result<BackupStatus> {
        if change.key == "schedule" {
            return Err(Error::new(Kind::Invalid, "a schedule is that of one service")
                .hint("run `staithe <type>:backup-schedule <service> <schedule>`"));
        }
        let mut settings = self.store.global_backup_settings()?;
        apply(&mut settings, change)?;
        self.store.set_global_backup_settings(&settings)?;
        let message = format!("{} of backups was set for all services", change.key);
        self.note_named(None, "backup.set", &message, actor);
        self.global_backup_status().await
    }
}

fn apply(settings: &mut BackupSettings, change: &BackupChange) -> Result<()> {
    let value = change.value.expose();
    match change.key.as_str() {
        "schedule" if value.is_empty() => settings.schedule = None,
        "schedule" => settings.schedule = Some(value.parse()?),
        key => settings.set(key, value)?,
    }
    Ok(())
}

/// Of those of a service, the newest first.
fn last_verified(backups: &[Backup]) -> Option<&Backup> {
    backups.iter().find(|backup| matches!(backup.state, BackupState::Verified { .. }))
}

fn status(settings: &BackupSettings, backups: &[Backup]) -> BackupStatus {
    let now = clock::now();
    let retention = settings.retention();
    let report = |backup: &Backup| BackupReport::new(backup.clone(), now);
    BackupStatus {
        place: settings.place.clone().unwrap_or(BackupPlace::Local),
        schedule: settings.schedule.as_ref().map(ToString::to_string),
        next_at: settings.schedule.as_ref().and_then(|schedule| schedule.next_after(now)),
        keep: retention.count,
        keep_days: retention.days,
        s3_endpoint: settings.s3_endpoint.clone(),
        s3_region: settings.s3_region.clone(),
        s3_credentials: settings.s3_access_key_id.is_some()
            && settings.s3_secret_access_key.is_some(),
        usable: backups.iter().filter(|backup| backup.state.is_usable()).count(),
        bytes: backups.iter().map(|backup| backup.bytes).sum(),
        last: backups.first().map(report),
        last_verified: last_verified(backups).map(report),
    }
}
