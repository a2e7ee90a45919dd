//! The build lifecycle with the bundled buildpacks, on a real stack: each app of
//! `tests/fixtures/apps` is built in a chroot over an overlay, and what comes out is started.
//!
//! Needs root and the package registries.

#![allow(clippy::print_stdout, reason = "a build's log explains a failed test")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use staithe::build::{
    Built, Config, Error, LayerRef, LayerSink, Lifecycle, Mount, Output, Owner, Sandbox,
    SandboxError, StackFacts, Step, StepExit, Stream,
};
use staithe::domain::{ConfigVars, ProcessType};
use staithe::image::ImageStore;
use tokio::io::{AsyncBufReadExt, BufReader};

/// Runs a program of the test's own and insists on its success.
fn sh(script: &str, args: &[&Path]) -> String {
    let output = Command::new("/bin/bash")
        .args(["-euc", script, "test"])
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A mounted overlay with more mounts in it; gone when dropped.
struct Root {
    path: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Root {
    fn mount(dir: &Path, lowers: &[PathBuf], upper: &Path, mounts: &[Mount]) -> Self {
        let path = dir.join("root");
        let work = dir.join("work");
        for made in [&path, &work, &upper.to_owned()] {
            std::fs::create_dir_all(made).unwrap();
        }
        let top_first: Vec<_> = lowers.iter().rev().map(|l| l.to_str().unwrap()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off",
            top_first.join(":"),
            upper.display(),
            work.display()
        );
        sh("mount -t overlay overlay -o \"$1\" \"$2\"", &[Path::new(&options), &path]);
        let mut root = Self { path: path.clone(), mounted: vec![path] };
        for device in ["null", "zero", "urandom", "random"] {
            let source = PathBuf::from("/dev").join(device);
            root.bind(&Mount { source, target: format!("/dev/{device}") });
        }
        // The network is the machine's own.
        for file in ["/etc/resolv.conf", "/etc/hosts"] {
            root.bind(&Mount { source: file.into(), target: file.into() });
        }
        for mount in mounts {
            root.bind(mount);
        }
        root
    }

    fn bind(&mut self, mount: &Mount) {
        let target = self.path.join(mount.target.trim_start_matches('/'));
        let script = "if [ -d \"$1\" ]; then mkdir -p \"$2\"; else mkdir -p \"${2%/*}\"; touch \"$2\"; \
                      fi; mount --bind \"$1\" \"$2\"";
        sh(script, &[&mount.source, &target]);
        self.mounted.push(target);
    }

    /// The program as the app's user, in its own process namespace, which dies with it.
    fn command(&self, args: &[String], env: &[(String, String)], cwd: &str) -> Command {
        let mut command = Command::new("unshare");
        let proc = format!("--mount-proc={}", self.path.join("proc").display());
        command.args(["--mount", "--pid", "--fork", "--kill-child", &proc]);
        // A shell of root's stays as process 1: chroot's change of user would clear the signal
        // that ends the namespace with its parent (prctl(2), PR_SET_PDEATHSIG).
        command.args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]);
        command.args(["chroot", "--userspec=1000:1000", "--groups="]).arg(&self.path);
        command.args(["/usr/bin/env", "-i"]);
        command.args(env.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(["/bin/sh", "-c", "cd \"$1\"; shift; exec \"$@\"", "sh", cwd]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

impl Sandbox for Root {
    async fn exec(
        &self,
        step: &Step,
        output: &(dyn Fn(Stream, &str) + Send + Sync),
    ) -> Result<StepExit, SandboxError> {
        let failed = |error: io::Error| SandboxError::Run {
            step: step.name.clone(),
            source: Box::new(error),
        };
        let command = self.command(&step.args, &step.env, &step.cwd);
        let mut child =
            tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed)?;
        let stdout = lines(child.stdout.take().unwrap(), Stream::Stdout, output);
        let stderr = lines(child.stderr.take().unwrap(), Stream::Stderr, output);
        let all = async { tokio::join!(stdout, stderr, child.wait()).2 };
        let status = tokio::time::timeout(step.deadline, all).await.map_err(|_| {
            SandboxError::Deadline { step: step.name.clone(), limit: step.deadline }
        })?;
        let code = status.map_err(failed)?.code().unwrap_or(137);
        Ok(StepExit { code, out_of_memory: false })
    }
}

async fn lines(
    pipe: impl tokio::io::AsyncRead + Unpin,
    stream: Stream,
    output: &(dyn Fn(Stream, &str) + Send + Sync),
) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        output(stream, String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
}

/// A layer store of plain directories, with tar's hash as the digest.
struct DirSink(PathBuf);

impl LayerSink for DirSink {
    fn add_layer(&self, dir: &Path, id_base: u32) -> io::Result<LayerRef> {
        assert_eq!(id_base, 0, "these tests shift no ids");
        let script = "tar --sort=name --mtime=@1 --xattrs-exclude='*' -cf - -C \"$1\" . | tee >(wc -c >&2) | sha256sum";
        let output = Command::new("bash").args(["-c", script, "tar"]).arg(dir).output()?;
        let hex = String::from_utf8_lossy(&output.stdout)[..64].to_owned();
        let size = String::from_utf8_lossy(&output.stderr).trim().parse().unwrap();
        let goal = self.0.join(&hex);
        match goal.exists() {
            true => std::fs::remove_dir_all(dir)?,
            false => std::fs::rename(dir, goal)?,
        }
        Ok(LayerRef { digest: format!("sha256:{hex}"), size })
    }

    fn layer_path(&self, digest: &str) -> PathBuf {
        self.0.join(digest.trim_start_matches("sha256:"))
    }

    fn layer(&self, digest: &str) -> Option<LayerRef> {
        let found = self.layer_path(digest).is_dir();
        found.then(|| LayerRef { digest: digest.to_owned(), size: 0 })
    }

    fn is_opaque(&self, dir: &Path) -> io::Result<bool> {
        let script = "import os, sys\ntry: print(os.getxattr(sys.argv[1], 'trusted.overlay.opaque'))\n\
                      except OSError: pass";
        let output = Command::new("python3").args(["-c", script]).arg(dir).output()?;
        Ok(output.stdout == b"b'y'\n")
    }
}

/// The default stack's build and run image, as directories.
fn stack() -> (PathBuf, PathBuf) {
    static STACK: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    STACK.get_or_init(|| (stack_layer("build"), stack_layer("run"))).clone()
}

fn stack_layer(variant: &str) -> PathBuf {
    let images = crate::support::staithe::template().join("images");
    let images = ImageStore::open(&images, Default::default()).unwrap();
    let image = images.resolve(&format!("stack/debian-13:{variant}")).unwrap();
    let layers = images.image_layer_paths(&image).unwrap();
    assert_eq!(layers.len(), 1);
    layers[0].clone()
}

/// One app's place on a machine: what stays between its builds.
struct Bench {
    dir: tempfile::TempDir,
    stack: (PathBuf, PathBuf),
    lifecycle: Lifecycle,
    sink: DirSink,
    config_vars: ConfigVars,
    builds: usize,
    log: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        let stack = stack();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(dir.path().join("layers")).unwrap();
        let lifecycle = Lifecycle::open(Config::default(), &dir.path().join("buildpacks")).unwrap();
        let sink = DirSink(dir.path().join("layers"));
        let config_vars = ConfigVars::default();
        Self { dir, stack, lifecycle, sink, config_vars, builds: 0, log: Arc::default() }
    }

    fn job(&self, build: &Path) -> staithe::build::Job {
        staithe::build::Job {
            app: "shop".into(),
            commit: "c0ffee".into(),
            upper: build.join("upper"),
            staging: build.join("staging"),
            owner: Owner { base: 0, user: 1000 },
            stack: StackFacts {
                name: "debian-13".into(),
                build_digest: self.stack.0.display().to_string(),
                run_digest: "sha256:run".into(),
                distro: ("debian".into(), "13".into()),
                build_env: Vec::new(),
                run_env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            },
            config_vars: self.config_vars.clone(),
            buildpacks: Vec::new(),
            cache_record: self.dir.path().join("cache.json"),
            // Shared by all tests, as by all apps of a machine.
            downloads: Path::new(env!("CARGO_TARGET_TMPDIR")).join("downloads"),
        }
    }

    fn output(&self) -> Output {
        self.log.lock().unwrap().clear();
        let log = Arc::clone(&self.log);
        Output::new(&Config::default(), move |line| {
            println!("{line}");
            log.lock().unwrap().push(line.to_owned());
        })
    }

    fn said(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// Builds a fixture after `change` has edited the copy.
    async fn push(&mut self, app: &str, change: impl FnOnce(&Path)) -> Result<Built, Error> {
        self.builds += 1;
        let build = self.dir.path().join(format!("build-{}", self.builds));
        let job = self.job(&build);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apps").join(app);
        std::fs::create_dir_all(&job.upper).unwrap();
        let app = job.upper.join("app");
        sh("cp -a \"$1\" \"$2\"", &[&source, &app]);
        change(&app);
        sh("chown -hR 1000:1000 \"$1\"", &[&app]);
        let output = self.output();
        let started = Instant::now();
        let prepared = self.lifecycle.prepare(&job, &self.sink, &output)?;
        let mut lowers = vec![self.stack.0.clone()];
        lowers.extend(prepared.lowers.iter().cloned());
        let root = Root::mount(&build, &lowers, &job.upper, &prepared.mounts);
        let group = self.lifecycle.detect(&job, &prepared, &root, &output).await?;
        self.lifecycle.build(&job, &prepared, &group, &root, &output).await?;
        drop(root);
        let built = self.lifecycle.export(&job, &prepared, &group, &self.sink, &output);
        println!("built in {:?}", started.elapsed());
        built
    }

    /// Starts the image's process.
    fn start(&mut self, built: &Built, process_type: &str) -> Running {
        self.builds += 1;
        let dir = self.dir.path().join(format!("run-{}", self.builds));
        let mut lowers = vec![self.stack.1.clone()];
        lowers.extend(built.layers.iter().map(|layer| self.sink.layer_path(&layer.digest)));
        let root = Root::mount(&dir, &lowers, &dir.join("upper"), &[]);
        let port = free_port();
        let mut env = built.env.clone();
        env.push(("PORT".into(), port.to_string()));
        let command = &built.processes[&process_type.parse::<ProcessType>().unwrap()];
        let mut child = root.command(&command.args, &env, &command.working_dir);
        let child = child.stdout(Stdio::inherit()).stderr(Stdio::inherit()).spawn().unwrap();
        Running { child, port, _root: root }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Running {
    child: Child,
    port: u16,
    _root: Root,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The answer to a request, head and body; waits for the port.
    fn get(&mut self, path: &str, headers: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => {
                    assert!(self.child.try_wait().unwrap().is_none(), "the process has ended");
                    assert!(Instant::now() < deadline, "no answer within 20 s: {error}");
                    // The port has no event to wait for from outside.
                    Command::new("sleep").arg("0.05").status().unwrap();
                }
            }
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n{headers}Connection: close\r\n\r\n");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn edit(app: &Path, name: &str, text: &str) {
    sh("printf '%s' \"$2\" > \"$1\"", &[&app.join(name), Path::new(text)]);
}

/// The digests of all layers but the app's, and the app's.
fn digests(built: &Built) -> (Vec<&str>, &str) {
    let digests: Vec<&str> = built.layers.iter().map(|layer| layer.digest.as_str()).collect();
    let (app, others) = digests.split_last().unwrap();
    (others.to_vec(), app)
}

/// Only the app layer may differ after a change of the app's own files.
fn assert_reused(first: &Built, second: &Built) {
    let (before, after) = (digests(first), digests(second));
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

fn unchanged(_: &Path) {}

#[tokio::test]
async fn machine_a_node_app_is_built_reused_and_answers() {
    let mut bench = Bench::new();
    let first = bench.push("node-web", unchanged).await.unwrap();
    let answer = bench.start(&first, "web").get("/", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("version 1"), "{answer}");
    let second = bench.push("node-web", |app| edit(app, "version.txt", "2\n")).await.unwrap();
    assert!(bench.said("Reusing dependencies"), "the lock file is unchanged");
    assert_reused(&first, &second);
    let answer = bench.start(&second, "web").get("/", "");
    assert!(answer.contains("version 2"), "{answer}");
}

#[tokio::test]
async fn machine_development_dependencies_build_and_do_not_run() {
    let mut bench = Bench::new();
    let first = bench.push("node-build", unchanged).await.unwrap();
    let answer = bench.start(&first, "web").get("/", "");
    assert!(answer.contains("60000 ms, dev dependencies: false"), "{answer}");
    let second = bench.push("node-build", |app| edit(app, "new.txt", "x")).await.unwrap();
    assert!(bench.said("Production dependencies are unchanged"));
    assert_reused(&first, &second);
    // A build that changes node_modules changes the restored layer, which is merged with it.
    let generating = |app: &Path| {
        edit(
            app,
            "build.js",
            "const fs = require('fs'); fs.mkdirSync('dist'); fs.copyFileSync('server.js', 'dist/server.js');
             fs.writeFileSync('node_modules/ms/generated', 'x'); fs.rmSync('node_modules/ms/readme.md');",
        );
    };
    let third = bench.push("node-build", generating).await.unwrap();
    assert!(bench.said("modules-dev: changed") && bench.said("Removing development"));
    let modules = bench.sink.layer_path(&third.layers[0].digest);
    let ms = modules.join("layers/staithe_nodejs/modules/node_modules/ms");
    assert!(ms.join("generated").exists() && ms.join("index.js").exists());
    assert!(!ms.join("readme.md").exists());
}

#[tokio::test]
async fn machine_a_python_app_is_built_reused_and_answers() {
    let mut bench = Bench::new();
    let first = bench.push("python-web", unchanged).await.unwrap();
    let answer = bench.start(&first, "web").get("/", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("version 1 on python 3."));
    assert!(first.processes.contains_key(&ProcessType::release()));
    let second = bench.push("python-web", |app| edit(app, "version.txt", "2\n")).await.unwrap();
    assert!(bench.said("Reusing dependencies"), "the requirements are unchanged");
    let answer = bench.start(&second, "web").get("/", "");
    assert!(answer.contains("version 2"), "{answer}");
    assert_reused(&first, &second);
}

#[tokio::test]
async fn machine_a_static_site_is_served_as_a_site_should_be() {
    let mut bench = Bench::new();
    let built = bench.push("static-site", unchanged).await.unwrap();
    let mut site = bench.start(&built, "web");
    let page = site.get("/", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("version 1"), "{page}");
    assert!(page.contains("Content-Type: text/html") && !page.contains("Last-Modified"), "{page}");
    let style = site.get("/style.css", "");
    assert!(style.contains("Content-Type: text/css"), "{style}");
    let tag = page.lines().find_map(|line| line.strip_prefix("Etag: ")).unwrap().to_owned();
    let same = site.get("/", &format!("If-None-Match: {tag}\r\n"));
    assert!(same.starts_with("HTTP/1.1 304"), "{same}");
    let dated = site.get("/", "If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT\r\n");
    assert!(dated.starts_with("HTTP/1.1 200"), "{dated}");
    let part = site.get("/style.css", "Range: bytes=0-3\r\n");
    assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("p { "), "{part}");
    assert!(site.get("/docs/", "").contains("<p>docs</p>"));
    for hidden in ["/.secret", "/index.html.staithe-etag", "/../etc/passwd", "/missing"] {
        let answer = site.get(hidden, "");
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("our own 404"), "{answer}");
    }
    drop(site);
    let other = |app: &Path| edit(app, "index.html", "<p>version 2</p>");
    let changed = bench.push("static-site", other).await.unwrap();
    let page = bench.start(&changed, "web").get("/", &format!("If-None-Match: {tag}\r\n"));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("version 2"), "{page}");
}

#[tokio::test]
async fn machine_a_procfile_alone_is_enough() {
    let mut bench = Bench::new();
    let built = bench.push("procfile-script", unchanged).await.unwrap();
    assert_eq!(built.layers.len(), 1);
    let answer = bench.start(&built, "web").get("/", "");
    assert!(answer.contains("version 1"), "{answer}");
    let worker: ProcessType = "worker".parse().unwrap();
    assert_eq!(built.processes[&worker].args[..2], ["/bin/bash", "-c"]);
}

#[tokio::test]
async fn machine_failures_say_what_to_do() {
    let mut bench = Bench::new();
    let error = bench.push("broken-build", unchanged).await.unwrap_err().to_string();
    assert_eq!(error, "build of buildpack `staithe/nodejs` failed with exit code 1");
    assert!(bench.said("build.js: this build always fails"));
    let error = bench.push("nothing", unchanged).await.unwrap_err().to_string();
    assert!(error.contains("Node.js looks for a package.json"), "{error}");
    let strange = |app: &Path| edit(app, "app.json", "{\"buildpacks\": [\"heroku/ruby\"]}");
    let error = bench.push("nothing", strange).await.unwrap_err().to_string();
    assert!(error.contains("`heroku/ruby` is not installed here"), "{error}");
    let asked = |app: &Path| edit(app, "app.json", "{\"buildpacks\": [\"heroku/python\"]}");
    let error = bench.push("nothing", asked).await.unwrap_err().to_string();
    assert!(error.contains("`staithe/python` was asked for but does not take"), "{error}");
}

#[tokio::test]
async fn machine_other_package_managers_install_by_their_lock_files() {
    let mut bench = Bench::new();
    for (app, agent) in [("node-yarn", "yarn/1."), ("node-pnpm", "pnpm/10.")] {
        let built = bench.push(app, unchanged).await.unwrap();
        let answer = bench.start(&built, "web").get("/", "");
        assert!(answer.contains(&format!("60000 ms by {agent}")), "{answer}");
        bench.push(app, |app| edit(app, "new.txt", "x")).await.unwrap();
        assert!(bench.said("Reusing dependencies"), "{app}");
    }
}

#[tokio::test]
async fn machine_a_pyproject_is_installed_and_its_main_file_started() {
    let mut bench = Bench::new();
    let built = bench.push("python-pyproject", unchanged).await.unwrap();
    let answer = bench.start(&built, "web").get("/", "");
    assert!(answer.contains("served by waitress"), "{answer}");
    let wanted = |app: &Path| edit(app, ".python-version", "3.9\n");
    bench.push("python-pyproject", wanted).await.unwrap();
    assert!(bench.said("Python 3.9 (.python-version) is not available: using 3.13"));
}

#[tokio::test]
async fn machine_workspaces_keep_their_modules_in_the_app() {
    let mut bench = Bench::new();
    let in_app = |app: &Path| {
        let package = r#"{"name": "ws", "private": true, "workspaces": ["lib"],
            "scripts": {"start": "node server.js"}, "dependencies": {"lib": "*"}}"#;
        sh("mkdir \"$1/lib\"; rm \"$1/package-lock.json\"", &[app]);
        edit(app, "package.json", package);
        edit(app, "lib/package.json", r#"{"name": "lib", "version": "1.0.0", "main": "lib.js"}"#);
        edit(app, "lib/lib.js", "module.exports = 'of the workspace';");
        edit(
            app,
            "server.js",
            "require('http').createServer((_, r) => r.end(require('lib')))\
                                .listen(process.env.PORT);",
        );
    };
    let built = bench.push("node-build", in_app).await.unwrap();
    let answer = bench.start(&built, "web").get("/", "");
    assert!(answer.contains("of the workspace"), "{answer}");
}
