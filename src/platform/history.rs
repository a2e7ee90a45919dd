//! What was: releases, builds and events, and the way back.

use super::changes::Draft;
use super::{Error, Journal, Kind, Operation, Platform, Result};
use crate::domain::{Actor, App, AppName, Build, BuildId, Release, ReleaseStatus, ReleaseVersion};

impl Platform {
    /// The app's releases, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn releases(&self, name: &AppName, limit: usize) -> Result<Vec<Release>> {
        Ok(self.store.releases(self.find_app(name)?.id, limit)?)
    }

    /// One release.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn release(&self, name: &AppName, version: ReleaseVersion) -> Result<Release> {
        self.find_release(&self.find_app(name)?, version)
    }

    pub(super) fn find_release(&self, app: &App, version: ReleaseVersion) -> Result<Release> {
        self.store.release(app.id, version)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("app `{}` has no release {version}", app.name))
                .hint(format!("run `staithe releases {}` to see them", app.name))
        })
    }

    /// Makes a new release out of `version`, or of the last one that served before the current one:
    /// its image, config, formation and quotas.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if there is nothing to go back to or it never served.
    pub async fn rollback(
        &self,
        actor: &Actor,
        name: &AppName,
        version: Option<ReleaseVersion>,
    ) -> Result<Operation<ReleaseVersion>> {
        let app = self.find_app(name)?;
        let target = match version {
            Some(version) => self.find_release(&app, version)?,
            None => self.previous_release(&app)?,
        };
        if target.status != ReleaseStatus::Succeeded {
            let message = format!("release {} of `{name}` never served", target.version);
            return Err(Error::new(Kind::Conflict, message)
                .hint("choose one that `staithe releases` shows as succeeded"));
        }
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let guard = platform.0.lanes.lane(app.id).deploy().await;
            let app = platform.find_app(&app.name)?;
            output.step(&format!("Rolling {} back to {}", app.name, target.version));
            // Volumes hold what users gave since; going back in code never takes them away.
            let current = platform.store.settings(app.id)?;
            let settings = crate::store::Settings {
                config: target.config.clone(),
                formation: target.formation.clone(),
                resources: target.resources.clone(),
                checks: current.checks,
                mounts: current.mounts,
            };
            let description = format!("Rollback to {}", target.version);
            let release = Release {
                description,
                actor,
                created_at: super::clock::now(),
                failure: None,
                mounts: settings.mounts.clone(),
                ..target
            };
            let draft = Draft { release, settings: &settings, release_command: false };
            platform.release_and_deploy(&app, draft, (&output, &cancel), &guard).await
        }))
    }

    fn previous_release(&self, app: &App) -> Result<Release> {
        let current = self.current_release(app)?.version;
        let releases = self.store.releases(app.id, usize::MAX)?;
        releases
            .into_iter()
            .find(|release| release.version < current && release.status == ReleaseStatus::Succeeded)
            .ok_or_else(|| {
                Error::new(
                    Kind::Conflict,
                    format!("app `{}` has no earlier release to go back to", app.name),
                )
                .hint(format!("run `staithe releases {}` to see them", app.name))
            })
    }

    /// The app's builds, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn builds(&self, name: &AppName, limit: usize) -> Result<Vec<Build>> {
        Ok(self.store.builds(self.find_app(name)?.id, limit)?)
    }

    /// One build.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn build(&self, name: &AppName, id: BuildId) -> Result<Build> {
        let app = self.find_app(name)?;
        self.store.build(id)?.filter(|build| build.app == app.id).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("app `{name}` has no build {id}"))
                .hint(format!("run `staithe builds:list {name}` to see them"))
        })
    }
}
