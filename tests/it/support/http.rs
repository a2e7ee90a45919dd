//! HTTP as the web sees it: one request on a connection of its own, bytes in and bytes out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16, text: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.body.contains(text), "`{text}` is missing in {self:?}");
        self
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let wanted =
            |line: &&str| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
        let line = self.head.lines().skip(1).find(wanted)?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }
}

/// `GET path` with `Host: host`; panics where there is no HTTP answer.
pub(crate) fn get_from(address: SocketAddr, host: &str, path: &str) -> Answer {
    try_get(address, host, path).unwrap_or_else(|error| panic!("GET http://{host}{path}: {error}"))
}

pub(crate) fn try_get(address: SocketAddr, host: &str, path: &str) -> std::io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(address, &request)
}

/// Sends bytes and reads the answer to the end of the connection.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| {
        std::io::Error::other(format!("no HTTP answer: {:?}", String::from_utf8_lossy(&bytes)))
    })
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some(Answer { status, head: head.to_owned(), body })
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
