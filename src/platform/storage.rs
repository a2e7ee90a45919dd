//! `storage:*`: volumes of users, and where their apps have them.

use super::changes::Change;
use super::volumes::NewVolume;
use super::{
    Error, Journal, Kind, MountRequest, Operation, Platform, Result, StorageReport, UnmountRequest,
    VolumeReport, VolumeRequest, VolumeUse,
};
use crate::domain::{
    Actor, AppName, Bytes, MountSource, ReleaseVersion, Volume, VolumeMount, VolumeMounts,
    VolumeName,
};
use crate::store::Settings;

impl Platform {
    /// Makes a volume.
    ///
    /// # Errors
    /// `Conflict` if the name is taken, `Invalid` for a size or name that cannot be, `Denied` for a
    /// directory of the host's that the operator does not allow.
    pub async fn create_volume(
        &self,
        actor: &Actor,
        request: VolumeRequest,
    ) -> Result<VolumeReport> {
        let VolumeRequest { name, size, mode, host_dir } = request;
        if !name.is_free_to_choose() {
            let message = format!("volume name `{name}` has a dot, as those of services have");
            return Err(Error::new(Kind::Invalid, message).hint("choose one without"));
        }
        if let Some(directory) = &host_dir {
            self.allowed_host_dir(directory)?;
            if size.is_some() || mode.is_some() {
                let message = "a directory of the host's has its own size and mode";
                return Err(Error::new(Kind::Invalid, message).hint("leave --size and --mode out"));
            }
        }
        let new = NewVolume { name, size, mode: mode.unwrap_or_default(), host_dir };
        let volume = self.make_volume(new).await?;
        let message = format!("volume `{}` created", volume.name);
        self.note_named(None, "storage.created", &message, actor);
        self.report_volume(volume).await
    }

    /// All volumes by name, also those of services.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn volumes(&self) -> Result<Vec<VolumeReport>> {
        let mut reports = Vec::new();
        for volume in self.store.volumes()? {
            reports.push(self.report_volume(volume).await?);
        }
        Ok(reports)
    }

    /// One volume.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn volume(&self, name: &VolumeName) -> Result<VolumeReport> {
        self.report_volume(self.find_volume(name)?).await
    }

    async fn report_volume(&self, volume: Volume) -> Result<VolumeReport> {
        let space = match self.volume_space(&volume).await {
            Ok(space) => space,
            // It is still listed: whoever looks must be able to see and remove it.
            Err(error) => {
                let why = crate::support::report(&error);
                tracing::warn!(volume = volume.name.as_str(), error = why, "cannot measure");
                None
            }
        };
        let service = volume.name.as_str().split_once('.');
        Ok(VolumeReport {
            apps: self.uses_of(&volume)?,
            service: service.map(|(kind, name)| format!("{kind} {name}")),
            used_bytes: space.map(|space| space.size.saturating_sub(space.free)),
            volume,
        })
    }

    fn uses_of(&self, volume: &Volume) -> Result<Vec<VolumeUse>> {
        let source = MountSource::Volume(volume.name.clone());
        let mut uses: Vec<VolumeUse> = Vec::new();
        for (app, mounts) in self.store.mounts()? {
            for mount in mounts.iter().filter(|mount| mount.source == source) {
                let found = VolumeUse {
                    app: app.name.clone(),
                    container_dir: mount.container_dir.clone(),
                    read_only: mount.read_only,
                };
                if !uses.contains(&found) {
                    uses.push(found);
                }
            }
        }
        Ok(uses)
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while an app has it, or if it belongs to a service.
    pub async fn destroy_volume(&self, actor: &Actor, name: &VolumeName) -> Result<()> {
        let volume = self.find_volume(name)?;
        refuse_of_service(&volume)?;
        if let Some(place) = self.uses_of(&volume)?.first() {
            let message = format!(
                "volume `{name}` is mounted by app `{}` at `{}`",
                place.app, place.container_dir
            );
            return Err(Error::new(Kind::Conflict, message).hint(format!(
                "run `staithe storage:unmount {} {name}` first; with --no-restart it is free after the next deploy",
                place.app
            )));
        }
        let source = MountSource::Volume(name.clone());
        let deploying = self.store.interrupted_releases()?;
        if deploying.iter().any(|release| release.mounts.iter().any(|m| m.source == source)) {
            let message = format!("volume `{name}` is being mounted by a deploy");
            return Err(Error::new(Kind::Conflict, message).hint("try again when it has ended"));
        }
        self.remove_volume(&volume).await?;
        self.note_named(None, "storage.destroyed", &format!("volume `{name}` destroyed"), actor);
        Ok(())
    }

    /// Gives a volume more room.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for less room.
    pub async fn resize_volume(
        &self,
        actor: &Actor,
        name: &VolumeName,
        size: Bytes,
    ) -> Result<VolumeReport> {
        let volume = self.grow_volume(&self.find_volume(name)?, size).await?;
        let message = format!("volume `{name}` resized to {size}");
        self.note_named(None, "storage.resized", &message, actor);
        self.report_volume(volume).await
    }

    /// An app's mounts.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn storage(&self, name: &AppName) -> Result<StorageReport> {
        let app = self.find_app(name)?;
        let list = |mounts: &VolumeMounts| mounts.iter().cloned().collect::<Vec<_>>();
        let deployed = match app.current_release {
            Some(_) => Some(list(&self.current_release(&app)?.mounts)),
            None => None,
        };
        Ok(StorageReport { mounts: list(&self.store.settings(app.id)?.mounts), deployed })
    }

    /// Gives an app a volume. Outcome: the new release, none where nothing was deployed.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the volume is a service's; `Denied` for a directory of the host's
    /// that is not allowed; the operation fails with `Invalid` if the place is taken.
    pub async fn mount(
        &self,
        actor: &Actor,
        name: &AppName,
        request: MountRequest,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        self.find_app(name)?;
        let MountRequest { mount, no_restart } = request;
        self.check_source(&mount)?;
        let description = format!("Mount {} at {}", mount.source, mount.container_dir);
        let about = Change { no_restart, ..Change::new("storage.mounted", description, actor) };
        let name = name.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            output.step(&format!("Mounting {} at {} on {name}", mount.source, mount.container_dir));
            let edit = |settings: &mut Settings| Ok(settings.mounts.add(mount)?);
            platform.change_settings(name, about, edit, (&output, &cancel)).await
        }))
    }

    fn check_source(&self, mount: &VolumeMount) -> Result<()> {
        match &mount.source {
            MountSource::Volume(name) => refuse_of_service(&self.find_volume(name)?),
            MountSource::HostDir(directory) => self.allowed_host_dir(directory).map(drop),
        }
    }

    /// Takes a volume away from an app; what is in it stays. Outcome as of [`Platform::mount`].
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `NotFound` if the app has no such mount.
    pub async fn unmount(
        &self,
        actor: &Actor,
        name: &AppName,
        request: UnmountRequest,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        self.find_app(name)?;
        let UnmountRequest { source, container_dir, no_restart } = request;
        let about = Change {
            no_restart,
            ..Change::new("storage.unmounted", format!("Unmount {source}"), actor)
        };
        let name = name.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            output.step(&format!("Unmounting {source} from {name}"));
            let app = name.clone();
            let edit = |settings: &mut Settings| match settings
                .mounts
                .remove(&source, container_dir.as_ref())
            {
                0 => Err(Error::new(
                    Kind::NotFound,
                    format!("app `{app}` does not mount `{source}` there"),
                )
                .hint(format!("run `staithe storage:list {app}` to see what it mounts"))),
                _ => Ok(()),
            };
            platform.change_settings(name, about, edit, (&output, &cancel)).await
        }))
    }
}

fn refuse_of_service(volume: &Volume) -> Result<()> {
    match volume.name.as_str().split_once('.') {
        None => Ok(()),
        Some((kind, name)) => {
            let message = format!("volume `{}` belongs to a service", volume.name);
            Err(Error::new(Kind::Conflict, message)
                .hint(format!("see `staithe {kind}:info {name}`; its verbs look after it")))
        }
    }
}
