//! Containers on the real kernel: root, namespaces, cgroups. Everything made is removed, and the
//! tests look for what is not.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::fs;
use std::future::Future;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use staithe::container::{
    CgroupSpec, Config, ContainerSpec, Created, Error, ExitRecord, IdMap, Io, Limits, LogSpec,
    Mount, ProcessSpec, Rlimit, Rootfs, Runtime, Signal, Status, Stdio, WindowSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Well above any wait here on a busy machine; a test that gets there has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const HOST_BASE: u32 = 7_000_000;

/// A runtime of its own with a busybox root, and what is left of it at the end.
struct Fixture {
    dir: tempfile::TempDir,
    prefix: String,
    runtime: Runtime,
    next: AtomicU32,
}

impl Fixture {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("staithe-test-{}-{count}", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        // Upper and lower directories must be reachable for nobody but root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        make_root(&dir.path().join("root"));
        let runtime = Runtime::open(config(dir.path(), &prefix)).unwrap();
        Self { dir, prefix, runtime, next: AtomicU32::new(1) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A container that runs `script` in a shell.
    fn shell(&self, script: &str) -> ContainerSpec {
        let mut spec = self.empty();
        spec.process = Some(process(&["/bin/sh", "-c", script]));
        spec
    }

    fn empty(&self) -> ContainerSpec {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("app.web.{number}");
        let upper = self.path(&format!("upper.{number}"));
        fs::create_dir(&upper).unwrap();
        let rootfs = Rootfs { lowers: vec![self.path("root")], upper };
        let limits = Limits {
            memory_max: Some(64 << 20),
            pids_max: Some(64),
            cpu_millis: Some(1000),
            ..Limits::default()
        };
        let cgroup = CgroupSpec {
            group: "app".into(),
            leaf: format!("web.{number}"),
            limits: limits.clone(),
            group_limits: limits,
        };
        let map = IdMap { host_base: HOST_BASE, size: 65_536 };
        let mut spec = ContainerSpec::new(id, rootfs, map, cgroup);
        spec.hostname = "inside".into();
        let path = self.path(&format!("log.{number}"));
        spec.log = Some(LogSpec { path, max_bytes: 1 << 20, files: 2 });
        spec
    }

    async fn start(&self, spec: &ContainerSpec) -> String {
        self.runtime.create(spec, Stdio::Log).await.unwrap();
        self.runtime.start(&spec.id).await.unwrap();
        spec.id.clone()
    }

    /// Runs it to its end; what it printed, without times.
    async fn run(&self, spec: &ContainerSpec) -> (ExitRecord, String) {
        let id = self.start(spec).await;
        let record = soon(self.runtime.wait(&id)).await.unwrap();
        self.runtime.delete(&id).await.unwrap();
        (record, printed(&spec.log.as_ref().unwrap().path))
    }

    async fn output(&self, script: &str) -> String {
        self.run(&self.shell(script)).await.1
    }

    /// After a failure, from a thread that may block.
    fn clean_up(&self) {
        let runtime = self.runtime.clone();
        let delete_all = async move {
            for state in runtime.list().await.unwrap_or_default() {
                let _ = runtime.delete(&state.id).await;
            }
        };
        let run = || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
            tokio.unwrap().block_on(delete_all);
        };
        let _ = std::thread::spawn(run).join();
    }

    /// What exec of `script` prints.
    async fn exec(&self, id: &str, script: &str) -> (ExitRecord, String) {
        let process = process(&["/bin/sh", "-c", script]);
        let mut handle = self.runtime.exec(id, &process, Stdio::Pipes).await.unwrap();
        let io = handle.io.take();
        let record = soon(handle.wait()).await.unwrap();
        let Some(Io::Pipes { stdout, .. }) = io else { panic!("no pipes") };
        let mut text = String::new();
        fs::File::from(stdout).read_to_string(&mut text).unwrap();
        (record, text)
    }
}

impl Drop for Fixture {
    /// Nothing may be left behind, whatever the test did.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return self.clean_up();
        }
        assert!(cgroups(&self.prefix).is_empty(), "left: {:?}", cgroups(&self.prefix));
        let left: Vec<_> = fs::read_dir(self.path("run/containers"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != ".filter")
            .collect();
        assert!(left.is_empty(), "left: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()));
    }
}

fn config(dir: &Path, prefix: &str) -> Config {
    Config {
        run_dir: dir.join("run"),
        prefix: prefix.into(),
        monitor_exe: env!("CARGO_BIN_EXE_staithe").into(),
        ..Config::default()
    }
}

fn make_root(root: &Path) {
    for dir in ["bin", "etc", "home", "dev", "proc"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("apt-get install busybox-static");
    for name in ["sh", "cat", "id", "ls", "grep", "mount", "unshare", "sleep", "stty", "head"]
        .into_iter()
        .chain(["readlink", "stat", "hostname", "ip", "dd", "true", "kill", "touch", "seq", "ps"])
        .chain(["mkdir", "wc", "tr", "awk", "yes", "chown", "echo", "env", "tail", "nc", "ln"])
        .chain(["find", "sort", "umount", "chmod", "mknod", "rm", "tty", "mv", "test"])
    {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
}

fn process(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(|&arg| arg.into()).collect(),
        env: vec![("PATH".into(), "/bin".into())],
        cwd: "/".into(),
        uid: 1000,
        gid: 1000,
        ..ProcessSpec::default()
    }
}

/// Text of the log's records.
fn printed(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap_or("").to_owned() + "\n").collect()
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// Waits for a condition about which there is no event.
async fn eventually<T: std::fmt::Debug>(mut look: impl FnMut() -> Result<(), T>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(last) = look() {
        assert!(Instant::now() < deadline, "still {last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the container has printed a line that starts so.
async fn says(spec: &ContainerSpec, line: &str) {
    let log = spec.log.as_ref().unwrap().path.clone();
    eventually(|| {
        let text = if log.exists() { printed(&log) } else { String::new() };
        if text.lines().any(|printed| printed.starts_with(line)) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Cgroups of this prefix, in any hierarchy.
fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .map(|line| Path::new(line.split(' ').nth(4).unwrap()).join(prefix))
        .filter(|path| path.exists())
        .collect()
}

fn code(record: &ExitRecord) -> i32 {
    record.code.unwrap_or_else(|| panic!("{record:?}"))
}

#[tokio::test]
async fn machine_root_inside_is_nobody_outside() {
    let fixture = Fixture::new();
    let text = fixture
        .output(
            "id -u; id -G; cat /proc/self/uid_map | tr -s ' '; hostname; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'; ls -ld /etc | awk '{print $3}'",
        )
        .await;
    let expected = format!(
        "1000\n1000\n 0 {HOST_BASE} 65536\ninside\nCapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n0\n"
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn machine_capabilities_are_those_asked_for_also_for_other_users() {
    let fixture = Fixture::new();
    for uid in [0, 1000] {
        let mut spec = fixture.shell("grep Cap /proc/self/status | tr -d '\\t'");
        spec.capabilities = vec!["CAP_CHOWN".into(), "KILL".into()];
        spec.process.as_mut().unwrap().uid = uid;
        let text = fixture.run(&spec).await.1;
        assert_eq!(text.matches("0000000000000021").count(), 5, "uid {uid}: {text}");
    }
}

#[tokio::test]
async fn machine_dangerous_system_calls_are_refused() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell(
        "mount -t tmpfs x /home 2>&1; unshare -r true 2>&1; unshare -n true 2>&1; mknod /home/d b 8 0 2>&1; umount /proc 2>&1; hostname x 2>&1",
    );
    spec.process.as_mut().unwrap().uid = 0;
    // Even with the capability, the filter holds.
    spec.capabilities = vec!["SYS_ADMIN".into(), "MKNOD".into()];
    let text = fixture.run(&spec).await.1;
    assert_eq!(text.to_lowercase().matches("permi").count(), 6, "{text}");
}

#[tokio::test]
async fn machine_only_its_own_file_systems_are_seen() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("cat /proc/self/mountinfo; echo; ls /; ls /dev | tr '\\n' ' '");
    spec.read_only_root = true;
    let text = fixture.run(&spec).await.1;
    let (mounts, rest) = text.split_once("\n\n").unwrap();
    assert!(!mounts.contains(fixture.dir.path().to_str().unwrap()), "{mounts}");
    assert!(!mounts.contains("shared:") && !mounts.contains("master:"), "{mounts}");
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (target, options) = (fields[4], fields[5]);
        assert!(options.contains("nosuid"), "{line}");
        let device = target.starts_with("/dev") || mounts_null(target);
        assert!(device || options.contains("nodev"), "{line}");
        if target == "/" || target.starts_with("/sys") {
            assert!(device || options.starts_with("ro"), "{line}");
        }
    }
    let dev = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(rest, format!("bin\ndev\netc\nhome\nproc\nsys\n{dev}\n"));
}

/// A file that is masked by /dev/null.
fn mounts_null(target: &str) -> bool {
    target.starts_with("/proc/") || target.starts_with("/sys/kernel/")
}

#[tokio::test]
async fn machine_secrets_of_the_host_are_masked() {
    let fixture = Fixture::new();
    let text = fixture
        .output(
            "cat /proc/kallsyms /proc/keys /proc/interrupts /proc/timer_list | wc -c; ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v : ; (echo 1 > /proc/sys/kernel/panic) 2>&1; (echo b > /proc/sysrq-trigger) 2>&1; echo end",
        )
        .await;
    assert!(text.starts_with("0\n"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.ends_with("end\n") && !text.contains("acpi"), "{text}");
}

#[tokio::test]
async fn machine_the_network_is_a_bare_loopback() {
    let fixture = Fixture::new();
    let spec = fixture.shell("ip -o link; ip -o addr show lo; nc -l -p 80 -w 1 || true");
    let text = fixture.run(&spec).await.1;
    assert_eq!(text.matches("LOOPBACK,UP").count(), 1, "{text}");
    assert!(text.contains("inet 127.0.0.1/8"), "{text}");
    assert!(!text.contains("eth") && !text.contains("ermission"), "{text}");
}

#[tokio::test]
async fn machine_the_created_container_waits_with_a_network_namespace() {
    let fixture = Fixture::new();
    let spec = fixture.shell("echo ran");
    let Created { netns, pid, .. } = fixture.runtime.create(&spec, Stdio::Log).await.unwrap();
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    assert_ne!(fs::File::from(netns).metadata().unwrap().ino(), own);
    let state = fixture.runtime.state(&spec.id).await.unwrap();
    assert_eq!(state.status, Status::Created { pid });
    assert_eq!(fs::read_to_string(&spec.log.as_ref().unwrap().path).unwrap(), "");
    fixture.runtime.start(&spec.id).await.unwrap();
    let again = fixture.runtime.start(&spec.id).await.unwrap_err();
    assert!(matches!(again, Error::WrongState { .. }), "{again}");
    assert_eq!(code(&soon(fixture.runtime.wait(&spec.id)).await.unwrap()), 0);
    assert!(matches!(fixture.runtime.create(&spec, Stdio::Log).await, Err(Error::Exists { .. })));
    fixture.runtime.delete(&spec.id).await.unwrap();
    assert!(matches!(fixture.runtime.delete(&spec.id).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn machine_no_descriptor_leaks_in() {
    let fixture = Fixture::new();
    for init in [true, false] {
        let mut spec = fixture.shell("ls -l /proc/self/fd 2>&1 | awk '/->/ {print $9 $10 $11}'");
        spec.init = init;
        let text = fixture.run(&spec).await.1;
        let numbers: Vec<&str> = text.lines().map(|line| &line[..1]).collect();
        // ls's own look at the directory has gone by the time it reads the link.
        assert_eq!(numbers, ["0", "1", "2"], "{text}");
        assert!(text.contains("0->/dev/null"), "{text}");
    }
}

#[tokio::test]
async fn machine_pid_one_is_closed_to_the_app() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell(
        "ls /proc/1/fd 2>&1; readlink /proc/1/exe 2>&1; cat /proc/1/environ 2>&1; cat /proc/1/mem 2>&1; (echo x > /proc/1/exe) 2>&1; echo $$",
    );
    spec.process.as_mut().unwrap().uid = 0;
    let text = fixture.run(&spec).await.1;
    assert_eq!(text.matches("ermission denied").count(), 4, "{text}");
    assert!(text.ends_with("\n2\n"), "{text}");
}

#[tokio::test]
async fn machine_too_much_memory_is_killed_and_told() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("dd if=/dev/zero of=/dev/null bs=48M count=1");
    spec.cgroup.limits.memory_max = Some(16 << 20);
    let (record, text) = fixture.run(&spec).await;
    assert!(record.oom_killed && record.oom_kills >= 1, "{record:?} {text}");
    assert!(!record.success());
    let (record, _) = fixture.run(&fixture.shell("exit 3")).await;
    assert!(!record.oom_killed && record.code == Some(3), "{record:?}");
}

#[tokio::test]
async fn machine_a_fork_bomb_stays_inside_its_limit() {
    let fixture = Fixture::new();
    let mut spec = fixture
        .shell("i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done 2>&1; echo not reached");
    spec.cgroup.limits.pids_max = Some(12);
    let id = fixture.start(&spec).await;
    says(&spec, "/bin/sh: can't fork").await;
    assert!(fixture.runtime.stats(&id).await.unwrap().pids <= 12);
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_limits_are_seen_inside_and_change_live() {
    let fixture = Fixture::new();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; grep -c /staithe /proc/self/cgroup; (echo 1 > /sys/fs/cgroup/memory/cgroup.procs) 2>&1 | grep -c Read-only; sleep 60";
    let spec = fixture.shell(script);
    let id = fixture.start(&spec).await;
    says(&spec, "1").await;
    assert_eq!(printed(&spec.log.as_ref().unwrap().path), "67108864\n0\n1\n");
    let limits = Limits { memory_max: Some(32 << 20), cpu_millis: Some(250), ..Limits::default() };
    fixture.runtime.set_limits(&id, &limits, &limits).await.unwrap();
    let stats = fixture.runtime.stats(&id).await.unwrap();
    assert_eq!(stats.memory_max_bytes, Some(32 << 20));
    assert!(stats.memory_bytes > 0 && stats.cpu_usage_us > 0 && stats.pids >= 2, "{stats:?}");
    let raised = Limits { memory_max: Some(128 << 20), cpu_millis: Some(500), ..Limits::default() };
    fixture.runtime.set_limits(&id, &raised, &Limits::default()).await.unwrap();
    assert_eq!(fixture.runtime.stats(&id).await.unwrap().memory_max_bytes, Some(128 << 20));
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_exec_joins_everything_and_returns_output_and_code() {
    let fixture = Fixture::new();
    let spec = fixture.shell("sleep 60");
    let id = fixture.start(&spec).await;
    let script = "id -u; hostname; for n in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$n; readlink /proc/2/ns/$n; done; grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; ls /proc/self/fd | wc -l; cat /proc/self/cgroup; exit 7";
    let (record, text) = fixture.exec(&id, script).await;
    assert_eq!(code(&record), 7);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["1000", "inside"]);
    for pair in lines[2..18].chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    assert_eq!(text.matches("0000000000000000").count(), 2, "{text}");
    assert!(lines.contains(&"Seccomp:\t2") && lines.contains(&"4"), "{text}");
    assert!(lines[22..].iter().all(|line| line.ends_with(":/") || line.contains("name=")));
    let missing = fixture.runtime.exec(&id, &process(&["nothing"]), Stdio::Log).await.unwrap_err();
    assert!(missing.to_string().contains("execute `nothing`: No such file"), "{missing}");
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_a_dropped_exec_dies_and_stdin_reaches_it() {
    let fixture = Fixture::new();
    let id = fixture.start(&fixture.shell("sleep 60")).await;
    let mut handle = fixture.runtime.exec(&id, &process(&["cat"]), Stdio::Pipes).await.unwrap();
    let Some(Io::Pipes { stdin, stdout, .. }) = handle.io.take() else { panic!("no pipes") };
    std::io::Write::write_all(&mut fs::File::from(stdin), b"hello").unwrap();
    let mut text = String::new();
    fs::File::from(stdout).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), code(&soon(handle.wait()).await.unwrap())), ("hello", 0));

    let sleeper = process(&["/bin/sh", "-c", "sleep 77 & wait"]);
    let handle = fixture.runtime.exec(&id, &sleeper, Stdio::Log).await.unwrap();
    drop(handle);
    let count = async || fixture.exec(&id, "ps | grep -c '[s]leep 77'").await.1;
    let deadline = Instant::now() + PATIENCE;
    while count().await != "0\n" {
        assert!(Instant::now() < deadline, "still there");
    }
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_exec_on_a_terminal_is_resized() {
    let fixture = Fixture::new();
    let id = fixture.start(&fixture.shell("sleep 60")).await;
    let script =
        "tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut spec = process(&["/bin/sh", "-c", script]);
    spec.terminal = Some(WindowSize { rows: 11, columns: 22 });
    let mut handle = fixture.runtime.exec(&id, &spec, Stdio::Terminal).await.unwrap();
    let Some(Io::Terminal(terminal)) = handle.io.take() else { panic!("no terminal") };
    let mut stream = terminal.into_stream().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("ready") {
        let length = soon(stream.read(&mut buffer)).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    handle.resize(WindowSize { rows: 33, columns: 44 }).unwrap();
    loop {
        match soon(stream.read(&mut buffer)).await.unwrap() {
            0 => break,
            length => text.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
    }
    assert_eq!(text, "/dev/pts/0\r\n11 22\r\nready\r\n33 44\r\n");
    assert_eq!(code(&soon(handle.wait()).await.unwrap()), 5);
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_a_container_on_a_terminal_hears_ctrl_c() {
    let fixture = Fixture::new();
    let mut spec = fixture
        .shell("trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.01; done");
    spec.log = None;
    let created = fixture.runtime.create(&spec, Stdio::Terminal).await.unwrap();
    fixture.runtime.start(&spec.id).await.unwrap();
    let Io::Terminal(terminal) = created.io else { panic!("no terminal") };
    let (mut output, mut input) = tokio::io::split(terminal.into_stream().unwrap());
    let mut text = String::new();
    let mut buffer = [0; 256];
    loop {
        if text.ends_with("ready\r\n") {
            input.write_all(b"\x03").await.unwrap();
        }
        match soon(output.read(&mut buffer)).await.unwrap() {
            0 => break,
            length => text.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
    }
    assert_eq!(text, "ready\r\n^Cinterrupted\r\n");
    assert_eq!(code(&soon(fixture.runtime.wait(&spec.id)).await.unwrap()), 9);
    fixture.runtime.delete(&spec.id).await.unwrap();
}

#[tokio::test]
async fn machine_a_paused_init_container_serves_exec_until_killed() {
    let fixture = Fixture::new();
    let mut spec = fixture.empty();
    spec.log = None;
    let id = fixture.start(&spec).await;
    let (record, text) = fixture.exec(&id, "echo step > /tmp.txt 2>&1; ls -d /proc/[0-9]*").await;
    assert_eq!(code(&record), 0);
    assert!(text.contains("/proc/1\n"), "{text}");
    let record = fixture.runtime.kill(&id).await.unwrap();
    assert_eq!(record.signal, Some(9));
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_long_output_is_logged_whole_and_rotated() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("seq 1 20000; echo oops >&2; printf 'no newline'");
    spec.log.as_mut().unwrap().max_bytes = 256 * 1024;
    spec.log.as_mut().unwrap().files = 5;
    let (record, _) = fixture.run(&spec).await;
    assert_eq!(code(&record), 0);
    let log = spec.log.unwrap().path;
    let mut all = String::new();
    for number in (1..=5).rev() {
        let rotated = PathBuf::from(format!("{}.{number}", log.display()));
        if rotated.exists() {
            all.push_str(&fs::read_to_string(rotated).unwrap());
        }
    }
    assert!(!all.is_empty());
    all.push_str(&fs::read_to_string(&log).unwrap());
    let numbers: Vec<u32> =
        all.lines().filter_map(|line| line.split_once(" o ")?.1.parse().ok()).collect();
    assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
    assert!(all.contains(" e oops\n") && all.ends_with(" o no newline\n"));
}

#[tokio::test]
async fn machine_stop_asks_first_and_kills_after_the_grace() {
    let fixture = Fixture::new();
    // sleep has no handler; our init makes the default action happen.
    let id = fixture.start(&fixture.shell("exec sleep 60")).await;
    let record = fixture.runtime.stop(&id, Signal::TERM, PATIENCE).await.unwrap();
    assert_eq!((record.code, record.signal), (None, Some(15)));
    fixture.runtime.delete(&id).await.unwrap();

    let spec = fixture.shell("trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done");
    let id = fixture.start(&spec).await;
    says(&spec, "ready").await;
    let grace = Duration::from_millis(100);
    let record = fixture.runtime.stop(&id, Signal::TERM, grace).await.unwrap();
    assert_eq!(record.signal, Some(9));
    assert_eq!(fixture.runtime.wait(&id).await.unwrap(), record);
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_a_killed_monitor_takes_the_container_along() {
    let fixture = Fixture::new();
    for init in [true, false] {
        let mut spec = fixture.shell("echo ready; exec sleep 60");
        spec.init = init;
        let id = fixture.start(&spec).await;
        says(&spec, "ready").await;
        let Status::Running { pid } = fixture.runtime.state(&id).await.unwrap().status else {
            panic!("not running");
        };
        let monitor = parent(pid);
        let waiting = fixture.runtime.wait(&id);
        assert!(
            std::process::Command::new("kill")
                .args(["-9", &monitor.to_string()])
                .status()
                .unwrap()
                .success()
        );
        let record = soon(waiting).await.unwrap();
        assert_eq!(record.reason.as_deref(), Some("its monitor was killed"));
        let Status::Exited(again) = fixture.runtime.state(&id).await.unwrap().status else {
            panic!("not exited");
        };
        assert_eq!(again, record);
        fixture.runtime.delete(&id).await.unwrap();
        assert!(!Path::new(&format!("/proc/{pid}/root/bin")).exists());
    }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn machine_a_second_runtime_adopts_what_it_finds() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("while [ ! -e /home/go ]; do sleep 0.01; done; exit 4");
    spec.labels.insert("release".into(), "7".into());
    let id = fixture.start(&spec).await;
    let second = Runtime::open(config(fixture.dir.path(), &fixture.prefix)).unwrap();
    let listed = second.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].labels, spec.labels);
    assert!(matches!(listed[0].status, Status::Running { .. }), "{listed:?}");
    assert!(listed[0].started_at.is_some());
    let (first_wait, second_wait) = (fixture.runtime.wait(&id), second.wait(&id));
    let _ = second
        .exec(&id, &ProcessSpec { uid: 0, ..process(&["touch", "/home/go"]) }, Stdio::Log)
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    let (first, second_record) = soon(async { tokio::join!(first_wait, second_wait) }).await;
    assert_eq!(code(&first.unwrap()), 4);
    assert_eq!(code(&second_record.unwrap()), 4);
    second.delete(&id).await.unwrap();
    assert!(fixture.runtime.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn machine_an_unstarted_container_ends_with_its_daemon() {
    let fixture = Fixture::new();
    let spec = fixture.shell("true");
    let other = Runtime::open(config(fixture.dir.path(), &fixture.prefix)).unwrap();
    other.create(&spec, Stdio::Log).await.unwrap();
    drop(other);
    let record = soon(fixture.runtime.wait(&spec.id)).await.unwrap();
    assert_eq!(record.reason.as_deref(), Some("it was never started"));
    fixture.runtime.delete(&spec.id).await.unwrap();
}

#[tokio::test]
async fn machine_links_in_the_image_lead_nowhere() {
    let fixture = Fixture::new();
    let host = fixture.path("host");
    fs::create_dir(&host).unwrap();
    for name in ["proc", "dev", "sys"] {
        let layer = fixture.path(&format!("evil-{name}"));
        fs::create_dir(&layer).unwrap();
        symlink(&host, layer.join(name)).unwrap();
        let mut spec = fixture.shell("true");
        spec.rootfs.lowers.push(layer);
        let error = fixture.runtime.create(&spec, Stdio::Log).await.unwrap_err().to_string();
        assert!(error.contains(&format!("find directory `{name}`")), "{error}");
    }
    // A mount's target that is a link stays inside, and one into /proc is refused.
    let layer = fixture.path("evil-target");
    fs::create_dir(&layer).unwrap();
    symlink(&host, layer.join("data")).unwrap();
    symlink("/proc/self/attr", layer.join("attr")).unwrap();
    symlink("/proc/1/root", layer.join("magic")).unwrap();
    let volume = fixture.path("volume");
    fs::create_dir(&volume).unwrap();
    let mut spec = fixture.shell("echo inside; ls -d /tmp*");
    spec.rootfs.lowers.push(layer);
    for (target, problem) in
        [("/attr", "into /proc or /sys"), ("/proc/sys", "into /proc or /sys"), ("/magic/x", "")]
    {
        let mut evil = spec.clone();
        evil.id = format!("evil.{}", target.len());
        evil.mounts = vec![bind(&volume, target)];
        let error = fixture.runtime.create(&evil, Stdio::Log).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    spec.mounts = vec![bind(&volume, "/data/x")];
    let error = fixture.runtime.create(&spec, Stdio::Log).await.unwrap_err().to_string();
    assert!(error.contains("mount at `/data/x`"), "{error}");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
}

fn bind(source: &Path, target: &str) -> Mount {
    Mount::BindIdmapped { source: source.into(), target: target.into(), read_only: false }
}

#[tokio::test]
async fn machine_volumes_have_the_owners_they_should() {
    let fixture = Fixture::new();
    let (mapped, plain, file) =
        (fixture.path("mapped"), fixture.path("plain"), fixture.path("hosts"));
    for dir in [&mapped, &plain] {
        fs::create_dir(dir).unwrap();
    }
    std::os::unix::fs::chown(&mapped, Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::chown(&plain, Some(HOST_BASE + 1000), Some(HOST_BASE + 1000)).unwrap();
    fs::write(&file, "hosts\n").unwrap();
    let mut spec = fixture.shell(
        "touch /var/mapped/a /var/plain/b && cat /etc/hosts; (echo x > /etc/hosts) 2>&1; touch /tmp/c; ls -ld /tmp | awk '{print $1}'; touch /etc/own 2>&1",
    );
    spec.mounts = vec![
        bind(&mapped, "/var/mapped"),
        Mount::Bind { source: plain.clone(), target: "/var/plain".into(), read_only: false },
        Mount::Bind { source: file, target: "/etc/hosts".into(), read_only: true },
        Mount::Tmpfs { target: "/tmp".into(), size: 1 << 20, mode: 0o1777 },
    ];
    let (record, text) = fixture.run(&spec).await;
    assert_eq!(
        text,
        "hosts\n/bin/sh: can't create /etc/hosts: Read-only file system\ndrwxrwxrwt\ntouch: /etc/own: Permission denied\n"
    );
    assert_eq!(code(&record), 1);
    assert_eq!(fs::metadata(mapped.join("a")).unwrap().uid(), 1000);
    assert_eq!(fs::metadata(plain.join("b")).unwrap().uid(), HOST_BASE + 1000);
}

#[tokio::test]
async fn machine_many_layers_hide_each_other() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("cat /etc/which; ls /etc | wc -l");
    for number in 0..60 {
        let layer = fixture.path(&format!("layer.{number}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/which"), format!("{number}\n")).unwrap();
        fs::write(layer.join(format!("etc/own.{number}")), "").unwrap();
        spec.rootfs.lowers.push(layer);
    }
    assert_eq!(fixture.run(&spec).await.1, "59\n61\n");
    assert!(spec.rootfs.upper.join("upper").is_dir());
}

#[tokio::test]
async fn machine_programs_that_cannot_run_are_told() {
    let fixture = Fixture::new();
    for (init, args, cwd, expected, code) in [
        (true, "nothing", "/", "execute `nothing`: No such file or directory", 127),
        (false, "nothing", "/", "execute `nothing`: No such file or directory", 127),
        (true, "/etc", "/", "execute `/etc`: Permission denied", 126),
        (true, "true", "/missing", "enter working directory `/missing`: No such file", 127),
        (true, "true", "/proc/self/fd/3", "enter working directory `/proc/self/fd/3`", 127),
    ] {
        let mut spec = fixture.empty();
        spec.init = init;
        spec.process = Some(ProcessSpec { cwd: cwd.into(), ..process(&[args]) });
        fixture.runtime.create(&spec, Stdio::Log).await.unwrap();
        let error = fixture.runtime.start(&spec.id).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let record = soon(fixture.runtime.wait(&spec.id)).await.unwrap();
        assert_eq!(record.code, Some(code), "{record:?}");
        assert!(record.reason.unwrap().contains(expected));
        fixture.runtime.delete(&spec.id).await.unwrap();
    }
}

#[tokio::test]
async fn machine_pause_freezes_and_a_frozen_container_can_be_killed() {
    let fixture = Fixture::new();
    let spec = fixture.shell("echo ready; sleep 60");
    let id = fixture.start(&spec).await;
    says(&spec, "ready").await;
    fixture.runtime.pause(&id).await.unwrap();
    let state = fixture.runtime.state(&id).await.unwrap();
    assert!(matches!(state.status, Status::Paused { .. }), "{state:?}");
    fixture.runtime.resume(&id).await.unwrap();
    let state = fixture.runtime.state(&id).await.unwrap();
    assert!(matches!(state.status, Status::Running { .. }), "{state:?}");
    fixture.runtime.pause(&id).await.unwrap();
    assert_eq!(fixture.runtime.kill(&id).await.unwrap().signal, Some(9));
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_rlimits_are_set_or_lowered_with_a_note() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("ulimit -n; ulimit -c; sleep 60");
    let limit = |resource: &str, soft, hard| Rlimit { resource: resource.into(), soft, hard };
    spec.process.as_mut().unwrap().rlimits =
        vec![limit("RLIMIT_NOFILE", 100, 1 << 40), limit("core", 0, 0)];
    let id = fixture.start(&spec).await;
    says(&spec, "0").await;
    assert_eq!(printed(&spec.log.as_ref().unwrap().path), "100\n0\n");
    let state = fixture.runtime.state(&id).await.unwrap();
    assert!(state.notes.iter().all(|note| note.contains("nofile")), "{state:?}");
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_an_environment_larger_than_a_packet_arrives() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("env | wc -c");
    let value = "x".repeat(100_000);
    let env = &mut spec.process.as_mut().unwrap().env;
    for number in 0..4 {
        env.push((format!("LARGE_{number}"), value.clone()));
    }
    let length: usize = fixture.run(&spec).await.1.trim().parse().unwrap();
    assert!(length > 400_000);
}

#[tokio::test]
async fn machine_zombies_are_reaped() {
    let fixture = Fixture::new();
    let spec = fixture.shell("for i in 1 2 3; do (sleep 0 &) ; done; echo ready; sleep 60");
    let id = fixture.start(&spec).await;
    says(&spec, "ready").await;
    let deadline = Instant::now() + PATIENCE;
    while fixture.runtime.stats(&id).await.unwrap().pids > 3 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.runtime.delete(&id).await.unwrap();
}

/// Numbers of x86-64; perl is the host's, because busybox makes no bare system calls.
#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn machine_ways_into_the_kernel_are_closed() {
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    let calls = [
        ("ptrace", "101, 0, 0, 0, 0", EPERM),
        ("personality no randomization", "135, 0x40000", EPERM),
        ("keyctl", "250, 0, -3, 0", EPERM),
        ("unshare", "272, 0x10000000", EPERM),
        ("perf_event_open", "298, 0, 0, 0, 0, 0", EPERM),
        ("setns", "308, 0, 0", EPERM),
        ("process_vm_readv", "310, 1, 0, 0, 0, 0, 0", EPERM),
        ("bpf", "321, 0, 0, 0", EPERM),
        ("userfaultfd", "323, 0", EPERM),
        ("io_uring_setup", "425, 1, 0", ENOSYS),
        ("open_tree", "428, -100, 0, 1", EPERM),
        ("clone3", "435, 0, 0", ENOSYS),
        ("of the future", "999", ENOSYS),
        ("x32", "0x40000027", ENOSYS),
        ("clone with a user namespace", "56, 0x10000011, 0, 0, 0, 0", EPERM),
        ("AF_PACKET", "41, 17, 3, 0", EPERM),
        ("AF_ALG", "41, 38, 5, 0", EPERM),
        ("AF_VSOCK", "41, 40, 1, 0", EPERM),
        ("netlink audit", "41, 16, 3, 9", EPERM),
        ("netlink netfilter", "41, 16, 3, 12", EPERM),
        ("raw socket", "41, 2, 3, 1", EPERM),
        ("TIOCSTI", "16, 0, 0x5412, 0", EPERM),
        ("TIOCSTI by its low half", "16, 0, 0x7700005412, 0", EPERM),
        ("netlink route", "41, 16, 3, 0", 0),
        ("memfd_create", "319, $name, 0", 0),
    ];
    let script: String = calls
        .iter()
        .map(|(_, call, _)| format!("$! = 0; syscall({call}); print $! + 0, \"\\n\";"))
        .collect();
    let fixture = Fixture::new();
    let layer = fixture.path("usr-layer");
    fs::create_dir(&layer).unwrap();
    for name in ["lib", "lib64"] {
        symlink(format!("usr/{name}"), layer.join(name)).unwrap();
    }
    let mut spec = fixture.empty();
    spec.rootfs.lowers.push(layer);
    spec.mounts =
        vec![Mount::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true }];
    spec.capabilities = vec!["SYS_ADMIN".into(), "SYS_PTRACE".into(), "BPF".into()];
    let script = format!("my $name = 'x'; {script}");
    spec.process = Some(ProcessSpec { uid: 0, ..process(&["/usr/bin/perl", "-e", &script]) });
    let text = fixture.run(&spec).await.1;
    let found: Vec<String> = calls
        .iter()
        .zip(text.lines())
        .map(|((name, _, _), errno)| format!("{name}: {errno}"))
        .collect();
    let expected: Vec<String> =
        calls.iter().map(|(name, _, errno)| format!("{name}: {errno}")).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn machine_our_own_program_cannot_be_overwritten() {
    const O_PATH: i32 = 0o10_000_000;
    let fixture = Fixture::new();
    // A copy of its own: a file that another test executes is busy, whoever asks.
    let program = fixture.path("program");
    let copied = std::process::Command::new("cp")
        .args([Path::new(env!("CARGO_BIN_EXE_staithe")), &program])
        .status();
    assert!(copied.unwrap().success());
    let own = Config { monitor_exe: program, ..config(fixture.dir.path(), &fixture.prefix) };
    let runtime = Runtime::open(own).unwrap();
    let spec = fixture.shell("exec sleep 60");
    runtime.create(&spec, Stdio::Log).await.unwrap();
    runtime.start(&spec.id).await.unwrap();
    let Status::Running { pid } = runtime.state(&spec.id).await.unwrap().status else {
        panic!("not running");
    };
    let exe = format!("/proc/{pid}/exe");
    let held = fs::OpenOptions::new().read(true).custom_flags(O_PATH).open(exe).unwrap();
    runtime.delete(&spec.id).await.unwrap();
    // CVE-2019-5736: hold it, wait until it is no longer executed, write. Even as host's root.
    let held = format!("/proc/self/fd/{}", held.as_raw_fd());
    let error = fs::OpenOptions::new().write(true).open(held).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // The default is the running program, whatever its path.
    let own = Config { monitor_exe: "/proc/self/exe".into(), ..config(fixture.dir.path(), "x") };
    Runtime::open(own).unwrap();
}

#[tokio::test]
async fn machine_a_daemon_that_dies_takes_its_execs_but_not_its_containers() {
    let fixture = Fixture::new();
    let spec = fixture.shell("sleep 60");
    let id = fixture.start(&spec).await;
    let other = Runtime::open(config(fixture.dir.path(), &fixture.prefix)).unwrap();
    let sleeper = process(&["sleep", "88"]);
    let handle = other.exec(&id, &sleeper, Stdio::Pipes).await.unwrap();
    drop((handle, other));
    let deadline = Instant::now() + PATIENCE;
    while fixture.exec(&id, "ps | grep -c '[s]leep 88'").await.1 != "0\n" {
        assert!(Instant::now() < deadline, "still there");
    }
    let state = fixture.runtime.state(&id).await.unwrap();
    assert!(matches!(state.status, Status::Running { .. }), "{state:?}");
    fixture.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn machine_containers_of_one_app_share_its_limit_and_its_group() {
    let fixture = Fixture::new();
    let mut specs = [fixture.shell("sleep 60"), fixture.shell("sleep 60")];
    for spec in &mut specs {
        spec.cgroup.group_limits.pids_max = Some(9);
    }
    // At once: the group is made and removed under each other's hands.
    for _ in 0..5 {
        let [one, two] = &specs;
        let (one, two) = tokio::join!(fixture.start(one), fixture.start(two));
        let (first, second) =
            tokio::join!(fixture.runtime.delete(&one), fixture.runtime.delete(&two));
        first.unwrap();
        second.unwrap();
    }
    let (one, two) = (fixture.start(&specs[0]).await, fixture.start(&specs[1]).await);
    let many = "for i in 1 2 3 4 5 6 7; do sleep 50 & done; wait";
    let process = process(&["/bin/sh", "-c", many]);
    let mut handle = fixture.runtime.exec(&two, &process, Stdio::Log).await.unwrap();
    let record = soon(handle.wait()).await.unwrap();
    assert!(!record.success(), "could fork: {record:?}");
    let used = async |id| fixture.runtime.stats(id).await.unwrap().pids;
    assert!(used(&one).await + used(&two).await <= 9);
    fixture.runtime.delete(&one).await.unwrap();
    fixture.runtime.delete(&two).await.unwrap();
}
