//! Tests of the phases on the host, with a store of plain directories.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use super::*;
use crate::build::lifecycle::{Owner, StackFacts};
use crate::build::{Config, Mount};
use crate::domain::{ConfigVars, ProcessType};

/// A store that keeps trees under a number and tells changed ones from equal ones by a listing.
struct FakeSink {
    root: PathBuf,
    known: Mutex<BTreeMap<String, String>>,
    opaque: Vec<&'static str>,
}

impl FakeSink {
    fn text(dir: &Path) -> String {
        let mut text = String::new();
        for name in tree::names(dir).unwrap() {
            let path = dir.join(&name);
            text.push_str(&match tree::is_dir(&path) {
                true => format!("{name}/[{}]", Self::text(&path)),
                false => format!("{name}={:?} ", std::fs::read(&path).unwrap_or_default()),
            });
        }
        text
    }
}

impl LayerSink for FakeSink {
    fn add_layer(&self, dir: &Path, _id_base: u32) -> io::Result<LayerRef> {
        let text = Self::text(dir);
        let mut known = self.known.lock().unwrap();
        let next = format!("sha256:{:064}", known.len());
        let digest = known.entry(text).or_insert(next).clone();
        let goal = self.layer_path(&digest);
        match goal.exists() {
            true => std::fs::remove_dir_all(dir)?,
            false => std::fs::rename(dir, goal)?,
        }
        Ok(LayerRef { digest, size: 1_250_000 })
    }

    fn layer_path(&self, digest: &str) -> PathBuf {
        self.root.join(digest)
    }

    fn layer(&self, digest: &str) -> Option<LayerRef> {
        self.layer_path(digest)
            .exists()
            .then(|| LayerRef { digest: digest.into(), size: 1_250_000 })
    }

    fn is_opaque(&self, dir: &Path) -> io::Result<bool> {
        Ok(self.opaque.iter().any(|end| dir.ends_with(end)))
    }
}

/// A machine's worth of directories for builds of one app.
struct Bench {
    root: tempfile::TempDir,
    lifecycle: Lifecycle,
    sink: FakeSink,
    lines: std::sync::Arc<Mutex<Vec<String>>>,
    job: Job,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("store")).unwrap();
        let lifecycle = Lifecycle::open(Config::default(), &path("buildpacks")).unwrap();
        let sink = FakeSink { root: path("store"), known: Mutex::default(), opaque: Vec::new() };
        // The tests' own user stands for both the container's root and the app user.
        let owner = std::fs::metadata(root.path()).unwrap().uid();
        let job = Job {
            app: "shop".into(),
            commit: "c0ffee".into(),
            upper: path("upper"),
            staging: path("staging"),
            owner: Owner { base: owner, user: owner },
            stack: StackFacts {
                name: "debian-13".into(),
                build_digest: "sha256:stack".into(),
                run_digest: "sha256:run".into(),
                distro: ("debian".into(), "13".into()),
                build_env: Vec::new(),
                run_env: vec![("PATH".into(), "/usr/bin".into())],
            },
            config_vars: ConfigVars::default(),
            buildpacks: Vec::new(),
            cache_record: path("cache.json"),
            downloads: path("downloads"),
        };
        Self { root, lifecycle, sink, lines: std::sync::Arc::default(), job }
    }

    fn output(&self) -> Output {
        let lines = std::sync::Arc::clone(&self.lines);
        Output::new(&Config::default(), move |line| lines.lock().unwrap().push(line.to_owned()))
    }

    /// A fresh upper directory with these files of the source.
    fn push(&self, files: &[(&str, &str)]) -> Result<Prepared, Error> {
        tree::remove(&self.job.upper).unwrap();
        std::fs::create_dir_all(self.job.upper.join("app")).unwrap();
        for (name, text) in files {
            self.write(&format!("app/{name}"), text);
        }
        self.lifecycle.prepare(&self.job, &self.sink, &self.output())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.job.upper.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::support::atomic_file::write_volatile(&path, text.as_bytes(), 0o644).unwrap();
    }

    fn group(&self) -> Group {
        let buildpack = self.lifecycle.catalog.by_id("staithe/nodejs").unwrap().clone();
        Group { members: vec![Member { buildpack, entries: Vec::new() }] }
    }

    fn export(&self, prepared: &Prepared) -> Result<Built, Error> {
        self.lifecycle.export(&self.job, prepared, &self.group(), &self.sink, &self.output())
    }

    fn snapshot(&self, layer: &LayerRef, name: &str) -> Option<String> {
        std::fs::read_to_string(self.sink.layer_path(&layer.digest).join(name)).ok()
    }
}

const DIR: &str = "layers/staithe_nodejs";
const WEB: &str = "[[processes]]\ntype = \"web\"\ncommand = [\"node\", \"a.js\"]\ndefault = true\n";
const ALL: &str = "[types]\nlaunch = true\nbuild = true\ncache = true\n[metadata]\nkey = \"1\"\n";

fn first_build(bench: &Bench) -> Built {
    let prepared = bench.push(&[("a.js", "1")]).unwrap();
    assert!(prepared.lowers.is_empty());
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/store.toml"), "[metadata]\nn = 1\n");
    bench.write(&format!("{DIR}/node.toml"), ALL);
    bench.write(&format!("{DIR}/node/bin/node"), "elf");
    bench.write(&format!("{DIR}/node/env/NODE_ENV.default"), "production");
    bench.write(&format!("{DIR}/mods.toml"), "[types]\nlaunch = true\n[metadata]\nk = 2\n");
    bench.write(&format!("{DIR}/mods/x.js"), "x");
    bench.write(&format!("{DIR}/scratch.toml"), "[types]\nbuild = true\n");
    bench.write(&format!("{DIR}/scratch/y"), "y");
    bench.export(&prepared).unwrap()
}

#[test]
fn layers_environment_and_processes_come_out_of_a_build() {
    let bench = Bench::new();
    let built = first_build(&bench);
    assert_eq!(built.layers.len(), 3);
    assert_eq!(bench.snapshot(&built.layers[0], &format!("{DIR}/mods/x.js")).unwrap(), "x");
    assert_eq!(bench.snapshot(&built.layers[1], &format!("{DIR}/node/bin/node")).unwrap(), "elf");
    assert_eq!(bench.snapshot(&built.layers[2], "app/a.js").unwrap(), "1");
    let variable = |name: &str| built.env.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(variable("PATH"), "/layers/staithe_nodejs/node/bin:/usr/bin");
    assert_eq!(variable("NODE_ENV"), "production");
    assert_eq!(built.processes[&ProcessType::web()].args, ["node", "a.js"]);
    assert!(built.labels["io.buildpacks.lifecycle.metadata"].contains(&built.layers[2].digest));
    assert!(!bench.job.staging.exists());
    let lines = bench.lines.lock().unwrap().clone();
    assert_eq!(lines[0], "-----> Packaging");
    assert_eq!(lines[1], "       Node.js/mods: new, 1.2 MB");
}

#[test]
fn the_next_build_mounts_cached_layers_and_reuses_untouched_ones() {
    let bench = Bench::new();
    let first = first_build(&bench);
    let prepared = bench.push(&[("a.js", "2")]).unwrap();
    assert_eq!(prepared.lowers, [bench.sink.layer_path(&first.layers[1].digest)]);
    let restored = |name: &str| std::fs::read_to_string(bench.job.upper.join(DIR).join(name));
    assert_eq!(restored("node.toml").unwrap(), "[metadata]\nkey = \"1\"\n");
    assert_eq!(restored("mods.toml").unwrap(), "[metadata]\nk = 2\n");
    assert_eq!(restored("store.toml").unwrap(), "[metadata]\nn = 1\n");
    assert!(restored("scratch.toml").is_err());
    // The buildpack keeps both, and touches neither.
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/node.toml"), ALL);
    bench.write(&format!("{DIR}/mods.toml"), "[types]\nlaunch = true\n[metadata]\nk = 2\n");
    let second = bench.export(&prepared).unwrap();
    assert_eq!(second.layers[..2], first.layers[..2]);
    assert_ne!(second.layers[2], first.layers[2]);
    // A third one drops both by leaving no types.
    let prepared = bench.push(&[("a.js", "2")]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    let third = bench.export(&prepared).unwrap();
    assert_eq!(third.layers, second.layers[2..]);
    assert!(bench.push(&[]).unwrap().lowers.is_empty());
}

#[test]
fn a_touched_layer_is_merged_and_a_replaced_one_is_new() {
    let mut bench = Bench::new();
    let first = first_build(&bench);
    let prepared = bench.push(&[("a.js", "1")]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/node.toml"), ALL);
    bench.write(&format!("{DIR}/node/bin/npm"), "script");
    let merged = bench.export(&prepared).unwrap();
    let file =
        |built: &Built, name: &str| bench.snapshot(&built.layers[0], &format!("{DIR}/node/{name}"));
    assert_eq!(file(&merged, "bin/node").unwrap(), "elf");
    assert_eq!(file(&merged, "bin/npm").unwrap(), "script");
    assert!(bench.snapshot(&first.layers[1], &format!("{DIR}/node/bin/npm")).is_none());
    bench.sink.opaque.push("node");
    let prepared = bench.push(&[("a.js", "1")]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/node.toml"), ALL);
    bench.write(&format!("{DIR}/node/bin/node"), "other");
    let replaced = bench.export(&prepared).unwrap();
    let file = |name: &str| bench.snapshot(&replaced.layers[0], &format!("{DIR}/node/{name}"));
    assert_eq!((file("bin/node").unwrap().as_str(), file("bin/npm")), ("other", None));
}

#[test]
fn the_cache_is_dropped_when_the_stack_changes_or_the_store_lost_a_layer() {
    let mut bench = Bench::new();
    let first = first_build(&bench);
    std::fs::remove_dir_all(bench.sink.layer_path(&first.layers[1].digest)).unwrap();
    let prepared = bench.push(&[]).unwrap();
    assert!(prepared.lowers.is_empty());
    assert!(!bench.job.upper.join(DIR).join("node.toml").exists());
    assert!(bench.job.upper.join(DIR).join("mods.toml").exists());
    bench.job.stack.build_digest = "sha256:newer".into();
    bench.push(&[]).unwrap();
    assert!(!bench.job.upper.join(DIR).join("mods.toml").exists());
    assert!(bench.lines.lock().unwrap().iter().any(|line| line.contains("Stack has changed")));
}

#[test]
fn a_failed_export_keeps_the_old_cache_record() {
    let bench = Bench::new();
    first_build(&bench);
    let before = CacheRecord::load(&bench.job.cache_record);
    let prepared = bench.push(&[]).unwrap();
    let error = bench.export(&prepared).unwrap_err();
    assert!(error.to_string().contains("add a Procfile"), "{error}");
    assert_eq!(CacheRecord::load(&bench.job.cache_record), before);
}

#[test]
fn links_in_the_place_of_directories_and_files_are_refused() {
    let bench = Bench::new();
    let prepared = bench.push(&[]).unwrap();
    let dir = bench.job.upper.join(DIR);
    std::fs::remove_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/etc", &dir).unwrap();
    let error = bench.export(&prepared).unwrap_err().to_string();
    assert!(error.contains("not a directory any more"), "{error}");

    let prepared = bench.push(&[]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/node.toml"), ALL);
    std::os::unix::fs::symlink("/etc", dir.join("node")).unwrap();
    let error = bench.export(&prepared).unwrap_err().to_string();
    assert!(error.contains("a layer must be a directory"), "{error}");

    let prepared = bench.push(&[]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("launch.toml")).unwrap();
    let error = bench.export(&prepared).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");

    let prepared = bench.push(&[]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    std::fs::remove_dir_all(bench.job.upper.join("app")).unwrap();
    std::os::unix::fs::symlink("/etc", bench.job.upper.join("app")).unwrap();
    assert!(bench.export(&prepared).is_err());
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn exec_d_is_refused_with_a_reason() {
    let bench = Bench::new();
    let prepared = bench.push(&[]).unwrap();
    bench.write(&format!("{DIR}/launch.toml"), WEB);
    bench.write(&format!("{DIR}/node.toml"), ALL);
    bench.write(&format!("{DIR}/node/exec.d/x"), "");
    let error = bench.export(&prepared).unwrap_err().to_string();
    assert!(error.contains("exec.d") && error.contains("not supported"), "{error}");
}

#[test]
fn the_source_is_checked_before_anything_runs() {
    let bench = Bench::new();
    let refused = |files: &[(&str, &str)]| bench.push(files).unwrap_err().to_string();
    assert!(refused(&[("Procfile", "web: a\nweb: b")]).contains("Procfile line 2"));
    assert!(refused(&[("app.json", "{")]).contains("app.json line 1"));
    assert!(refused(&[("project.toml", "a = 1\nb = [")]).contains("project.toml line 2"));
    let prepared = bench
        .push(&[
            (".slugignore", "docs/\n"),
            (
                "project.toml",
                "[io.buildpacks]\nexclude = [\"*.psd\"]\n[[io.buildpacks.group]]\nid = \"a/b\"",
            ),
            ("docs/a", ""),
            ("x.psd", ""),
            ("app.json", "{\"buildpacks\": [\"heroku/ruby\"]}"),
        ])
        .unwrap();
    assert_eq!(
        tree::names(&bench.job.upper.join("app")).unwrap(),
        [".slugignore", "app.json", "project.toml"]
    );
    assert_eq!(prepared.asked, Some(vec!["a/b".to_owned()]));
}

#[test]
fn the_container_gets_buildpacks_certificates_and_config_vars() {
    let mut bench = Bench::new();
    let secret = crate::domain::Secret::new("s3cret\n");
    bench.job.config_vars.set("TOKEN".parse().unwrap(), secret).unwrap();
    let prepared = bench.push(&[]).unwrap();
    let token = bench.job.upper.join("platform/env/TOKEN");
    assert_eq!(std::fs::read_to_string(token).unwrap(), "s3cret\n");
    let node = Mount {
        source: bench.lifecycle.catalog.by_id("staithe/nodejs").unwrap().path.clone(),
        target: "/cnb/buildpacks/staithe_nodejs/1.0.0".into(),
    };
    assert!(prepared.mounts.contains(&node), "{:?}", prepared.mounts);
    assert!(prepared.mounts.iter().any(|mount| mount.target == "/cnb/downloads"));
    assert!(bench.root.path().join("downloads").is_dir());
}
