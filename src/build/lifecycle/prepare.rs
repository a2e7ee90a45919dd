//! First phase, on the host, before the container exists: the source's own files are checked, and
//! the upper directory is furnished.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::{Job, Lifecycle, Mount, Prepared};
use crate::build::appjson::{self, AppJson};
use crate::build::cache::{CacheRecord, CachedLayer};
use crate::build::config::CA_BUNDLE;
use crate::build::descriptor::escaped;
use crate::build::ignore::Patterns;
use crate::build::{Error, LayerSink, Output, SourceProblem, procfile, tree};

/// Scratch space of the build, owned by the app user: plans, home, temporary files. On disk and
/// not on a tmpfs, so that it does not count as the build's memory.
pub(super) const WORK: &str = "/cnb/work";
pub(super) const HOME: &str = "/cnb/home";
pub(super) const TMP: &str = "/cnb/tmp";
/// Where builds see the shared downloads, and where they leave new ones.
pub(super) const DOWNLOADS: &str = "/cnb/downloads";
pub(super) const NEW_DOWNLOADS: &str = "/cnb/work/downloads";

pub(super) fn prepare(
    lifecycle: &Lifecycle,
    job: &Job,
    sink: &impl LayerSink,
    output: &Output,
) -> Result<Prepared, Error> {
    let app = job.upper.join("app");
    check_procfile(&app)?;
    let app_json = read_app_json(&app)?;
    for note in app_json.iter().flat_map(|file| &file.notes) {
        output.notice(&format!("app.json: {note}"));
    }
    let project = read_project(&app)?;
    leave_out(&app, &project, output)?;
    let record = usable_record(job, sink, output);
    furnish(lifecycle, job)?;
    restore(job, &record)?;
    let lowers = record
        .layers
        .iter()
        .filter(|layer| layer.types.cache)
        .map(|layer| sink.layer_path(&layer.digest))
        .collect();
    let asked = asked(job, &project, app_json.as_ref());
    let build_env = project.build_env();
    let mounts = mounts(lifecycle, job)?;
    Ok(Prepared { lowers, mounts, app_json, record, asked, build_env })
}

/// A small file of the source.
fn source_file(app: &Path, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    // One byte more than allowed, so that the parser itself refuses it.
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let path = app.join(name);
    match tree::metadata(&path).map_err(Error::files("look at", &path))? {
        Some(metadata) if metadata.is_file() && metadata.len() > limit => {
            Err(source_problem(name, "is too large", "shorten it"))
        }
        Some(metadata) if metadata.is_file() => {
            tree::read_file(&path, limit).map_err(Error::files("read", &path))
        }
        _ => Ok(None),
    }
}

fn source_problem(file: &str, problem: &str, remedy: &str) -> Error {
    Error::Source(SourceProblem {
        file: file.into(),
        line: None,
        problem: problem.into(),
        remedy: remedy.into(),
    })
}

fn check_procfile(app: &Path) -> Result<(), Error> {
    match source_file(app, "Procfile", procfile::MAX_BYTES)? {
        Some(text) => procfile::parse(&text).map(drop).map_err(Error::Source),
        None => Ok(()),
    }
}

fn read_app_json(app: &Path) -> Result<Option<AppJson>, Error> {
    let text = source_file(app, "app.json", appjson::MAX_BYTES)?;
    text.map(|text| appjson::parse(&text).map_err(Error::Source)).transpose()
}

/// The parts of `project.toml` (project descriptor 0.2, and 0.1's `[build]`) that are honored.
#[derive(Debug, Default, Deserialize)]
struct Project {
    #[serde(default)]
    io: ProjectIo,
    #[serde(default)]
    build: ProjectBuild,
}

#[derive(Debug, Default, Deserialize)]
struct ProjectIo {
    #[serde(default)]
    buildpacks: ProjectBuild,
}

#[derive(Debug, Default, Deserialize)]
struct ProjectBuild {
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    group: Vec<ProjectBuildpack>,
    #[serde(default)]
    buildpacks: Vec<ProjectBuildpack>,
    #[serde(default)]
    build: ProjectEnv,
    #[serde(default)]
    env: Vec<ProjectVariable>,
}

#[derive(Debug, Default, Deserialize)]
struct ProjectEnv {
    #[serde(default)]
    env: Vec<ProjectVariable>,
}

#[derive(Debug, Clone, Deserialize)]
struct ProjectVariable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
struct ProjectBuildpack {
    id: Option<String>,
    uri: Option<String>,
}

/// Far more than any real `project.toml`.
const MAX_PROJECT: usize = 256 * 1024;

impl Project {
    fn excluded(&self) -> impl Iterator<Item = &str> {
        self.io.buildpacks.exclude.iter().chain(&self.build.exclude).map(String::as_str)
    }

    fn buildpacks(&self) -> Vec<String> {
        let listed = self.io.buildpacks.group.iter().chain(&self.build.buildpacks);
        listed.filter_map(|entry| entry.id.clone().or_else(|| entry.uri.clone())).collect()
    }

    fn build_env(&self) -> Vec<(String, String)> {
        let listed = self.io.buildpacks.build.env.iter().chain(&self.build.env);
        listed
            .filter(|variable| variable.name.parse::<crate::domain::EnvKey>().is_ok())
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect()
    }
}

fn read_project(app: &Path) -> Result<Project, Error> {
    let Some(text) = source_file(app, "project.toml", MAX_PROJECT)? else {
        return Ok(Project::default());
    };
    let text = String::from_utf8_lossy(&text);
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        Error::Source(SourceProblem {
            file: "project.toml".into(),
            line,
            problem: error.message().to_owned(),
            remedy: "correct it, or remove the key".into(),
        })
    })
}

/// Removes what `.slugignore` and `project.toml` exclude.
fn leave_out(app: &Path, project: &Project, output: &Output) -> Result<(), Error> {
    let slugignore = source_file(app, ".slugignore", MAX_PROJECT)?.unwrap_or_default();
    let slugignore = String::from_utf8_lossy(&slugignore);
    let patterns = Patterns::parse(slugignore.lines().chain(project.excluded()));
    let removed = patterns.remove_from(app).map_err(Error::files("leave out files of", app))?;
    if removed > 0 {
        output.detail(&format!("{removed} files and directories left out (.slugignore, exclude)"));
    }
    Ok(())
}

/// The buildpacks asked for: a setting of the app comes before its source.
fn asked(job: &Job, project: &Project, app_json: Option<&AppJson>) -> Option<Vec<String>> {
    let from_app_json = app_json.map(|file| file.buildpacks.clone()).unwrap_or_default();
    [job.buildpacks.clone(), project.buildpacks(), from_app_json]
        .into_iter()
        .find(|asked| !asked.is_empty())
}

/// The app's cache record without what cannot be restored any more.
fn usable_record(job: &Job, sink: &impl LayerSink, output: &Output) -> CacheRecord {
    let stack = &job.stack.build_digest;
    let mut record = CacheRecord::load(&job.cache_record);
    if record.stack != *stack {
        if !record.layers.is_empty() {
            output.detail("Stack has changed: building without cache");
        }
        return CacheRecord::new(stack);
    }
    record.layers.retain(|layer| sink.layer(&layer.digest).is_some());
    record
}

/// Lays out the directories that the phases use. Their parents belong to the container's root, so
/// that the app user can put nothing in the place of one.
fn furnish(lifecycle: &Lifecycle, job: &Job) -> Result<(), Error> {
    let (root, user) = (job.owner.base, job.owner.user);
    let make = |path: &str, mode: u32, owner: u32| {
        let path = job.upper.join(path.trim_start_matches('/'));
        tree::make_dir(&path, mode, owner).map_err(Error::files("create directory", path))
    };
    make("/cnb", 0o755, root)?;
    make("/platform", 0o755, root)?;
    make("/platform/env", 0o755, root)?;
    for scratch in [WORK, HOME, TMP, NEW_DOWNLOADS, "/layers"] {
        make(scratch, 0o755, user)?;
    }
    for buildpack in lifecycle.catalog.buildpacks() {
        make(&buildpack.layers_dir(), 0o755, user)?;
        make(&format!("{WORK}/{}", buildpack.escaped_id()), 0o755, user)?;
        write(job, &format!("{WORK}/{}/plan.toml", buildpack.escaped_id()), b"")?;
        write(job, &format!("{WORK}/{}/entries.toml", buildpack.escaped_id()), b"")?;
    }
    for (key, value) in job.config_vars.iter() {
        write(job, &format!("/platform/env/{key}"), value.expose().as_bytes())?;
    }
    Ok(())
}

/// Writes a file of the app user's.
fn write(job: &Job, path: &str, contents: &[u8]) -> Result<(), Error> {
    let path = job.upper.join(path.trim_start_matches('/'));
    crate::support::atomic_file::write_volatile(&path, contents, 0o644)
        .and_then(|()| tree::own(&path, job.owner.user, job.owner.user))
        .map_err(Error::files("write", path))
}

/// Writes the metadata of the last build's layers, as the specification's table says: without
/// types, and only where the contents are there too or lie in the previous image.
fn restore(job: &Job, record: &CacheRecord) -> Result<(), Error> {
    for layer in record.layers.iter().filter(|layer| restorable(layer)) {
        let directory = format!("/layers/{}", escaped(&layer.buildpack));
        let path = job.upper.join(directory.trim_start_matches('/'));
        // A buildpack that is not installed any more has nobody to read it.
        if tree::is_dir(&path) {
            write(job, &format!("{directory}/{}.toml", layer.name), layer.metadata.as_bytes())?;
        }
    }
    for (buildpack, store) in &record.stores {
        let path = format!("/layers/{}", escaped(buildpack));
        if tree::is_dir(&job.upper.join(path.trim_start_matches('/'))) {
            write(job, &format!("{path}/store.toml"), store.as_bytes())?;
        }
    }
    Ok(())
}

fn restorable(layer: &CachedLayer) -> bool {
    layer.types.cache || (layer.types.launch && !layer.types.build)
}

fn mounts(lifecycle: &Lifecycle, job: &Job) -> Result<Vec<Mount>, Error> {
    let mut mounts: Vec<Mount> = lifecycle
        .catalog
        .buildpacks()
        .iter()
        .map(|b| Mount { source: b.path.clone(), target: b.container_path() })
        .collect();
    if let Some(source) = lifecycle.config.host_ca_bundle() {
        mounts.push(Mount { source, target: CA_BUNDLE.into() });
    }
    make_all(&job.downloads).map_err(Error::files("create directory", &job.downloads))?;
    mounts.push(Mount { source: job.downloads.clone(), target: DOWNLOADS.into() });
    Ok(mounts)
}

fn make_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}
