//! Apps' logs: what survives what, what a flood and slow readers do, and drains to real receivers.

mod receivers;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::support::http::get_from;
use crate::support::{Repo, Staithe, eventually};
use receivers::{Authority, Collector, Rsyslog};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `logs` with these arguments says `text`.
fn until_logs_say(staithe: &Staithe, arguments: &[&str], text: &str) {
    let arguments = [&["logs", "shop", "-n", "1000"], arguments].concat();
    eventually(PATIENCE, text, || {
        let shown = staithe.cli(&arguments).succeeds().stdout;
        shown.contains(text).then_some(()).ok_or(shown)
    });
}

#[test]
fn history_survives_redeploys_crashes_and_restarts() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    staithe.get("shop", "/path?a=b").is(200, "version 1");
    repo.push_change("version.txt", "2\n").succeeds();
    staithe.cli(&["enter", "shop", "web.1", "bash", "-c", "kill -9 -1"]);
    until_logs_say(&staithe, &["--level", "error"], "web.1 ended: ");
    until_logs_say(&staithe, &["--source", "router"], "path=\"/path?a=b\"");
    staithe.kill_daemon();
    staithe.launch();
    let all = staithe.cli(&["logs", "shop", "-n", "1000", "--source", "all"]).succeeds();
    let all = all
        .says("app[web.1]: version 1 listens on 5000")
        .says("staithe[router]: method=GET path=\"/path?a=b\" host=shop.test status=200")
        .says("app[web.1]: version 2 listens on 5000")
        .says("staithe[platform]: web.1 ended: ");
    let times: Vec<_> = all.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(times.is_sorted(), "{}", all.stdout);

    let first = staithe.cli(&["logs", "shop", "--release", "v1", "--source", "app"]).succeeds();
    assert!(first.stdout.contains("version 1") && !first.stdout.contains("version 2"), "{first:?}");
    let found = staithe.cli(&["logs", "shop", "--grep", "VERSION 2", "-q"]).succeeds().stdout;
    assert!(!found.is_empty() && found.lines().all(|line| line == "version 2 listens on 5000"));
    staithe.cli(&["logs", "shop", "--grep", "(", "--regex"]).fails_with(4).says("expression `(`");
    let none = staithe.cli(&["logs", "shop", "--until", "2020-01-01T00:00:00Z"]).succeeds();
    assert_eq!(none.stdout, "");
    let json =
        staithe.cli(&["logs", "shop", "-n", "1", "-p", "web", "--format", "json"]).succeeds();
    let line: serde_json::Value = serde_json::from_str(json.stdout.trim()).unwrap();
    assert_eq!(line["source"], "app");
    assert!(line["release"].is_u64() && line["cursor"].is_string(), "{line}");

    // Less is kept from now on, and nothing of it after the app is gone.
    staithe.cli(&["logs:set", "shop", "max-size", "1m"]).succeeds();
    staithe.cli(&["logs:report", "shop"]).succeeds().says("Logs max size:                 1m");
    staithe.cli(&["logs:set", "shop", "max-size", "1k"]).fails_with(4).says("from 1m to 1t");
    staithe.cli(&["--force", "apps:destroy", "shop"]).succeeds();
    staithe.cli(&["logs", "shop"]).fails_with(20);
}

/// Prints 25,000 numbered lines in five seconds.
const FLOOD: &str = r#"flood: perl -e '$|=1; for my $i (1..25000) { print "n $i\n"; select undef,undef,undef,0.01 unless $i % 50 } print "done\n"; sleep 1000'
"#;

#[test]
fn a_flood_is_followed_without_a_gap_and_nobody_who_does_not_read_holds_it_up() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    let procfile = std::fs::read_to_string(repo.path().join("Procfile")).unwrap();
    repo.push_change("Procfile", &format!("{procfile}{FLOOD}")).succeeds();
    let follow = |words: &[&str]| {
        let mut command =
            staithe.cli_command(&[&["logs", "shop", "-t", "-n", "0"], words].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut deaf = follow(&["--source", "all"]);
    let mut reader = follow(&["-q", "-p", "flood"]);
    // It follows from what is there when it asks, which is seen by a line that comes.
    staithe.cli(&["ps:scale", "shop", "flood=1"]).succeeds();
    let lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let lines = lines.map(Result::unwrap).take_while(|line| line != "done");
    let mut next = None;
    for line in lines {
        let number: u32 =
            line.strip_prefix("n ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        assert!(next.is_none_or(|next| next == number), "{number} came instead of {next:?}");
        next = Some(number + 1);
    }
    assert_eq!(next, Some(25_001));
    for follower in [&mut deaf, &mut reader] {
        follower.kill().unwrap();
        follower.wait().unwrap();
    }
    let all = staithe.cli(&["logs", "shop", "-q", "-p", "flood", "-n", "30000"]).succeeds().stdout;
    assert_eq!(all.lines().count(), 25_001);
    // The last page costs what it shows.
    let last = staithe.cli(&["logs", "shop", "-q", "-p", "flood", "-n", "2"]).succeeds().stdout;
    assert_eq!(last, "n 25000\ndone\n");
}

#[test]
fn drains_send_each_line_over_tls_through_outages_of_both_sides() {
    let Some(authority) = Authority::new() else { return };
    let setting = format!("platform.log_drain_ca_bundle={}", authority.bundle().display());
    let staithe = Staithe::start_with(true, &[&setting]);
    let mut rsyslog = Rsyslog::start(&authority);
    let mut collector = Collector::start(&authority);
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let (syslog, https) = (rsyslog.url(), collector.url());
    staithe.cli(&["logs:set", "shop", "drain", &syslog, &https]).succeeds();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    rsyslog.gets("shop web.1 app info version 1 listens on 5000");
    rsyslog.gets("shop platform platform info ");
    collector.gets(r#""process":"web.1","source":"app","release":1,"level":"info","message":"version 1 listens on 5000""#);

    // Receivers away: lines wait, and the app does not.
    rsyslog.kill();
    collector.kill();
    for number in 0..200 {
        staithe.get("shop", &format!("/away/{number}")).is(200, "version 1");
    }
    eventually(PATIENCE, "both fail", || {
        let report = staithe.cli(&["logs:report", "shop"]).succeeds().stdout;
        (report.matches(" failing, ").count() == 2).then_some(()).ok_or(report)
    });
    rsyslog.restart();
    collector.restart();
    for number in 0..200 {
        rsyslog.gets(&format!("path=\"/away/{number}\" "));
        collector.gets(&format!(r#"path=\"/away/{number}\" "#));
    }
    eventually(PATIENCE, "both are well", || {
        let report = staithe.cli(&["logs:report", "shop"]).succeeds().stdout;
        (report.matches(" sending, ").count() == 2).then_some(()).ok_or(report)
    });

    // The control plane away.
    let http = staithe.http();
    staithe.kill_daemon();
    for number in 0..50 {
        get_from(http, "shop.test", &format!("/down/{number}")).is(200, "version 1");
    }
    staithe.launch();
    for number in 0..50 {
        rsyslog.gets(&format!("path=\"/down/{number}\" "));
        collector.gets(&format!(r#"path=\"/down/{number}\" "#));
    }

    // Whom nobody vouches for gets nothing. What is secret in a URL is not shown.
    let stranger = Authority::new().expect("there was one");
    let impostor = Collector::start(&stranger);
    let secret = impostor.url().replace("https://", "https://user:hunter2@");
    staithe.cli(&["logs:set", "shop", "drain", &secret]).succeeds();
    staithe.get("shop", "/secret").is(200, "version 1");
    eventually(PATIENCE, "it is refused", || {
        let report = staithe.cli(&["logs:report", "shop"]).succeeds().stdout;
        report.contains("certificate").then_some(()).ok_or(report)
    });
    impostor.has_nothing();
    let shown = staithe.cli(&["logs:report", "shop"]).succeeds().stdout;
    let told = staithe.cli(&["events:list"]).succeeds().stdout;
    for text in [shown, told, staithe.log()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
