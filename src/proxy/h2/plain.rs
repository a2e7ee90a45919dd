//! An instance that speaks HTTP/1.1.

use bytes::Bytes;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::relay::{Answer, Piece, Refused, Sink};
use crate::proxy::buffer::{Buffer, write_all};
use crate::proxy::clock::Clock;
use crate::proxy::http::Version;
use crate::proxy::http::body::{BodyReader, Envelope, Framing};
use crate::proxy::http::request::Request;
use crate::proxy::http::response::{self, Asked, Response};
use crate::proxy::progress::{ReceiveError, read_head};

/// The writing half.
#[derive(Debug)]
pub(super) struct PlainSink<'a, 'u> {
    pub(super) writer: &'a mut WriteHalf<'u>,
    pub(super) framing: Framing,
}

impl Sink for PlainSink<'_, '_> {
    async fn send(&mut self, head: &[u8], piece: &mut Piece) -> Result<(), Refused> {
        let envelope = Envelope::new(self.framing, piece.data.len(), piece.last);
        let mut slices = envelope.slices(head, &piece.data, &piece.trailers);
        write_all(self.writer, &mut slices).await.map_err(|_| Refused)
    }
}

/// The reading half.
#[derive(Debug)]
pub(super) struct PlainAnswer<'a, 'u> {
    pub(super) reader: &'a mut ReadHalf<'u>,
    pub(super) buffer: Buffer,
    /// For whom heads are written.
    asked: Asked<'a>,
    clock: &'a Clock,
    body: BodyReader,
    framing: Framing,
}

impl<'a, 'u> PlainAnswer<'a, 'u> {
    pub(super) fn new(reader: &'a mut ReadHalf<'u>, asked: Asked<'a>, clock: &'a Clock) -> Self {
        let (body, framing) = (BodyReader::new(Framing::None), Framing::None);
        Self { reader, buffer: Buffer::default(), asked, clock, body, framing }
    }
}

/// How an answer is to be written for a client on HTTP/2: as for one on HTTP/1.1, whose connection
/// goes on. The date is put in when there is one.
pub(super) fn asked<'h>(request: &Request, hsts: Option<&'h str>) -> Asked<'h> {
    Asked {
        method: request.method,
        version: Version::Http11,
        upgrade: request.upgrade,
        keep_alive: true,
        date: "",
        hsts,
    }
}

impl Answer for PlainAnswer<'_, '_> {
    async fn head(&mut self, out: &mut Vec<u8>) -> Result<Response, ReceiveError> {
        let length = read_head(&mut self.buffer, self.reader).await?;
        let read = &self.buffer.data()[..length];
        let asked = self.asked;
        let rewrite = |date: &str| response::rewrite(read, &Asked { date, ..asked }, out);
        let response = self.clock.with_http_date(rewrite)?;
        self.buffer.consume(length);
        self.framing = response.framing;
        self.body = BodyReader::new(response.framing);
        Ok(response)
    }

    async fn next(&mut self) -> Result<Piece, ReceiveError> {
        let mut at_end = false;
        loop {
            let taken = self.body.take(self.buffer.data_mut());
            let taken = taken.map_err(|bad| ReceiveError::Cut(bad.0))?;
            let last = taken.done || at_end;
            if last || !taken.payload.is_empty() {
                let data = Bytes::copy_from_slice(&self.buffer.data()[taken.payload]);
                self.buffer.consume(taken.consumed);
                let trailers = if last { self.body.trailers().to_vec() } else { Vec::new() };
                return Ok(Piece { data, last, trailers });
            }
            self.buffer.consume(taken.consumed);
            match self.buffer.fill(self.reader).await {
                Ok(0) if self.framing == Framing::UntilClose => at_end = true,
                Ok(0) => return Err(ReceiveError::Cut("the connection ended inside the body")),
                Ok(_) => {}
                Err(_) => return Err(ReceiveError::Cut("the connection broke inside the body")),
            }
        }
    }

    fn release(&mut self, _: usize) {}
}
