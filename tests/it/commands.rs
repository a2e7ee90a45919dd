//! The commands of a running platform, as root and over SSH.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::support::staithe::{Finished, read_until};
use crate::support::{Repo, Staithe, eventually};

fn with_shop() -> (Staithe, Repo) {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    (staithe, repo)
}

#[test]
fn one_off_processes_have_streams_exit_codes_and_terminals() {
    let (staithe, _repo) = with_shop();
    staithe.cli(&["run", "shop", "cat", "version.txt"]).succeeds().says("1");
    staithe.cli(&["run", "shop", "bash", "-c", "exit 7"]).fails_with(7);
    let echoed = staithe.cli_with_input(&["run", "shop", "cat"], "typed in\n").succeeds();
    assert_eq!(echoed.stdout, "typed in\n");
    let both = staithe.cli(&["run", "shop", "bash", "-c", "echo out; echo err >&2"]).succeeds();
    assert_eq!((both.stdout.as_str(), both.stderr.contains("err")), ("out\n", true));

    // Over SSH, with a real terminal: its size and kind are there, and Ctrl-C reaches the process.
    let ssh = staithe.ssh_command(&["run", "shop", "bash", "--norc"]);
    let mut terminal = std::process::Command::new("ssh");
    terminal.arg("-tt").args(ssh.get_args()).env("TERM", "xterm-256color");
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut terminal = terminal.spawn().unwrap();
    let mut input = terminal.stdin.take().unwrap();
    input.write_all(b"tty; echo kind $TERM\n").unwrap();
    let mut output = terminal.stdout.take().unwrap();
    read_until(&mut output, "/dev/pts/");
    read_until(&mut output, "kind xterm-256color");
    input.write_all(b"exit 5\n").unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(5));
    eventually(Duration::from_secs(10), "one-offs are removed", || {
        let left = staithe.containers();
        (left == 1).then_some(()).ok_or_else(|| format!("{left} containers"))
    });
}

#[test]
fn enter_runs_inside_an_instance_and_logs_follow() {
    let (staithe, _repo) = with_shop();
    staithe.cli(&["enter", "shop", "web.1", "cat", "/app/version.txt"]).succeeds().says("1");
    staithe.cli(&["enter", "shop", "worker"]).fails_with(4).says("no running `worker`");
    staithe.cli(&["logs", "shop"]).succeeds().says("version 1 listens on 5000");
    let mut follow = staithe.cli_command(&["logs", "shop", "-t"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    staithe.cli(&["ps:scale", "shop", "worker=1"]).succeeds();
    read_until(follow.stdout.take().unwrap(), "worker.1");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn domains_route_and_belong_to_one_app() {
    let (staithe, _repo) = with_shop();
    let status = |host: &str| crate::support::http::get_from(staithe.http(), host, "/").status;
    staithe.cli(&["domains:add", "shop", "www.example.org", "*.wild.example.org"]).succeeds();
    assert_eq!(status("www.example.org"), 200);
    assert_eq!(status("WWW.Example.Org."), 200);
    assert_eq!(status("a.wild.example.org"), 200);
    assert_eq!(status("shop.test"), 200);
    assert_eq!(status("other.example.org"), 404);
    staithe.cli(&["apps:create", "blog"]).succeeds();
    staithe
        .cli(&["domains:add", "blog", "www.example.org"])
        .fails_with(4)
        .says("belongs to app `shop`");
    staithe.cli(&["domains:remove", "shop", "www.example.org"]).succeeds();
    assert_eq!(status("www.example.org"), 404);
    staithe.cli(&["domains:clear", "shop"]).succeeds();
    assert_eq!(status("a.wild.example.org"), 404);
    staithe.cli(&["domains:set-global", "new.example"]).succeeds();
    assert_eq!(status("shop.new.example"), 200);
    staithe.cli(&["domains:report", "shop"]).succeeds().says("shop.new.example");
    staithe.cli(&["domains:add", "shop", "http://x.y"]).says("without scheme");
}

#[test]
fn limits_change_live_and_running_out_of_memory_is_told() {
    let (staithe, _repo) = with_shop();
    let before = staithe.json(&["ps:report", "shop"])["instances"][0]["container"].clone();
    staithe.cli(&["resource:limit", "shop", "--memory", "64m", "--cpu", "0.5"]).succeeds();
    let after = staithe.json(&["ps:report", "shop"])["instances"][0]["container"].clone();
    assert_eq!(before, after, "the instance was restarted");
    staithe.cli(&["resource:report", "shop"]).succeeds().says("64m");
    let hog =
        staithe.cli(&["run", "shop", "perl", "-e", "$x = 'x' x 200_000_000; print length $x"]);
    assert_ne!(hog.code, Some(0), "{hog:?}");
    // In an instance it is told, with the limit.
    staithe.cli(&[
        "enter",
        "shop",
        "web.1",
        "perl",
        "-e",
        "$x = 'x' x 200_000_000; print length $x",
    ]);
    staithe.get("shop", "/").is(200, "version 1");
    staithe.cli(&["resource:limit", "shop", "--memory", "nonsense"]).says("size");
}

#[test]
fn apps_are_listed_renamed_cloned_and_destroyed() {
    let (staithe, _repo) = with_shop();
    staithe.ssh(&["apps:list"]).succeeds().says("shop");
    staithe.cli(&["apps:exists", "shop"]).succeeds();
    staithe.cli(&["apps:exists", "nope"]).fails_with(20);
    staithe.cli(&["apps:create", "shop"]).fails_with(4).says("exists already");
    staithe.cli(&["apps:create", "Not_Good"]).says("lowercase");
    staithe.cli(&["apps:rename", "shop", "store"]).succeeds();
    staithe.get("store", "/").is(200, "version 1");
    staithe.get("shop", "/").is(404, "");
    staithe.cli(&["apps:clone", "store", "copy"]).succeeds();
    staithe.get("copy", "/").is(200, "version 1");
    staithe.cli_with_input(&["apps:destroy", "copy"], "wrong\n").fails_with(4);
    staithe.get("copy", "/").is(200, "version 1");
    staithe.cli(&["apps:destroy", "copy", "--force"]).succeeds();
    staithe.get("copy", "/").is(404, "");
    staithe.cli(&["config:show", "copy"]).fails_with(20).says("app `copy` does not exist");
    staithe.cli(&["gc"]).succeeds();
    staithe.get("store", "/").is(200, "version 1");
    staithe.cli(&["ps:restart", "store"]).succeeds();
    staithe.cli(&["events"]).succeeds().says("destroyed");
}

#[test]
fn config_is_set_shown_exported_and_imported() {
    let (staithe, _repo) = with_shop();
    staithe.cli(&["config:set", "--no-restart", "shop", "A=1", "B=two words"]).succeeds();
    staithe.cli(&["config:keys", "shop"]).succeeds().says("A").says("B");
    staithe.cli(&["config:get", "shop", "B"]).succeeds().says("two words");
    let exported = staithe.cli(&["config:export", "shop", "--format", "envfile"]).succeeds().stdout;
    staithe.cli(&["config:clear", "--no-restart", "shop"]).succeeds();
    assert!(!staithe.cli(&["config:keys", "shop"]).succeeds().stdout.contains('A'));
    staithe.cli_with_input(&["config:import", "--no-restart", "shop", "-"], &exported).succeeds();
    staithe.cli(&["config:get", "shop", "B"]).succeeds().says("two words");
    staithe.cli(&["config:set", "shop", "1A=x"]).says("config var name");
    // A config that the app cannot start with is refused as a whole.
    staithe.cli(&["checks:set", "shop", "deadline", "2"]).succeeds();
    staithe.cli(&["config:set", "shop", "PORT=1x"]).succeeds();
    staithe.cli(&["config:set", "shop", "PATH=/nowhere"]).fails_with(1).says("not ready");
    assert!(!staithe.cli(&["config:keys", "shop"]).succeeds().stdout.contains("PATH"));
    staithe.get("shop", "/").is(200, "version 1");
}

#[test]
fn keys_come_and_go() {
    let staithe = Staithe::start();
    staithe.ssh(&["version"]).succeeds();
    let stranger = staithe.directory.path().join("stranger");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&stranger);
    Finished::of(keygen, "").succeeds();
    let public = std::fs::read_to_string(stranger.with_extension("pub")).unwrap();
    staithe.cli_with_input(&["ssh-keys:add", "bob"], &public).succeeds();
    staithe
        .cli_with_input(&["ssh-keys:add", "eve"], &public)
        .fails_with(4)
        .says("known already, as `bob`");
    staithe.cli_with_input(&["ssh-keys:add", "eve"], "garbage").says("ssh public key");
    staithe.cli(&["ssh-keys:list"]).succeeds().says("alice").says("bob");
    staithe.cli(&["ssh-keys:remove", "alice"]).succeeds();
    staithe.ssh(&["version"]).fails_with(255);
}
