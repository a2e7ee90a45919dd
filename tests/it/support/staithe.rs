//! A whole Staithe of its own: daemon, proxy, network, data. Taken down when dropped.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::eventually;
use super::http::{Answer, get_from};
use super::number::Number;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_staithe");
/// A daemon starts in a second; the machine may be busy.
const START: Duration = Duration::from_secs(60);
/// Taking down includes the end of all apps.
const STOP: Duration = Duration::from_secs(60);

pub(crate) struct Staithe {
    pub(crate) directory: tempfile::TempDir,
    settings: Vec<String>,
    /// Whether the directory stays when the test fails.
    keep_on_failure: bool,
    daemon: Mutex<Option<Child>>,
    /// Names, addresses and ports, which nobody else on the machine has. Given back last.
    number: Number,
}

impl Staithe {
    /// A running Staithe without a stack.
    pub(crate) fn start_bare() -> Self {
        Self::start_with(false, &[])
    }

    /// A running Staithe with the default stack.
    pub(crate) fn start() -> Self {
        Self::start_with(true, &[])
    }

    /// A running Staithe with the default stack and the images of these types of services.
    pub(crate) fn start_with_services(types: &[&str]) -> Self {
        Self::start_from(Some(service_template(types)), &[])
    }

    /// A running Staithe with the default stack and the images of these bundled plugins, which are
    /// off as they are at first.
    pub(crate) fn start_with_plugins(plugins: &[&str], settings: &[&str]) -> Self {
        Self::start_from(Some(service_template(plugins)), settings)
    }

    pub(crate) fn start_with(stack: bool, settings: &[&str]) -> Self {
        Self::start_from(stack.then(template), settings)
    }

    /// A running Staithe whose data is a copy of `template`, if there is one.
    fn start_from(template: Option<&Path>, settings: &[&str]) -> Self {
        let stack = template.is_some();
        let number = Number::take();
        let directory =
            tempfile::Builder::new().prefix("staithe-it-").tempdir_in(scratch()).unwrap();
        // The owner of the repositories passes through on its way to the hook.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        if let Some(template) = template {
            copy_template(template, &directory.path().join("data"));
        }
        let staithe = Self {
            directory,
            settings: settings.iter().map(ToString::to_string).collect(),
            keep_on_failure: false,
            daemon: Mutex::new(None),
            number,
        };
        staithe.make_client_key();
        staithe.launch();
        if stack {
            let key = std::fs::read_to_string(staithe.key().with_extension("pub")).unwrap();
            staithe.cli_with_input(&["ssh-keys:add", "alice"], &key).succeeds();
        }
        staithe
    }

    /// Keeps the directory if the test fails: for failures that are hard to bring about again.
    pub(crate) fn keep_on_failure(&mut self) {
        self.keep_on_failure = true;
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// What this Staithe's cgroups are called.
    pub(crate) fn instance(&self) -> String {
        format!("staithe-it{}-{}", std::process::id(), self.number.get())
    }

    /// The prefix of this Staithe's links.
    pub(crate) fn link_prefix(&self) -> String {
        self.number.link_prefix()
    }

    /// The host as containers see it.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.number.gateway()
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn launch(&self) {
        // A file of an earlier daemon would say that it serves already.
        let _ = std::fs::remove_file(self.run_dir().join("serving.json"));
        let mut command = Command::new(PROGRAM);
        command
            .args(["serve", "--ephemeral", "--config", "/dev/null"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--run-dir")
            .arg(self.run_dir());
        let [web, secure_web, door] = self.number.listen();
        let defaults = [
            format!("server.instance={}", self.instance()),
            format!("network.prefix={}", self.link_prefix()),
            format!("network.ipv4_pool={}", self.number.ipv4_pool()),
            format!("network.ipv6_pool={}", self.number.ipv6_pool()),
            format!("proxy.http_listen=[\"{web}\"]"),
            format!("proxy.https_listen=[\"{secure_web}\"]"),
            format!("ssh.listen=[\"{door}\"]"),
            "web.listen=[\"127.0.0.1:0\"]".to_owned(),
            "platform.global_domains=[\"test\"]".to_owned(),
            "log.filter=info".to_owned(),
        ];
        for setting in defaults.iter().chain(&self.settings) {
            command.args(["--set", setting]);
        }
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        // A daemon that outlives a killed test keeps the number.
        let child =
            command.stdin(self.number.hold()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.daemon.lock().unwrap() = Some(child);
        eventually(START, "the daemon serves", || {
            let mut daemon = self.daemon.lock().unwrap();
            let ended = daemon.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
            self.serving().ok_or_else(|| "no serving.json yet".to_owned())
        });
    }

    fn serving(&self) -> Option<serde_json::Value> {
        let text = std::fs::read_to_string(self.run_dir().join("serving.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        let serving = self.serving().expect("the daemon serves");
        serving[key][0].as_str().expect("an address").parse().unwrap()
    }

    /// Where the proxy listens.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where the web door listens: API and dashboard.
    pub(crate) fn web(&self) -> SocketAddr {
        self.address("web")
    }

    /// Where the SSH server listens.
    pub(crate) fn ssh_address(&self) -> SocketAddr {
        self.address("ssh")
    }

    /// The proxy's process.
    pub(crate) fn proxy_pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.run_dir().join("proxy.json")).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        u32::try_from(file["pid"].as_u64().unwrap()).unwrap()
    }

    /// `kill -9` of the control plane.
    pub(crate) fn kill_daemon(&self) {
        let mut daemon = self.daemon.lock().unwrap();
        let child = daemon.as_mut().expect("a daemon");
        child.kill().unwrap();
        child.wait().unwrap();
        *daemon = None;
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&self) {
        let Some(mut child) = self.daemon.lock().unwrap().take() else { return };
        signal(child.id(), "TERM");
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(STOP, "the daemon ends", || {
                child.try_wait().unwrap().ok_or_else(|| "still there".to_owned())
            })
        }));
        if ended.is_err() {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the daemon had to be killed\n{}", self.log());
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("daemon.log")
    }

    /// How many containers there are.
    pub(crate) fn containers(&self) -> usize {
        let entries = std::fs::read_dir(self.run_dir().join("containers")).unwrap().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    }

    /// Everything the daemons of this Staithe have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A command as root on the server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Finished {
        self.cli_with_input(arguments, "")
    }

    pub(crate) fn cli_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("STAITHE_RUN_DIR", self.run_dir());
        Finished::of(command, input)
    }

    /// A command that the test reads from while it runs.
    pub(crate) fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("STAITHE_RUN_DIR", self.run_dir());
        command
    }

    /// A command over SSH, by the system's client.
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Finished {
        self.ssh_with_input(arguments, "")
    }

    pub(crate) fn ssh_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        Finished::of(self.ssh_command(arguments), input)
    }

    pub(crate) fn ssh_command(&self, arguments: &[&str]) -> Command {
        let mut words = self.ssh_words().into_iter();
        let mut command = Command::new(words.next().unwrap());
        let address = self.ssh_address();
        command
            .args(words)
            .arg("-p")
            .arg(address.port().to_string())
            .arg("staithe@127.0.0.1")
            .args(arguments);
        command
    }

    /// `ssh` with Alice's key and nothing of the machine's own settings.
    pub(crate) fn ssh_words(&self) -> Vec<String> {
        let known_hosts = self.directory.path().join("known_hosts");
        let options = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            "LogLevel=ERROR".to_owned(),
        ];
        let mut words = vec!["ssh".to_owned(), "-F".to_owned(), "/dev/null".to_owned()];
        words.extend(["-i".to_owned(), self.key().display().to_string()]);
        words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        words
    }

    /// Alice's private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("id_ed25519")
    }

    fn make_client_key(&self) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "alice@test", "-f"]).arg(self.key());
        Finished::of(command, "").succeeds();
    }

    /// `git remote add`'s address of an app.
    pub(crate) fn remote(&self, app: &str) -> String {
        format!("ssh://staithe@127.0.0.1:{}/{app}", self.ssh_address().port())
    }

    /// What the web sees of an app.
    pub(crate) fn get(&self, app: &str, path: &str) -> Answer {
        get_from(self.http(), &format!("{app}.test"), path)
    }

    /// A command's `--format json` output.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--format", "json"]);
        let finished = self.cli(&arguments).succeeds();
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| {
            panic!("{arguments:?} prints no JSON: {error}\n{}", finished.stdout)
        })
    }
}

impl Drop for Staithe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of the daemon ----\n{}", tail(&self.log(), 200));
            if self.keep_on_failure {
                self.directory.disable_cleanup(true);
                eprintln!("kept: {}", self.directory.path().display());
            }
            if self.daemon.lock().is_ok_and(|daemon| daemon.is_none()) {
                self.launch();
            }
        }
        self.stop();
    }
}

/// An address on which nothing listens now.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a signal to a process this test has started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status =
        Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Sends a signal to a process group that this test has started.
pub(crate) fn signal_group(leader: u32, name: &str) {
    let group = format!("-{leader}");
    let status = Command::new("kill").args(["-s", name, "--", &group]).status().unwrap();
    assert!(status.success(), "kill -s {name} -- {group}");
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) what: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(mut command: Command, input: &str) -> Self {
        let what = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A child that does not read its input is no failure of the test.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output: Output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            what,
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(text), "{} does not say `{text}`:\n{all}", self.what);
        self
    }
}

/// How long a running command may take to print what a test waits for.
const PRINT: Duration = Duration::from_secs(60);

/// Reads lines of a running command until one contains `text`.
pub(crate) fn read_until(reader: impl Read + AsFd, text: &str) -> Vec<String> {
    let end = Instant::now() + PRINT;
    let (mut reader, mut lines, mut line) = (reader, Vec::new(), Vec::new());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut byte = [0];
        let ready = !left.is_zero() && readable(reader.as_fd(), left);
        if !ready || reader.read(&mut byte).unwrap() == 0 {
            let last = String::from_utf8_lossy(&line);
            panic!("`{text}` never came; what came:\n{}\n{last}", lines.join("\n"));
        }
        line.push(byte[0]);
        let whole = String::from_utf8_lossy(&line).into_owned();
        if whole.contains(text) || byte[0] == b'\n' {
            lines.push(whole.trim_end().to_owned());
            line.clear();
        }
        if whole.contains(text) {
            return lines;
        }
    }
}

/// Whether there is something to read, or the end, within `deadline`. poll(2).
fn readable(fd: BorrowedFd<'_>, deadline: Duration) -> bool {
    staithe::sys::process::poll([Some(fd)], Some(deadline)).unwrap()[0]
}

/// Test data lives beside the build output, on the same file system as the template.
fn scratch() -> PathBuf {
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("it");
    std::fs::create_dir_all(&scratch).unwrap();
    scratch
}

/// The data directory of a Staithe that has made the default stack, once per recipe: making it takes
/// a minute or two. Layers never change, so copies share them by hard links.
fn copy_template(template: &Path, data: &Path) {
    let mut command = Command::new("cp");
    command.arg("-al").arg(template).arg(data);
    Finished::of(command, "").succeeds();
    // What a daemon writes in place must not be shared.
    for name in ["staithe.db", "images/index.json", "images/lock"] {
        let (from, to) = (template.join(name), data.join(name));
        if from.exists() {
            std::fs::remove_file(&to).unwrap();
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// The template, which nobody may write to.
pub(crate) fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(make_template)
}

fn make_template() -> PathBuf {
    let key = hash(RECIPE);
    let template = scratch().join(format!("template-{key:016x}"));
    if template.join("complete").exists() {
        return template;
    }
    let staithe = Staithe::start_bare();
    staithe.cli(&["stack:build", "debian-13"]).succeeds();
    keep_as_template(&staithe, &template);
    template
}

/// What all images are made by.
const RECIPE: &[u8] = include_bytes!("../../../buildpacks/stacks/debian-13.toml");

/// FNV-1a: the same in every run.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A template that also has the images of these types of services, or of these plugins' programs,
/// made once as well: each takes a minute.
fn service_template(types: &[&str]) -> &'static Path {
    /// By the types' names. Held while one is made: no two tests make the same.
    static TEMPLATES: Mutex<BTreeMap<String, &'static Path>> = Mutex::new(BTreeMap::new());
    let name = types.join("-");
    let mut templates = TEMPLATES.lock().unwrap();
    if let Some(template) = templates.get(&name) {
        return template;
    }
    let made = Box::leak(make_service_template(types).into_boxed_path());
    templates.entry(name).or_insert(made)
}

fn make_service_template(types: &[&str]) -> PathBuf {
    let mut text = RECIPE.to_vec();
    for kind in types {
        let manifest = manifest(kind);
        let packages = manifest.lines().filter(|line| line.starts_with("packages"));
        text.extend(packages.flat_map(str::bytes));
    }
    let template = scratch().join(format!("services-{}-{:016x}", types.join("-"), hash(&text)));
    if template.join("complete").exists() {
        return template;
    }
    let staithe = Staithe::start();
    for kind in types {
        let foreign = plugin_fixture(kind);
        if foreign.exists() {
            staithe.cli(&["plugin:install", foreign.to_str().unwrap()]).succeeds();
        }
        if is_service(kind) {
            staithe.cli(&[&format!("{kind}:install")]).succeeds();
        } else {
            staithe.cli(&["plugin:enable", kind]).succeeds();
            staithe.cli(&["plugin:disable", kind]).succeeds();
        }
        // Its image stays; each test installs what it needs.
        if foreign.exists() {
            staithe.cli(&["plugin:uninstall", kind, "--force"]).succeeds();
        }
    }
    staithe.cli(&["ssh-keys:remove", "alice"]).succeeds();
    keep_as_template(&staithe, &template);
    template
}

/// What a plugin, bundled or a test's own, says of itself.
fn manifest(plugin: &str) -> String {
    let bundled = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("plugins").join(plugin);
    let folder = if bundled.exists() { bundled } else { plugin_fixture(plugin) };
    std::fs::read_to_string(folder.join("plugin.toml")).unwrap()
}

fn is_service(plugin: &str) -> bool {
    manifest(plugin).lines().any(|line| line == "[service]")
}

/// A plugin that is a test's own.
pub(crate) fn plugin_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugins").join(name)
}

/// The data of a Staithe, which is stopped, becomes a template.
fn keep_as_template(staithe: &Staithe, template: &Path) {
    staithe.stop();
    let _ = std::fs::remove_dir_all(template);
    let data = staithe.data_dir();
    for name in ["keys", "logs", "bin", "plugins", "proxy", "repos"] {
        let _ = std::fs::remove_dir_all(data.join(name));
    }
    std::fs::rename(&data, template).unwrap();
    std::fs::File::create(template.join("complete")).unwrap();
}
