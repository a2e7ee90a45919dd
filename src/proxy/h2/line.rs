//! A client on HTTP/1.1 of an app that speaks HTTP/2.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use super::clear::{self, ClearAnswer, ClearSink, OpenError};
use super::origin::Place;
use super::relay::{Body, Client, Piece, Relay};
use crate::domain::Scheme;
use crate::proxy::admission::Answer;
use crate::proxy::attempts::{Failure, MAX_ATTEMPTS};
use crate::proxy::buffer::{Buffer, write_all};
use crate::proxy::connection::{Connection, Next, Passage};
use crate::proxy::core::Lease;
use crate::proxy::exchange::{self, Ended};
use crate::proxy::http::Version;
use crate::proxy::http::body::{BodyReader, Envelope, Framing};
use crate::proxy::http::request::Request;
use crate::proxy::http::response::{Asked, Response};
use crate::proxy::page::Page;
use crate::proxy::progress::{End, ReceiveError, SendEnd};
use crate::proxy::router::Target;
use crate::proxy::stream::{Reader, Writer};
use crate::proxy::upstream::OpenRequest;

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

    async fn watch(&mut self) -> SendEnd {
        self.buffer.watch_end(self.reader).await;
        SendEnd::ClientGone
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

/// Forwards a request that was admitted to `admitted`, whose instances speak HTTP/2; answers it, and
/// records how that went.
pub(in crate::proxy) async fn forward(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    admitted: &Arc<Target>,
) -> Next {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut fresh = false;
    // What the last attempt met; a page only if no other attempt is possible.
    let mut failure: Option<Failure> = None;
    for _ in 0..MAX_ATTEMPTS {
        let open = match connection.core.lease(admitted, &tried) {
            Lease::Open(open) => open,
            Lease::Unavailable { target, page } => {
                let answer = Answer::Page(page);
                return exchange::respond(connection, passage, Some(&target), &answer).await;
            }
            Lease::Gone => {
                let answer = Answer::Page(Page::UnknownHost);
                return exchange::respond(connection, passage, None, &answer).await;
            }
            Lease::Exhausted => break,
        };
        let address = open.upstream().address;
        match connection.core.origins.place(address, fresh).await {
            Err(error) => {
                connection.core.note_failure(open.upstream());
                tried.push(address);
                failure = Some(Failure::connect(Arc::clone(&open.target), address, &error));
            }
            Ok(place) => match attempt(connection, passage, &open, place).await {
                Attempt::Ended(next) => return next,
                Attempt::Again { fresh: again_fresh } => {
                    fresh |= again_fresh;
                    failure = Some(Failure::closed(Arc::clone(&open.target), address));
                }
            },
        }
    }
    match failure {
        Some(failure) => exchange::answer_failure(connection, passage, &failure).await,
        // Every attempt sets it; without instances there would have been a page above.
        None => {
            exchange::respond(connection, passage, None, &Answer::Page(Page::UnknownHost)).await
        }
    }
}

enum Attempt {
    Ended(Next),
    /// It left no trace. Connections that were there before are not trusted again if `fresh`.
    Again {
        fresh: bool,
    },
}

/// Sends the request and passes the answer on.
async fn attempt(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    open: &OpenRequest,
    place: Place,
) -> Attempt {
    let target = &*open.target;
    let request = passage.request;
    let (response, stream) = match clear::open(&place, passage.head, request.has_body()).await {
        Ok(opened) => opened,
        Err(OpenError::Closed) => return Attempt::Again { fresh: false },
        Err(OpenError::Unsayable(refusal)) => {
            let answer = Answer::Page(Page::Refused(refusal));
            let next = exchange::respond(connection, passage, Some(target), &answer).await;
            return Attempt::Ended(next);
        }
    };
    let relay = Relay::new(connection.timer, &target.settings, connection.core);
    let upstream = open.upstream();
    let end = {
        let Connection { core, reader, writer, buffer, .. } = connection;
        let keep_alive = request.keep_alive && !core.draining.get();
        let mut sink = ClearSink { stream, ended: !request.has_body() };
        let secure = passage.scheme() == Scheme::Https;
        let asked = Asked {
            method: request.method,
            version: request.version,
            upgrade: false,
            keep_alive,
            date: "",
            hsts: target.settings.hsts.as_deref().filter(|_| secure),
        };
        let mut answer =
            ClearAnswer::new(response, &place, &core.clock, (asked, &relay.progress.sent));
        let mut body = LineBody::new(reader, buffer, request);
        let mut client = LineClient::new(writer, request);
        let parts = ((&mut body, &mut sink), (&mut answer, &mut client));
        // Its end shows in `LineBody::watch`.
        relay.run(passage.head, parts.0, parts.1, |_| Poll::Pending).await
    };
    end.note(place.reused, upstream, connection.core);
    let progress = &relay.progress;
    let ended = Ended { passage, target, upstream: upstream.address, progress };
    let next = match end {
        end if progress.may_retry(&end, place.reused, request.replayable()) => {
            return Attempt::Again { fresh: end.is_closed() };
        }
        End::Received(response) => {
            connection.record(passage, Some(target), &ended.outcome());
            progress.next(&response)
        }
        end => ended.fail(connection, &end).await,
    };
    Attempt::Ended(next)
}
