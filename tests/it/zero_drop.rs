//! Nothing is ever dropped: requests, uploads and WebSockets, through deploys, an upgrade of the
//! proxy and a kill of the control plane.
//!
//! `script/bench zero-drop` runs the same at full size.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::load::{Load, Seen};
use crate::support::{Repo, Staithe};

const HOST: &str = "shop.test";

/// For an answer; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// For an upload's answer. Longer than the proxy's 60 s, so that an instance that is silent (504) is
/// told from a connection that nobody serves.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(75);

/// Says so if the test is to run at full size, and where to write what was seen.
const FULL: &str = "STAITHE_ZERO_DROP_REPORT";

/// How much is asked.
struct Size {
    deploys: u32,
    clients: usize,
    /// Requests a second, all clients together; none: as many as come.
    rate: Option<u32>,
    sockets: usize,
    uploads: usize,
}

impl Size {
    fn chosen() -> Self {
        match std::env::var_os(FULL) {
            None => Self { deploys: 6, clients: 4, rate: None, sockets: 12, uploads: 2 },
            Some(_) => {
                Self { deploys: 50, clients: 16, rate: Some(2000), sockets: 200, uploads: 8 }
            }
        }
    }
}

#[test]
fn nothing_is_dropped_by_deploys_an_upgrade_and_a_kill() {
    let size = Size::chosen();
    let mut staithe = Staithe::start();
    staithe.keep_on_failure();
    let evidence = Evidence(staithe.directory.path().to_owned());
    Repo::of_fixture(&staithe, "websocket", "shop").push().succeeds();
    // WebSockets to an instance that is replaced live as long as requests may.
    staithe.cli(&["checks:set", "shop", "drain", "3600"]).succeeds();
    let started = Instant::now();
    let load = Load::start_at(staithe.http(), HOST, size.clients, size.rate);
    let rounds = Arc::new(Rounds::default());
    let uploads: Vec<_> = (0..size.uploads)
        .map(|_| upload_until_the_end(staithe.http(), &rounds, &evidence))
        .collect();
    let sockets = Sockets::start(&rounds);
    let mut switches = Vec::new();
    for round in 1..=size.deploys {
        // Spread over the first releases, so that several are kept alive by them.
        if round <= 4 {
            for _ in 0..size.sockets / 4 {
                sockets.open(staithe.http());
            }
        }
        staithe.cli(&["config:set", "shop", &format!("ROUND={round}")]).succeeds();
        switches.push((Instant::now(), round));
        rounds.advance();
        if round == size.deploys / 3 || round == size.deploys - 1 {
            let before = staithe.proxy_pid();
            staithe.cli(&["proxy:upgrade"]).succeeds().says("took over");
            assert_ne!(staithe.proxy_pid(), before);
            rounds.advance();
        }
        if round == size.deploys * 2 / 3 {
            staithe.kill_daemon();
            rounds.advance();
            staithe.launch();
        }
    }
    let report = staithe.json(&["proxy:report", "--global"]);
    rounds.end();
    // What all of them have seen before any judgment: one failure explains another.
    let echoes = sockets.finish(size.sockets / 4 * 4);
    let uploads: Vec<_> = uploads.into_iter().map(|upload| upload.join().unwrap()).collect();
    let seen = load.finish();
    evidence.judge(&echoes, &uploads, &seen);
    let processes = report["processes"].as_array().unwrap();
    assert!(processes.len() > 1, "WebSockets keep the proxies before alive: {report}");
    check(&seen, &switches);
    let (echoes, uploaded) = (echoes.unwrap(), uploads.into_iter().map(Result::unwrap).sum());
    assert!(uploaded >= u64::from(size.deploys), "only {uploaded} uploads were made");
    let took = started.elapsed();
    tell(&size, took, &seen, (echoes, uploaded));
}

/// What a failure leaves to be looked at, in the Staithe's directory, which is kept then.
#[derive(Clone)]
struct Evidence(PathBuf);

impl Evidence {
    /// The state of the machine now: sockets, route tables, where the proxies' threads are.
    fn take(&self, what: &str) {
        let mut text = format!("{what}\n\n");
        let ss = Command::new("ss").args(["-t", "-i", "-n", "-p", "-a"]).output();
        text += &ss.map_or_else(
            |error| format!("ss: {error}\n"),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        let routes = std::fs::read_to_string(self.0.join("data/proxy/routes.json"));
        text += &format!("\nroutes: {}\n", routes.unwrap_or_else(|error| error.to_string()));
        for pid in self.proxies() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
                let Ok(task) = task.map(|task| task.path()) else { continue };
                let read = |name: &str| {
                    std::fs::read_to_string(task.join(name)).unwrap_or_default().trim().to_owned()
                };
                let (name, waits, state) = (read("comm"), read("wchan"), read("stat"));
                text +=
                    &format!("{} {name} in {waits}: {state}\n{}\n", task.display(), read("stack"));
            }
        }
        let name = std::iter::successors(Some(1), |number| Some(number + 1))
            .map(|number| self.0.join(format!("evidence-{number}.txt")))
            .find_map(|path| std::fs::File::create_new(path).ok());
        name.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The processes of the proxy, by their sockets.
    fn proxies(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join("run")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let pid =
            |name: String| Some(name.strip_prefix("proxy-")?.strip_suffix(".sock")?.to_owned());
        names.filter_map(pid).collect()
    }

    /// Fails with everything that went wrong.
    fn judge(&self, echoes: &Result<u64, String>, uploads: &[Result<u64, String>], seen: &[Seen]) {
        let mut failures: Vec<String> = Vec::new();
        failures.extend(echoes.as_ref().err().map(|error| format!("WebSockets: {error}")));
        let failed = uploads.iter().filter_map(|upload| upload.as_ref().err());
        failures.extend(failed.map(|error| format!("upload: {error}")));
        let failed: Vec<_> = seen.iter().filter_map(|seen| seen.result.as_ref().err()).collect();
        if !failed.is_empty() {
            let shown = &failed[..failed.len().min(5)];
            failures.push(format!("{} of {} requests: {shown:?}", failed.len(), seen.len()));
        }
        if !failures.is_empty() {
            self.take("at the end");
            panic!("{}\nsee {}", failures.join("\n"), self.0.display());
        }
    }
}

fn check(seen: &[Seen], switches: &[(Instant, u32)]) {
    assert!(seen.len() > 1000, "only {} requests were made", seen.len());
    for seen in seen {
        let body = seen.result.as_ref().unwrap();
        let answered: u32 = body.trim().strip_prefix("version ").unwrap().parse().unwrap();
        let switched = switches.iter().rev().find(|(at, _)| *at < seen.asked);
        let oldest = switched.map_or(0, |(_, round)| *round);
        assert!(answered >= oldest, "version {answered} answered after the switch to {oldest}");
    }
}

/// Leaves what was seen where `script/bench` looks for it.
fn tell(size: &Size, took: Duration, seen: &[Seen], (echoes, uploads): (u64, u64)) {
    let Some(path) = std::env::var_os(FULL) else { return };
    let report = serde_json::json!({
        "deploys": size.deploys,
        "seconds": took.as_secs_f64(),
        "requests": seen.len(),
        "requests_per_second": seen.len() as f64 / took.as_secs_f64(),
        "websockets": size.sockets,
        "echoes": echoes,
        "uploads": uploads,
        "failed": 0,
    });
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(report.to_string().as_bytes()).unwrap();
}

/// How many switches there were, for those who wait for the next.
#[derive(Default)]
struct Rounds {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Rounds {
    fn advance(&self) {
        self.state.lock().unwrap().0 += 1;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn now(&self) -> u64 {
        self.state.lock().unwrap().0
    }

    fn ended(&self) -> bool {
        self.state.lock().unwrap().1
    }

    /// Returns after the switch that follows `round`, or at the end.
    fn wait_after(&self, round: u64) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |(now, ended)| *now <= round && !*ended).unwrap());
    }
}

/// Uploads that each begin before a switch and end after it. Ends with the first that fails.
fn upload_until_the_end(
    address: SocketAddr,
    rounds: &Arc<Rounds>,
    evidence: &Evidence,
) -> JoinHandle<Result<u64, String>> {
    let (rounds, evidence) = (Arc::clone(rounds), evidence.clone());
    std::thread::spawn(move || {
        let mut count = 0;
        while !rounds.ended() {
            if let Err(why) = upload(address, &rounds) {
                evidence.take(&why);
                return Err(why);
            }
            count += 1;
        }
        Ok(count)
    })
}

/// One upload, which says where it was if it fails.
fn upload(address: SocketAddr, rounds: &Rounds) -> Result<(), String> {
    let half = vec![b'x'; 300_000];
    let round = rounds.now();
    let (mut stage, mut local, mut answer) = ("connect", None, Vec::new());
    let mut ask = || {
        let mut stream = TcpStream::connect(address)?;
        local = stream.local_addr().ok();
        stream.set_read_timeout(Some(UPLOAD_PATIENCE))?;
        stream.set_write_timeout(Some(UPLOAD_PATIENCE))?;
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            2 * half.len()
        );
        stage = "first half";
        stream.write_all(head.as_bytes())?;
        stream.write_all(&half)?;
        rounds.wait_after(round);
        stage = "second half";
        stream.write_all(&half)?;
        stage = "answer";
        // What has come before an error is kept.
        stream.read_to_end(&mut answer).map(drop)
    };
    let asked: std::io::Result<()> = ask();
    let text = String::from_utf8_lossy(&answer);
    let good = text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n600000\n");
    match asked {
        Ok(()) if good => Ok(()),
        result => Err(format!(
            "{stage}: {result:?} from {local:?}, begun in round {round}, now {}; {} bytes read: {text:?}",
            rounds.now(),
            answer.len()
        )),
    }
}

/// Open WebSockets, each of which echoes over and over.
struct Sockets {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    echoes: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Sockets {
    fn start(rounds: &Arc<Rounds>) -> Self {
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (echoes, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (streams, echoes) = (Arc::clone(&streams), Arc::clone(&echoes));
            let (ending, rounds) = (Arc::clone(&ending), Arc::clone(rounds));
            std::thread::spawn(move || {
                while !ending.load(Ordering::SeqCst) {
                    let round = rounds.now();
                    for stream in streams.lock().unwrap().iter_mut() {
                        echo(stream).map_err(|error| format!("in round {round}: {error}"))?;
                        echoes.fetch_add(1, Ordering::SeqCst);
                    }
                    rounds.wait_after(round);
                }
                Ok(())
            })
        };
        Self { streams, echoes, ending, thread }
    }

    fn open(&self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let handshake = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        self.streams.lock().unwrap().push(stream);
    }

    /// A last echo on each; answers how many there were.
    fn finish(self, opened: usize) -> Result<u64, String> {
        self.ending.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()?;
        let mut streams = self.streams.lock().unwrap();
        assert_eq!(streams.len(), opened);
        streams.iter_mut().try_for_each(echo).map_err(|error| format!("at the end: {error}"))?;
        Ok(self.echoes.load(Ordering::SeqCst) + opened as u64)
    }
}

/// One masked text frame and its echo, RFC 6455 section 5.2.
fn echo(stream: &mut TcpStream) -> Result<(), String> {
    let mut frame = [0; 6];
    let sent = stream.write_all(&[0x81, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g']);
    let asked = sent.and_then(|()| stream.read_exact(&mut frame));
    match asked {
        Ok(()) if frame == [0x81, 4, b'p', b'i', b'n', b'g'] => Ok(()),
        result => Err(format!("{result:?} from {:?}: {frame:?}", stream.local_addr())),
    }
}
