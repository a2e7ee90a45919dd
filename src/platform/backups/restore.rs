//! Putting a backup back: into its service, or into a new one.

use std::time::Instant;

use super::super::{Error, Journal, Kind, Operation, Platform, Result};
use super::database::Live;
use super::flow::{self, Files};
use super::{Claim, bytes};
use crate::archive::Archive;
use crate::build::Output;
use crate::domain::{
    Actor, Backup, BackupCause, BackupId, BackupState, PluginName, Service, ServiceName,
};
use crate::support::report;
use crate::wire::{NewService, RestoreRequest, Restored};

/// What a restore is about to do.
#[derive(Debug)]
struct Plan {
    backup: Backup,
    archive: Archive,
    /// The service whose contents are replaced; none: one is made.
    into: Option<Service>,
    name: ServiceName,
    claim: Claim,
}

impl Platform {
    /// Puts a backup back. What is in the service is backed up before; a service that is gone, or
    /// that `to` names, is made.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the service is busy or does not run, or `to` exists.
    pub async fn restore_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        request: RestoreRequest,
    ) -> Result<Operation<Restored>> {
        let backup = self.backup_to_restore(kind, name, request.id).await?;
        let archive = self.archive_of(&backup)?;
        let target = request.to.clone().unwrap_or_else(|| name.clone());
        let existing = self.store.service(kind, &target)?.filter(|service| !service.scratch);
        let into = match (existing, request.to) {
            (Some(_), Some(to)) => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("{kind} service `{to}` exists already"),
                )
                .hint("`--to` names a new one; without it, the service itself is restored"));
            }
            (existing, _) => existing,
        };
        if let Some(service) = &into {
            self.require_serving(service)?;
        }
        let claim = self.claim(kind, &target, "being restored")?;
        let plan = Plan { backup, archive, into, name: target, claim };
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), |platform, output, _| async move {
            platform.carry_restore_out(plan, &actor, &output).await
        }))
    }

    /// The backup that was asked for. One that is not known here is looked for in the service's
    /// place: a machine may be restored from nothing but its bucket.
    async fn backup_to_restore(
        &self,
        kind: &PluginName,
        name: &ServiceName,
        id: Option<BackupId>,
    ) -> Result<Backup> {
        let good = |backup: &Backup| matches!(backup.state, BackupState::Verified { .. });
        let chosen = self.choose_backup(kind, name, id.clone(), good);
        match (chosen, id) {
            (Ok(backup), _) => match &backup.state {
                BackupState::Running | BackupState::Failed { .. } => Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "backup {} is {}: there is nothing to restore",
                        backup.id,
                        backup.state.word()
                    ),
                )),
                _ => Ok(backup),
            },
            (Err(error), Some(id)) if error.kind() == Kind::NotFound => {
                let found = self.backup_at_place(kind, name, &id).await;
                found.map_err(|_| error)
            }
            (Err(error), None) if error.kind() == Kind::NotFound => Err(Error::new(
                Kind::NotFound,
                format!("{kind} service `{name}` has no verified backup"),
            )
            .hint(format!("run `staithe {kind}:backup-list {name}`, and name the one to restore"))),
            (Err(error), _) => Err(error),
        }
    }

    /// A backup out of its manifest; recorded from now on.
    async fn backup_at_place(
        &self,
        kind: &PluginName,
        name: &ServiceName,
        id: &BackupId,
    ) -> Result<Backup> {
        let settings = self.backup_settings_of(kind, name)?;
        let place = settings.place.clone().unwrap_or_default();
        let archive = self.archive(&place, &settings)?;
        let manifest = flow::manifest(&archive, &Files::of(kind, name, id)?).await?;
        if (&manifest.kind, &manifest.service, &manifest.id) != (kind, name, id) {
            return Err(Error::new(Kind::Failed, format!("backup {id} is one of another service")));
        }
        let backup = Backup {
            id: manifest.id,
            kind: manifest.kind,
            service: manifest.service,
            place,
            created_at: manifest.created_at,
            finished_at: None,
            cause: BackupCause::Manual,
            actor: Actor::platform(),
            extension: manifest.extension,
            bytes: manifest.bytes,
            sha256: manifest.sha256,
            facts: manifest.facts.to_string(),
            state: BackupState::Stored { unverified: None },
        };
        self.store.set_backup(&backup)?;
        Ok(backup)
    }

    async fn carry_restore_out(
        &self,
        plan: Plan,
        actor: &Actor,
        output: &Output,
    ) -> Result<Restored> {
        let Plan { backup, archive, into, name, claim } = plan;
        let id = backup.id.clone();
        let (service, safety) = match into {
            Some(service) => {
                let safety = self.back_up_before(actor, &service, output).await?;
                (service, Some(safety))
            }
            None => {
                output.step(&format!("Creating {} service `{name}`", backup.kind));
                (self.make_again(actor, &backup.kind, &name).await?, None)
            }
        };
        output.step(&format!(
            "Restoring backup {id} ({}) into {}",
            bytes(backup.bytes),
            service.title()
        ));
        let start = Instant::now();
        let title = service.title();
        let live = Live::new(self, service.clone());
        if let Err(error) = flow::restore(&live, &archive, &backup).await {
            let why = report(&error);
            let message = format!("restoring backup {id} into {title} failed: {why}");
            self.note_named(None, "service.restore-failed", &message, actor);
            return Err(self.after_failed_restore(error, &service, safety.as_ref(), actor).await);
        }
        let seconds = start.elapsed().as_secs_f64();
        output.detail(&format!("the contents are those of the backup, in {seconds:.1} s"));
        let message = format!("{title} was restored from backup {id}");
        self.note_named(None, "service.restored", &message, actor);
        drop(claim);
        self.apply_retention(&backup.kind, &name).await;
        Ok(Restored { backup: id, service: name, safety })
    }

    async fn make_again(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Service> {
        let new =
            NewService { name: name.clone(), memory: None, cpu: None, size: None, password: None };
        let creation = self.create_service(actor, kind, new).await?;
        creation
            .outcome
            .await
            .map_err(|error| Error::internal("the creation broke off", error))??;
        self.find_service(kind, name)
    }

    /// Keeps what is there before it is replaced. It is not looked at: a restore is urgent.
    async fn back_up_before(
        &self,
        actor: &Actor,
        service: &Service,
        output: &Output,
    ) -> Result<BackupId> {
        let mut job = self.begin_backup(actor, service, BackupCause::Safety, None)?;
        let live = Live::new(self, service.clone());
        let title = format!("the present contents of {}", service.title());
        let made = self.make(&live, &job.archive, &mut job.backup, &title, output).await;
        made.map(|()| job.backup.id.clone()).map_err(|error| {
            let message = format!("the present contents cannot be backed up: {}", report(&error));
            let hint = error.next_step().unwrap_or("nothing was restored").to_owned();
            Error::new(error.kind(), message).hint(hint)
        })
    }

    /// What was made for the restore goes; what was there before can be had again.
    async fn after_failed_restore(
        &self,
        error: Error,
        service: &Service,
        safety: Option<&BackupId>,
        actor: &Actor,
    ) -> Error {
        let (kind, name) = (&service.kind, &service.name);
        match safety {
            Some(safety) => {
                let hint = format!(
                    "what was there before is in backup {safety}: `staithe {kind}:restore {name} {safety}`"
                );
                Error::new(error.kind(), report(&error)).hint(hint)
            }
            None => {
                if let Err(error) = self.destroy_service(actor, kind, name).await {
                    tracing::error!(
                        error = report(&error),
                        "cannot remove a half restored service"
                    );
                }
                error
            }
        }
    }
}
