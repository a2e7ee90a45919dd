//! A client on HTTP/1.1 of an app that speaks HTTP/2.

use std::io::IoSlice;

use bytes::Bytes;

use super::relay::{Body, Client, Piece, ReceiveError, SendEnd};
use crate::proxy::buffer::{Buffer, write_all};
use crate::proxy::http::Version;
use crate::proxy::http::body::{BodyReader, Envelope, Framing};
use crate::proxy::http::request::Request;
use crate::proxy::http::response::Response;
use crate::proxy::stream::{Reader, Writer};

/// A request's body, and after it what shows that the client is still there.
#[derive(Debug)]
pub(super) struct LineBody<'a, 'c> {
    reader: &'a mut Reader<'c>,
    buffer: &'a mut Buffer,
    body: BodyReader,
}

impl<'a, 'c> LineBody<'a, 'c> {
    pub(super) fn new(
        reader: &'a mut Reader<'c>,
        buffer: &'a mut Buffer,
        request: &Request,
    ) -> Self {
        Self { reader, buffer, body: BodyReader::new(request.framing) }
    }
}

impl Body for LineBody<'_, '_> {
    async fn next(&mut self) -> Result<Piece, SendEnd> {
        loop {
            let taken = self.body.take(self.buffer.data_mut()).map_err(SendEnd::BadBody)?;
            let data = Bytes::copy_from_slice(&self.buffer.data()[taken.payload]);
            self.buffer.consume(taken.consumed);
            if taken.done || !data.is_empty() {
                let trailers = if taken.done { self.body.trailers().to_vec() } else { Vec::new() };
                return Ok(Piece { data, last: taken.done, trailers });
            }
            if !matches!(self.buffer.fill(self.reader).await, Ok(length) if length > 0) {
                return Err(SendEnd::ClientGone);
            }
        }
    }

    fn release(&mut self, _: usize) {}

    /// Reads ahead, which is how the end of the connection shows.
    async fn watch(&mut self) -> SendEnd {
        loop {
            if self.buffer.is_full() {
                // A client that has sent 32 KiB of further requests is there; it shows when the
                // answer is written.
                std::future::pending::<()>().await;
            }
            if !matches!(self.buffer.fill(self.reader).await, Ok(length) if length > 0) {
                return SendEnd::ClientGone;
            }
        }
    }
}

/// Where the answer goes.
#[derive(Debug)]
pub(super) struct LineClient<'a, 'c> {
    writer: &'a mut Writer<'c>,
    version: Version,
    framing: Framing,
}

impl<'a, 'c> LineClient<'a, 'c> {
    pub(super) fn new(writer: &'a mut Writer<'c>, request: &Request) -> Self {
        Self { writer, version: request.version, framing: Framing::None }
    }

    /// Whether the client takes the end of the connection for the end of the body.
    pub(super) fn until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    async fn write(&mut self, head: &[u8], piece: &mut Piece) -> Result<(), ReceiveError> {
        let envelope = Envelope::new(self.framing, piece.data.len(), piece.last);
        let mut slices = envelope.slices(head, &piece.data, &piece.trailers);
        write_all(self.writer, &mut slices).await.map_err(|_| ReceiveError::Client)
    }
}

impl Client for LineClient<'_, '_> {
    async fn interim(&mut self, head: &[u8]) -> Result<(), ReceiveError> {
        if self.version == Version::Http10 {
            return Ok(());
        }
        let written = write_all(self.writer, &mut [IoSlice::new(head)]).await;
        written.map_err(|_| ReceiveError::Client)
    }

    async fn upgrade(&mut self, _: &[u8]) -> Result<(), ReceiveError> {
        // HTTP/2 has no 101, which the reader of answers has refused.
        Err(ReceiveError::Client)
    }

    async fn begin(
        &mut self,
        head: &[u8],
        response: &Response,
        piece: &mut Piece,
    ) -> Result<(), ReceiveError> {
        self.framing = response.sent_framing;
        self.write(head, piece).await
    }

    async fn send(&mut self, piece: &mut Piece) -> Result<(), ReceiveError> {
        self.write(&[], piece).await
    }
}
