//! One plain request to a given address, under a given name: `GET` as an authority makes it for
//! HTTP-01, `POST` to ask for the status of a certificate.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Builder;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::support::tasks;

/// To connect: as long as authorities wait.
const CONNECT: Duration = Duration::from_secs(10);
/// To answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A key authorization has less than 200 bytes.
const MAX_PAGE: usize = 4096;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fetched {
    /// An answer: its status, its `Server`, its body; that is empty if it is too long.
    Answer { status: u16, server: Option<String>, body: Bytes },
    /// The port is closed.
    Closed(String),
    /// Nothing answers.
    Silent,
    /// Something that is not HTTP.
    Garbled,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Post {
    /// `Host`.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
    /// `Content-Type`.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: Vec<u8>,
    /// The longest answer.
    pub(super) max_answer: usize,
}

/// `GET http://<host><path>` from `address`.
pub(super) async fn fetch(address: SocketAddr, host: &str, path: &str) -> Fetched {
    // A long page is somebody else's: what it says does not matter.
    send(address, host, Request::get(path), Bytes::new(), MAX_PAGE).await
}

/// `POST` to `address`. Redirections are not followed.
pub(super) async fn post(address: SocketAddr, post: &Post) -> Fetched {
    let request = Request::post(&post.path).header(http::header::CONTENT_TYPE, post.kind);
    send(address, &post.authority, request, post.body.clone().into(), post.max_answer).await
}

async fn send(
    address: SocketAddr,
    host: &str,
    request: Builder,
    body: Bytes,
    max_answer: usize,
) -> Fetched {
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Fetched::Closed(error.to_string()),
        Err(_) => return Fetched::Silent,
    };
    let request = request
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, concat!("staithe/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body));
    let Ok(request) = request else { return Fetched::Garbled };
    match tokio::time::timeout(ANSWER, exchange(stream, request, max_answer)).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => Fetched::Garbled,
        Err(_) => Fetched::Silent,
    }
}

async fn exchange(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
    max_answer: usize,
) -> Option<Fetched> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with the connection, which ends with this function: the sender is dropped.
    drop(tasks::spawn("certificate/fetch", connection));
    let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
    let server = parts.headers.get(http::header::SERVER).and_then(|value| value.to_str().ok());
    let body = Limited::new(body, max_answer).collect().await.map(|body| body.to_bytes());
    Some(Fetched::Answer {
        status: parts.status.as_u16(),
        server: server.map(|server| server.chars().take(60).collect()),
        body: body.unwrap_or_default(),
    })
}
