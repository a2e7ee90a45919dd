//! From `git push` to the web, and everything that can go wrong on the way.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use crate::support::{Repo, Staithe, eventually};

#[test]
fn a_node_app_goes_from_push_to_the_web() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "node-web", "shop");
    let pushed = repo.push().succeeds();
    for line in
        ["-----> Building shop from main", "Node.js", "-----> Releasing v1", "http://shop.test"]
    {
        assert!(pushed.stderr.contains(line), "`{line}` is missing in:\n{}", pushed.stderr);
    }
    staithe.get("shop", "/").is(200, "version 1 on node v24.");
    assert!(staithe.get("shop", "/").header("x-request-id").is_none_or(|id| !id.is_empty()));

    // The next push downloads and installs nothing: its lock file is the same.
    let pushed = repo.push_change("version.txt", "2\n").succeeds();
    assert!(pushed.stderr.contains("Reusing dependencies"), "{}", pushed.stderr);
    assert!(!pushed.stderr.contains("Installing Node.js"), "{}", pushed.stderr);
    staithe.get("shop", "/").is(200, "version 2");

    // A config var is a release that deploys, at build and at run time.
    staithe.cli(&["config:set", "shop", "GREETING=hello world"]).succeeds();
    staithe.get("shop", "/env/GREETING").is(200, "hello world");
    staithe.cli(&["config:get", "shop", "GREETING"]).succeeds().says("hello world");
    staithe.cli(&["config:unset", "shop", "GREETING"]).succeeds();
    assert_eq!(staithe.get("shop", "/env/GREETING").body, "\n");

    // Back to the first release, and what the list says of it.
    staithe.cli(&["rollback", "shop", "v1"]).succeeds();
    staithe.get("shop", "/").is(200, "version 1");
    let releases = staithe.json(&["releases", "shop"]);
    assert_eq!(releases[0]["description"], "Rollback to v1", "{releases}");
    assert_eq!(releases[0]["version"], 5, "{releases}");

    // The commit, the port and the instance's name are in its environment.
    staithe.get("shop", "/env/PORT").is(200, "5000");
    staithe.get("shop", "/env/DYNO").is(200, "web.1");
    let builds = staithe.json(&["builds:list", "shop"]);
    assert_eq!(builds.as_array().unwrap().len(), 2, "{builds}");
    let id = builds[0]["id"].to_string();
    staithe.cli(&["builds:output", "shop", &id]).succeeds().says("Reusing dependencies");
    staithe.cli(&["builds:info", "shop", &id]).succeeds().says(&repo.head());
}

#[test]
fn a_switch_that_the_proxy_cannot_make_is_made_later_and_the_old_instances_serve_until_then() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    staithe.cli(&["checks:set", "shop", "drain", "0"]).succeeds();
    let before = staithe.containers();
    // The proxy keeps each table on disk before it follows it.
    let directory = staithe.data_dir().join("proxy");
    let owner = std::fs::metadata(&directory).unwrap().uid();
    chown(&directory, Some(0), None).unwrap();
    let pushed = repo.push_change("version.txt", "2\n").succeeds();
    assert!(pushed.stderr.contains("cannot be told of the new release yet"), "{}", pushed.stderr);
    staithe.get("shop", "/").is(200, "version 1");
    assert_eq!(staithe.containers(), 2 * before, "the old instances serve");
    chown(&directory, Some(owner), None).unwrap();
    eventually(Duration::from_secs(60), "the switch", || {
        let answer = staithe.get("shop", "/");
        if answer.body.contains("version 2") { Ok(()) } else { Err(answer.body) }
    });
    eventually(Duration::from_secs(60), "the old instances end", || {
        let now = staithe.containers();
        if now == before { Ok(()) } else { Err(format!("{now} containers")) }
    });
}

#[test]
fn python_and_static_apps_are_built_and_served() {
    let staithe = Staithe::start();
    let python = Repo::of_fixture(&staithe, "python-web", "flask");
    let pushed = python.push().succeeds();
    assert!(pushed.stderr.contains("nothing to migrate"), "{}", pushed.stderr);
    staithe.get("flask", "/").is(200, "version 1 on python 3.13");
    python.push_change("version.txt", "2\n").succeeds();
    staithe.get("flask", "/").is(200, "version 2");

    let site = Repo::of_fixture(&staithe, "static-site", "site");
    site.push().succeeds();
    staithe.get("site", "/").is(200, "version 1");
    assert!(
        staithe.get("site", "/style.css").header("content-type").unwrap().starts_with("text/css")
    );
    staithe.get("site", "/nowhere").is(404, "our own 404");
    assert_ne!(staithe.get("site", "/.secret").status, 200);
    let page = std::fs::read_to_string(site.path().join("index.html")).unwrap();
    site.push_change("index.html", &page.replace("version 1", "version 2")).succeeds();
    staithe.get("site", "/").is(200, "version 2");
}

#[test]
fn a_push_that_fails_changes_nothing_that_serves() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let good = repo.head();

    // A process that dies at once, one that never listens, a Procfile that is none.
    for (procfile, why) in [
        ("web: echo cannot start; exit 7\n", "exit code 7"),
        ("web: sleep 1000\n", "nothing listens"),
        ("web exec perl\n", "Procfile"),
        ("release: echo no migration; exit 3\nweb: exec perl server.pl\n", "exit code 3"),
        ("worker: exit 1\nweb: exec perl server.pl\n", ""),
    ] {
        staithe.cli(&["checks:set", "shop", "deadline", "2"]).succeeds();
        repo.write("Procfile", procfile);
        repo.commit("Break it");
        let pushed = repo.push();
        if why.is_empty() {
            // A type that is not scaled up does not run, so it cannot fail.
            pushed.succeeds();
            staithe.cli(&["ps:scale", "shop", "worker=1"]).fails_with(1).says("worker.1");
            continue;
        }
        let pushed = pushed.fails_with(1).says("pre-receive hook declined").says(why);
        assert!(pushed.stderr.contains("serves on, unchanged"), "{}", pushed.stderr);
        staithe.get("shop", "/").is(200, "version 1");
        let stored = repo.git(&["ls-remote", "staithe", "main"]).succeeds().stdout;
        assert!(stored.starts_with(&good), "the ref moved: {stored}");
        repo.git(&["reset", "-q", "--hard", &good]).succeeds();
    }

    // Nothing of the failed attempts runs on.
    let report = staithe.json(&["ps:report", "shop"]);
    let instances = report["instances"].as_array().unwrap();
    assert!(
        instances
            .iter()
            .all(|instance| instance["status"] == "running" || instance["status"] == "retiring"),
        "{report}"
    );
}

#[test]
fn broken_builds_and_boots_are_explained() {
    let staithe = Staithe::start();
    let build = Repo::of_fixture(&staithe, "broken-build", "one");
    build.push().fails_with(1).says("this build always fails").says("one has no release yet");
    let boot = Repo::of_fixture(&staithe, "broken-boot", "two");
    boot.push().fails_with(1).says("DATABASE_URL is not set").says("web.1 is not ready");
    let nothing = Repo::of_fixture(&staithe, "nothing", "three");
    nothing.push().fails_with(1).says("package.json");
    staithe.get("one", "/").is(503, "");
    let builds = staithe.json(&["builds:list", "one"]);
    assert_eq!(builds[0]["status"], "failed", "{builds}");
}

#[test]
fn a_crash_loop_is_held_back_told_and_mended_by_the_next_push() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    // Ready, and then dead: it was good enough to be switched to, so it is started again and again.
    repo.write("Procfile", "web: perl server.pl & sleep 1; kill $!; exit 9\n");
    repo.commit("Die after a second");
    repo.push().succeeds();
    eventually(Duration::from_secs(20), "the crash is told", || {
        let report = staithe.json(&["ps:report", "shop"]);
        let restarts = report["instances"][0]["restarts"].as_u64().unwrap_or(0);
        let why = report["instances"][0]["last_exit"].as_str().unwrap_or_default().to_owned();
        (restarts >= 2 && why == "exit code 9").then_some(()).ok_or_else(|| report.to_string())
    });
    staithe.cli(&["events", "shop"]).succeeds().says("exit code 9");
    eventually(Duration::from_secs(20), "the page blames the app", || {
        let answer = staithe.get("shop", "/");
        (answer.status == 503).then_some(()).ok_or_else(|| format!("{answer:?}"))
    });
    repo.write("Procfile", "web: exec perl server.pl\n");
    repo.write("version.txt", "2\n");
    repo.commit("Mend it");
    repo.push().succeeds();
    staithe.get("shop", "/").is(200, "version 2");
}

#[test]
fn a_new_release_that_crashes_during_its_start_is_never_switched_to() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    repo.write(
        "app.json",
        r#"{ "healthchecks": { "web": [{ "type": "startup", "name": "settled", "uptime": 3 }] } }"#,
    );
    repo.write("Procfile", "web: perl server.pl & sleep 1; exit 9\n");
    repo.commit("Die before the check's three seconds");
    repo.push().fails_with(1).says("exit code 9");
    staithe.get("shop", "/").is(200, "version 1");
}

#[test]
fn health_checks_of_app_json_decide_about_readiness() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    let check = |path: &str, content: &str| {
        format!(
            r#"{{ // comments are allowed
              "healthchecks": {{ "web": [{{ "type": "startup", "name": "page", "path": "{path}", "content": "{content}", "attempts": 2, "wait": 1, "timeout": 1 }}] }}, }}"#
        )
    };
    repo.write("app.json", &check("/", "version 1"));
    repo.commit("Check the version");
    repo.push().succeeds();
    staithe.cli(&["checks:report", "shop"]).succeeds().says("page");
    staithe.cli(&["checks:run", "shop"]).succeeds();
    repo.write("app.json", &check("/", "version 2"));
    repo.commit("Ask for what is not there");
    repo.push().fails_with(1).says("`page`").says("version 2");
    staithe.get("shop", "/").is(200, "version 1");
}

#[test]
fn scaling_adds_and_removes_instances_without_touching_the_others() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let containers = || -> Vec<String> {
        let report = staithe.json(&["ps:report", "shop"]);
        let running =
            report["instances"].as_array().unwrap().iter().filter(|i| i["status"] == "running");
        running
            .map(|i| {
                format!("{} {}", i["name"].as_str().unwrap(), i["container"].as_str().unwrap())
            })
            .collect()
    };
    let first = containers();
    staithe.cli(&["ps:scale", "shop", "web=3", "worker=1"]).succeeds();
    let scaled = containers();
    assert_eq!(scaled.len(), 4, "{scaled:?}");
    assert!(scaled.contains(&first[0]), "web.1 was replaced: {first:?} {scaled:?}");
    staithe.cli(&["ps:scale", "shop"]).succeeds().says("web:").says("3");
    staithe.cli(&["logs", "shop", "-p", "worker"]).succeeds().says("tick");
    staithe.cli(&["ps:scale", "shop", "web=1", "worker=0"]).succeeds();
    eventually(Duration::from_secs(10), "the others are gone", || {
        let left = containers();
        (left == first).then_some(()).ok_or_else(|| format!("{left:?}"))
    });
    staithe.cli(&["ps:scale", "shop", "nope=1"]).fails_with(4).says("declared are: web, worker");

    staithe.cli(&["ps:stop", "shop"]).succeeds();
    staithe.get("shop", "/").is(503, "");
    staithe.cli(&["ps:start", "shop"]).succeeds();
    staithe.get("shop", "/").is(200, "version 1");
    staithe.cli(&["ps:restart", "shop"]).succeeds();
    assert_ne!(containers(), first);
    staithe.cli(&["ps:rebuild", "shop"]).succeeds().says("Building");
    staithe.get("shop", "/").is(200, "version 1");
}

#[test]
fn websockets_go_through_and_survive_a_deploy_of_another_app() {
    let staithe = Staithe::start();
    Repo::of_fixture(&staithe, "websocket", "socket").push().succeeds();
    let mut stream = std::net::TcpStream::connect(staithe.http()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let handshake = "GET / HTTP/1.1\r\nHost: socket.test\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // The answer to the key that RFC 6455 section 1.3 works out.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let mut echo = || {
        stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
        let mut frame = [0; 4];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(&frame[2..], b"hi");
    };
    echo();
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    staithe.kill_daemon();
    echo();
    staithe.launch();
    echo();
}

#[test]
fn apps_reach_each_other_only_by_their_public_names() {
    let staithe = Staithe::start();
    Repo::of_fixture(&staithe, "procfile-script", "one").push().succeeds();
    Repo::of_fixture(&staithe, "procfile-script", "two").push().succeeds();
    let address = staithe.cli(&["enter", "two", "web.1", "hostname", "-i"]).succeeds().stdout;
    let address = address.split_whitespace().next().unwrap().to_owned();
    let connect = |host: &str, port: &str| {
        let script = "exit !IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], \
                      Timeout => 3)";
        staithe
            .cli(&["enter", "one", "web.1", "perl", "-MIO::Socket::INET", "-e", script, host, port])
            .code
    };
    assert_eq!(connect("127.0.0.1", "5000"), Some(0), "its own port");
    assert_ne!(connect(&address, "5000"), Some(0), "an instance of another app at {address}");
    // The host behind the gateway: its SSH server is not for apps.
    let resolver =
        staithe.cli(&["enter", "one", "web.1", "cat", "/etc/resolv.conf"]).succeeds().stdout;
    let gateway = resolver.split_whitespace().last().unwrap();
    assert_ne!(connect(gateway, "22"), Some(0));
    assert_ne!(connect("169.254.169.254", "80"), Some(0), "the metadata service");
}
