//! Bundled plugins do what their manifests say: notices that come by the network, and the diary of
//! cron tasks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Repo, Staithe, eventually};

/// For what happens in the background on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Part of an address, which nobody else may read.
const TOKEN: &str = "T0000B0000secret";

/// What somebody outside of the containers hears.
struct Webhook {
    port: u16,
    heard: mpsc::Receiver<Notice>,
}

#[derive(Debug)]
struct Notice {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Webhook {
    fn open() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(notice) = stream.ok().and_then(|stream| hear(&stream)) else { continue };
                if tell.send(notice).is_err() {
                    break;
                }
            }
        });
        Self { port, heard }
    }

    /// A Staithe whose plugins reach it, and the address of `path` for them.
    fn staithe(&self) -> (Staithe, impl Fn(&str) -> String + use<>) {
        // Of the host's own ports, containers reach the proxy's and what the operator opened.
        let open = format!("network.open_host_ports=[{}]", self.port);
        let staithe = Staithe::start_with_plugins(&["slack-webhook"], &[&open]);
        let base = format!("http://{}:{}", staithe.gateway(), self.port);
        (staithe, move |path| format!("{base}/{path}"))
    }

    fn next(&self) -> Notice {
        self.heard.recv_timeout(SOON).expect("a notice comes")
    }
}

/// Reads a request and answers with the status that its path begins with, or 200.
fn hear(stream: &TcpStream) -> Option<Notice> {
    stream.set_read_timeout(Some(SOON)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let status: u16 = path.get(1..4).and_then(|word| word.parse().ok()).unwrap_or(200);
    let answer = format!(
        "HTTP/1.1 {status} So\r\nLocation: http://{}/elsewhere\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
        headers.get("host")?
    );
    { stream }.write_all(answer.as_bytes()).ok()?;
    Some(Notice { path, headers, body })
}

impl Notice {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What it says, if it is signed with `key`.
    fn signed_with(&self, key: &str) -> Value {
        let at = &self.headers["x-staithe-timestamp"];
        assert!(at.parse::<u64>().is_ok(), "{self:?}");
        let signed = [at.as_bytes(), b".", self.body.as_slice()].concat();
        let signature = format!("sha256={}", hmac(key.as_bytes(), &signed));
        assert_eq!(self.headers["x-staithe-signature"], signature);
        self.json()
    }
}

/// RFC 2104 with SHA-256, for keys of up to 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a hook of a plugin's by hand; its report.
fn trigger(staithe: &Staithe, plugin: &str, hook: &str, app: &str, data: &Value) -> Value {
    let data = data.to_string();
    let words = ["plugin:trigger", hook, app, "--plugin", plugin, "--data", &data];
    staithe.json(&words)[0].clone()
}

/// The id of the app's task whose command contains `part`.
fn task(staithe: &Staithe, part: &str) -> String {
    let tasks = staithe.json(&["cron:list", "shop"]);
    let of = |task: &&Value| task["command"].as_str().unwrap().contains(part);
    let task = tasks.as_array().unwrap().iter().find(of);
    task.unwrap_or_else(|| panic!("no {part} in {tasks}"))["id"].as_str().unwrap().to_owned()
}

const TASKS: &str = r#"{ "cron": [
    { "command": "echo well", "schedule": "0 3 1 1 *" },
    { "command": "bash -c 'exit 7'", "schedule": "1 3 1 1 *" },
    { "command": "sleep 1000", "schedule": "2 3 1 1 *" }
] }"#;

fn app_with_tasks(staithe: &Staithe) -> Repo {
    let repo = Repo::of_fixture(staithe, "procfile-script", "shop");
    repo.write("app.json", TASKS);
    repo.commit("Have tasks");
    repo
}

#[test]
fn slack_webhook_tells_of_deploys_and_failures_and_signs_it() {
    let webhook = Webhook::open();
    let (staithe, url) = webhook.staithe();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let set = ["slack-webhook:set", "shop", &url(TOKEN)];
    staithe.cli(&set).succeeds().says("staithe plugin:enable slack-webhook");
    staithe.cli_with_input(&["slack-webhook:key", "--global", "-"], "the key\n").succeeds();
    staithe.cli(&["plugin:enable", "slack-webhook"]).succeeds();

    let repo = app_with_tasks(&staithe);
    repo.push().succeeds();
    let notice = webhook.next();
    assert_eq!(notice.path, format!("/{TOKEN}"));
    let told = notice.signed_with("the key");
    let data = &told["data"];
    let about = data["description"].as_str().unwrap();
    assert_eq!(told["text"], format!("shop: v1 deployed by alice ({about})"));
    assert_eq!((&told["hook"], &told["app"]), (&"post-deploy".into(), &"shop".into()), "{told}");
    assert_eq!(data["commit"], repo.head());
    assert_eq!(data["release"], 1);
    assert!(data["urls"][0].as_str().unwrap().contains("shop.test"), "{told}");
    assert!(told["at"].as_str().unwrap().ends_with('Z'), "{told}");

    let failing = task(&staithe, "exit 7");
    staithe.cli(&["cron:run", "shop", &task(&staithe, "well")]).succeeds();
    staithe.cli(&["cron:run", "shop", &failing]).fails_with(7);
    let told = webhook.next().signed_with("the key");
    assert_eq!(told["text"], format!("shop: cron task {failing} failed: exit code 7"));

    repo.push_change("Procfile", "web: exit 3\n").fails_with(1);
    let told = webhook.next().signed_with("the key");
    let text = told["text"].as_str().unwrap();
    assert!(text.starts_with("shop: deploy failed: "), "{told}");
    assert_eq!(told["data"]["release"], 2, "{told}");

    // What needs more to happen is told of in the same way.
    for (hook, data, text) in [
        (
            "instance-crashed",
            json!({ "instance": "web.1", "reason": "exit code 1", "wait_s": 1 }),
            "shop: web.1 ended: exit code 1",
        ),
        (
            "certificate-failed",
            json!({ "domain": "shop.example", "reason": "no {answer}" }),
            "shop: no certificate for shop.example: no {answer}",
        ),
        ("backup-failed", json!({ "message": "backup 1 is bad" }), "backup 1 is bad"),
        ("deploy-failed", json!({ "truncated": true }), "shop: ? failed: ?"),
    ] {
        let report = trigger(&staithe, "slack-webhook", hook, "shop", &data);
        assert_eq!(report["outcome"], "silent", "{report}");
        let told = webhook.next().signed_with("the key");
        assert_eq!((&told["text"], &told["data"]), (&text.into(), &data), "{told}");
    }

    // Only who has a URL is told of, only of what it wants, and signed only with a key.
    let none = json!({});
    let report = trigger(&staithe, "slack-webhook", "post-deploy", "other", &none);
    assert_eq!(report["outcome"], "skipped", "{report}");
    let only = ["plugin:set", "slack-webhook", "shop", "only", "cron-failed backup-failed"];
    staithe.cli(&only).succeeds();
    staithe.cli(&["slack-webhook:key", "--global"]).succeeds();
    for hook in ["post-deploy", "cron-failed"] {
        let report = trigger(&staithe, "slack-webhook", hook, "shop", &none);
        assert_eq!(report["outcome"], "silent", "{report}");
    }
    let notice = webhook.next();
    assert_eq!(notice.json()["hook"], "cron-failed");
    let signed = notice.headers.keys().any(|name| name.starts_with("x-staithe"));
    assert!(!signed, "{notice:?}");
}

#[test]
fn slack_webhook_says_what_is_wrong_and_keeps_its_secrets() {
    let webhook = Webhook::open();
    let (staithe, url) = webhook.staithe();
    staithe.cli(&["plugin:enable", "slack-webhook"]).succeeds();
    let gateway = staithe.gateway();
    let (mute, port) = (format!("http://{gateway}:22/{TOKEN}"), webhook.port);
    for (url, why) in [
        (url(&format!("500/{TOKEN}")), "the webhook answered 500"),
        (url(&format!("302/{TOKEN}")), "the webhook answered 302"),
        (mute, "the webhook cannot be reached"),
        (url(&format!("{TOKEN} x")), "the URL is not one"),
        (url(&format!("{TOKEN}/é")), "the URL is not one"),
        (format!("http://ann:{TOKEN}@{gateway}:{port}/"), "must not hold a user and a password"),
        (format!("http://[{TOKEN}/"), "the URL is not one"),
        (format!("file:///{TOKEN}"), "the URL must begin with https:// or http://"),
    ] {
        staithe.cli_with_input(&["slack-webhook:set", "--global", "-"], &url).succeeds();
        let report = trigger(&staithe, "slack-webhook", "post-deploy", "shop", &json!({}));
        assert_eq!(report["outcome"], "failed", "{url}: {report}");
        let detail = report["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{url}: {detail}");
        assert!(!detail.contains(TOKEN), "{detail}");
    }
    // A signed notice goes where it is meant to go and nowhere else.
    assert_eq!(webhook.next().path, format!("/500/{TOKEN}"));
    assert_eq!(webhook.next().path, format!("/302/{TOKEN}"));
    assert!(webhook.heard.try_recv().is_err());

    let report = staithe.json(&["plugin:report", "slack-webhook"]);
    assert_eq!(report["plugin"]["record"]["failures"], 8, "{report}");
    assert!(!report.to_string().contains(TOKEN), "{report}");
    let events = staithe.cli(&["events:list"]).succeeds().stdout;
    assert!(events.contains("setting `url`") && !events.contains(TOKEN), "{events}");
    assert!(!staithe.log().contains(TOKEN));
}

/// What `cron-report:show` says of a task, once it contains `text`.
fn diary(staithe: &Staithe, key: &str, text: &str) -> Vec<String> {
    let app = key.split(' ').next().unwrap();
    eventually(SOON, "the run is in the diary", || {
        let shown = staithe.cli(&["cron-report:show", app]).succeeds().stdout;
        let mut lines = shown.lines().map(str::trim);
        let found = lines.any(|line| line == format!("=====> {key}"));
        let of: Vec<String> =
            lines.take_while(|line| !line.starts_with('=')).map(str::to_owned).collect();
        (found && of.iter().any(|line| line.contains(text))).then_some(of).ok_or(shown)
    })
}

#[test]
fn cron_report_keeps_a_diary_of_what_ran() {
    let staithe = Staithe::start();
    app_with_tasks(&staithe).push().succeeds();
    let [well, failing, slow] = ["well", "exit 7", "sleep"].map(|part| task(&staithe, part));
    let run = |id: &str, code| staithe.cli(&["cron:run", "shop", id]).fails_with(code);
    // Before it is on it keeps nothing.
    run(&well, 0);
    staithe.cli(&["cron-report:show"]).fails_with(4).says("staithe plugin:enable cron-report");
    staithe.cli(&["plugin:enable", "cron-report"]).succeeds();
    staithe.cli(&["cron-report:show"]).succeeds().says("No cron task has run yet");

    run(&failing, 7);
    run(&well, 0);
    run(&failing, 7);
    let shown = diary(&staithe, &format!("shop {failing}"), "Failures:  2");
    let [runs, _, average, last] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(runs, "Runs:      2");
    let average: u64 = average.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(average > 0, "{shown:?}");
    assert!(last.ends_with("Z failed (exit code 7)"), "{last}");
    let shown = diary(&staithe, &format!("shop {well}"), "succeeded (exit code 0)");
    assert_eq!(shown[..2], ["Runs:      1", "Failures:  0"]);

    let late = ["cron:run", "shop", &slow, "--ttl-seconds", "1"];
    staithe.cli(&late).fails_with(1);
    let shown = diary(&staithe, &format!("shop {slow}"), "it took longer than 1 s");
    assert_eq!(shown[1], "Failures:  1");

    // What a line holds does not make two of it; one app's diary is not another's.
    let data = json!({ "id": "a\tb", "reason": "c\nd\te", "duration_ms": 5 });
    let report = trigger(&staithe, "cron-report", "cron-failed", "other", &data);
    assert_eq!(report["outcome"], "silent", "{report}");
    let shown = diary(&staithe, "other ab", "failed (cde)");
    assert_eq!(shown[..3], ["Runs:      1", "Failures:  1", "Average:   5 ms"]);
    staithe.cli(&["cron-report:show"]).succeeds().says(&failing).says("other ab");

    // It outlives a restart, but not the wish to forget.
    staithe.kill_daemon();
    staithe.launch();
    staithe.cli(&["cron-report:show", "shop"]).succeeds().says(&failing);
    staithe.cli(&["cron-report:clear"]).succeeds().says("Forgot all runs");
    staithe.cli(&["cron-report:show"]).succeeds().says("No cron task has run yet");
    run(&failing, 7);
    assert_eq!(diary(&staithe, &format!("shop {failing}"), "exit code 7")[0], "Runs:      1");
}
