//! Last phase, on the host, after the container's death: what the buildpacks left becomes layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::launch::{LaunchLayer, Processes, Shape, environment};
use super::{Built, Group, Job, Lifecycle, Member, Prepared, downloads};
use crate::build::cache::{CacheRecord, CachedLayer};
use crate::build::layer::{self, LaunchToml, LayerToml, Types};
use crate::build::{Buildpack, Error, LayerRef, LayerSink, Output, tree};

pub(super) fn export(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    group: &Group,
    sink: &impl LayerSink,
    output: &Output,
) -> Result<Built, Error> {
    downloads::harvest(&lifecycle.catalog, job);
    let mut export = Export::new(job, prepared, sink)?;
    for member in &group.members {
        export.take_buildpack(member)?;
    }
    export.describe(output);
    let built = export.finish(group);
    // Whatever is left in it is of no use any more; the platform removes its parent anyway.
    let _ = tree::remove(&job.staging);
    built
}

/// An export under way.
struct Export<'a, S> {
    job: &'a Job,
    prepared: &'a Prepared,
    sink: &'a S,
    staged: usize,
    record: CacheRecord,
    layers: Vec<LayerRef>,
    launch: Vec<LaunchLayer>,
    processes: Processes,
    labels: BTreeMap<String, String>,
    /// What became of each layer, for the log.
    story: Vec<String>,
}

/// What became of a layer's contents during the build.
enum Contents {
    /// Nothing of it is in the upper directory: as restored, or as in the previous image.
    Unchanged(LayerRef),
    /// All of it is in the upper directory.
    New(PathBuf),
    /// The upper directory holds its differences to the restored snapshot.
    Changed { upper: PathBuf, restored: PathBuf },
    /// It has none.
    Absent,
}

impl<'a, S: LayerSink> Export<'a, S> {
    fn new(job: &'a Job, prepared: &'a Prepared, sink: &'a S) -> Result<Self, Error> {
        tree::remove(&job.staging).map_err(Error::files("remove", &job.staging))?;
        std::fs::create_dir_all(&job.staging)
            .map_err(Error::files("create directory", &job.staging))?;
        Ok(Self {
            job,
            prepared,
            sink,
            staged: 0,
            record: CacheRecord::new(&job.stack.build_digest),
            layers: Vec::new(),
            launch: Vec::new(),
            processes: Processes::default(),
            labels: BTreeMap::new(),
            story: Vec::new(),
        })
    }

    fn take_buildpack(&mut self, member: &Member) -> Result<(), Error> {
        let buildpack = &member.buildpack;
        let contract = |(file, why): (String, String)| Error::Contract {
            buildpack: buildpack.id.clone(),
            file,
            why,
        };
        let dir = self.buildpack_dir(buildpack)?;
        for (name, toml) in layer::described(&dir).map_err(contract)? {
            self.take_layer(buildpack, &dir, &name, &toml)?;
        }
        let launch: Option<LaunchToml> = layer::read_toml(&dir.join("launch.toml"))
            .map_err(|why| contract(("launch.toml".into(), why)))?;
        if let Some(launch) = launch {
            let labels = launch.labels.iter().map(|l| (l.key.clone(), l.value.clone()));
            self.labels.extend(labels);
            self.processes.add(&buildpack.id, launch)?;
        }
        let store = tree::read_file(&dir.join("store.toml"), layer::MAX_TOML)
            .map_err(|error| contract(("store.toml".into(), error.to_string())))?;
        if let Some(store) = store {
            let text = String::from_utf8_lossy(&store).into_owned();
            self.record.stores.insert(buildpack.id.clone(), text);
        }
        Ok(())
    }

    /// The app user owns `/layers` and what is below it, and may have put anything there.
    fn buildpack_dir(&self, buildpack: &Buildpack) -> Result<PathBuf, Error> {
        let layers = self.job.upper.join("layers");
        let dir = layers.join(buildpack.escaped_id());
        match tree::is_dir(&layers) && tree::is_dir(&dir) {
            true => Ok(dir),
            false => Err(Error::Contract {
                buildpack: buildpack.id.clone(),
                file: buildpack.layers_dir(),
                why: "it is not a directory any more".into(),
            }),
        }
    }

    fn take_layer(
        &mut self,
        buildpack: &Buildpack,
        dir: &Path,
        name: &str,
        toml: &LayerToml,
    ) -> Result<(), Error> {
        let types = toml.types;
        if !types.launch && !types.cache {
            return Ok(());
        }
        let inner = format!("layers/{}/{name}", buildpack.escaped_id());
        let (layer, fate) = match self.contents(buildpack, dir, name, types)? {
            Contents::Absent if types.launch => {
                return Err(Error::Contract {
                    buildpack: buildpack.id.clone(),
                    file: format!("{name}.toml"),
                    why: "the layer is for launch, but has no directory".into(),
                });
            }
            Contents::Absent => return Ok(()),
            Contents::Unchanged(layer) => (layer, "unchanged"),
            Contents::New(path) => (self.store(&inner, |goal| rename(&path, goal))?, "new"),
            Contents::Changed { upper, restored } => {
                (self.store_merged(&inner, &upper, &restored)?, "changed")
            }
        };
        self.story.push(format!("{}/{name}: {fate}, {}", buildpack.name, megabytes(layer.size)));
        self.remember(buildpack, name, toml, &layer);
        if types.launch {
            self.launch.push(LaunchLayer {
                image_path: format!("/{inner}"),
                host_path: self.sink.layer_path(&layer.digest).join(&inner),
                buildpack: buildpack.id.clone(),
            });
            self.layers.push(layer);
        }
        Ok(())
    }

    fn contents(
        &self,
        buildpack: &Buildpack,
        dir: &Path,
        name: &str,
        types: Types,
    ) -> Result<Contents, Error> {
        let path = dir.join(name);
        let known = self.prepared.record.find(&buildpack.id, name);
        let stored = known.and_then(|layer| self.sink.layer(&layer.digest));
        // Only cached layers were mounted; launch-only ones lie in the previous image.
        let restored = known.filter(|layer| layer.types.cache).zip(stored.clone());
        let looking = |path: &Path| Error::files("look at", path.to_owned());
        let Some(metadata) = tree::metadata(&path).map_err(looking(&path))? else {
            let reusable = known.is_some_and(|l| l.types.cache || (l.types.launch && !types.build));
            return Ok(stored.filter(|_| reusable).map_or(Contents::Absent, Contents::Unchanged));
        };
        if tree::is_whiteout(&metadata) {
            return Ok(Contents::Absent);
        }
        if !metadata.is_dir() {
            return Err(Error::Contract {
                buildpack: buildpack.id.clone(),
                file: name.to_owned(),
                why: "a layer must be a directory".into(),
            });
        }
        let Some((known, layer)) = restored else { return Ok(Contents::New(path)) };
        if self.sink.is_opaque(&path).map_err(looking(&path))? {
            return Ok(Contents::New(path));
        }
        // Looking around inside can copy up the bare directory (chmod, utimes).
        if tree::names(&path).map_err(looking(&path))?.is_empty() {
            return Ok(Contents::Unchanged(layer));
        }
        let snapshot = self.sink.layer_path(&known.digest);
        let inner = format!("layers/{}/{name}", buildpack.escaped_id());
        Ok(Contents::Changed { upper: path, restored: snapshot.join(inner) })
    }

    /// Stages a layer of host ids, which `fill` puts at the given path, and stores it.
    fn store(
        &mut self,
        inner: &str,
        fill: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<LayerRef, Error> {
        self.store_with_base(inner, self.job.owner.base, fill)
    }

    /// The same for a layer of the container's ids: the snapshot's files are shared, and theirs
    /// cannot change.
    fn store_merged(
        &mut self,
        inner: &str,
        upper: &Path,
        restored: &Path,
    ) -> Result<LayerRef, Error> {
        let base = self.job.owner.base;
        let sink = self.sink;
        self.store_with_base(inner, 0, |goal| {
            tree::link_tree(restored, goal)?;
            tree::apply_upper(upper, goal, base, &|dir| sink.is_opaque(dir))
        })
    }

    fn store_with_base(
        &mut self,
        inner: &str,
        id_base: u32,
        fill: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<LayerRef, Error> {
        self.staged += 1;
        let root = self.job.staging.join(self.staged.to_string());
        let staging = |path: &Path| Error::files("stage layer in", path.to_owned());
        tree::make_dir(&root, 0o755, id_base).map_err(staging(&root))?;
        let goal = root.join(inner);
        let mut parent = root.clone();
        for part in Path::new(inner).parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            tree::make_dir(&parent, 0o755, id_base).map_err(staging(&parent))?;
        }
        fill(&goal).map_err(staging(&goal))?;
        self.sink
            .add_layer(&root, id_base)
            .map_err(|source| Error::Store { layer: inner.to_owned(), source })
    }

    fn remember(&mut self, buildpack: &Buildpack, name: &str, toml: &LayerToml, layer: &LayerRef) {
        #[derive(serde::Serialize)]
        struct Metadata<'a> {
            metadata: &'a toml::Table,
        }
        // What was read from TOML can be written as TOML.
        let metadata = toml::to_string(&Metadata { metadata: &toml.metadata }).unwrap_or_default();
        self.record.layers.push(CachedLayer {
            buildpack: buildpack.id.clone(),
            name: name.to_owned(),
            types: toml.types,
            metadata,
            digest: layer.digest.clone(),
        });
    }

    fn describe(&self, output: &Output) {
        output.step("Packaging");
        for line in &self.story {
            output.detail(line);
        }
    }

    fn finish(mut self, group: &Group) -> Result<Built, Error> {
        let has_profile = has_profile(&self.job.upper.join("app"));
        let environment = environment(&self.job.stack.run_env, &self.launch)?;
        let processes = std::mem::take(&mut self.processes);
        let shape = Shape { has_profile, layers: &self.launch, environment: &environment };
        let (processes, default_process) = processes.finish(&shape)?;
        let app = self.job.upper.join("app");
        let app_layer = self.store("app", |goal| rename(&app, goal))?;
        let labels = super::labels::labels(self.job, group, &self.record, &app_layer, &processes);
        self.labels.extend(labels);
        self.layers.push(app_layer);
        self.record.save(&self.job.cache_record)?;
        Ok(Built {
            layers: self.layers,
            env: environment.into_iter().collect(),
            processes,
            default_process,
            labels: self.labels,
            working_dir: "/app".into(),
        })
    }
}

fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    match tree::is_dir(from) {
        true => std::fs::rename(from, to),
        false => Err(std::io::Error::other("it is not a directory any more")),
    }
}

fn has_profile(app: &Path) -> bool {
    let scripts = tree::names(&app.join(".profile.d")).unwrap_or_default();
    let profile = tree::metadata(&app.join(".profile")).unwrap_or_default();
    scripts.iter().any(|name| name.ends_with(".sh")) || profile.is_some_and(|file| file.is_file())
}

fn megabytes(bytes: u64) -> String {
    const MEGA: u64 = 1_000_000;
    format!("{}.{} MB", bytes / MEGA, bytes % MEGA / 100_000)
}

#[cfg(test)]
mod tests;
