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
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use crate::proxy::attempts::MAX_INTERIM;
use crate::proxy::http::body::BadBody;
use crate::proxy::http::response::{BadResponse, Response};
use crate::proxy::page::Page;
use crate::proxy::timer::Timer;

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

/// The deadlines of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) head: Duration,
    pub(super) body: Duration,
    pub(super) tunnel: Duration,
}

/// How the two directions stand; written by them, read when one of them ends.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    timer: &'a Timer,
    deadlines: Deadlines,
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
}

impl<'a> Relay<'a> {
    pub(super) fn new(timer: &'a Timer, deadlines: Deadlines) -> Self {
        Self {
            timer,
            deadlines,
            sent: Cell::new(false),
            body_begun: Cell::new(false),
            heard: Cell::new(false),
            answered: Cell::new(false),
            status: Cell::new(0),
            client_awaited: Cell::new(false),
            bytes: Cell::new(0),
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
        match self.try_send(head, body, sink).await {
            Ok(()) => {
                self.sent.set(true);
                self.timer.set(self.deadlines.head);
            }
            Err(SendError::Refused) => self.timer.set(self.deadlines.head),
            Err(SendError::Ended(end)) => return end,
        }
        // The answer decides.
        std::future::pending().await
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
            if length > 0 {
                self.body_begun.set(true);
            }
            self.timer.set(self.deadlines.body);
            sink.send(head, &mut piece).await.map_err(|Refused| SendError::Refused)?;
            body.release(length);
            if last {
                return Ok(());
            }
            head = &[];
            self.timer.set(self.deadlines.body);
            self.client_awaited.set(true);
            next = body.next().await;
            self.client_awaited.set(false);
        }
    }

    async fn receive(
        &self,
        answer: &mut impl Answer,
        client: &mut impl Client,
    ) -> Result<Response, ReceiveError> {
        let mut head = Vec::new();
        for _ in 0..MAX_INTERIM {
            head.clear();
            let response = answer.head(&mut head).await?;
            self.heard.set(true);
            if response.is_interim() {
                client.interim(&head).await?;
                self.timer.set(self.deadlines.head);
            } else if response.status == 101 {
                client.upgrade(&head).await?;
                self.begin(&response);
                return Ok(response);
            } else {
                self.pass_body(&head, &response, answer, client).await?;
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
        self.timer.set(self.deadlines.body);
        let (mut length, mut last) = (piece.data.len(), piece.last);
        client.begin(head, response, &mut piece).await?;
        loop {
            self.bytes.set(self.bytes.get() + length as u64);
            answer.release(length);
            if last {
                return Ok(());
            }
            self.timer.set(self.deadlines.body);
            let mut piece = answer.next().await?;
            (length, last) = (piece.data.len(), piece.last);
            self.timer.set(self.deadlines.body);
            client.send(&mut piece).await?;
        }
    }

    /// From here on the client has a part of the answer, and a page of ours comes too late.
    fn begin(&self, response: &Response) {
        self.status.set(response.status);
        self.answered.set(true);
    }

    /// What to tell the client, and its owner, about an end that is not the answer's. `None` if the
    /// client is not there to be told.
    pub(super) fn page(&self, end: &End) -> Option<(Page, Option<&'static str>)> {
        let page = match end {
            End::Failed(ReceiveError::Closed | ReceiveError::Unprocessed) => (Page::Closed, None),
            End::Failed(ReceiveError::Bad(bad)) => (Page::BadResponse, Some(bad.0)),
            End::Failed(ReceiveError::Cut(why)) => (Page::Closed, Some(*why)),
            End::Send(SendEnd::BadBody(bad)) => (Page::BadBody, Some(bad.0)),
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
