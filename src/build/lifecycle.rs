//! The phases of a build, in order: prepare, detect, build, export.

mod build;
mod detect;
mod downloads;
mod env;
mod export;
mod inside;
mod labels;
mod launch;
mod prepare;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::{Command, ConfigVars, ProcessType};

use super::appjson::AppJson;
use super::cache::CacheRecord;
use super::descriptor::{Buildpack, Catalog};
use super::plan::Entry;
use super::sandbox::{LayerRef, LayerSink, Sandbox};
use super::{Config, Error, Output};

/// The host ids that the container's root and its app user (1000) are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Host id of the container's id 0; what the store subtracts.
    pub base: u32,
    /// Host id of the container's app user and group.
    pub user: u32,
}

/// What the lifecycle must know of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFacts {
    /// `debian-13`.
    pub name: String,
    /// Digest of the build image; the cache is dropped when it changes.
    pub build_digest: String,
    /// Digest of the run image, for the labels.
    pub run_digest: String,
    /// `debian`, `13`: what buildpacks' targets are matched with.
    pub distro: (String, String),
    /// Environment of the build image's config.
    pub build_env: Vec<(String, String)>,
    /// Environment of the run image's config.
    pub run_env: Vec<(String, String)>,
}

/// One build, as `platform` orders it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The app's name, for messages and labels.
    pub app: String,
    /// The commit, as `SOURCE_VERSION`.
    pub commit: String,
    /// The upper directory of the container's overlay; the source is at `upper/app`, owned by
    /// `owner.user`.
    pub upper: PathBuf,
    /// A directory for layers on their way to the store, on the file system of `upper` and of the
    /// store; created and removed by the lifecycle.
    pub staging: PathBuf,
    /// Who is who on the host.
    pub owner: Owner,
    /// The stack built on.
    pub stack: StackFacts,
    /// The app's config vars.
    pub config_vars: ConfigVars,
    /// The buildpacks asked for by setting, in order; none: those of `project.toml` or `app.json`,
    /// else by detection.
    pub buildpacks: Vec<String>,
    /// The app's cache record.
    pub cache_record: PathBuf,
    /// Verified downloads shared by all apps: builds see the directory read-only, and only files
    /// whose hash a bundled catalogue pins are ever added to it.
    pub downloads: PathBuf,
}

/// A host path to mount read-only into the build container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
}

/// What the build container must be started with.
#[derive(Debug)]
pub struct Prepared {
    /// Snapshots to stack upon the build image's layers, bottom first.
    pub lowers: Vec<PathBuf>,
    /// Read-only mounts: buildpacks, certificates, downloads.
    pub mounts: Vec<Mount>,
    /// The source's `app.json`, for what a deploy needs of it.
    pub app_json: Option<AppJson>,
    /// The last build's layers, as far as they are still there and fit the stack.
    record: CacheRecord,
    /// The buildpacks asked for, in order; none: detection's order.
    asked: Option<Vec<String>>,
    /// Variables of `project.toml`.
    build_env: Vec<(String, String)>,
}

/// The buildpacks that build the app, in order.
#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
}

/// A buildpack of the group with its part of the build plan.
#[derive(Debug)]
struct Member {
    buildpack: Buildpack,
    entries: Vec<Entry>,
}

/// What a build came to: all that an image needs beside the run stack.
#[derive(Debug, Clone)]
pub struct Built {
    /// Layers to stack upon the run image's, bottom first; the app layer is the last.
    pub layers: Vec<LayerRef>,
    /// The image's whole environment, the run image's included. Config vars of a release are put
    /// over it.
    pub env: Vec<(String, String)>,
    /// What each process type runs, `release` included.
    pub processes: BTreeMap<ProcessType, Command>,
    /// The process type that a container runs when none is named.
    pub default_process: ProcessType,
    /// Labels of the image (`io.buildpacks.…`).
    pub labels: BTreeMap<String, String>,
    /// `/app`.
    pub working_dir: String,
}

/// The phases, over one set of buildpacks; shared by all builds.
#[derive(Debug)]
pub struct Lifecycle {
    config: Config,
    catalog: Catalog,
}

impl Lifecycle {
    /// Loads the buildpacks: those of [`Config::buildpacks_dir`], else the bundled ones, which
    /// are first written below `bundled_dir`.
    ///
    /// # Errors
    /// If a buildpack is damaged or the directory cannot be written.
    pub fn open(config: Config, bundled_dir: &std::path::Path) -> Result<Self, Error> {
        let directory = match &config.buildpacks_dir {
            Some(directory) => directory.clone(),
            None => super::bundled::install(bundled_dir)?,
        };
        let catalog = Catalog::load(&directory)?;
        Ok(Self { config, catalog })
    }

    /// The buildpacks there are.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// First phase, before the container exists; blocking. Checks the source's `Procfile` and
    /// `app.json`, applies `.slugignore`, restores layer metadata, and says what to mount.
    ///
    /// # Errors
    /// If the source breaks a rule or a file operation fails.
    pub fn prepare(
        &self,
        job: &Job,
        sink: &impl LayerSink,
        output: &Output,
    ) -> Result<Prepared, Error> {
        prepare::prepare(self, job, sink, output)
    }

    /// Second phase, in the running container: finds the buildpacks that take the app.
    ///
    /// # Errors
    /// If none does, or the container fails.
    ///
    /// # Cancellation
    /// May be dropped at any await; the sandbox kills what runs.
    pub async fn detect(
        &self,
        job: &Job,
        prepared: &Prepared,
        sandbox: &impl Sandbox,
        output: &Output,
    ) -> Result<Group, Error> {
        detect::detect(self, job, prepared, sandbox, output).await
    }

    /// Third phase: runs each buildpack of the group.
    ///
    /// # Errors
    /// The first buildpack that fails, or the container's failure.
    ///
    /// # Cancellation
    /// May be dropped at any await; the sandbox kills what runs.
    pub async fn build(
        &self,
        job: &Job,
        prepared: &Prepared,
        group: &Group,
        sandbox: &impl Sandbox,
        output: &Output,
    ) -> Result<(), Error> {
        build::build(self, job, prepared, group, sandbox, output).await
    }

    /// Last phase, after the container's death; blocking. Moves layers out of `job.upper` into
    /// the store and writes the cache record.
    ///
    /// # Errors
    /// If what the buildpacks left is invalid or the store refuses a layer. The cache record is
    /// then the old one.
    pub fn export(
        &self,
        job: &Job,
        prepared: &Prepared,
        group: &Group,
        sink: &impl LayerSink,
        output: &Output,
    ) -> Result<Built, Error> {
        export::export(self, job, prepared, group, sink, output)
    }
}
