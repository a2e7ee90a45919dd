//! One plain `GET`, as an authority makes it for HTTP-01: to a given address, under a given name.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::support::tasks;

/// To connect: as long as authorities wait.
const CONNECT: Duration = Duration::from_secs(10);
/// To answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A key authorization has less than 200 bytes.
const MAX_BODY: usize = 4096;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fetched {
    /// An answer: its status, its `Server`, the beginning of its body.
    Answer { status: u16, server: Option<String>, body: Bytes },
    /// The port is closed.
    Closed(String),
    /// Nothing answers.
    Silent,
    /// Something that is not HTTP.
    Garbled,
}

/// `GET http://<host><path>` from `address`.
pub(super) async fn fetch(address: SocketAddr, host: &str, path: &str) -> Fetched {
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Fetched::Closed(error.to_string()),
        Err(_) => return Fetched::Silent,
    };
    match tokio::time::timeout(ANSWER, exchange(stream, host, path)).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => Fetched::Garbled,
        Err(_) => Fetched::Silent,
    }
}

async fn exchange(stream: TcpStream, host: &str, path: &str) -> Option<Fetched> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the connection, which ends with this function: the sender is dropped.
    drop(tasks::spawn("acme/fetch", connection));
    let request = Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, concat!("staithe/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .ok()?;
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let server = parts.headers.get(http::header::SERVER).and_then(|value| value.to_str().ok());
    // A long page is somebody else's: what it says does not matter.
    let body = Limited::new(body, MAX_BODY).collect().await.map(|body| body.to_bytes());
    Some(Fetched::Answer {
        status: parts.status.as_u16(),
        server: server.map(|server| server.chars().take(60).collect()),
        body: body.unwrap_or_default(),
    })
}
