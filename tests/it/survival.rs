//! What survives what: kills of the control plane and of the proxy, at any moment.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::http::try_get;
use crate::support::leftovers::leftovers;
use crate::support::load::{Load, Seen};
use crate::support::staithe::{read_until, signal};
use crate::support::{Repo, Staithe, eventually};

#[test]
fn no_request_is_dropped_by_twenty_releases_and_five_kills_of_the_control_plane() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "node-web", "shop");
    repo.push().succeeds();
    let load = Load::start(staithe.http(), "shop.test", 4);
    let mut switches = Vec::new();
    let mut version = 1;
    for round in 0..5 {
        version += 1;
        repo.push_change("version.txt", &format!("{version}\n")).succeeds();
        switches.push((Instant::now(), version));
        staithe.cli(&["config:set", "shop", &format!("ROUND={round}")]).succeeds();
        staithe.cli(&["ps:scale", "shop", &format!("web={}", 2 - round % 2)]).succeeds();
        staithe.kill_daemon();
        // The proxy and the apps do not notice.
        try_get(staithe.http(), "shop.test", "/").unwrap().is(200, "version");
        staithe.launch();
        let target = staithe.json(&["releases", "shop"])[2]["version"].to_string();
        staithe.cli(&["rollback", "shop", &target]).succeeds();
    }
    let seen = load.finish();
    let failed: Vec<_> = seen.iter().filter_map(|seen| seen.result.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} requests failed: {:?}",
        failed.len(),
        seen.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(seen.len() > 1000, "only {} requests were made", seen.len());
    assert!(staithe.json(&["releases", "shop"])[0]["version"].as_u64().unwrap() >= 20);
    for (at, version) in switches {
        assert_no_older_version(&seen, at, version);
    }
}

/// After a push has returned, no request may be answered by an older version.
fn assert_no_older_version(seen: &[Seen], switched: Instant, version: u32) {
    let late = seen.iter().filter(|seen| seen.asked > switched);
    for seen in late {
        let body = seen.result.as_ref().unwrap();
        let answered: u32 = body.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(answered >= version, "version {answered} answered after the switch to {version}");
    }
}

#[test]
fn a_control_plane_that_is_killed_during_a_build_fails_it_and_goes_on() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    repo.write("package.json", r#"{ "name": "slow", "private": true, "scripts": { "build": "echo building now; sleep 1000" } }"#);
    repo.commit("A build that takes long");
    let mut push = repo.git_command(&["push", "staithe", "main"]);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = push.stderr.take().unwrap();
    read_until(&mut progress, "building now");
    staithe.kill_daemon();
    staithe.get("shop", "/").is(200, "version 1");
    staithe.launch();
    assert!(!push.wait().unwrap().success());
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let builds = staithe.json(&["builds:list", "shop"]);
    assert_eq!(builds[0]["status"], "failed", "{builds}");
    staithe.cli(&["events"]).succeeds().says("recovered");
    // The build container is gone, and the next push works.
    eventually(Duration::from_secs(10), "the build container is removed", || {
        let left = staithe.containers();
        (left == 1).then_some(()).ok_or_else(|| format!("{left} containers"))
    });
    repo.git(&["rm", "-q", "-f", "package.json"]).succeeds();
    repo.push_change("version.txt", "2\n").succeeds();
    staithe.get("shop", "/").is(200, "version 2");
}

#[test]
fn a_control_plane_that_is_killed_during_a_deploy_undoes_it() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    repo.write("Procfile", "web: sleep 1000\n");
    repo.commit("Never ready");
    let mut push = repo.git_command(&["push", "staithe", "main"]);
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = push.stderr.take().unwrap();
    read_until(&mut progress, "Starting web.1");
    staithe.kill_daemon();
    staithe.get("shop", "/").is(200, "version 1");
    staithe.launch();
    assert!(!push.wait().unwrap().success());
    let releases = staithe.json(&["releases", "shop"]);
    assert_eq!(releases[0]["status"], "failed", "{releases}");
    staithe.get("shop", "/").is(200, "version 1");
    eventually(Duration::from_secs(10), "half of a deploy is removed", || {
        let left = staithe.containers();
        (left == 1).then_some(()).ok_or_else(|| format!("{left} containers"))
    });
}

#[test]
fn a_killed_proxy_is_back_by_itself_with_the_same_routes() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let first = staithe.proxy_pid();
    signal(first, "KILL");
    eventually(Duration::from_secs(10), "the proxy answers again", || {
        let answer =
            try_get(staithe.http(), "shop.test", "/").map_err(|error| error.to_string())?;
        (answer.status == 200).then_some(()).ok_or_else(|| format!("{answer:?}"))
    });
    assert_ne!(staithe.proxy_pid(), first);
    // Also where nobody is there to start it: the next control plane does.
    staithe.kill_daemon();
    signal(staithe.proxy_pid(), "KILL");
    staithe.launch();
    staithe.get("shop", "/").is(200, "version 1");
}

#[test]
fn an_instance_that_is_killed_comes_back() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    staithe.cli(&["enter", "shop", "web.1", "bash", "-c", "kill -9 -1"]);
    eventually(Duration::from_secs(10), "web.1 runs again", || {
        let answer =
            try_get(staithe.http(), "shop.test", "/").map_err(|error| error.to_string())?;
        let report = staithe.json(&["ps:report", "shop"]);
        let restarts = report["instances"][0]["restarts"].as_u64().unwrap_or(0);
        (answer.status == 200 && restarts == 1)
            .then_some(())
            .ok_or_else(|| format!("{answer:?} {report}"))
    });
}

#[test]
fn two_staithes_live_side_by_side_and_leave_nothing_behind() {
    let (one, two) = (Staithe::start(), Staithe::start());
    for (staithe, version) in [(&one, "1\n"), (&two, "2\n")] {
        let repo = Repo::of_fixture(staithe, "procfile-script", "shop");
        repo.write("version.txt", version);
        repo.commit("My version");
        repo.push().succeeds();
    }
    one.get("shop", "/").is(200, "version 1");
    two.get("shop", "/").is(200, "version 2");
    assert!(!leftovers(&one).is_empty(), "the comparison sees nothing");
    one.stop();
    assert_eq!(leftovers(&one), Vec::<String>::new());
    two.get("shop", "/").is(200, "version 2");
    // What was stopped comes back with its apps.
    one.launch();
    eventually(Duration::from_secs(20), "the app is back", || {
        let answer = try_get(one.http(), "shop.test", "/").map_err(|error| error.to_string())?;
        (answer.status == 200).then_some(()).ok_or_else(|| format!("{answer:?}"))
    });
    one.stop();
    two.stop();
    assert_eq!(leftovers(&two), Vec::<String>::new());
    assert_eq!(leftovers(&one), Vec::<String>::new());
}
