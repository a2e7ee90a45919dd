//! The whole platform behind Debian's own SSH server, as `docs/system-sshd.md` sets it up.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::staithe::{Finished, PROGRAM, free_address};
use crate::support::{Repo, Staithe, eventually, skip};

const SSHD: &str = "/usr/sbin/sshd";

/// An sshd of our own that asks `staithe` for the keys; ended when dropped.
struct Sshd {
    process: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Sshd {
    fn start(staithe: &Staithe) -> Self {
        let directory = staithe.directory.path();
        let host_key = directory.join("sshd_host");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key);
        Finished::of(keygen, "").succeeds();
        let socket = staithe.run_dir().join("control.sock");
        // sshd gives the command an empty environment.
        let keys = directory.join("authorized-keys");
        let script = format!(
            "#!/bin/sh\nSTAITHE_CONTROL_SOCKET={} exec {PROGRAM} ssh-authorized-keys \"$@\"\n",
            socket.display()
        );
        write(&keys, &script, 0o755);
        let port = free_address().port();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile none\n\
             AuthorizedKeysCommand {} %u %t %k\nAuthorizedKeysCommandUser root\n\
             AuthenticationMethods publickey\nAcceptEnv LANG LC_* GIT_PROTOCOL\n\
             SetEnv STAITHE_CONTROL_SOCKET={}\n",
            host_key.display(),
            keys.display(),
            socket.display()
        );
        let file = directory.join("sshd_config");
        write(&file, &configuration, 0o600);
        std::fs::create_dir_all("/run/sshd").unwrap();
        let log = std::fs::File::create(directory.join("sshd.log")).unwrap();
        let mut sshd = Command::new(SSHD);
        sshd.args(["-D", "-e", "-f"]).arg(file).stdin(Stdio::null()).stderr(log);
        let process = sshd.spawn().unwrap();
        eventually(Duration::from_secs(10), "sshd listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
        Self { process, port }
    }

    fn ssh(&self, staithe: &Staithe, arguments: &[&str]) -> Finished {
        let words = staithe.ssh_words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["-p", &self.port.to_string(), "root@127.0.0.1"]);
        command.args(arguments);
        Finished::of(command, "")
    }
}

fn write(path: &std::path::Path, text: &str, mode: u32) {
    let mut file = std::fs::File::create(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn pushes_and_commands_come_through_the_systems_sshd() {
    if !std::path::Path::new(SSHD).exists() {
        return skip("openssh-server is not installed");
    }
    let staithe = Staithe::start_with(true, &["ssh.system_uid=0"]);
    let sshd = Sshd::start(&staithe);
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    let remote = format!("ssh://root@127.0.0.1:{}/shop", sshd.port);
    repo.git(&["push", &remote, "main"]).succeeds().says("-----> Releasing v1");
    staithe.get("shop", "/").is(200, "version 1");
    sshd.ssh(&staithe, &["apps:list"]).succeeds().says("shop");
    sshd.ssh(&staithe, &["run", "shop", "cat", "version.txt"]).succeeds().says("1");
    sshd.ssh(&staithe, &["apps:exists", "nope"]).fails_with(20);
    let events = staithe.cli(&["events", "shop"]).succeeds();
    assert!(events.stdout.contains("alice"), "the pusher is not known: {}", events.stdout);
    // A key that is taken away opens nothing any more.
    staithe.cli(&["ssh-keys:remove", "alice"]).succeeds();
    sshd.ssh(&staithe, &["apps:list"]).fails_with(255).says("Permission denied");
}
