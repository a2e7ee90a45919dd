//! A machine for git and SSH: server, repositories, keys, a work tree, and a control plane that
//! says what a test wants to hear.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use staithe::domain::{Actor, AppName, BranchName};
use staithe::git::{Config, Places, RefUpdate, Repositories, Service, Session, plan_push};
use staithe::ssh::{self, Access, Commands, ExecRequest, GitRequest, Refused, relay};
use staithe::support::shutdown::{Controller, Phase, channel};
use staithe::support::tasks;
use staithe::wire::frames::{Frame, FrameCodec};
use staithe::wire::{self, PushRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};
use tokio_util::codec::{FramedRead, FramedWrite};

/// How long anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the control plane does with a push.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Lines, then the verdict.
    Say { lines: Vec<String>, accept: bool },
    /// An error document.
    Problem { detail: String, hint: String },
    /// Nothing, until [`World::finish_hanging`].
    Hang,
    /// Hangs up, as if it were killed; what it knows afterwards.
    Vanish { outcome: Option<bool> },
}

impl Answer {
    pub(crate) fn accept(lines: &[&str]) -> Self {
        Self::Say { lines: lines.iter().map(ToString::to_string).collect(), accept: true }
    }

    pub(crate) fn reject(lines: &[&str]) -> Self {
        Self::Say { lines: lines.iter().map(ToString::to_string).collect(), accept: false }
    }

    pub(crate) fn problem(detail: &str, hint: &str) -> Self {
        Self::Problem { detail: detail.to_owned(), hint: hint.to_owned() }
    }
}

/// A push as the control plane saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) actor: String,
    pub(crate) deploys: Option<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) subject: Option<String>,
    pub(crate) exported: Vec<String>,
}

#[derive(Debug)]
struct Control {
    repositories: Repositories,
    directory: PathBuf,
    answer: Mutex<Answer>,
    pushes: Mutex<Vec<Seen>>,
    deploy_branch: Mutex<Option<BranchName>>,
    closed: AtomicUsize,
    exports: AtomicUsize,
    finish: Notify,
    fingerprints: Vec<String>,
}

pub(crate) struct World {
    directory: tempfile::TempDir,
    control: Arc<Control>,
    address: std::net::SocketAddr,
    shutdown: Controller,
}

/// A system's sshd of our own.
pub(crate) struct Sshd {
    port: u16,
    directory: PathBuf,
    _process: tokio::process::Child,
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0)
}

pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    pub(crate) async fn start(answer: Answer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        set_mode(&root, 0o711);
        let executable = root.join("staithe");
        let built = Path::new(env!("CARGO_BIN_EXE_staithe"));
        if std::fs::hard_link(built, &executable).is_err() {
            std::fs::copy(built, &executable).unwrap();
        }
        let keys = ["alice", "rsa", "ecdsa", "stranger"];
        let fingerprints = keys.map(|name| make_key(&root, name));
        let config = Config {
            max_push_bytes: 120 << 20,
            submodule_protocols: vec!["https".into(), "file".into()],
            submodule_timeout_secs: 20,
            ..Config::default()
        };
        let places = Places {
            root: root.join("repos"),
            hook_executable: executable,
            control_socket: root.join("control.sock"),
        };
        let control = Arc::new(Control {
            repositories: Repositories::open(config, places).unwrap(),
            directory: root.clone(),
            answer: Mutex::new(answer),
            pushes: Mutex::default(),
            deploy_branch: Mutex::default(),
            closed: AtomicUsize::new(0),
            exports: AtomicUsize::new(0),
            finish: Notify::new(),
            fingerprints: fingerprints[..3].to_vec(),
        });
        let shutdown = serve_control(Arc::clone(&control));
        let address = serve_ssh(&control, &shutdown.1);
        let world = Self { directory, control, address, shutdown: shutdown.0 };
        world.prepare_work_tree().await;
        world
    }

    async fn prepare_work_tree(&self) {
        std::fs::create_dir(self.path("work")).unwrap();
        self.run("git init -q -b main").await;
        self.run(&format!("git remote add staithe {}", self.remote("shop"))).await;
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub(crate) fn remote(&self, app: &str) -> String {
        format!("ssh://staithe@127.0.0.1:{}/{app}", self.address.port())
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.control.answer.lock().unwrap() = answer;
    }

    pub(crate) fn pushes(&self) -> Vec<Seen> {
        self.control.pushes.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.pushes().pop().expect("a push was seen")
    }

    pub(crate) fn closed_requests(&self) -> usize {
        self.control.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn finish_hanging(&self) {
        self.control.finish.notify_one();
    }

    pub(crate) fn head(&self, branch: &str) -> Option<String> {
        let app = "shop".parse().unwrap();
        let head = self.control.repositories.head(&app, &branch.parse().unwrap()).unwrap();
        head.map(|commit| commit.id.to_string())
    }

    pub(crate) fn quarantines(&self) -> usize {
        let objects = self.path("repos/shop.git/objects");
        let entries = std::fs::read_dir(objects).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().len() > 20).count()
    }

    /// Processes that work for this world: git's, the hook's and the commands'.
    pub(crate) fn children(&self) -> usize {
        let mark = format!("STAITHE_WORLD={}", self.directory.path().display());
        let root = self.directory.path().as_os_str().as_encoded_bytes();
        let is_ours = |process: &std::fs::DirEntry| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let repositories = [root, b"/repos"].concat();
            contains(&environment, mark.as_bytes()) || contains(&command, &repositories)
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        processes.filter(|process| process.as_ref().is_ok_and(is_ours)).count()
    }

    pub(crate) async fn commit(&self, file: &str, contents: &str) {
        let script = format!("printf %s {contents} >{file} && git add . && git commit -qm {file}");
        self.run(&script).await;
    }

    /// Runs a script in the work tree; answers its output.
    pub(crate) async fn run(&self, script: &str) -> String {
        let mut command = self.environment("bash");
        command.args(["-c", script]).current_dir(self.path("work"));
        let output = finish(command).await;
        assert!(output.status.success(), "{script}\n{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn git(&self, arguments: &[&str]) -> Output {
        self.git_in(&self.path("work"), arguments).await
    }

    pub(crate) async fn push_to(&self, remote: &str) -> Output {
        self.git(&["push", remote, "main"]).await
    }

    pub(crate) async fn git_in(&self, directory: &str, arguments: &[&str]) -> Output {
        finish(self.git_command(directory, arguments)).await
    }

    pub(crate) fn git_command(&self, directory: &str, arguments: &[&str]) -> Command {
        let mut command = self.environment("git");
        command.args(arguments).current_dir(directory);
        command
    }

    pub(crate) async fn ssh(&self, arguments: &[&str]) -> Output {
        self.ssh_as("alice", "staithe", arguments).await
    }

    pub(crate) async fn ssh_as(&self, key: &str, user: &str, arguments: &[&str]) -> Output {
        finish(self.ssh_client(key, user, arguments)).await
    }

    pub(crate) fn ssh_command(&self, arguments: &[&str]) -> Command {
        self.ssh_client("alice", "staithe", arguments)
    }

    fn ssh_client(&self, key: &str, user: &str, arguments: &[&str]) -> Command {
        let line = ssh_line(self.directory.path(), key, self.address.port());
        let mut command = self.environment("bash");
        // Options go before the host, the command after it.
        let (options, words): (Vec<_>, Vec<_>) = match arguments {
            ["-o", option, "-R", forward, rest @ ..] => {
                (vec!["-o", option, "-R", forward], rest.to_vec())
            }
            ["-s", rest @ ..] => (vec!["-s"], rest.to_vec()),
            rest => (vec![], rest.to_vec()),
        };
        let script = format!("{line} {} {user}@127.0.0.1 \"$@\"", options.join(" "));
        command.args(["-c", &format!("exec {script}"), "bash"]).args(words);
        command
    }

    /// `ssh … host`, to put a command after; `-tt` may follow at once.
    pub(crate) fn ssh_line(&self) -> String {
        wrapper(self.directory.path(), "alice", self.address.port(), "staithe")
    }

    pub(crate) async fn kill_group(&self, leader: u32, signal: &str) {
        let script = format!("kill -{signal} -- -{leader}");
        self.run(&script).await;
    }

    fn environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let line = ssh_line(self.directory.path(), "alice", self.address.port());
        // sshd of the system's listens on a port that the URL names; it comes last and wins.
        let line = line.replace(&format!(" -p {}", self.address.port()), "");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("GIT_SSH_COMMAND", line)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "A")
            .env("GIT_COMMITTER_EMAIL", "a@example.org")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Debian's openssh-server on a port of its own, with `root` as the account: no other is sure
    /// to exist. None where it is not installed.
    pub(crate) async fn start_sshd(&self) -> Option<Sshd> {
        let directory = self.directory.path().to_owned();
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() {
            return None;
        }
        let port = free_port();
        make_key(&directory, "sshd_host");
        // sshd wants every directory above the command to be root's alone, which /tmp is not.
        let helper = PathBuf::from(format!("/run/staithe-test-{}-{port}", std::process::id()));
        std::fs::create_dir_all("/run/sshd").unwrap();
        let script = format!(
            "#!/bin/sh\nSTAITHE_CONTROL_SOCKET={0}/control.sock exec {0}/staithe \"$@\"\n",
            directory.display()
        );
        write(&helper, &script, 0o755);
        let command = format!("{} ssh-authorized-keys %u %t %k", helper.display());
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/sshd_host\nPidFile none\n\
             AuthorizedKeysFile none\nAuthorizedKeysCommand {command}\n\
             AuthorizedKeysCommandUser root\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\nStrictModes no\n\
             AcceptEnv LANG LC_* GIT_PROTOCOL\nSetEnv STAITHE_CONTROL_SOCKET={0}/control.sock\n",
            directory.display()
        );
        write(&directory.join("sshd_config"), &configuration, 0o600);
        let mut sshd = Command::new(program);
        sshd.args(["-D", "-e", "-f"]).arg(directory.join("sshd_config"));
        let log = std::fs::File::create(directory.join("sshd.log")).unwrap();
        let process = sshd.stdin(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap();
        eventually("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
            .await;
        Some(Sshd { port, directory, _process: process })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.advance(Phase::Stopping);
    }
}

impl Sshd {
    pub(crate) fn remote(&self, app: &str) -> String {
        format!("ssh://root@127.0.0.1:{}/{app}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("sshd.log")).unwrap()
    }

    pub(crate) fn ssh_line(&self) -> String {
        self.ssh_line_as("alice")
    }

    pub(crate) fn ssh_line_as(&self, key: &str) -> String {
        wrapper(&self.directory, key, self.port, "root")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let helper = format!("/run/staithe-test-{}-{}", std::process::id(), self.port);
        let _ = std::fs::remove_file(helper);
    }
}

fn ssh_line(directory: &Path, key: &str, port: u16) -> String {
    let directory = directory.display();
    format!(
        "ssh -F none -p {port} -i {directory}/{key} -o IdentitiesOnly=yes -o BatchMode=yes \
         -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={directory}/known_hosts \
         -o LogLevel=ERROR -o ControlPath=none"
    )
}

/// A script that takes `-tt` before the command.
fn wrapper(directory: &Path, key: &str, port: u16, user: &str) -> String {
    let path = directory.join(format!("ssh-{key}-{port}"));
    let line = ssh_line(directory, key, port);
    let script = format!(
        "#!/bin/bash\nt=\nif [ \"$1\" = -tt ]; then t=-tt; shift; fi\n\
         exec {line} $t {user}@127.0.0.1 \"$@\"\n"
    );
    write(&path, &script, 0o755);
    path.display().to_string()
}

async fn finish(mut command: Command) -> Output {
    tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").unwrap()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn write(path: &Path, contents: &str, mode: u32) {
    staithe::support::atomic_file::write(path, contents.as_bytes(), mode).unwrap();
    set_mode(path, mode);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Makes a key of the kind that its name says; answers its fingerprint.
fn make_key(directory: &Path, name: &str) -> String {
    let kind = if ["rsa", "ecdsa"].contains(&name) { name } else { "ed25519" };
    let path = directory.join(name);
    let mut command = std::process::Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-t", kind, "-f"]).arg(&path);
    assert!(command.status().unwrap().success());
    let output = std::process::Command::new("ssh-keygen").arg("-lf").arg(&path).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

fn serve_ssh(
    control: &Arc<Control>,
    shutdown: &staithe::support::shutdown::Shutdown,
) -> std::net::SocketAddr {
    let config = ssh::Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        login_grace_secs: 3,
        hang_up_grace_secs: 1,
        ..ssh::Config::default()
    };
    let (access, commands) = (Keys(Arc::clone(control)), Shell(Arc::clone(control)));
    let keys = control.directory.join("keys");
    let server = ssh::Server::bind(config, &keys, access, commands).unwrap();
    let address = server.local_addresses()[0];
    drop(tasks::spawn("test/ssh", server.run(shutdown.clone())));
    address
}

struct Keys(Arc<Control>);

impl Access for Keys {
    async fn authorize(&self, fingerprint: &str) -> Option<Actor> {
        let known = self.0.fingerprints.iter().any(|known| known == fingerprint);
        known.then(|| Actor::new("alice", "ssh"))
    }
}

#[derive(Clone)]
struct Shell(Arc<Control>);

impl Commands for Shell {
    async fn git(&self, actor: &Actor, request: GitRequest) -> Result<Command, Refused> {
        let refused =
            |error: staithe::git::Error| Refused { message: error.to_string(), exit_code: 1 };
        let repositories = &self.0.repositories;
        let service = Service::by_name(request.service.name()).unwrap();
        if service == Service::ReceivePack {
            repositories.ensure(&request.app).map_err(refused)?;
        }
        let session = Session { actor: actor.clone(), protocol: request.protocol, http: None };
        repositories.serve(&request.app, service, &session).map_err(refused)
    }

    async fn exec(&self, _: &Actor, request: ExecRequest) -> Result<Command, Refused> {
        let words: Vec<_> = request.arguments.iter().map(String::as_str).collect();
        let script = match words[..] {
            ["echo", ..] => "shift; echo \"$@\"",
            ["exit", _] => "exit $2",
            ["complain"] => "echo complaint >&2",
            ["die"] => "kill -9 $$",
            ["cat"] => "exec cat",
            ["sleep", _] => "exec sleep $2",
            ["stubborn", _] => "trap '' HUP TERM; sleep $2 & wait; sleep $2",
            ["tty"] => "echo $(stty size) $TERM",
            _ => return Err(Refused { message: "not for you\ntry another".into(), exit_code: 4 }),
        };
        let mut command = Command::new("/bin/bash");
        command.args(["-c", script, "shell"]).args(&request.arguments);
        command.env("STAITHE_WORLD", &self.0.directory);
        Ok(command)
    }

    fn greeting(&self, actor: &Actor) -> String {
        format!("Hello {actor}\n")
    }
}

fn serve_control(control: Arc<Control>) -> (Controller, staithe::support::shutdown::Shutdown) {
    let (controller, shutdown) = channel();
    let socket = control.directory.join("control.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    set_mode(&socket, 0o666);
    let router = Router::new()
        .route("/api/v1/apps/{app}/pushes", post(push))
        .route("/api/v1/apps/{app}/pushes/{id}", get(outcome))
        .route("/api/v1/ssh-keys", get(keys))
        .route("/api/v1/ssh/exec", post(exec))
        .with_state(control);
    let mut stop = shutdown.clone();
    drop(tasks::spawn("test/control", async move {
        let stopped = async move { stop.reached(Phase::Stopping).await };
        axum::serve(listener, router).with_graceful_shutdown(stopped).await
    }));
    (controller, shutdown)
}

async fn push(
    State(control): State<Arc<Control>>,
    UrlPath(app): UrlPath<AppName>,
    headers: HeaderMap,
    Json(push): Json<PushRequest>,
) -> Response {
    let actor = headers["x-staithe-actor"].to_str().unwrap().to_owned();
    let seen = look_at(&control, &app, actor, &push).await;
    let seen = match seen {
        Ok(seen) => seen,
        Err(reason) => return lines(&[format!(" !     {reason}")], false),
    };
    control.pushes.lock().unwrap().push(seen);
    let answer = control.answer.lock().unwrap().clone();
    match answer {
        Answer::Say { lines: text, accept } => lines(&text, accept),
        Answer::Problem { detail, hint } => {
            let problem = json!({"title": "Conflict", "detail": detail, "hint": hint});
            (StatusCode::CONFLICT, Json(problem)).into_response()
        }
        Answer::Hang => hang(control),
        Answer::Vanish { .. } => {
            let (tx, rx) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
            tx.try_send(Err(std::io::Error::other("killed"))).unwrap();
            Body::from_stream(tokio_stream(rx)).into_response()
        }
    }
}

/// What the platform would do: plan, read the commit, export the tree.
async fn look_at(
    control: &Control,
    app: &AppName,
    actor: String,
    push: &PushRequest,
) -> Result<Seen, String> {
    let parse = |update: &wire::RefUpdate| RefUpdate::parse(&update.old, &update.new, &update.name);
    let updates: Vec<_> = push.updates.iter().map(parse).collect::<Result<_, _>>().unwrap();
    let branch = control.deploy_branch.lock().unwrap().clone();
    let plan = plan_push(&updates, branch.as_ref()).map_err(|refusal| refusal.to_string())?;
    let repositories = &control.repositories;
    let quarantine = push.quarantine.as_ref().map(|path| repositories.quarantine(app, path));
    let quarantine = quarantine.transpose().map_err(|error| error.to_string())?;
    let notes = plan.notes.iter().map(ToString::to_string).collect();
    let mut seen = Seen { actor, deploys: None, notes, subject: None, exported: Vec::new() };
    if let Some(deploy) = plan.deploy {
        let info = repositories.commit_info(app, quarantine.as_ref(), &deploy.commit).unwrap();
        let number = control.exports.fetch_add(1, Ordering::SeqCst);
        let destination = control.directory.join(format!("export-{number}"));
        let export = repositories.export_tree(
            app,
            quarantine.as_ref(),
            &deploy.commit,
            &destination,
            super::APP,
        );
        export.await.map_err(|error| staithe::support::report(&error))?;
        seen.deploys = Some(deploy.branch.to_string());
        seen.subject = Some(info.subject);
        seen.exported = files(&destination, &destination);
        *control.deploy_branch.lock().unwrap() = Some(deploy.branch);
    }
    Ok(seen)
}

fn files(root: &Path, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&entry.metadata().unwrap());
        assert_eq!(owner, super::APP.uid, "{:?}", entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(root, &entry.path()));
        } else {
            found.push(entry.path().strip_prefix(root).unwrap().display().to_string());
        }
    }
    found.sort();
    found
}

fn verdict(accept: bool) -> Value {
    match accept {
        true => json!({"result": {"outcome": "accepted", "release": 1}}),
        false => json!({"result": {"outcome": "rejected", "reason": "failed"}}),
    }
}

fn lines(text: &[String], accept: bool) -> Response {
    let lines = text.iter().map(|line| json!({ "line": line })).chain([verdict(accept)]);
    lines.map(|line| format!("{line}\n")).collect::<String>().into_response()
}

fn hang(control: Arc<Control>) -> Response {
    struct Closed(Arc<Control>, bool);
    impl Drop for Closed {
        fn drop(&mut self) {
            if !self.1 {
                self.0.closed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let closed = Closed(Arc::clone(&control), false);
    let stream = futures_util::stream::unfold((closed, 0), move |(mut closed, step)| {
        let control = Arc::clone(&control);
        async move {
            match step {
                0 => {}
                1 => {
                    control.finish.notified().await;
                    closed.1 = true;
                    let line = format!("{}\n", verdict(true));
                    return Some((Ok::<_, std::io::Error>(Bytes::from(line)), (closed, 2)));
                }
                _ => return None,
            }
            Some((Ok(Bytes::from_static(b"{\"line\":\"-----> Building\"}\n")), (closed, 1)))
        }
    });
    Body::from_stream(stream).into_response()
}

fn tokio_stream<T>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
}

async fn outcome(State(control): State<Arc<Control>>) -> Response {
    match *control.answer.lock().unwrap() {
        Answer::Vanish { outcome: Some(accept) } => {
            Json(verdict(accept)["result"].clone()).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn keys(State(control): State<Arc<Control>>) -> Json<Value> {
    let key = |fingerprint: &String| {
        json!({
            "name": "alice", "user": "alice", "fingerprint": fingerprint, "public_key": "",
            "added_at": "2026-01-01T00:00:00Z",
        })
    };
    Json(control.fingerprints.iter().map(key).collect())
}

async fn exec(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Response {
    let name = headers["x-staithe-actor"].to_str().unwrap().to_owned();
    let actor = Actor::new(name, "ssh");
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>().unwrap();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let exec: wire::ExecRequest = serde_json::from_slice(&body).unwrap();
    let grace = Duration::from_secs(1);
    match relay::open(&Shell(control), &actor, exec, grace).await {
        Ok(opened) => {
            drop(tasks::spawn("test/relay", async move {
                let upgraded = upgrade.await.unwrap();
                relay_frames(opened, hyper_util::rt::TokioIo::new(upgraded)).await;
            }));
            let headers = [("connection", "upgrade"), ("upgrade", "staithe-session")];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        }
        Err(error) => {
            let problem = wire::Problem::new(wire::Kind::Denied, 403, error.to_string());
            (StatusCode::FORBIDDEN, Json(problem)).into_response()
        }
    }
}

/// A small stand-in for the API's relay.
async fn relay_frames<S>(opened: relay::Opened, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let relay::Opened { input, output, errors, mut child } = opened;
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, writer) =
        (FramedRead::new(reader, FrameCodec), Mutex::new(FramedWrite::new(writer, FrameCodec)));
    let writer = tokio::sync::Mutex::new(writer.into_inner().unwrap());
    let file = |fd| tokio::fs::File::from_std(std::fs::File::from(fd));
    let pump = async |fd: Option<std::os::fd::OwnedFd>, frame: fn(Bytes) -> Frame| {
        let Some(mut source) = fd.map(file) else { return };
        let mut buffer = vec![0; 32768];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            let data = Bytes::copy_from_slice(&buffer[..count]);
            if writer.lock().await.send(frame(data)).await.is_err() {
                return;
            }
        }
    };
    let (resize, mut sizes) = mpsc::channel(8);
    let receive = async {
        let mut input = input.map(file);
        while let Some(Ok(frame)) = reader.next().await {
            match frame {
                Frame::Stdin(data) if data.is_empty() => input = None,
                Frame::Stdin(data) => {
                    if let Some(input) = &mut input {
                        let _ = input.write_all(&data).await;
                        let _ = input.flush().await;
                    }
                }
                Frame::Window { rows, columns } => resize.send((columns, rows)).await.unwrap(),
                _ => {}
            }
        }
    };
    let wait = async {
        loop {
            tokio::select! {
                code = child.wait() => break code.unwrap(),
                Some((columns, rows)) = sizes.recv() => child.resize(columns, rows).unwrap(),
            }
        }
    };
    let work = async {
        let pumps = async {
            tokio::join!(pump(Some(output), Frame::Stdout), pump(errors, Frame::Stderr));
        };
        let (code, ()) = tokio::join!(wait, pumps);
        let code = u8::try_from(code).unwrap();
        let _ = writer.lock().await.send(Frame::Exit(code)).await;
    };
    tokio::select! {
        () = work => {}
        () = receive => {}
    }
}
