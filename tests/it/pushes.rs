//! Pushes that are not the usual one, against the whole platform.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use crate::support::staithe::{Finished, read_until, signal_group};
use crate::support::{Repo, Staithe, eventually};

#[test]
fn branches_tags_deletions_and_clones_behave() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.git(&["push", "staithe", "main:feature"]).succeeds().says("nothing is deployed before");
    repo.push().succeeds().says("main as the deploy branch");
    repo.write("version.txt", "2\n");
    repo.commit("Second");
    repo.git(&["push", "staithe", "main:feature"]).succeeds().says("only `main` is deployed");
    staithe.get("shop", "/").is(200, "version 1");
    repo.git(&["tag", "v1"]).succeeds();
    repo.git(&["push", "staithe", "v1"]).succeeds().says("tags are not deployed");
    repo.git(&["push", "staithe", ":feature"]).succeeds();
    repo.git(&["push", "staithe", ":main"])
        .fails_with(1)
        .says("is the deploy branch and cannot be deleted");
    staithe.cli(&["git:set", "shop", "deploy-branch", "production"]).succeeds();
    repo.git(&["push", "staithe", "main:production"]).succeeds();
    staithe.get("shop", "/").is(200, "version 2");

    // Back again, and another way: what was pushed can be cloned, and history rewritten.
    let clone = Repo::empty(&staithe, "shop");
    clone.git(&["pull", "-q", "staithe", "production"]).succeeds();
    assert_eq!(clone.head(), repo.head());
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]).succeeds();
    repo.write("version.txt", "3\n");
    repo.commit("Another second");
    repo.git(&["push", "staithe", "main:production"]).fails_with(1).says("rejected");
    repo.git(&["push", "--force", "staithe", "main:production"]).succeeds();
    staithe.get("shop", "/").is(200, "version 3");
}

#[test]
fn an_interrupted_push_leaves_no_half_deploy() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    repo.write("Procfile", "web: sleep 1000\n");
    repo.commit("Never ready");
    let mut push = repo.git_command(&["push", "staithe", "main"]);
    // A group of its own, so that git's ssh is interrupted with it, as by Ctrl-C on a terminal.
    let mut push =
        push.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    read_until(push.stderr.take().unwrap(), "Starting web.1");
    signal_group(push.id(), "INT");
    push.wait().unwrap();
    eventually(Duration::from_secs(20), "the build is canceled", || {
        let builds = staithe.json(&["builds:list", "shop"]);
        (builds[0]["status"] == "canceled").then_some(()).ok_or_else(|| builds.to_string())
    });
    eventually(Duration::from_secs(20), "its instance is gone", || {
        let report = staithe.json(&["ps:report", "shop"]);
        (report["instances"].as_array().unwrap().len() == 1)
            .then_some(())
            .ok_or_else(|| report.to_string())
    });
    staithe.get("shop", "/").is(200, "version 1");
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]).succeeds();
    repo.push_change("version.txt", "2\n").succeeds();
    staithe.get("shop", "/").is(200, "version 2");
}

#[test]
fn a_build_can_be_canceled_and_a_newer_push_takes_the_place_in_the_queue() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let slow = r#"{ "name": "slow", "private": true, "scripts": { "build": "echo building now; sleep 1000" } }"#;
    repo.write("package.json", slow);
    repo.commit("Slow");
    let mut push = repo.git_command(&["push", "staithe", "main"]);
    let mut first = push.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    read_until(first.stderr.take().unwrap(), "building now");
    repo.git(&["rm", "-q", "-f", "package.json"]).succeeds();
    repo.commit("Waits");
    let mut waits = repo.git_command(&["push", "staithe", "main"]);
    let mut waits = waits.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut waiting = waits.stderr.take().unwrap();
    read_until(&mut waiting, "Waiting for the build before");
    repo.write("version.txt", "3\n");
    repo.commit("Newest");
    let mut newest = repo.git_command(&["push", "staithe", "main"]);
    let mut newest = newest.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    read_until(waiting, "newer push");
    assert!(!waits.wait().unwrap().success());
    let builds = staithe.json(&["builds:list", "shop"]);
    let running =
        builds.as_array().unwrap().iter().find(|build| build["status"] == "running").unwrap();
    staithe.cli(&["builds:cancel", "shop", &running["id"].to_string()]).succeeds();
    assert!(!first.wait().unwrap().success());
    assert!(newest.wait().unwrap().success());
    staithe.get("shop", "/").is(200, "version 3");
}

#[test]
fn a_hundred_megabytes_are_pushed_and_shallow_clones_too() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    let mut dd = std::process::Command::new("dd");
    dd.args(["if=/dev/urandom", "bs=1M", "count=100", "status=none"]);
    dd.arg(format!("of={}", repo.path().join("large.bin").display()));
    Finished::of(dd, "").succeeds();
    repo.commit("Large");
    repo.push().succeeds();
    staithe.cli(&["run", "shop", "stat", "-c", "%s", "large.bin"]).succeeds().says("104857600");
    repo.git(&["rm", "-q", "large.bin"]).succeeds();
    repo.push_change("version.txt", "2\n").succeeds();

    let shallow = Repo::empty(&staithe, "shop");
    shallow.git(&["fetch", "-q", "--depth", "1", "staithe", "main"]).succeeds();
    shallow.git(&["reset", "-q", "--hard", "FETCH_HEAD"]).succeeds();
    shallow.push_change("version.txt", "3\n").succeeds();
    staithe.get("shop", "/").is(200, "version 3");
}

#[test]
fn submodules_that_cannot_be_reached_are_named() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write(
        ".gitmodules",
        "[submodule \"lib\"]\n\tpath = lib\n\turl = https://127.0.0.1:1/lib.git\n",
    );
    repo.git(&["add", ".gitmodules"]).succeeds();
    let commit = repo.head();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},lib")]).succeeds();
    repo.git(&["commit", "-q", "-m", "Submodule"]).succeeds();
    repo.push().fails_with(1).says("https://127.0.0.1:1/lib.git");
}
