//! The control socket's client: one connection for each request, HTTP/1.1 over a Unix socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::net::UnixStream;

use super::exit::{Exit, Failure};
use crate::support::tasks;
use crate::wire::{
    ACTOR_FROM_HEADER, ACTOR_HEADER, API_PREFIX, Problem, SESSION_PROTOCOL, StreamItem,
};

/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may take to begin its answer; `checks:run` waits for checks meanwhile.
const ANSWER: Duration = Duration::from_secs(15 * 60);
/// The largest answer, or line of a streamed answer.
const MAX_BYTES: usize = 64 << 20;

/// Speaks for one user with one server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) socket: PathBuf,
    pub(super) actor: Option<String>,
    pub(super) actor_from: Option<String>,
}

impl Client {
    /// `GET path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(Method::GET, path, &()).await
    }

    /// `GET path`, answered with text.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.request(Method::GET, path, &(), false).await?;
        let body = whole(answer.into_body()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// A request with `body`, answered with one value.
    pub(super) async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        let answer = self.request(method, path, body, false).await?;
        let body = whole(answer.into_body()).await?;
        serde_json::from_slice(&body).map_err(|error| nonsense(&error))
    }

    /// A request that is answered with lines, each given to `line`, and then one value.
    pub(super) async fn operation<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        mut line: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<T, Failure> {
        let answer = self.request(method, path, body, false).await?;
        let mut lines = Lines::new(answer.into_body());
        while let Some(text) = lines.next().await? {
            match serde_json::from_slice(&text).map_err(|error| nonsense(&error))? {
                StreamItem::Line(text) => line(&text)?,
                StreamItem::Result(result) => return Ok(result),
                StreamItem::Error(problem) => return Err(problem.into()),
            }
        }
        Err(broke_off())
    }

    /// `GET path`, answered with any number of values.
    pub(super) async fn values<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let answer = self.request(Method::GET, path, &(), false).await?;
        let mut lines = Lines::new(answer.into_body());
        while let Some(text) = lines.next().await? {
            each(serde_json::from_slice(&text).map_err(|error| nonsense(&error))?)?;
        }
        Ok(())
    }

    /// `POST path`, after which the connection carries frames.
    pub(super) async fn session<B: Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<TokioIo<Upgraded>, Failure> {
        let answer = self.request(Method::POST, path, body, true).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(|_| broke_off())?;
        Ok(TokioIo::new(upgraded))
    }

    async fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.build(method, path, body, upgrade)?;
        let connect = UnixStream::connect(&self.socket);
        let stream = match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.unreachable(&io::ErrorKind::TimedOut.into())),
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| broke_off())?;
        // Ends with the connection; the runtime ends with the command.
        drop(tasks::spawn("cli/connection", connection.with_upgrades()));
        let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
        let answer = answer.map_err(|_| broke_off())?.map_err(|_| broke_off())?;
        match answer.status() {
            status if status.is_success() && !upgrade => Ok(answer),
            StatusCode::SWITCHING_PROTOCOLS if upgrade => Ok(answer),
            status => Err(refusal(status, answer.into_body()).await),
        }
    }

    fn build<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        upgrade: bool,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let unsendable = |what: String| Failure::usage(format!("cannot be sent: {what}"));
        let body = match method {
            Method::GET => Vec::new(),
            _ => serde_json::to_vec(body).map_err(|error| unsendable(error.to_string()))?,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{API_PREFIX}{path}"))
            .header(HOST, "staithe")
            .header(CONTENT_TYPE, "application/json");
        if let Some(actor) = &self.actor {
            request = request.header(ACTOR_HEADER, actor.as_bytes());
            if let Some(from) = &self.actor_from {
                request = request.header(ACTOR_FROM_HEADER, from.as_bytes());
            }
        }
        if upgrade {
            request = request.header(CONNECTION, "upgrade").header(UPGRADE, SESSION_PROTOCOL);
        }
        request.body(Full::new(body.into())).map_err(|error| unsendable(error.to_string()))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Failure::new(Exit::Refused, format!("you may not use {socket}: {error}"))
                    .hint("run the command as root, or over SSH with a key that was added")
            }
            _ => {
                let message = format!("cannot reach the Staithe server at {socket}: {error}");
                Failure::new(Exit::Unreachable, message)
                    .hint("`staithe serve` starts it; apps keep serving without it")
            }
        }
    }
}

/// The outcome is unknown: the connection ended before the answer did.
pub(super) fn broke_off() -> Failure {
    Failure::new(Exit::Unreachable, "the connection to the Staithe server broke off")
        .hint("what was asked for may still be done; `staithe events` tells")
}

fn nonsense(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the server's answer is not understood: {error}"))
        .hint("`staithe version` shows whether client and server are of one version")
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(broke_off()),
    }
}

async fn refusal(status: StatusCode, body: Incoming) -> Failure {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(failure) => return failure,
    };
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.into(),
        Err(_) => {
            let is_json = serde_json::from_slice::<IgnoredAny>(&body).is_ok();
            let what = if is_json { "an unknown error" } else { "no explanation" };
            Failure::new(Exit::Failed, format!("the server answered {status} with {what}"))
        }
    }
}

/// The lines of a streamed body.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its line feed; none at the end. A cut-off last line is an error.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                Some(Err(_)) | None => return Err(broke_off()),
            }
            if self.buffer.len() > MAX_BYTES {
                return Err(Failure::new(Exit::Failed, "the server sent a line of over 64 MiB"));
            }
        }
    }
}

/// `text` as one segment or value of a URI (RFC 3986 §2.3): all but unreserved characters escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_hold_is_escaped() {
        assert_eq!(escape("SHA256:a/b+c"), "SHA256%3Aa%2Fb%2Bc");
        assert_eq!(escape("web.1"), "web.1");
    }

    #[tokio::test]
    async fn a_missing_server_is_told_with_its_socket_and_exit_code_5() {
        let client =
            Client { socket: "/nowhere/control.sock".into(), actor: None, actor_from: None };
        let failure = client.get::<()>("/version").await.unwrap_err();
        let Failure::Told { exit, message, .. } = failure else { panic!("{failure:?}") };
        assert_eq!(exit, Exit::Unreachable);
        assert!(message.contains("/nowhere/control.sock: No such file"), "{message}");
    }
}
