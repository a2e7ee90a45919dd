//! The command line against a real control plane, without a deploy: forms, formats, exit codes, and
//! who may speak.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Staithe;
use crate::support::staithe::Finished;

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

fn with_key() -> Staithe {
    let staithe = Staithe::start_bare();
    let key = std::fs::read_to_string(staithe.key().with_extension("pub")).unwrap();
    staithe.cli_with_input(&["ssh-keys:add", "alice"], &key).succeeds().says("SHA256:");
    staithe
}

#[test]
fn apps_come_and_go() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds().says("-----> Creating shop...");
    staithe.cli(&["apps:create", "shop"]).fails_with(4).says(" !     app `shop` exists already");
    staithe.cli(&["apps", "create", "Shop"]).fails_with(2).says("lowercase");
    staithe.cli(&["--app", "blog", "apps:create"]).succeeds();
    assert_eq!(staithe.cli(&["apps"]).succeeds().stdout, "blog\nshop\n");
    assert_eq!(staithe.json(&["apps:list"])[1]["name"], "shop");
    staithe.cli(&["apps:exists", "shop"]).succeeds();
    staithe.cli(&["apps:exists", "nope"]).fails_with(20).says("does not exist");
    assert_eq!(staithe.cli(&["apps:report", "shop", "--app-status"]).stdout, "created\n");
    staithe.cli(&["apps:rename", "blog", "news"]).succeeds();
    staithe.cli(&["apps:clone", "news", "more"]).succeeds();
    let no = staithe.cli_with_input(&["apps:destroy", "shop"], "shpo\n");
    no.fails_with(4).says("--force destroys without asking");
    staithe.cli_with_input(&["apps:destroy", "shop"], "shop\n").succeeds();
    staithe.cli(&["apps:destroy", "news", "--force"]).succeeds();
    assert_eq!(staithe.cli(&["apps"]).stdout, "more\n");
    staithe.cli(&["events"]).succeeds().says("[app.destroyed] news:");
}

#[test]
fn config_vars_survive_export_and_import() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let set = staithe.cli(&["config:set", "shop", "A=it's", "B=two\nlines", "C=$x"]);
    set.succeeds().says("       A:  it's");
    let show = staithe.cli(&["config", "shop"]).succeeds();
    assert!(show.stdout.starts_with("A:  it's\nB:  two\nlines\n"), "{}", show.stdout);
    let before = staithe.json(&["config:show", "shop"]);
    for (format, reader) in [("envfile", "envfile"), ("exports", "envfile"), ("json", "json")] {
        let exported = staithe.cli(&["config:export", "shop", "--format", format]).succeeds();
        staithe.cli(&["config:clear", "shop"]).succeeds();
        assert_eq!(staithe.json(&["config:show", "shop"]), serde_json::json!({}));
        let arguments = ["config:import", "shop", "--format", reader];
        staithe.cli_with_input(&arguments, &exported.stdout).succeeds();
        assert_eq!(staithe.json(&["config:show", "shop"]), before, "{format}");
    }
    staithe.cli(&["config:unset", "shop", "B", "C"]).succeeds();
    assert_eq!(staithe.cli(&["config:keys", "shop"]).stdout, "A\n");
    assert_eq!(staithe.cli(&["config:get", "shop", "A", "--quoted"]).stdout, "'it'\\''s'\n");
    assert_eq!(staithe.cli(&["config:get", "shop", "B"]).fails_with(1).stdout, "");
    staithe.cli(&["config:set", "shop", "secret"]).fails_with(2).says("`KEY=value`");
}

#[test]
fn settings_are_set_and_reported() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe.cli(&["ps:scale", "shop", "web=2"]).succeeds();
    staithe.cli(&["ps:scale", "shop"]).succeeds().says("web:  2");
    staithe.cli(&["domains:add", "shop", "www.shop.io"]).succeeds();
    let vhosts = staithe.cli(&["domains:report", "shop", "--domains-app-vhosts"]).stdout;
    assert!(vhosts.contains("www.shop.io"), "{vhosts}");
    staithe.cli(&["domains:set", "shop", "http://x"]).fails_with(2).says("without scheme");
    staithe.cli(&["domains:add-global", "apps.io"]).succeeds();
    staithe.cli(&["domains:report", "--global"]).succeeds().says("test apps.io");
    staithe.cli(&["resource:limit", "shop", "--memory", "256m"]).succeeds();
    assert_eq!(staithe.cli(&["resource:report", "shop", "--web-limit-memory"]).stdout, "256m\n");
    staithe.cli(&["resource:limit", "shop", "--memory", "clear"]).succeeds();
    assert_eq!(staithe.cli(&["resource:report", "shop", "--web-limit-memory"]).stdout, "512m\n");
    staithe.cli(&["checks:set", "shop", "drain", "5"]).succeeds();
    assert_eq!(staithe.json(&["checks:report", "shop"])["settings"]["drain"], 5000);
    staithe.cli(&["git:set", "shop", "deploy-branch", "trunk"]).succeeds();
    assert_eq!(staithe.json(&["apps:info", "shop"])["deploy_branch"], "trunk");
    staithe.cli(&["run", "shop", "true"]).fails_with(4).says("has not been deployed yet");
    staithe.cli(&["builds:output", "shop"]).fails_with(20);
    staithe.cli(&["gc"]).succeeds().says("freed");
}

#[test]
fn the_same_commands_work_over_ssh() {
    let staithe = with_key();
    staithe.ssh(&["apps:create", "shop"]).succeeds();
    staithe.ssh(&["config:set", "shop", "'A=x y'"]).succeeds();
    assert_eq!(staithe.ssh(&["config:get", "shop", "A"]).stdout, "x y\n");
    staithe.ssh_with_input(&["config:import", "shop"], "B=2\n").succeeds();
    let file = staithe.ssh(&["config:import", "shop", "/etc/passwd"]);
    file.fails_with(4).says("would be a file of the server");
    staithe.ssh(&["apps:list", "--run-dir", "/tmp"]).fails_with(4).says("over SSH");
    staithe.ssh(&["apps:exists", "nope"]).fails_with(20);
    staithe.ssh(&["nonsense"]).fails_with(2).says("`nonsense` is not a staithe command");
    staithe.ssh(&["events"]).succeeds().says("(by alice from 127.0.0.1)");
    let keys = staithe.json(&["ssh-keys:list"]);
    let fingerprint = keys[0]["fingerprint"].as_str().unwrap();
    staithe.cli(&["ssh-keys:remove", "--fingerprint", fingerprint]).succeeds();
    staithe.ssh(&["apps:list"]).fails_with(255);
}

#[test]
fn a_private_key_is_refused_before_it_leaves() {
    let staithe = Staithe::start_bare();
    let path = staithe.key().display().to_string();
    staithe.cli(&["ssh-keys:add", "alice", &path]).fails_with(4).says("this is a private key");
}

#[test]
fn other_users_of_the_machine_are_told_no() {
    let staithe = Staithe::start_bare();
    let mut command = Command::new(staithe.data_dir().join("bin/staithe"));
    command.arg("apps:list").env("STAITHE_RUN_DIR", staithe.run_dir()).uid(NOBODY).gid(NOBODY);
    let mut claiming = Command::new(staithe.data_dir().join("bin/staithe"));
    claiming.arg("apps:list").env("STAITHE_RUN_DIR", staithe.run_dir()).uid(NOBODY).gid(NOBODY);
    claiming.env("STAITHE_ACTOR", "root");
    for command in [command, claiming] {
        Finished::of(command, "").fails_with(4).says("may not use the control socket");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let staithe = Staithe::start_bare();
    let mut help = staithe.cli_command(&["help"]);
    let mut child = help.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_server_that_is_away_is_exit_code_5() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_staithe"));
    command.arg("apps:list").env("STAITHE_RUN_DIR", directory.path());
    Finished::of(command, "").fails_with(5).says("cannot reach the Staithe server");
    // Neither help nor the version needs one.
    let mut command = Command::new(env!("CARGO_BIN_EXE_staithe"));
    command.arg("version").env("STAITHE_RUN_DIR", directory.path());
    Finished::of(command, "").succeeds().says("staithe ");
}

/// A server that lets one client in, sends it two frames, and answers what the client sent.
fn one_session(directory: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(directory.join("control.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        // The request's body ends in a brace; the end of the input is an empty frame.
        while !received.ends_with(b"}\0\0\0\0\x05hello\0\0\0\0\0") {
            let mut buffer = [0; 4096];
            let count = client.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&received));
            let waiting = !received.ends_with(b"}");
            received.extend_from_slice(&buffer[..count]);
            if waiting && received.ends_with(b"}") {
                let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                    upgrade: staithe-session\r\n\r\n";
                client.write_all(head.as_bytes()).unwrap();
            }
        }
        client.write_all(b"\x01\0\0\0\x03out\x02\0\0\0\x03err\x03\0\0\0\x01\x2a").unwrap();
        received
    })
}

#[test]
fn a_session_joins_the_standard_streams_and_passes_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let server = one_session(directory.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_staithe"));
    command.args(["run", "shop", "cat", "-A"]).env("STAITHE_RUN_DIR", directory.path());
    let finished = Finished::of(command, "hello").fails_with(42);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out", "err"));
    let request = String::from_utf8_lossy(&server.join().unwrap()).into_owned();
    assert!(request.starts_with("POST /api/v1/apps/shop/run HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(r#""args":["cat","-A"]"#), "{request}");
}
