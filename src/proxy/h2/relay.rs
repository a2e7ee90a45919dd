//! One request and its answer between any two protocols: both directions in one task.
//!
//! ```text
//!   client ── Body ──► send ──► Sink ──► instance
//!   client ◄─ Client ─ receive ◄─ Answer ─ instance
//! ```
//!
//! The parts are for one protocol on one side each; what happens when a side fails, and when, is
//! decided here once. HTTP/1.1 on both sides has its own path (`exchange.rs`), for speed; what an end
//! means is the same for both (`progress.rs`).

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;

use crate::proxy::attempts::MAX_INTERIM;
use crate::proxy::core::Core;
use crate::proxy::http::response::{BadResponse, Response};
use crate::proxy::progress::{End, Progress, ReceiveError, SendEnd, race};
use crate::proxy::settings::Settings;
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

/// The instance takes no more of the request; it may have said why.
#[derive(Debug)]
pub(super) struct Refused;

/// One request on its way.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    timer: &'a Timer,
    settings: &'a Settings,
    core: &'a Core,
    pub(super) progress: Progress,
}

impl<'a> Relay<'a> {
    pub(super) fn new(timer: &'a Timer, settings: &'a Settings, core: &'a Core) -> Self {
        Self { timer, settings, core, progress: Progress::default() }
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
        race(self.send(head, body, sink), self.receive(answer, client), gone, self.timer).await
    }

    async fn send(&self, head: &[u8], body: &mut impl Body, sink: &mut impl Sink) -> SendEnd {
        let result = self.try_send(head, body, sink).await;
        match result {
            Ok(()) => {
                self.progress.sent.set(true);
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
            self.timer.set(self.settings.request_pause(self.progress.answered.get()));
            self.progress.client_awaited.set(true);
            next = body.next().await;
            self.progress.client_awaited.set(false);
        }
    }

    fn count_received(&self, length: usize) -> Result<(), SendEnd> {
        if length > 0 {
            self.progress.body_begun.set(true);
        }
        let received = self.progress.received.get() + length as u64;
        self.progress.received.set(received);
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
            self.progress.heard.set(true);
            if response.is_interim() {
                // While it is half written, no page of ours can follow.
                self.progress.answered.set(true);
                client.interim(head).await?;
                self.progress.answered.set(false);
                self.timer.set(self.settings.response_head_timeout);
            } else if response.status == 101 {
                client.upgrade(head).await?;
                self.progress.begin(&response, self.core);
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
        self.progress.begin(response, self.core);
        self.timer.set(self.settings.body_idle_timeout);
        let (mut length, mut last) = (piece.data.len(), piece.last);
        client.begin(head, response, &mut piece).await?;
        loop {
            self.progress.bytes.set(self.progress.bytes.get() + length as u64);
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
}

enum SendError {
    Refused,
    Ended(SendEnd),
}
