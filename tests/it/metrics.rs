//! Figures over time, as users and monitoring systems see them.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::staithe::{Finished, read_until};
use crate::support::{Repo, Staithe, eventually, skip};

/// A few samples, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A type that can be told to take more memory than it may, and one that takes all processors that
/// it gets.
const PROCFILE: &str = "web: exec perl server.pl
worker: while :; do [ -e /tmp/eat ] && exec perl -e '$x = \"a\" x 3e8; sleep 9'; sleep 0.2; done
spinner: exec perl -e '1 while 1'
";

/// Samples each second: a picture of an hour has the figures of a minute ago.
fn start() -> (Staithe, Repo) {
    let staithe = Staithe::start_with(true, &["metrics.sample_s=1"]);
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write("Procfile", PROCFILE);
    repo.commit("More types");
    repo.push().succeeds();
    (staithe, repo)
}

/// The values of a series, of the app as a whole or of a process type, without gaps.
fn values(report: &Value, name: &str, process: Option<&str>) -> Vec<f64> {
    let found = report["series"].as_array().unwrap().iter().find(|series| {
        series["name"] == name && series.get("process").and_then(Value::as_str) == process
    });
    let series = found.unwrap_or_else(|| panic!("no {name} of {process:?} in {report}"));
    let points = usize::try_from(report["points"].as_u64().unwrap()).unwrap();
    let values = series["values"].as_array().unwrap();
    assert_eq!(values.len(), points, "{name} has a value for each point");
    values.iter().filter_map(Value::as_f64).collect()
}

fn report(staithe: &Staithe, by: &str) -> Value {
    staithe.json(&["metrics:report", "shop", "--by", by])
}

fn marks(report: &Value, kind: &str) -> usize {
    report["marks"].as_array().unwrap().iter().filter(|mark| mark["kind"] == kind).count()
}

/// The sum of a counter's samples whose labels have `label`.
fn counter(staithe: &Staithe, name: &str, label: &str) -> f64 {
    let text = staithe.cli(&["metrics"]).succeeds().stdout;
    let prefix = format!("{name}{{");
    let samples = text.lines().filter(|line| line.starts_with(&prefix) && line.contains(label));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
fn an_app_shows_its_requests_its_throttling_and_its_want_of_memory() {
    let (staithe, _repo) = start();
    for _ in 0..5 {
        staithe.get("shop", "/").is(200, "version 1");
    }
    staithe
        .cli(&["resource:limit", "shop", "--process-type", "spinner", "--cpu", "0.1"])
        .succeeds();
    staithe
        .cli(&["resource:limit", "shop", "--process-type", "worker", "--memory", "48m"])
        .succeeds();
    staithe.cli(&["ps:scale", "shop", "spinner=1", "worker=1"]).succeeds();
    eventually(SOON, "requests, latencies and throttling are seen", || {
        let (app, types) = (report(&staithe, "app"), report(&staithe, "process"));
        let requests: f64 = values(&app, "requests_2xx", None).iter().sum();
        let seen = requests > 0.0
            && values(&app, "latency_p95", None).iter().any(|seconds| *seconds > 0.0)
            && values(&app, "memory", None).iter().any(|bytes| *bytes > 1e6)
            && values(&types, "cpu_throttled", Some("spinner")).iter().any(|share| *share > 0.1)
            && values(&types, "cpu_limit", Some("spinner")).iter().any(|cpus| *cpus == 0.1);
        if seen { Ok(()) } else { Err(types.to_string()) }
    });
    let before = report(&staithe, "app");
    assert_eq!((marks(&before, "oom"), marks(&before, "deploy") > 0), (0, true), "{before}");
    // The process that takes too much ends with its instance: nobody is there to be asked.
    staithe.cli(&["enter", "shop", "worker.1", "touch", "/tmp/eat"]).succeeds();
    eventually(SOON, "the kill is marked", || {
        let app = report(&staithe, "app");
        let kills: f64 = values(&app, "oom_kills", None).iter().sum();
        let restarts: f64 = values(&app, "restarts", None).iter().sum();
        let told = kills >= 1.0 && restarts >= 1.0 && marks(&app, "oom") > 0;
        if told { Ok(()) } else { Err(app.to_string()) }
    });
    assert!(counter(&staithe, "staithe_app_oom_kills_total", "process=\"worker\"") >= 1.0);
    staithe
        .cli(&["metrics:report", "shop"])
        .succeeds()
        .says("cpu throttled")
        .says("want of memory");
    let one = staithe.json(&["metrics:report", "shop", "--series", "cpu,memory"]);
    assert_eq!(one["series"].as_array().unwrap().len(), 2);
    staithe
        .cli(&["metrics:report", "shop", "--series", "nonsense"])
        .fails_with(2)
        .says("latency_p50");
    staithe.cli(&["metrics:report", "nobody"]).fails_with(20).says("does not exist");
    is_openmetrics(&staithe.cli(&["metrics"]).succeeds().stdout);
}

#[test]
fn sums_grow_and_pictures_stay_across_restarts_of_everything() {
    let (staithe, _repo) = start();
    let requests = |staithe: &Staithe| counter(staithe, "staithe_requests_total", "app=\"shop\"");
    let cpu = |staithe: &Staithe| counter(staithe, "staithe_app_cpu_seconds_total", "app=\"shop\"");
    let ask = |count: u32| (0..count).for_each(|_| drop(staithe.get("shop", "/").is(200, "")));
    let await_requests = |count: f64| {
        eventually(SOON, "the requests are counted", || {
            let counted = requests(&staithe);
            if counted >= count { Ok(counted) } else { Err(counted.to_string()) }
        })
    };
    ask(5);
    // The push's own checks go past the proxy.
    let first = await_requests(5.0);
    let used = eventually(SOON, "processor time is counted", || match cpu(&staithe) {
        used if used > 0.0 => Ok(used),
        none => Err(none.to_string()),
    });
    staithe.cli(&["proxy:upgrade"]).succeeds();
    ask(2);
    let second = await_requests(first + 2.0);
    staithe.cli(&["ps:restart", "shop"]).succeeds();
    assert!(cpu(&staithe) >= used, "new instances begin where the old ones ended");
    let samples = |staithe: &Staithe| values(&report(staithe, "app"), "memory", None).len();
    let before = eventually(SOON, "there are samples", || match samples(&staithe) {
        0 => Err("none".to_owned()),
        some => Ok(some),
    });
    let used = cpu(&staithe);
    staithe.kill_daemon();
    staithe.launch();
    ask(3);
    assert!(samples(&staithe) >= before, "the picture is still there");
    await_requests(second + 3.0);
    eventually(SOON, "sums go on", || match cpu(&staithe) {
        now if now >= used => Ok(()),
        now => Err(format!("{now} after {used}")),
    });
    staithe.cli(&["apps:destroy", "shop", "--force"]).succeeds();
    assert_eq!(requests(&staithe) + cpu(&staithe), 0.0, "a destroyed app is forgotten");
}

#[test]
fn a_damaged_file_is_told_and_the_host_reports() {
    let staithe = Staithe::start_with(false, &["metrics.sample_s=1"]);
    staithe.kill_daemon();
    let path = staithe.data_dir().join("metrics.db");
    // What is in it still would be taken for the file's newer half.
    std::fs::remove_file(staithe.data_dir().join("metrics.db-wal")).unwrap();
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[b'x'; 8192]).unwrap();
    drop(file);
    staithe.launch();
    eventually(SOON, "the damage is an event", || {
        let events = staithe.cli(&["events"]).succeeds().stdout;
        if events.contains("metrics.damaged") { Ok(()) } else { Err(events) }
    });
    assert!(path.with_extension("db.damaged").exists());
    let host = eventually(SOON, "the machine was sampled twice", || {
        let host = staithe.json(&["host:report"]);
        if host["cpu_used"].is_number() { Ok(host) } else { Err(host.to_string()) }
    });
    let roles = host["footprint"]["roles"].as_array().unwrap();
    let memory = |role: &str| {
        let found = roles.iter().find(|one| one["role"] == role);
        found.unwrap_or_else(|| panic!("{role} in {host}"))["memory_bytes"].as_u64().unwrap()
    };
    assert!(memory("control plane") > 1 << 20 && memory("proxy") > 1 << 20, "{host}");
    let listens = |purpose: &str| {
        host["listeners"].as_array().unwrap().iter().any(|one| one["purpose"] == purpose)
    };
    assert!(listens("http") && listens("ssh"), "{host}");
    let checks = host["checks"].as_array().unwrap();
    for code in ["disk.space", "memory", "cpu.load", "proxy", "apps", "kernel.feature"] {
        assert!(checks.iter().any(|check| check["code"] == code), "{code} in {host}");
    }
    for check in checks.iter().filter(|check| check["status"] != "ok") {
        assert!(check["remedy"].is_string(), "{check} says what to do");
    }
    staithe.cli(&["host:report"]).succeeds().says("ok    the proxy answers");
    samples_stream(&staithe);
}

/// The newest sample comes at once, and each after it.
fn samples_stream(staithe: &Staithe) {
    let mut socket = UnixStream::connect(staithe.run_dir().join("control.sock")).unwrap();
    let request =
        "GET /api/v1/host/metrics HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let head = read_until(&socket, "event: sample").join("\n").to_lowercase();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    read_until(&socket, "\"memory_total\"");
    read_until(&socket, "event: sample");
}

/// Reads `text` with the parser of Prometheus's own client.
fn is_openmetrics(text: &str) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openmetrics/bin/python");
    if !python.exists() {
        skip("prometheus_client is not installed: see need_openmetrics in script/lib/packages");
        return;
    }
    let program = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
print(sorted(family.name for family in text_string_to_metric_families(sys.stdin.read())))";
    let mut command = Command::new(python);
    command.args(["-c", program]);
    let families = Finished::of(command, text).succeeds();
    for family in
        ["staithe_app_cpu_seconds", "staithe_requests", "staithe_host_load", "staithe_builds"]
    {
        assert!(
            families.stdout.contains(&format!("'{family}'")),
            "{family} in {}",
            families.stdout
        );
    }
}
