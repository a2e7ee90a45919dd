//! Steady load through the proxy, and what came of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One answer: when it was asked for and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) asked: Instant,
    pub(crate) result: Result<String, String>,
}

/// Clients that ask for `/` without a pause; half of them keep their connection.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, host: &str, clients: usize) -> Self {
        Self::start_at(address, host, clients, None)
    }

    /// At `rate` requests a second, all clients together, as far as the machine can.
    pub(crate) fn start_at(
        address: SocketAddr,
        host: &str,
        clients: usize,
        rate: Option<u32>,
    ) -> Self {
        let all = u32::try_from(clients).unwrap();
        let pause = rate.map(|rate| Duration::from_secs(1) * all / rate);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..clients)
            .map(|number| {
                let (stop, seen, host) = (Arc::clone(&stop), Arc::clone(&seen), host.to_owned());
                std::thread::spawn(move || {
                    client(address, &host, (number % 2 == 0, pause), &stop, &seen);
                })
            })
            .collect();
        Self { stop, seen, clients }
    }

    /// Ends the load and answers all that was seen.
    pub(crate) fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn client(
    address: SocketAddr,
    host: &str,
    (keep, pause): (bool, Option<Duration>),
    stop: &AtomicBool,
    seen: &Mutex<Vec<Seen>>,
) {
    let mut connection = None;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let result = ask(address, host, keep, &mut connection);
        if result.is_err() {
            connection = None;
        }
        seen.lock().unwrap().push(Seen { asked, result });
        if let Some(pause) = pause {
            next += pause;
            wait_until(next);
        }
    }
}

/// What makes the load steady; nobody waits for it.
#[allow(clippy::disallowed_methods, reason = "a rate needs a clock")]
fn wait_until(next: Instant) {
    std::thread::sleep(next.saturating_duration_since(Instant::now()));
}

fn ask(
    address: SocketAddr,
    host: &str,
    keep: bool,
    connection: &mut Option<BufReader<TcpStream>>,
) -> Result<String, String> {
    let mut reader = match connection.take() {
        Some(reader) => reader,
        None => {
            let stream =
                TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .map_err(|error| error.to_string())?;
            BufReader::new(stream)
        }
    };
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
    reader.get_mut().write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let (body, closes) = read_answer(&mut reader)?;
    if keep && !closes {
        *connection = Some(reader);
    }
    Ok(body)
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> Result<(String, bool), String> {
    let mut status = String::new();
    reader.read_line(&mut status).map_err(|error| format!("read: {error}"))?;
    let (mut length, mut closes) = (None, false);
    loop {
        let mut line = String::new();
        let count = reader.read_line(&mut line).map_err(|error| format!("read: {error}"))?;
        if count == 0 {
            return Err(format!("the connection ended in the head: {status:?}"));
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse::<usize>().ok();
        }
        closes |= line == "connection: close";
    }
    let length = length.ok_or("an answer without a length")?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(|error| format!("read body: {error}"))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    match status.split(' ').nth(1) {
        Some("200") => Ok((body, closes)),
        _ => Err(format!("{}: {}", status.trim_end(), body.chars().take(100).collect::<String>())),
    }
}
