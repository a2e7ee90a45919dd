//! A whole machine in qemu: its own kernel, cgroup v2 and nothing of v1, a disk whose power can be
//! cut. See `script/lib/vm`, which makes it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::support::staithe::{Finished, tail};
use crate::support::{Repo, Staithe, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_staithe");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/script/lib/vm");
const QEMU: &str = "qemu-system-x86_64";
/// Five seconds on a quiet machine: every instruction is emulated.
const BOOT: Duration = Duration::from_secs(180);
/// The longest command is a deploy, which starts instances.
const COMMAND: Duration = Duration::from_secs(120);
/// Includes the end of all apps.
const POWER_OFF: Duration = Duration::from_secs(120);
/// No cgroup v1; the mitigations cost time and protect nobody here.
const KERNEL_LINE: &str =
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off cgroup_no_v1=all";
/// How often a line damaged on its way is sent; one in hundreds is.
const SENDS: usize = 10;
/// Lines that the machine may be ahead of the test.
const LINES: usize = 10_000;

pub(crate) struct Machine {
    directory: tempfile::TempDir,
    running: Option<Running>,
}

struct Running {
    qemu: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

/// Why there can be no machine here.
pub(crate) fn impossible() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the test machine is made for x86_64".to_owned());
    }
    let found = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    found.err().map(|error| format!("{QEMU}: {error}"))
}

impl Machine {
    /// A machine that has booted, with the app `shop` on it.
    pub(crate) fn boot_new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("staithe-vm-").tempdir_in(scratch()).unwrap();
        let mut machine = Self { directory, running: None };
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        command.arg(disk()).arg(machine.overlay());
        Finished::of(command, "").succeeds();
        machine.boot();
        machine
    }

    /// Boots the disk as it is and waits until commands can be run, not for anything else.
    pub(crate) fn boot(&mut self) {
        assert!(self.running.is_none(), "the machine is on");
        let drive = format!("file={},if=virtio,format=qcow2", self.overlay().display());
        let console = format!("file,id=console,append=on,path={}", self.console_path().display());
        // One processor: two tests at once fill the two that a CI machine has.
        let mut qemu = Command::new(QEMU)
            .args(["-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-smp", "1"])
            .args(["-m", "1024", "-display", "none", "-no-reboot", "-nodefaults", "-nic", "none"])
            .args(["-device", "virtio-rng-pci", "-append", KERNEL_LINE])
            .arg("-kernel")
            .arg(base().join("vmlinuz"))
            .arg("-initrd")
            .arg(base().join("initrd.gz"))
            .args(["-drive", &drive, "-chardev", &console])
            .args(["-serial", "chardev:console", "-serial", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read_lines(qemu.stdout.take().unwrap());
        let commands = qemu.stdin.take().unwrap();
        self.running = Some(Running { qemu, commands, lines });
        self.read_to_marker("boot", BOOT, "ready");
    }

    /// Cuts the power: whatever the guest has not asked the disk to keep is gone.
    pub(crate) fn cut_power(&mut self) {
        let mut running = self.running.take().expect("the machine is on");
        running.qemu.kill().unwrap();
        running.qemu.wait().unwrap();
    }

    /// As `poweroff` does it.
    pub(crate) fn power_off(&mut self) {
        self.send("power-off");
        let mut running = self.running.take().expect("the machine is on");
        eventually(POWER_OFF, "the machine is off", || {
            running.qemu.try_wait().unwrap().ok_or_else(|| "still on".to_owned())
        });
    }

    /// Runs a shell command on the machine, once.
    pub(crate) fn run(&mut self, command: &str) -> Finished {
        assert!(!command.contains('\n'), "one line: {command}");
        let mut ask = command;
        for _ in 0..SENDS {
            self.send(ask);
            let (stdout, marker) = self.read_to_marker(command, COMMAND, "");
            let Some((code, sum)) = marker.split_once(' ') else { continue };
            let code = code.parse().ok().filter(|_| checksum(&stdout) == sum);
            if code.is_some() {
                return Finished { what: command.to_owned(), code, stdout, stderr: String::new() };
            }
            // It has run: only what it printed is asked for again.
            ask = "resend";
        }
        panic!("{command}: the line to the machine is too bad");
    }

    /// Sends a line with its checksum: the guest runs nothing that was damaged on the way.
    fn send(&mut self, command: &str) {
        let running = self.running.as_mut().expect("the machine is on");
        let line = format!("{} {command}\n", checksum(command));
        running.commands.write_all(line.as_bytes()).unwrap();
    }

    /// A command's `--format json` output.
    pub(crate) fn json(&mut self, command: &str) -> serde_json::Value {
        let output = self.run(&format!("{command} --format json")).succeeds().stdout;
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{command}: {error}: {output}"))
    }

    /// Waits until the app `shop` answers with `body`, without doing anything for it.
    pub(crate) fn serves(&mut self, body: &str) {
        eventually(BOOT, &format!("shop answers `{body}`"), || {
            // The pause is for the daemon, which has the same slow processor.
            let get =
                "curl -sS -f -m 5 -H 'Host: shop.test' http://127.0.0.1/ || { sleep 1; false; }";
            let answer = self.run(get);
            let whole = answer.code == Some(0) && answer.stdout.trim() == body;
            whole.then_some(()).ok_or(format!("{answer:?}"))
        });
    }

    /// What the kernel and the daemon have printed, over all boots.
    pub(crate) fn console(&self) -> String {
        let bytes = std::fs::read(self.console_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The output up to the marker, and what the marker says, which begins with `expected`.
    fn read_to_marker(&self, what: &str, limit: Duration, expected: &str) -> (String, String) {
        let running = self.running.as_ref().expect("the machine is on");
        let end = Instant::now() + limit;
        let mut output = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match running.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("{what}: not within {limit:?}: {output}"),
                Err(RecvTimeoutError::Disconnected) => panic!("{what}: the machine went off"),
            };
            match line.split_once('\u{1}') {
                // Output that does not end with a line's end stands before the marker.
                Some((rest, marker)) if marker.starts_with(expected) => {
                    return (output + rest, marker.to_owned());
                }
                _ => output = output + &line + "\n",
            }
        }
    }

    fn overlay(&self) -> PathBuf {
        self.directory.path().join("disk.qcow2")
    }

    fn console_path(&self) -> PathBuf {
        self.directory.path().join("console.log")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- console of the machine ----\n{}", tail(&self.console(), 100));
        }
        if self.running.is_some() {
            self.cut_power();
        }
    }
}

/// What the guest's `sha256sum | cut -c1-16` says of `text`.
fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn read_lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Beside the other test data, so that layers can be linked.
fn scratch() -> PathBuf {
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vm");
    std::fs::create_dir_all(&scratch).unwrap();
    scratch
}

/// Kernel and system, kept from run to run for as long as the scripts that make them are the same.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let key = script(&["key".as_ref()]).stdout;
        let base = scratch().join(format!("base-{}", key.trim()));
        script(&["base".as_ref(), base.as_ref()]);
        base
    })
}

/// A disk with the app `shop` deployed once. Each test writes to a layer of its own above it.
fn disk() -> &'static Path {
    static DISK: OnceLock<PathBuf> = OnceLock::new();
    DISK.get_or_init(|| {
        let staithe = Staithe::start();
        Repo::of_fixture(&staithe, "power-cut", "shop").push().succeeds();
        staithe.stop();
        let image = scratch().join("disk.ext4");
        let data = staithe.data_dir();
        // A quarter of it all, and nothing is built there.
        let _ = std::fs::remove_dir_all(data.join("cache/downloads"));
        script(&["disk".as_ref(), base(), PROGRAM.as_ref(), &data, &image]);
        image
    })
}

fn script(arguments: &[&Path]) -> Finished {
    let mut command = Command::new(SCRIPT);
    command.args(arguments);
    Finished::of(command, "").succeeds()
}
