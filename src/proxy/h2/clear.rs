//! An instance that speaks HTTP/2 in clear text: one stream of a connection to it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::Response as Head;

use super::message;
use super::origin::Place;
use super::relay::{Answer, Piece, Refused, Sink};
use super::room::{self, Step};
use crate::proxy::clock::Clock;
use crate::proxy::http::request::Refusal;
use crate::proxy::http::response::{self, Asked, BadResponse, Response};
use crate::proxy::progress::ReceiveError;

/// Sends the head of a request on `place`.
///
/// # Errors
/// `Unsayable` if HTTP/2 has no words for it; `Closed` if the connection takes no more requests, of
/// which nothing was sent then.
pub(super) async fn open(
    place: &Place,
    head: &[u8],
    has_body: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), OpenError> {
    let request = message::request_of(head).map_err(OpenError::Unsayable)?;
    let sent = match place.sender().ready().await {
        Ok(mut sender) => sender.send_request(request, !has_body),
        Err(error) => Err(error),
    };
    sent.map_err(|_| {
        place.close();
        OpenError::Closed
    })
}

/// Why a request was not sent.
#[derive(Debug)]
pub(super) enum OpenError {
    Unsayable(Refusal),
    Closed,
}

/// The request's body.
#[derive(Debug)]
pub(super) struct ClearSink {
    pub(super) stream: SendStream<Bytes>,
    /// The request ended with its head.
    pub(super) ended: bool,
}

impl Sink for ClearSink {
    async fn send(&mut self, _: &[u8], piece: &mut Piece) -> Result<(), Refused> {
        if self.ended || (piece.data.is_empty() && !piece.last) {
            return Ok(());
        }
        let has_trailers = !piece.trailers.is_empty();
        let mut data = std::mem::take(&mut piece.data);
        loop {
            match room::send(&mut self.stream, &mut data, piece.last && !has_trailers) {
                Step::Done => break,
                Step::Gone => return Err(Refused),
                Step::Wait => {
                    let room = poll_fn(|cx| self.stream.poll_capacity(cx)).await;
                    if !matches!(room, Some(Ok(_))) {
                        return Err(Refused);
                    }
                }
            }
        }
        if has_trailers {
            let fields = message::trailer_map(&piece.trailers).map_err(|_| Refused)?;
            self.stream.send_trailers(fields).map_err(|_| Refused)?;
        }
        Ok(())
    }
}

/// The answer.
#[derive(Debug)]
pub(super) struct ClearAnswer<'a> {
    response: ResponseFuture,
    stream: Option<RecvStream>,
    place: &'a Place,
    clock: &'a Clock,
    /// For whom heads are written.
    asked: Asked<'a>,
    /// The whole request was handed over.
    sent: &'a Cell<bool>,
}

impl<'a> ClearAnswer<'a> {
    /// For a client who `asked`; its connection goes on afterwards only if the request was `sent`.
    pub(super) fn new(
        response: ResponseFuture,
        place: &'a Place,
        clock: &'a Clock,
        (asked, sent): (Asked<'a>, &'a Cell<bool>),
    ) -> Self {
        // HTTP/2 has no 101 (RFC 9113 §8.6).
        let asked = Asked { upgrade: false, ..asked };
        Self { response, stream: None, place, clock, asked, sent }
    }

    /// What an error says about the request.
    fn failed(&self, error: &h2::Error) -> ReceiveError {
        let unprocessed = error.is_remote()
            && match error.reason() {
                // RFC 9113 §8.7.
                Some(Reason::REFUSED_STREAM) => true,
                // Of streams beyond the last one that the instance looked at; others go on.
                Some(Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            };
        if error.is_go_away() || error.is_io() {
            self.place.close();
        }
        if unprocessed { ReceiveError::Unprocessed } else { ReceiveError::Closed }
    }
}

enum Next {
    Interim(Head<()>),
    Final(Head<RecvStream>),
}

impl Answer for ClearAnswer<'_> {
    async fn head(&mut self, out: &mut Vec<u8>) -> Result<Response, ReceiveError> {
        let next = poll_fn(|cx| {
            if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
                return Poll::Ready(interim.map(Next::Interim));
            }
            Pin::new(&mut self.response).poll(cx).map_ok(Next::Final)
        })
        .await;
        let parts = match next.map_err(|error| self.failed(&error))? {
            Next::Interim(head) => head.into_parts().0,
            Next::Final(head) => {
                let (parts, stream) = head.into_parts();
                self.stream = Some(stream);
                parts
            }
        };
        let mut text = Vec::new();
        message::response_text(&parts, &mut text);
        let keep_alive = self.asked.keep_alive && self.sent.get();
        let asked = Asked { keep_alive, ..self.asked };
        let rewrite = |date: &str| response::rewrite(&text, &Asked { date, ..asked }, out);
        let response = self.clock.with_http_date(rewrite)?;
        Ok(response)
    }

    async fn next(&mut self) -> Result<Piece, ReceiveError> {
        let Some(stream) = &mut self.stream else {
            return Err(BadResponse("its body comes before its head").into());
        };
        if stream.is_end_stream() {
            return Ok(Piece { last: true, ..Piece::default() });
        }
        match poll_fn(|cx| stream.poll_data(cx)).await {
            Some(Ok(data)) => {
                Ok(Piece { data, last: stream.is_end_stream(), trailers: Vec::new() })
            }
            Some(Err(_)) => Err(ReceiveError::Cut("the stream was reset inside the body")),
            None => {
                let fields = poll_fn(|cx| stream.poll_trailers(cx)).await;
                let fields = fields.map_err(|_| ReceiveError::Cut("its trailers are malformed"))?;
                let lines = fields.map(|fields| message::trailer_lines(&fields)).transpose();
                let trailers = lines.map_err(|bad| ReceiveError::Cut(bad.0))?.unwrap_or_default();
                Ok(Piece { last: true, trailers, ..Piece::default() })
            }
        }
    }

    fn release(&mut self, length: usize) {
        if let Some(stream) = &mut self.stream {
            // Fails only for more than was received.
            let _ = stream.flow_control().release_capacity(length);
        }
    }
}
