//! How a request and its answer stand, whatever protocols they are between: what both directions
//! note, what ends them, and what that end means.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::net::tcp::ReadHalf;
use tokio::time::Instant;

use super::buffer::Buffer;
use super::connection::Next;
use super::core::Core;
use super::http::body::{BadBody, Framing};
use super::http::response::{BadResponse, Response};
use super::http::scan::HeadScan;
use super::page::Page;
use super::record::Outcome;
use super::timer::Timer;
use super::upstream::Upstream;

/// Why the request's side ended.
#[derive(Debug)]
pub(super) enum SendEnd {
    /// The client has left, or took the request back.
    ClientGone,
    BadBody(BadBody),
    /// The body is longer than the route takes.
    TooLong,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(super) enum ReceiveError {
    /// The end of the connection before an answer.
    Closed,
    /// The instance says that it has not looked at the request (RFC 9113 §8.7).
    Unprocessed,
    Bad(BadResponse),
    /// The end of the connection, or nonsense, inside the body.
    Cut(&'static str),
    /// The client does not take the answer.
    Client,
}

impl From<BadResponse> for ReceiveError {
    fn from(bad: BadResponse) -> Self {
        Self::Bad(bad)
    }
}

/// What ended an exchange.
#[derive(Debug)]
pub(super) enum End<T = Response> {
    /// An answer that was passed on whole.
    Received(T),
    Failed(ReceiveError),
    Send(SendEnd),
    TimedOut,
}

impl<T> End<T> {
    /// Whether the connection ended, and not only the request.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Failed(ReceiveError::Closed))
    }

    /// Notes what this says about the instance's health.
    pub(super) fn note(&self, reused: bool, upstream: &Upstream, core: &Core) {
        match self {
            Self::Received(_) => upstream.health.succeeded(),
            // The end of a connection that was idle is no failure.
            Self::Failed(ReceiveError::Closed) if !reused => core.note_failure(upstream),
            _ => {}
        }
    }
}

/// Runs both directions in one task. The answer ends the exchange; the request side only by failing.
/// `gone` is ready when the client has left.
pub(super) async fn race<T>(
    send: impl Future<Output = SendEnd>,
    receive: impl Future<Output = Result<T, ReceiveError>>,
    gone: impl Fn(&mut Context<'_>) -> Poll<()>,
    timer: &Timer,
) -> End<T> {
    let (mut send, mut receive) = (pin!(send), pin!(receive));
    poll_fn(|cx| {
        // The request first: the answer's head says whether the request was whole.
        if let Poll::Ready(end) = send.as_mut().poll(cx) {
            return Poll::Ready(End::Send(end));
        }
        if let Poll::Ready(result) = receive.as_mut().poll(cx) {
            return Poll::Ready(result.map_or_else(End::Failed, End::Received));
        }
        if gone(cx).is_ready() {
            return Poll::Ready(End::Send(SendEnd::ClientGone));
        }
        timer.poll_expired(cx).map(|()| End::TimedOut)
    })
    .await
}

/// How the two directions stand; written by them, read when one of them ends.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The whole request was handed over.
    pub(super) sent: Cell<bool>,
    /// Something of the request's body was: it cannot be sent again over HTTP/2.
    pub(super) body_begun: Cell<bool>,
    /// A head of an answer came back, or a part of one.
    pub(super) heard: Cell<bool>,
    /// The client has a part of the answer.
    pub(super) answered: Cell<bool>,
    /// The status of that answer, once it is final.
    pub(super) status: Cell<u16>,
    /// A client on HTTP/1 takes the end of the connection for the end of the body.
    pub(super) until_close: Cell<bool>,
    /// The request side waits for the client.
    pub(super) client_awaited: Cell<bool>,
    /// Bytes of body that went to the client.
    pub(super) bytes: Cell<u64>,
    /// Bytes of body that came from it.
    pub(super) received: Cell<u64>,
    /// When the head of the answer was there; only for the log.
    answered_at: Cell<Option<Instant>>,
}

impl Progress {
    /// From here on the client has a part of the answer, and a page of ours comes too late.
    pub(super) fn begin(&self, response: &Response, core: &Core) {
        self.status.set(response.status);
        self.until_close.set(response.sent_framing == Framing::UntilClose);
        self.answered.set(true);
        if core.log.is_on() {
            self.answered_at.set(Some(Instant::now()));
        }
    }

    /// Whether the attempt left no trace, so that another may follow: nothing came back, and either
    /// the instance says that it has not looked at the request (RFC 9113 §8.7) and all of it is still
    /// here, or the connection was `reused`, so that it may have been closed while it was idle, and
    /// the request is `replayable` (RFC 9110 §9.2.2).
    pub(super) fn may_retry<T>(&self, end: &End<T>, reused: bool, replayable: bool) -> bool {
        !self.heard.get()
            && match end {
                End::Failed(ReceiveError::Unprocessed) => !self.body_begun.get(),
                End::Failed(ReceiveError::Closed) => reused && replayable,
                _ => false,
            }
    }

    /// What there is to record so far of a request that came when it `started`.
    pub(super) fn outcome(&self, upstream: SocketAddr, started: Instant) -> Outcome {
        Outcome {
            status: self.status.get(),
            bytes: self.bytes.get(),
            received: self.received.get(),
            upstream: Some(upstream),
            upstream_ms: self.answered_at.get().map(|at| {
                let waited = at.saturating_duration_since(started);
                u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)
            }),
            ..Outcome::default()
        }
    }

    /// How a client's connection goes on after `response` was passed on whole.
    pub(super) fn next(&self, response: &Response) -> Next {
        match (response.keep_alive, self.sent.get()) {
            (true, true) => Next::Request,
            (false, true) => Next::Close,
            (_, false) => Next::Linger,
        }
    }

    /// What to tell the client, and its owner, about an end that is not the answer's. `None` if the
    /// client is not there to be told.
    pub(super) fn page<T>(&self, end: &End<T>) -> Option<(Page, Option<&'static str>)> {
        let page = match end {
            End::Failed(ReceiveError::Closed | ReceiveError::Unprocessed) => (Page::Closed, None),
            End::Failed(ReceiveError::Bad(bad)) => (Page::BadResponse, Some(bad.0)),
            End::Failed(ReceiveError::Cut(why)) => (Page::Closed, Some(*why)),
            End::Send(SendEnd::BadBody(bad)) => (Page::BadBody, Some(bad.0)),
            End::Send(SendEnd::TooLong) => (Page::BodyTooLarge, None),
            End::TimedOut if self.client_awaited.get() => (Page::RequestTimeout, None),
            End::TimedOut => (Page::Timeout, None),
            End::Send(SendEnd::ClientGone)
            | End::Failed(ReceiveError::Client)
            | End::Received(_) => return None,
        };
        Some(page)
    }
}

/// Waits for the whole head of an answer over HTTP/1.1, and returns its length in `buffer`.
pub(super) async fn read_head(
    buffer: &mut Buffer,
    reader: &mut ReadHalf<'_>,
) -> Result<usize, ReceiveError> {
    let mut scan = HeadScan::default();
    loop {
        let end = scan.end(buffer.data());
        let end = end.map_err(|_| BadResponse("a line ends without a carriage return"))?;
        match end {
            Some(end) => return Ok(end),
            None if buffer.is_full() => return Err(BadResponse("its head is too long").into()),
            None => {}
        }
        match buffer.fill(reader).await {
            Ok(length) if length > 0 => {}
            // A reset while part of a head is there, or the plain end of the connection.
            _ if buffer.is_empty() => return Err(ReceiveError::Closed),
            _ => return Err(BadResponse("its head is cut off").into()),
        }
    }
}
