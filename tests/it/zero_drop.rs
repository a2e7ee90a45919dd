//! Nothing is ever dropped: requests, uploads and WebSockets, through deploys, an upgrade of the
//! proxy and a kill of the control plane.
//!
//! `script/bench zero-drop` runs the same at full size.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::load::{Load, Seen};
use crate::support::{Repo, Staithe};

const HOST: &str = "shop.test";

/// For an answer; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let staithe = Staithe::start();
    Repo::of_fixture(&staithe, "websocket", "shop").push().succeeds();
    // WebSockets to an instance that is replaced live as long as requests may.
    staithe.cli(&["checks:set", "shop", "drain", "3600"]).succeeds();
    let started = Instant::now();
    let load = Load::start_at(staithe.http(), HOST, size.clients, size.rate);
    let rounds = Arc::new(Rounds::default());
    let uploads: Vec<_> =
        (0..size.uploads).map(|_| upload_until_the_end(staithe.http(), &rounds)).collect();
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
    let processes = report["processes"].as_array().unwrap();
    assert!(processes.len() > 1, "WebSockets keep the proxies before alive: {report}");
    rounds.end();
    let echoes = sockets.finish(size.sockets / 4 * 4);
    let uploaded: u64 = uploads.into_iter().map(|upload| upload.join().unwrap()).sum();
    let seen = load.finish();
    check(&seen, &switches);
    assert!(uploaded >= u64::from(size.deploys), "only {uploaded} uploads were made");
    let took = started.elapsed();
    tell(&size, took, &seen, (echoes, uploaded));
}

fn check(seen: &[Seen], switches: &[(Instant, u32)]) {
    let failed: Vec<_> = seen.iter().filter_map(|seen| seen.result.as_ref().err()).collect();
    let shown = &failed[..failed.len().min(5)];
    assert!(failed.is_empty(), "{} of {} requests failed: {shown:?}", failed.len(), seen.len());
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

/// Uploads that each begin before a switch and end after it.
fn upload_until_the_end(address: SocketAddr, rounds: &Arc<Rounds>) -> JoinHandle<u64> {
    let rounds = Arc::clone(rounds);
    std::thread::spawn(move || {
        let half = vec![b'x'; 300_000];
        let mut count = 0;
        while !rounds.ended() {
            let round = rounds.now();
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!(
                "POST /upload HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                2 * half.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&half).unwrap();
            rounds.wait_after(round);
            stream.write_all(&half).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with("\r\n600000\n"), "{answer}");
            count += 1;
        }
        count
    })
}

/// Open WebSockets, each of which echoes over and over.
struct Sockets {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    echoes: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
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
                        echo(stream);
                        echoes.fetch_add(1, Ordering::SeqCst);
                    }
                    rounds.wait_after(round);
                }
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

    /// A last echo on each; returns how many there were.
    fn finish(self, opened: usize) -> u64 {
        self.ending.store(true, Ordering::SeqCst);
        self.thread.join().expect("every WebSocket to echo");
        let mut streams = self.streams.lock().unwrap();
        assert_eq!(streams.len(), opened);
        streams.iter_mut().for_each(echo);
        self.echoes.load(Ordering::SeqCst) + opened as u64
    }
}

/// One masked text frame and its echo, RFC 6455 section 5.2.
fn echo(stream: &mut TcpStream) {
    stream.write_all(&[0x81, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g']).unwrap();
    let mut frame = [0; 6];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, &[0x81, 4, b'p', b'i', b'n', b'g']);
}
