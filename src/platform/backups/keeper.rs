//! Backups by schedule, and what becomes of those that a restart interrupted.

use super::super::timers::Timer;
use super::super::{Platform, Result};
use super::flow::{self, Files};
use crate::build::Output;
use crate::domain::{Actor, Backup, BackupCause, BackupState, Service};
use crate::support::{report, tasks};

const INTERRUPTED: &str = "the control plane was restarted meanwhile";

impl Platform {
    /// The timers of all services that have a schedule.
    pub(in super::super) fn backup_timers(&self) -> Result<Vec<Timer>> {
        let mut timers = Vec::new();
        for service in self.store.services()?.into_iter().filter(|service| !service.scratch) {
            let settings = self.store.backup_settings(&service.kind, &service.name)?;
            let Some(schedule) = settings.schedule else { continue };
            timers.push(Timer {
                // A schedule that was changed begins anew.
                key: format!("backup/{}/{}/{schedule}", service.kind, service.name),
                app: None,
                what: format!("the backup of {}", service.title()),
                schedule,
                job: Box::new(move |platform, _| Box::pin(platform.back_up_scheduled(service))),
            });
        }
        Ok(timers)
    }

    async fn back_up_scheduled(self, service: Service) {
        let actor = Actor::platform();
        let output = Output::new(&self.settings().build, |_| {});
        let title = service.title();
        let done = match self.prepare_backup(&actor, &service, BackupCause::Schedule, None) {
            Ok(job) => self.make_and_look(job, &output).await.map(drop),
            Err(error) => {
                // There is no record of it but this.
                let why = report(&error);
                let message = format!("the scheduled backup of {title} was not begun: {why}");
                self.note_named(None, "backup.failed", &message, &actor);
                Err(error)
            }
        };
        if let Err(error) = done {
            tracing::warn!(service = title, error = report(&error), "a scheduled backup failed");
        }
    }

    /// Marks what was being made when the last control plane ended, and clears its files away in
    /// the background. Answers how many there were.
    pub(in super::super) fn recover_backups(&self) -> Result<usize> {
        let interrupted = self.store.running_backups()?;
        for backup in &interrupted {
            let failed =
                Backup { state: BackupState::Failed { why: INTERRUPTED.into() }, ..backup.clone() };
            self.store.set_backup(&failed)?;
            self.note_backup(
                &failed,
                "backup.failed",
                &format!("failed: {INTERRUPTED}"),
                &Actor::platform(),
            );
            let platform = self.clone();
            tasks::spawn("backups/recovery", async move {
                if let Err(error) = platform.clear_interrupted(failed).await {
                    tracing::warn!(error = report(&error), "half a backup may be left");
                }
            });
        }
        Ok(interrupted.len())
    }

    /// A backup whose manifest was written is whole, only its record is late; all others are no
    /// backups.
    async fn clear_interrupted(&self, mut backup: Backup) -> Result<()> {
        let archive = self.archive_of(&backup)?;
        let files = Files::of(&backup.kind, &backup.service, &backup.id)?;
        let whole = flow::manifest(&archive, &files).await;
        match whole {
            Ok(manifest) if manifest.id == backup.id => {
                (backup.bytes, backup.sha256) = (manifest.bytes, manifest.sha256);
                backup.facts = manifest.facts.to_string();
                backup.state = BackupState::Stored { unverified: Some(INTERRUPTED.into()) };
                Ok(self.store.set_backup(&backup)?)
            }
            _ => flow::remove(&archive, &files).await,
        }
    }
}
