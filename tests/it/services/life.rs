//! What a service lives through: stops, kills, restarts of everything, copies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::{Staithe, eventually};

const SOON: Duration = Duration::from_secs(60);

/// What PostgreSQL answers.
fn sql(staithe: &Staithe, service: &str, command: &str) -> String {
    let arguments =
        ["postgres:connect", "--no-tty", service, "--", "--no-psqlrc", "-qAt", "-c", command];
    staithe.cli(&arguments).succeeds().stdout.trim().to_owned()
}

/// What Redis answers.
fn redis(staithe: &Staithe, service: &str, words: &[&str]) -> String {
    let mut arguments = vec!["redis:connect", "--no-tty", service, "--"];
    arguments.extend(words);
    staithe.cli(&arguments).succeeds().stdout.trim().to_owned()
}

/// Waits until a service runs, after at least that many restarts.
fn is_running(staithe: &Staithe, kind: &str, service: &str, restarts: u64) {
    eventually(SOON, "the service runs", || {
        let report = staithe.json(&[&format!("{kind}:info"), service]);
        let restarted = report["restarts"].as_u64().unwrap() >= restarts;
        match report["status"].as_str() {
            Some("running") if restarted => Ok(()),
            _ => Err(report.to_string()),
        }
    });
}

/// Ends all processes of a service at once. Their group is the service's alone.
fn kill(staithe: &Staithe, service: &str) {
    let group = format!("/{}/service-{service}/", staithe.instance());
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&group) {
            pids.push(entry.file_name().into_string().unwrap());
        }
    }
    assert!(!pids.is_empty(), "no process of {service}");
    std::process::Command::new("kill").arg("-KILL").args(&pids).output().unwrap();
}

#[test]
fn postgres_keeps_its_data_through_stops_kills_and_restarts_of_everything() {
    let staithe = Staithe::start_with_services(&["postgres"]);
    staithe.cli(&["postgres:create", "shop-db", "--memory", "256m"]).succeeds();
    sql(&staithe, "shop-db", "create table rows (n int primary key)");
    let add = |n: u32| sql(&staithe, "shop-db", &format!("insert into rows values ({n})"));
    let count = || sql(&staithe, "shop-db", "select count(*) from rows");
    add(1);

    staithe.cli(&["postgres:stop", "shop-db"]).succeeds();
    staithe.cli(&["postgres:connect", "--no-tty", "shop-db"]).fails_with(4).says("does not run");
    assert_eq!(staithe.json(&["postgres:info", "shop-db"])["status"], "stopped");
    staithe.cli(&["postgres:start", "shop-db"]).succeeds();
    add(2);
    staithe.cli(&["postgres:pause", "shop-db"]).succeeds();
    assert_eq!(staithe.json(&["postgres:info", "shop-db"])["status"], "paused");
    staithe.cli(&["postgres:start", "shop-db"]).succeeds();
    staithe.cli(&["postgres:restart", "shop-db"]).succeeds();
    assert_eq!(count(), "2");

    // Acknowledged is acknowledged.
    add(3);
    kill(&staithe, "postgres-shop-db");
    is_running(&staithe, "postgres", "shop-db", 1);
    assert_eq!(count(), "3");
    staithe.cli(&["events"]).succeeds().says("postgres service `shop-db` ended");

    // The control plane goes and comes back; the server does not notice.
    let started = || sql(&staithe, "shop-db", "select pg_postmaster_start_time()");
    let before = started();
    staithe.kill_daemon();
    staithe.launch();
    assert_eq!(started(), before);

    // Everything is taken down and started again, as with a reboot.
    add(4);
    staithe.stop();
    staithe.launch();
    is_running(&staithe, "postgres", "shop-db", 0);
    assert_eq!(count(), "4");
    assert_ne!(started(), before);

    // One that was stopped stays so.
    staithe.cli(&["postgres:stop", "shop-db"]).succeeds();
    staithe.stop();
    staithe.launch();
    assert_eq!(staithe.json(&["postgres:info", "shop-db"])["status"], "stopped");
}

#[test]
fn dumps_and_clones_have_equal_contents_and_a_broken_dump_changes_nothing() {
    let staithe = Staithe::start_with_services(&["postgres", "redis"]);
    staithe.cli(&["postgres:create", "a"]).succeeds();
    sql(&staithe, "a", "create table t (n int, s text)");
    sql(&staithe, "a", "insert into t select n, md5(n::text) from generate_series(1, 1000) n");
    staithe.cli(&["postgres:clone", "a", "b"]).succeeds();
    let sum = |service: &str| sql(&staithe, service, "select count(*), max(md5(t::text)) from t");
    assert_eq!(sum("a"), sum("b"));

    // The output is bytes; a file in between keeps them as they are.
    let dump = staithe.directory.path().join("dump");
    let file = std::fs::File::create(&dump).unwrap();
    let exported = staithe.cli_command(&["postgres:export", "a"]).stdout(file).status().unwrap();
    assert!(exported.success());
    let import = |service: &str, dump: &std::path::Path| {
        let file = std::fs::File::open(dump).unwrap();
        staithe.cli_command(&["postgres:import", service]).stdin(file).output().unwrap()
    };
    sql(&staithe, "b", "delete from t where n > 10");
    assert!(import("b", &dump).status.success());
    assert_eq!(sum("a"), sum("b"));
    let half = staithe.directory.path().join("half");
    let bytes = std::fs::read(&dump).unwrap();
    std::fs::File::create(&half).unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
    assert!(!import("b", &half).status.success());
    assert_eq!(sum("a"), sum("b"));

    staithe.cli(&["redis:create", "a"]).succeeds();
    for n in 0..5 {
        redis(&staithe, "a", &["rpush", "list", &n.to_string()]);
    }
    staithe.cli(&["redis:clone", "a", "b"]).succeeds();
    assert_eq!(redis(&staithe, "b", &["lrange", "list", "0", "-1"]), "0\n1\n2\n3\n4");
    redis(&staithe, "b", &["set", "own", "1"]);
    kill(&staithe, "redis-b");
    is_running(&staithe, "redis", "b", 1);
    assert_eq!(redis(&staithe, "b", &["get", "own"]), "1");
    assert_eq!(redis(&staithe, "a", &["get", "own"]), "");
}

#[test]
fn an_exposed_port_leads_to_its_service_also_while_the_control_plane_is_away() {
    let staithe = Staithe::start_with_services(&["redis"]);
    staithe.cli(&["redis:create", "cart"]).succeeds();
    let exposed = staithe.cli(&["redis:expose", "cart"]).succeeds().stdout;
    let port: u16 = exposed.trim().strip_prefix("6379->").unwrap().parse().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let answers = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    assert_eq!(answers().as_deref(), Some("-NOAUTH"));
    staithe.cli(&["redis:expose", "cart"]).fails_with(4).says("exposed already");
    staithe.kill_daemon();
    assert_eq!(answers().as_deref(), Some("-NOAUTH"));
    staithe.launch();
    assert_eq!(answers().as_deref(), Some("-NOAUTH"));
    staithe.cli(&["redis:restart", "cart"]).succeeds();
    assert_eq!(answers().as_deref(), Some("-NOAUTH"));
    staithe.cli(&["redis:unexpose", "cart"]).succeeds();
    assert_eq!(answers(), None);
    // What somebody else has is refused.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    staithe.cli(&["redis:expose", "cart", &port]).fails_with(4).says("in use");
}

#[test]
fn settings_are_checked_and_quotas_hold_at_once() {
    let staithe = Staithe::start_with_services(&["redis"]);
    staithe.cli(&["redis:create", "cart"]).succeeds();
    staithe.cli(&["redis:set", "cart", "nonsense", "1"]).fails_with(4).says("maxmemory-policy");
    staithe.cli(&["redis:set", "cart", "memory", "1m"]).fails_with(4).says("16m");
    staithe.cli(&["redis:set", "cart", "memory", "512m"]).succeeds();
    assert_eq!(staithe.json(&["redis:info", "cart"])["memory_limit"], "512m");
    staithe.cli(&["redis:set", "cart", "maxmemory-policy", "allkeys-lru"]).succeeds();
    staithe.cli(&["redis:restart", "cart"]).succeeds();
    let policy = redis(&staithe, "cart", &["config", "get", "maxmemory-policy"]);
    assert_eq!(policy, "maxmemory-policy\nallkeys-lru");
    staithe.cli(&["redis:logs", "cart"]).succeeds().says("Ready to accept connections");
    assert_eq!(redis(&staithe, "cart", &["set", "a", "1"]), "OK");
}
