//! A client on HTTP/2: one stream of its connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::message::{self, Kind};
use super::meter::Meter;
use super::relay::{Body, Client, Piece};
use super::room::{self, Step};
use crate::proxy::http::response::{BadResponse, Response};
use crate::proxy::progress::{ReceiveError, SendEnd};

/// Where answers go.
#[derive(Debug)]
pub(super) struct Responder {
    response: RefCell<SendResponse<Bytes>>,
    /// Once the final head was sent.
    stream: RefCell<Option<SendStream<Bytes>>>,
    meter: Rc<Meter>,
}

impl Responder {
    pub(super) fn new(response: SendResponse<Bytes>, meter: Rc<Meter>) -> Self {
        Self { response: RefCell::new(response), stream: RefCell::default(), meter }
    }

    /// Ready when the client took the request back or has left. Takes the waker that waits for room
    /// too, which is the same task's.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => stream.poll_reset(cx).map(drop),
            None => self.response.borrow_mut().poll_reset(cx).map(drop),
        }
    }

    /// Makes the answer visibly incomplete.
    pub(super) fn reset(&self, reason: Reason) {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => stream.send_reset(reason),
            None => self.response.borrow_mut().send_reset(reason),
        }
    }

    /// Sends a final head, the end of the answer too if `last`. Whether the client was still there.
    pub(super) fn send_head(&self, response: http::Response<()>, last: bool) -> bool {
        self.meter.earn();
        let sent = self.response.borrow_mut().send_response(response, last);
        sent.map(|stream| self.stream.replace(Some(stream))).is_ok()
    }

    /// Sends `data` as the client makes room for it. Whether it was still there.
    pub(super) async fn send_data(&self, mut data: Bytes, last: bool) -> bool {
        if data.is_empty() && !last {
            return true;
        }
        self.meter.earn();
        loop {
            let step = match &mut *self.stream.borrow_mut() {
                Some(stream) => room::send(stream, &mut data, last),
                None => Step::Gone,
            };
            match step {
                Step::Done => return true,
                Step::Gone => return false,
                Step::Wait if self.more_room().await => {}
                Step::Wait => return false,
            }
        }
    }

    async fn more_room(&self) -> bool {
        poll_fn(|cx| match &mut *self.stream.borrow_mut() {
            Some(stream) => stream.poll_capacity(cx).map(|room| matches!(room, Some(Ok(_)))),
            None => Poll::Ready(false),
        })
        .await
    }

    fn send_trailers(&self, lines: &[u8]) -> bool {
        // Made of lines that were checked when they were read.
        let Ok(fields) = message::trailer_map(lines) else { return false };
        match &mut *self.stream.borrow_mut() {
            Some(stream) => stream.send_trailers(fields).is_ok(),
            None => false,
        }
    }

    async fn send_piece(&self, piece: &mut Piece) -> Result<(), ReceiveError> {
        let has_trailers = !piece.trailers.is_empty();
        let data = std::mem::take(&mut piece.data);
        let sent = self.send_data(data, piece.last && !has_trailers).await
            && (!has_trailers || self.send_trailers(&piece.trailers));
        if sent { Ok(()) } else { Err(ReceiveError::Client) }
    }
}

/// A responder during one request.
#[derive(Debug)]
pub(super) struct StreamClient<'a> {
    pub(super) responder: &'a Responder,
    pub(super) kind: Kind,
}

impl Client for StreamClient<'_> {
    async fn interim(&mut self, head: &[u8]) -> Result<(), ReceiveError> {
        let response = message::response_of(head)?;
        let sent = self.responder.response.borrow_mut().send_informational(response);
        sent.map_err(|_| ReceiveError::Client)
    }

    async fn upgrade(&mut self, head: &[u8]) -> Result<(), ReceiveError> {
        let accepted = matches!(self.kind, Kind::WebSocket(key) if key.is_accepted_by(head));
        if !accepted {
            return Err(BadResponse("its Sec-WebSocket-Accept is not for this request").into());
        }
        match self.responder.send_head(message::response_of(head)?, false) {
            true => Ok(()),
            false => Err(ReceiveError::Client),
        }
    }

    async fn begin(
        &mut self,
        head: &[u8],
        _: &Response,
        piece: &mut Piece,
    ) -> Result<(), ReceiveError> {
        let ended = piece.last && piece.data.is_empty() && piece.trailers.is_empty();
        if !self.responder.send_head(message::response_of(head)?, ended) {
            return Err(ReceiveError::Client);
        }
        if ended { Ok(()) } else { self.responder.send_piece(piece).await }
    }

    async fn send(&mut self, piece: &mut Piece) -> Result<(), ReceiveError> {
        self.responder.send_piece(piece).await
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct StreamBody {
    pub(super) stream: RecvStream,
    pub(super) meter: Rc<Meter>,
    /// What follows the head is no body, but a tunnel's.
    pub(super) withheld: bool,
}

impl Body for StreamBody {
    async fn next(&mut self) -> Result<Piece, SendEnd> {
        if self.withheld || self.stream.is_end_stream() {
            return Ok(Piece { last: true, ..Piece::default() });
        }
        match poll_fn(|cx| self.stream.poll_data(cx)).await {
            Some(Ok(data)) => {
                self.meter.earn();
                Ok(Piece { data, last: self.stream.is_end_stream(), trailers: Vec::new() })
            }
            // Reset by the client; or by the crate, because the body breaks its own length.
            Some(Err(_)) => Err(SendEnd::ClientGone),
            None => {
                let fields = poll_fn(|cx| self.stream.poll_trailers(cx)).await;
                let fields = fields.map_err(|_| SendEnd::ClientGone)?;
                let lines = fields.map(|fields| message::trailer_lines(&fields)).transpose();
                let trailers = lines.map_err(SendEnd::BadBody)?.unwrap_or_default();
                Ok(Piece { last: true, trailers, ..Piece::default() })
            }
        }
    }

    fn release(&mut self, length: usize) {
        // Fails only for more than was received.
        let _ = self.stream.flow_control().release_capacity(length);
    }
}
