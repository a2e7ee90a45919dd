//! Two apps, one in Node.js and one in Flask, that keep rows in PostgreSQL and count in Redis, through
//! everything that happens to databases: unlinked, promoted, cloned, restored, restarted, killed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::http::{Answer, exchange};
use crate::support::staithe::signal;
use crate::support::{Repo, Staithe, eventually};

/// For what a busy machine takes seconds for.
const SOON: Duration = Duration::from_secs(60);

const NODE: &str = "node-pg-redis";
const FLASK: &str = "flask-pg-redis";

/// One of the two sample apps, deployed.
struct Shop<'a> {
    staithe: &'a Staithe,
    app: &'static str,
}

impl<'a> Shop<'a> {
    /// Linked to PostgreSQL and Redis before its first push, as a newcomer would.
    fn deploy(staithe: &'a Staithe, fixture: &str, app: &'static str) -> Self {
        staithe.cli(&["apps:create", app]).succeeds();
        staithe.cli(&["postgres:link", "main", app]).succeeds();
        staithe.cli(&["redis:link", "main", app]).succeeds();
        let pushed = Repo::of_fixture(staithe, fixture, app).push().succeeds();
        // The release command has reached the database, too.
        pushed.says("the table is there");
        Self { staithe, app }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        ask(self.staithe.http(), self.app, method, path, body).unwrap()
    }

    /// Stores a row; the answer is its number.
    #[track_caller]
    fn add(&self, text: &str) -> u64 {
        let answer = self.ask("POST", "/rows", text).is(201, "");
        let row = json(&answer);
        assert_eq!(row["text"], text);
        row["id"].as_u64().unwrap()
    }

    #[track_caller]
    fn rows(&self) -> serde_json::Value {
        json(&self.ask("GET", "/rows", "").is(200, ""))
    }

    /// Counts one more.
    #[track_caller]
    fn hit(&self) -> u64 {
        json(&self.ask("POST", "/hits", "").is(200, ""))["hits"].as_u64().unwrap()
    }

    #[track_caller]
    fn hits(&self) -> u64 {
        json(&self.ask("GET", "/hits", "").is(200, ""))["hits"].as_u64().unwrap()
    }

    /// Waits until both servers answer it.
    fn is_healthy(&self) {
        eventually(SOON, &format!("{} reaches both servers", self.app), || {
            let answer = ask(self.staithe.http(), self.app, "GET", "/health", "")
                .map_err(|error| error.to_string())?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }
}

fn ask(
    address: SocketAddr,
    app: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {app}.test\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    exchange(address, &request)
}

#[track_caller]
fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// A Staithe with a PostgreSQL and a Redis, both called `main`.
fn with_services() -> Staithe {
    let staithe = Staithe::start_with_services(&["postgres", "redis"]);
    for kind in ["postgres", "redis"] {
        staithe.cli(&[&format!("{kind}:create"), "main"]).succeeds();
    }
    staithe
}

fn texts(rows: &serde_json::Value) -> Vec<String> {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| row["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_apps_share_their_databases_and_keep_them_through_links_promotions_and_clones() {
    let staithe = with_services();
    let node = Shop::deploy(&staithe, NODE, "node");
    let flask = Shop::deploy(&staithe, FLASK, "flask");
    node.add("of node");
    flask.add("of flask: ü, 🚢, 'quoted'");
    assert_eq!(texts(&node.rows()), ["of node", "of flask: ü, 🚢, 'quoted'"]);
    assert_eq!(node.rows(), flask.rows());
    assert_eq!((node.hit(), flask.hit(), node.hits()), (1, 2, 2));

    unlinked_and_linked_again(&node, &flask);
    promoted_and_back(&node, &flask);
    cloned(&node, &flask);
}

fn unlinked_and_linked_again(node: &Shop<'_>, flask: &Shop<'_>) {
    let staithe = node.staithe;
    let before = node.rows();
    staithe.cli(&["postgres:unlink", "main", "node"]).succeeds();
    node.ask("GET", "/rows", "").is(503, "DATABASE_URL is not set");
    // What it is not about goes on.
    assert_eq!(node.hits(), 2);
    assert_eq!(flask.rows(), before);
    staithe.cli(&["postgres:link", "main", "node"]).succeeds();
    assert_eq!(node.rows(), before);
    staithe.cli(&["postgres:linked", "main", "node"]).succeeds();
}

fn promoted_and_back(node: &Shop<'_>, flask: &Shop<'_>) {
    let staithe = node.staithe;
    let before = flask.rows();
    staithe.cli(&["postgres:create", "other"]).succeeds();
    staithe.cli(&["postgres:link", "other", "node"]).succeeds();
    assert_eq!(node.rows(), before, "a second link changed DATABASE_URL");
    staithe.cli(&["postgres:promote", "other", "node"]).succeeds();
    assert_eq!(texts(&node.rows()), Vec::<String>::new());
    node.add("only in the other one");
    assert_eq!(flask.rows(), before);
    staithe.cli(&["postgres:promote", "main", "node"]).succeeds();
    assert_eq!(node.rows(), before);
    staithe.cli(&["postgres:unlink", "other", "node"]).succeeds();
    assert_eq!(node.rows(), before);
    staithe.cli(&["postgres:destroy", "other", "--force"]).succeeds();
}

fn cloned(node: &Shop<'_>, flask: &Shop<'_>) {
    let staithe = node.staithe;
    let before = flask.rows();
    for kind in ["postgres", "redis"] {
        staithe.cli(&[&format!("{kind}:clone"), "main", "copy"]).succeeds();
        staithe.cli(&[&format!("{kind}:link"), "copy", "node"]).succeeds();
        staithe.cli(&[&format!("{kind}:promote"), "copy", "node"]).succeeds();
    }
    assert_eq!((node.rows(), node.hits()), (before.clone(), 2));
    node.add("only in the copy");
    assert_eq!((node.hit(), flask.hits()), (3, 2));
    assert_eq!(flask.rows(), before);
}

#[test]
fn a_destroyed_database_comes_back_from_its_backup_with_equal_contents() {
    let staithe = with_services();
    let node = Shop::deploy(&staithe, NODE, "node");
    let flask = Shop::deploy(&staithe, FLASK, "flask");
    for number in 0..50 {
        node.add(&format!("row {number}"));
        flask.hit();
    }
    let before = node.rows();
    for kind in ["postgres", "redis"] {
        staithe.cli(&[&format!("{kind}:backup"), "main"]).succeeds();
        let backups = staithe.json(&[&format!("{kind}:backup-list"), "main"]);
        assert_eq!(backups[0]["state"], "verified", "{backups}");
        // Written after the backup, and so not in it.
        match kind {
            "postgres" => node.add("later"),
            _ => flask.hit(),
        };
        let destroy = [&format!("{kind}:destroy"), "main", "--force"];
        staithe.cli(&destroy).fails_with(4).says("is linked to app");
        for app in ["node", "flask"] {
            staithe.cli(&[&format!("{kind}:unlink"), "main", app]).succeeds();
        }
        staithe.cli(&destroy).succeeds();
        staithe.cli(&[&format!("{kind}:restore"), "main", "--to", "again"]).succeeds();
        for app in ["node", "flask"] {
            staithe.cli(&[&format!("{kind}:link"), "again", app]).succeeds();
        }
    }
    assert_eq!(node.rows(), before);
    assert_eq!(flask.rows(), before);
    assert_eq!((node.hits(), flask.hits()), (50, 50));
    // And it is a database like any other.
    flask.add("after");
    assert_eq!(texts(&node.rows()).last().unwrap(), "after");
}

/// Writers that ask without a pause and remember what was promised to them.
struct Writers {
    stop: Arc<AtomicBool>,
    /// How many were acknowledged so far, by all.
    count: Arc<AtomicU32>,
    threads: Vec<JoinHandle<Written>>,
}

#[derive(Default)]
struct Written {
    acknowledged: BTreeSet<String>,
    failed: Vec<String>,
    hits: u64,
}

impl Writers {
    fn start(address: SocketAddr, apps: &[&'static str]) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let threads = (0..6)
            .map(|writer| {
                let app = apps[writer % apps.len()];
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                std::thread::spawn(move || write(address, app, writer, &stop, &count))
            })
            .collect();
        Self { stop, count, threads }
    }

    /// Waits until this many more have been acknowledged.
    fn go_on_for(&self, more: u32, what: &str) {
        let wanted = self.count.load(Ordering::Relaxed) + more;
        eventually(SOON, what, || {
            let count = self.count.load(Ordering::Relaxed);
            if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted} rows")) }
        });
    }

    fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for thread in self.threads {
            let one = thread.join().unwrap();
            all.acknowledged.extend(one.acknowledged);
            all.failed.extend(one.failed);
            all.hits += one.hits;
        }
        all
    }
}

fn write(
    address: SocketAddr,
    app: &str,
    writer: usize,
    stop: &AtomicBool,
    count: &AtomicU32,
) -> Written {
    let mut written = Written::default();
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("{writer}-{number}");
        match ask(address, app, "POST", "/rows", &text) {
            Ok(answer) if answer.status == 201 => {
                written.acknowledged.insert(text);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => written.failed.push(format!("{}: {}", answer.status, answer.body)),
            Err(error) => written.failed.push(error.to_string()),
        }
        if matches!(ask(address, app, "POST", "/hits", ""), Ok(answer) if answer.status == 200) {
            written.hits += 1;
        }
    }
    written
}

/// The first words of an error, which are the same for all of its kind.
fn shortened(why: &str) -> String {
    why.trim_end().chars().filter(|c| !c.is_ascii_digit()).take(80).collect()
}

/// Whatever was acknowledged is there, once; what was not may or may not be.
fn nothing_is_lost(written: &Written, shop: &Shop<'_>, hits_before: u64) {
    let rows = texts(&shop.rows());
    let there: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), there.len(), "a row is there twice");
    let lost: Vec<_> = written.acknowledged.difference(&there).collect();
    let asked = written.acknowledged.len() + written.failed.len();
    eprintln!("{} of {asked} writes were not acknowledged", written.failed.len());
    // Which is what an app's users see; it is for reading, since it differs from run to run.
    for kind in written.failed.iter().map(|why| shortened(why)).collect::<BTreeSet<_>>() {
        eprintln!("    {kind}");
    }
    assert!(lost.is_empty(), "{} acknowledged rows are lost: {lost:?}", lost.len());
    let hits = shop.hits() - hits_before;
    assert!(hits >= written.hits, "{} of {} hits are left", hits, written.hits);
}

/// Processes of a service's own, by the name of their program.
fn processes(staithe: &Staithe, service: &str, program: &str) -> Vec<u32> {
    let group = format!("/{}/service-{service}/", staithe.instance());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |name| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("comm").trim() == program && read("cgroup").contains(&group) {
            found.push(pid);
        }
    }
    found
}

#[test]
fn no_acknowledged_write_is_lost_by_restarts_and_kills_of_databases_under_load() {
    let staithe = with_services();
    let node = Shop::deploy(&staithe, NODE, "node");
    Shop::deploy(&staithe, FLASK, "flask");
    let writers = Writers::start(staithe.http(), &["node", "flask"]);
    writers.go_on_for(100, "writers write");
    for round in 0..2 {
        staithe.cli(&["postgres:restart", "main"]).succeeds();
        writers.go_on_for(100, &format!("writers go on after restart {round} of PostgreSQL"));
        staithe.cli(&["redis:restart", "main"]).succeeds();
        for (service, program) in [("postgres-main", "postgres"), ("redis-main", "redis-server")] {
            let pids = processes(&staithe, service, program);
            assert!(!pids.is_empty(), "no process of {service}");
            // All at once, so that nobody has time for a clean end.
            kill_all(&pids);
            writers.go_on_for(100, &format!("writers go on after kill {round} of {service}"));
        }
    }
    let written = writers.finish();
    node.is_healthy();
    nothing_is_lost(&written, &node, 0);
    staithe.cli(&["events"]).succeeds().says("postgres");
}

/// `kill -9`; some of them may have gone with the first.
fn kill_all(pids: &[u32]) {
    let mut command = std::process::Command::new("kill");
    command.arg("-KILL").args(pids.iter().map(ToString::to_string));
    command.output().unwrap();
}

#[test]
fn everything_comes_back_after_all_of_it_was_killed_at_once() {
    let staithe = with_services();
    let node = Shop::deploy(&staithe, NODE, "node");
    let flask = Shop::deploy(&staithe, FLASK, "flask");
    let writers = Writers::start(staithe.http(), &["node", "flask"]);
    writers.go_on_for(100, "writers write");
    kill_everything(&staithe);
    let written = writers.finish();
    staithe.launch();
    node.is_healthy();
    flask.is_healthy();
    nothing_is_lost(&written, &flask, 0);
    assert_eq!(node.rows(), flask.rows());
    node.add("after");
}

/// What a power cut does to processes and to what a reboot clears: control plane, proxy, and all
/// containers end without a word.
fn kill_everything(staithe: &Staithe) {
    staithe.kill_daemon();
    signal(staithe.proxy_pid(), "KILL");
    let group = format!("/{}/", staithe.instance());
    let containers = std::fs::read_dir(staithe.run_dir().join("containers")).unwrap().flatten();
    let ids: Vec<_> = containers.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    eventually(SOON, "all containers are killed", || {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            // Monitors are not in the containers' groups, and write down how those end.
            let monitored = |command: &str| {
                command.contains("container-monitor")
                    && ids.iter().any(|id| command.contains(id.as_str()))
            };
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
                && (read("cgroup").contains(&group) || monitored(&read("cmdline")))
            {
                pids.push(pid);
            }
        }
        if pids.is_empty() {
            return Ok(());
        }
        kill_all(&pids);
        Err(format!("{} processes", pids.len()))
    });
    std::fs::remove_dir_all(staithe.run_dir()).unwrap();
}
