//! Single questions to an instance: does it accept, what does it answer.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::support::tasks;

/// How much of an answer's body is read when a check looks for text in it.
const BODY_BYTES: usize = 64 << 10;

/// One HTTP question.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) address: SocketAddr,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(String, String)],
    pub(super) content: Option<&'a str>,
    pub(super) timeout: Duration,
}

/// Whether the address accepts a connection.
///
/// # Errors
/// Why not, in words.
pub(super) async fn listening(address: SocketAddr, timeout: Duration) -> Result<(), String> {
    connect(address, timeout).await.map(drop)
}

/// Whether the answer's status is 2xx or 3xx and its body holds the wanted text.
///
/// # Errors
/// Why not, in words.
pub(super) async fn http(question: &Question<'_>) -> Result<(), String> {
    let ask = ask(question);
    tokio::time::timeout(question.timeout, ask)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", question.timeout.as_millis())))
}

async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("nothing listens on port {}: {error}", address.port())),
        Err(_) => Err(format!(
            "port {} does not accept within {} ms",
            address.port(),
            timeout.as_millis()
        )),
    }
}

async fn ask(question: &Question<'_>) -> Result<(), String> {
    let stream = connect(question.address, question.timeout).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let connection = tasks::spawn("probe", connection);
    let mut request = Request::get(question.path)
        .header("host", question.host)
        .header("user-agent", "staithe-check");
    for (name, value) in question.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the check is invalid: {error}"))?;
    let answer =
        sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
    let status = answer.status();
    let result = match status.is_success() || status.is_redirection() {
        true => look_for(question.content, answer.into_body()).await,
        false => Err(format!("`GET {}` answers {status}", question.path)),
    };
    connection.abort();
    result
}

async fn look_for(content: Option<&str>, body: hyper::body::Incoming) -> Result<(), String> {
    let Some(content) = content else { return Ok(()) };
    let body = Limited::new(body, BODY_BYTES).collect().await;
    let body = body.map_err(|error| format!("the body cannot be read: {error}"))?.to_bytes();
    match memchr::memmem::find(&body, content.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(format!("the answer does not contain `{content}`")),
    }
}
