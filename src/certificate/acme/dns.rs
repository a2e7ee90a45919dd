//! A stub resolver (RFC 1035): asks what an authority would see, not what `/etc/hosts` says, and
//! tells a name that does not exist from a server that fails.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// One question to one server.
const ANSWER: Duration = Duration::from_secs(4);
/// How often each server is asked: datagrams get lost.
const ROUNDS: usize = 2;
/// As the system's resolver has it (resolv.conf(5), MAXNS).
const MAX_SERVERS: usize = 3;
/// The most records that are looked at.
const MAX_RECORDS: u16 = 64;
/// The largest answer over TCP that is read.
const MAX_ANSWER: usize = 16 << 10;

const A: u16 = 1;
const AAAA: u16 = 28;
const CAA: u16 = 257;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// NXDOMAIN.
    NoName,
    /// The server failed or refused: SERVFAIL and others, by name.
    Failed(String),
    /// No server answered.
    Silence,
}

/// Which authorities may issue (RFC 8659).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caa {
    pub(super) tag: String,
    pub(super) value: String,
}

/// Asks recursive servers.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    /// `servers`, or those of this machine.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let servers = match servers.is_empty() {
            false => servers.to_vec(),
            true => of_host(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        };
        Self { servers }
    }

    /// All addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer> {
        let (v4, v6) = tokio::join!(self.ask(name, A), self.ask(name, AAAA));
        let found = match (v4, v6) {
            (Ok(v4), Ok(v6)) => [v4, v6].concat(),
            // A server that fails for one kind only is common; the other decides.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => found,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(found.iter().filter_map(|data| address(data)).collect())
    }

    /// The CAA records that hold for a name: those of the nearest ancestor that has any
    /// (RFC 8659 §3).
    pub(super) async fn caa(&self, name: &str) -> Result<Vec<Caa>, NoAnswer> {
        let mut name = name.strip_prefix("*.").unwrap_or(name);
        loop {
            match self.ask(name, CAA).await {
                Ok(found) if !found.is_empty() => {
                    return Ok(found.iter().filter_map(|data| parse_caa(data)).collect());
                }
                Ok(_) | Err(NoAnswer::NoName) => {}
                Err(error) => return Err(error),
            }
            match name.split_once('.') {
                Some((_, parent)) => name = parent,
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The data of all answers of the kind.
    async fn ask(&self, name: &str, kind: u16) -> Result<Vec<Vec<u8>>, NoAnswer> {
        let mut last = NoAnswer::Silence;
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match tokio::time::timeout(ANSWER, ask_one(*server, name, kind)).await {
                    Ok(Some(Ok(found))) => return Ok(found),
                    Ok(Some(Err(NoAnswer::NoName))) => return Err(NoAnswer::NoName),
                    Ok(Some(Err(error))) => last = error,
                    // Not understood, unreachable, late: the next one may do better.
                    Ok(None) | Err(_) => {}
                }
            }
        }
        Err(last)
    }
}

/// `nameserver` lines (resolv.conf(5)).
fn of_host(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        address.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53))
    });
    servers.take(MAX_SERVERS).collect()
}

type Answer = Result<Vec<Vec<u8>>, NoAnswer>;

async fn ask_one(server: SocketAddr, name: &str, kind: u16) -> Option<Answer> {
    let query = query(name, kind)?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(&query).await.ok()?;
    // Without EDNS (RFC 6891) answers have 512 bytes at most.
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        match parse(&buffer[..length], &query, kind) {
            Parsed::Answer(answer) => return Some(answer),
            Parsed::Truncated => return by_tcp(server, &query, kind).await,
            // Somebody guesses at our port; the right answer may still come.
            Parsed::Other => {}
        }
    }
}

/// RFC 7766: the same messages with their length before them.
async fn by_tcp(server: SocketAddr, query: &[u8], kind: u16) -> Option<Answer> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    stream.write_u16(u16::try_from(query.len()).ok()?).await.ok()?;
    stream.write_all(query).await.ok()?;
    let length = usize::from(stream.read_u16().await.ok()?).min(MAX_ANSWER);
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await.ok()?;
    match parse(&buffer, query, kind) {
        Parsed::Answer(answer) => Some(answer),
        Parsed::Truncated | Parsed::Other => None,
    }
}

/// A recursive query with an unguessable id (RFC 5452).
fn query(name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut query = vec![0; 2];
    getrandom::fill(&mut query).ok()?;
    // Flags: recursion desired. One question.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    // Class IN.
    query.extend([0, 1]);
    Some(query)
}

enum Parsed {
    Answer(Answer),
    Truncated,
    /// No answer to this query.
    Other,
}

fn parse(answer: &[u8], query: &[u8], kind: u16) -> Parsed {
    let question = &query[12..];
    // Same id, a response, our question echoed.
    let ours = answer.len() >= query.len()
        && answer[..2] == query[..2]
        && answer[2] & 0x80 != 0
        && answer[12..query.len()].eq_ignore_ascii_case(question);
    if !ours {
        return Parsed::Other;
    }
    if answer[2] & 0x02 != 0 {
        return Parsed::Truncated;
    }
    match answer[3] & 0x0f {
        0 => {}
        3 => return Parsed::Answer(Err(NoAnswer::NoName)),
        code => return Parsed::Answer(Err(NoAnswer::Failed(code_name(code)))),
    }
    let count = u16::from_be_bytes([answer[6], answer[7]]).min(MAX_RECORDS);
    match records(answer, query.len(), count, kind) {
        Some(found) => Parsed::Answer(Ok(found)),
        None => Parsed::Other,
    }
}

/// RFC 6895 §2.3.
fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        code => format!("error {code}"),
    }
}

/// The data of records of `kind`; aliases (CNAME) before them were followed by the server.
fn records(answer: &[u8], mut at: usize, count: u16, kind: u16) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for _ in 0..count {
        at = after_name(answer, at)?;
        let fixed = answer.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = answer.get(at + 10..at + 10 + length)?;
        if u16::from_be_bytes([fixed[0], fixed[1]]) == kind {
            found.push(data.to_vec());
        }
        at += 10 + length;
    }
    Some(found)
}

/// Behind a name, which ends with an empty label or a pointer (RFC 1035 §4.1.4). Pointers are not
/// followed, so that there are no loops.
fn after_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// RFC 8659 §4.1: flags, length of the tag, tag, value.
fn parse_caa(data: &[u8]) -> Option<Caa> {
    let length = usize::from(*data.get(1)?);
    let tag = data.get(2..2 + length)?;
    let value = data.get(2 + length..)?;
    Some(Caa {
        tag: String::from_utf8_lossy(tag).to_ascii_lowercase(),
        value: String::from_utf8_lossy(value).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `query` with `flags` (second octet) and records.
    fn answer(query: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] = 0x81;
        answer[3] = 0x80 | code;
        answer[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answer.extend(*data);
        }
        answer
    }

    fn read(answer: &[u8], query: &[u8], kind: u16) -> Option<Answer> {
        match parse(answer, query, kind) {
            Parsed::Answer(answer) => Some(answer),
            Parsed::Truncated | Parsed::Other => None,
        }
    }

    #[test]
    fn addresses_behind_an_alias_are_found() {
        let query = query("shop.example.com", A).unwrap();
        let answer = answer(&query, 0, &[(5, b"\x01x\x00"), (A, &[192, 0, 2, 7])]);
        let found = read(&answer, &query, A).unwrap().unwrap();
        assert_eq!(address(&found[0]), Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn a_missing_name_differs_from_a_failing_server() {
        let query = query("nope.example.com", A).unwrap();
        let code = |code| read(&answer(&query, code, &[]), &query, A).unwrap().unwrap_err();
        assert_eq!(code(3), NoAnswer::NoName);
        assert_eq!(code(2), NoAnswer::Failed("SERVFAIL".into()));
    }

    #[test]
    fn answers_to_other_questions_and_damaged_ones_are_not_believed() {
        let first = query("a.example.com", A).unwrap();
        let mut forged = answer(&first, 0, &[(A, &[192, 0, 2, 7])]);
        forged[0] ^= 1;
        assert!(read(&forged, &first, A).is_none());
        let whole = answer(&first, 0, &[(A, &[192, 0, 2, 7])]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], &first, A).is_none(), "{length}");
        }
        assert!(query(&format!("{}.com", "a".repeat(64)), A).is_none());
    }

    #[test]
    fn caa_records_are_read() {
        let caa = parse_caa(b"\x00\x05ISSUEletsencrypt.org").unwrap();
        assert_eq!(caa, Caa { tag: "issue".into(), value: "letsencrypt.org".into() });
        assert_eq!(parse_caa(b"\x00\xffissue"), None);
    }

    #[test]
    fn the_machines_servers_are_read() {
        let text = "# x\nnameserver 192.0.2.1\nsearch a\nnameserver ::1\nnameserver nonsense\n";
        let servers: Vec<_> = of_host(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[::1]:53"]);
    }
}
