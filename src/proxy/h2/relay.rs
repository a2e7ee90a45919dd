//! One request and its answer between any two protocols: both directions in one task.
//!
//! ```text
//!   client ── Body ──► send ──► Sink ──► instance
//!   client ◄─ Client ─ receive ◄─ Answer ─ instance
//! ```
//!
//! The parts are for one protocol on one side each; what happens when a side fails, and when, is
//! decided here once. HTTP/1.1 on both sides has its own path (`exchange.rs`), for speed.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::proxy::attempts::MAX_INTERIM;
use crate::proxy::core::Core;
use crate::proxy::http::body::BadBody;
use crate::proxy::http::response::{BadResponse, Response};
use crate::proxy::page::Page;
use crate::proxy::record::Outcome;
use crate::proxy::settings::Settings;
use crate::proxy::timer::Timer;
use crate::proxy::upstream::Upstream;

/// A part of a body on its way.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) data: Bytes,
    /// The body ends with it.
    pub(super) last: bool,
    /// Lines of trailers; only behind the last piece.
    pub(super) trailers: Vec<u8>,
}

/// The client's side of a request: its body.
pub(super) trait Body {
    /// Waits for the next piece, which may be empty. Cancel-safe.
    async fn next(&mut self) -> Result<Piece, SendEnd>;

    /// The instance has taken `length` bytes: the client may send as many more.
    fn release(&mut self, length: usize);

    /// Waits, after the last piece, for the client to leave.
    async fn watch(&mut self) -> SendEnd {
        std::future::pending().await
    }
}

/// The instance's side of a request.
pub(super) trait Sink {
    /// Sends `head`, unless it is empty or was sent before, and `piece`.
    async fn send(&mut self, head: &[u8], piece: &mut Piece) -> Result<(), Refused>;
}

/// The instance's side of an answer.
pub(super) trait Answer {
    /// Waits for a head, and writes the one for the client, as HTTP/1.1, to `out`.
    async fn head(&mut self, out: &mut Vec<u8>) -> Result<Response, ReceiveError>;

    /// Waits for the next piece of the body. Cancel-safe.
    async fn next(&mut self) -> Result<Piece, ReceiveError>;

    /// The client has taken `length` bytes.
    fn release(&mut self, length: usize);
}

/// The client's side of an answer.
pub(super) trait Client {
    /// Passes a 1xx on.
    async fn interim(&mut self, head: &[u8]) -> Result<(), ReceiveError>;

    /// Passes a 101 on.
    async fn upgrade(&mut self, head: &[u8]) -> Result<(), ReceiveError>;

    /// Begins the answer; `piece` follows at once.
    async fn begin(
        &mut self,
        head: &[u8],
        response: &Response,
        piece: &mut Piece,
    ) -> Result<(), ReceiveError>;

    /// Sends a further piece.
    async fn send(&mut self, piece: &mut Piece) -> Result<(), ReceiveError>;
}

/// Why the request's side ended.
#[derive(Debug)]
pub(super) enum SendEnd {
    /// The client has left, or took the request back.
    ClientGone,
    BadBody(BadBody),
    /// The body is longer than the route takes.
    TooLong,
}

/// The instance takes no more of the request; it may have said why.
#[derive(Debug)]
pub(super) struct Refused;

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

/// What ended a relay.
#[derive(Debug)]
pub(super) enum End {
    Received(Response),
    Failed(ReceiveError),
    Send(SendEnd),
    TimedOut,
}

impl End {
    /// Whether the connection ended, and not only the request.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Failed(ReceiveError::Closed))
    }
}

/// How the two directions stand; written by them, read when one of them ends.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    timer: &'a Timer,
    settings: &'a Settings,
    core: &'a Core,
    /// The whole request was handed over.
    pub(super) sent: Cell<bool>,
    /// Something of the request's body was: it cannot be sent again.
    pub(super) body_begun: Cell<bool>,
    /// Any byte of an answer came back.
    pub(super) heard: Cell<bool>,
    /// The client has a part of the answer.
    pub(super) answered: Cell<bool>,
    /// The status of that answer, once it is final.
    pub(super) status: Cell<u16>,
    /// The request side waits for the client.
    pub(super) client_awaited: Cell<bool>,
    /// Bytes of body that went to the client.
    pub(super) bytes: Cell<u64>,
    /// Bytes of body that came from it.
    pub(super) received: Cell<u64>,
    /// When the head of the answer was there; only for the log.
    answered_at: Cell<Option<Instant>>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(timer: &'a Timer, settings: &'a Settings, core: &'a Core) -> Self {
        Self {
            timer,
            settings,
            core,
            sent: Cell::new(false),
            body_begun: Cell::new(false),
            heard: Cell::new(false),
            answered: Cell::new(false),
            status: Cell::new(0),
            client_awaited: Cell::new(false),
            bytes: Cell::new(0),
            received: Cell::new(0),
            answered_at: Cell::new(None),
        }
    }

    /// Runs both directions. The answer ends the relay; the request side only by failing. `gone` is
    /// ready when the client has left.
    pub(super) async fn run(
        &self,
        head: &[u8],
        (body, sink): (&mut impl Body, &mut impl Sink),
        (answer, client): (&mut impl Answer, &mut impl Client),
        gone: impl Fn(&mut Context<'_>) -> Poll<()>,
    ) -> End {
        let (mut send, mut receive) =
            (pin!(self.send(head, body, sink)), pin!(self.receive(answer, client)));
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
            self.timer.poll_expired(cx).map(|()| End::TimedOut)
        })
        .await
    }

    async fn send(&self, head: &[u8], body: &mut impl Body, sink: &mut impl Sink) -> SendEnd {
        let result = self.try_send(head, body, sink).await;
        match result {
            Ok(()) => {
                self.sent.set(true);
                self.timer.set(self.settings.response_head_timeout);
                body.watch().await
            }
            Err(SendError::Refused) => {
                // It may have said why: the answer decides.
                self.timer.set(self.settings.response_head_timeout);
                std::future::pending().await
            }
            Err(SendError::Ended(end)) => end,
        }
    }

    async fn try_send(
        &self,
        mut head: &[u8],
        body: &mut impl Body,
        sink: &mut impl Sink,
    ) -> Result<(), SendError> {
        // The head does not wait for the body: the instance may answer before there is one. Usually
        // a part of it is there, and is written in one go.
        let mut next = body.next().now_or_never().unwrap_or_else(|| Ok(Piece::default()));
        loop {
            let mut piece = next.map_err(SendError::Ended)?;
            let (length, last) = (piece.data.len(), piece.last);
            self.count_received(length).map_err(SendError::Ended)?;
            self.timer.set(self.settings.body_idle_timeout);
            sink.send(head, &mut piece).await.map_err(|Refused| SendError::Refused)?;
            body.release(length);
            if last {
                return Ok(());
            }
            head = &[];
            self.timer.set(self.settings.request_pause(self.answered.get()));
            self.client_awaited.set(true);
            next = body.next().await;
            self.client_awaited.set(false);
        }
    }

    fn count_received(&self, length: usize) -> Result<(), SendEnd> {
        if length > 0 {
            self.body_begun.set(true);
        }
        let received = self.received.get() + length as u64;
        self.received.set(received);
        match self.settings.max_body {
            Some(most) if received > most => Err(SendEnd::TooLong),
            _ => Ok(()),
        }
    }

    async fn receive(
        &self,
        answer: &mut impl Answer,
        client: &mut impl Client,
    ) -> Result<Response, ReceiveError> {
        let mut head = self.core.take_scratch();
        let result = self.receive_into(&mut head, answer, client).await;
        self.core.give_scratch(head);
        result
    }

    async fn receive_into(
        &self,
        head: &mut Vec<u8>,
        answer: &mut impl Answer,
        client: &mut impl Client,
    ) -> Result<Response, ReceiveError> {
        for _ in 0..MAX_INTERIM {
            head.clear();
            let response = answer.head(head).await?;
            self.heard.set(true);
            if response.is_interim() {
                // While it is half written, no page of ours can follow.
                self.answered.set(true);
                client.interim(head).await?;
                self.answered.set(false);
                self.timer.set(self.settings.response_head_timeout);
            } else if response.status == 101 {
                client.upgrade(head).await?;
                self.begin(&response);
                return Ok(response);
            } else {
                self.pass_body(head, &response, answer, client).await?;
                return Ok(response);
            }
        }
        Err(BadResponse("it has too many interim responses").into())
    }

    async fn pass_body(
        &self,
        head: &[u8],
        response: &Response,
        answer: &mut impl Answer,
        client: &mut impl Client,
    ) -> Result<(), ReceiveError> {
        let first = answer.next().now_or_never().unwrap_or_else(|| Ok(Piece::default()));
        let mut piece = first.map_err(|error| match error {
            // Nothing was passed on yet, so a page can still say it.
            ReceiveError::Cut(why) => BadResponse(why).into(),
            error => error,
        })?;
        self.begin(response);
        self.timer.set(self.settings.body_idle_timeout);
        let (mut length, mut last) = (piece.data.len(), piece.last);
        client.begin(head, response, &mut piece).await?;
        loop {
            self.bytes.set(self.bytes.get() + length as u64);
            answer.release(length);
            if last {
                return Ok(());
            }
            self.timer.set(self.settings.answer_pause(response.framing));
            let mut piece = answer.next().await?;
            (length, last) = (piece.data.len(), piece.last);
            self.timer.set(self.settings.body_idle_timeout);
            client.send(&mut piece).await?;
        }
    }

    /// From here on the client has a part of the answer, and a page of ours comes too late.
    fn begin(&self, response: &Response) {
        self.status.set(response.status);
        self.answered.set(true);
        if self.core.log.is_on() {
            self.answered_at.set(Some(Instant::now()));
        }
    }

    /// Whether the attempt left no trace, so that another may follow: nothing came back, and either
    /// the instance says that it has not looked at the request (RFC 9113 §8.7) and all of it is still
    /// here, or the connection may have been closed while it was idle and the request is `replayable`
    /// (RFC 9110 §9.2.2).
    pub(super) fn may_retry(&self, end: &End, reused: bool, replayable: bool) -> bool {
        !self.heard.get()
            && match end {
                End::Failed(ReceiveError::Unprocessed) => !self.body_begun.get(),
                End::Failed(ReceiveError::Closed) => reused && replayable,
                _ => false,
            }
    }

    /// What an end says about the instance's health.
    pub(super) fn note(&self, end: &End, reused: bool, upstream: &Upstream) {
        match end {
            End::Received(_) => upstream.health.succeeded(),
            // The end of a connection that was idle is no failure.
            End::Failed(ReceiveError::Closed) if !reused => {
                self.core.note_failure(upstream);
            }
            _ => {}
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

    /// What to tell the client, and its owner, about an end that is not the answer's. `None` if the
    /// client is not there to be told.
    pub(super) fn page(&self, end: &End) -> Option<(Page, Option<&'static str>)> {
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

enum SendError {
    Refused,
    Ended(SendEnd),
}
