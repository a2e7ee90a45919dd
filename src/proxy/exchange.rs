//! One request and its answer: to an instance, back, and what happens when either side fails.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::domain::UpstreamProtocol;

use super::admission::Answer;
use super::attempts::{Failure, MAX_ATTEMPTS, MAX_INTERIM};
use super::buffer::{Buffer, write_all};
use super::connection::{BodyRead, Connection, Next, Passage};
use super::core::{Core, Lease};
use super::h2;
use super::http::Version;
use super::http::body::{BadBody, BodyReader, Envelope, Framing};
use super::http::request::Request;
use super::http::response::{self, Asked, BadResponse, Response};
use super::page::Page;
use super::progress::{End, Progress, ReceiveError, SendEnd, race, read_head};
use super::record::Outcome;
use super::router::Target;
use super::settings::Settings;
use super::splice::{self, Pipe};
use super::stream::{self, Reader, Writer};
use super::timer::Timer;
use super::tunnel;
use super::upstream::{Connected, OpenRequest, Reuse};
use crate::domain::Scheme;

/// Forwards a request that was admitted to `admitted`, answers it, and records how that went.
pub(super) async fn forward(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    admitted: &Arc<Target>,
) -> Next {
    if admitted.settings.upstream_protocol == UpstreamProtocol::H2c {
        return Box::pin(h2::forward(connection, passage, admitted)).await;
    }
    let request = passage.request;
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut reuse = if request.replayable() { Reuse::Freely } else { Reuse::Cautiously };
    // What the last attempt met; a page only if no other attempt is possible.
    let mut failure: Option<Failure> = None;
    for _ in 0..MAX_ATTEMPTS {
        let open = match connection.core.lease(admitted, &tried) {
            Lease::Open(open) => open,
            Lease::Unavailable { target, page } => {
                return respond(connection, passage, Some(&target), &Answer::Page(page)).await;
            }
            Lease::Gone => {
                return respond(connection, passage, None, &Answer::Page(Page::UnknownHost)).await;
            }
            Lease::Exhausted => break,
        };
        let address = open.upstream().address;
        match connection.core.pool.connect(address, reuse).await {
            Err(error) => {
                connection.core.note_failure(open.upstream());
                tried.push(address);
                failure = Some(Failure::connect(Arc::clone(&open.target), address, &error));
            }
            Ok(connected) => match attempt(connection, passage, &open, connected).await {
                Attempt::Ended(next) => return next,
                Attempt::Stale => {
                    reuse = Reuse::Never;
                    failure = Some(Failure::closed(Arc::clone(&open.target), address));
                }
            },
        }
    }
    match failure {
        Some(failure) => answer_failure(connection, passage, &failure).await,
        // Every attempt sets it; without instances there would have been a page above.
        None => respond(connection, passage, None, &Answer::Page(Page::UnknownHost)).await,
    }
}

/// Answers with what the last attempt met.
pub(super) async fn answer_failure(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    failure: &Failure,
) -> Next {
    let body_read = BodyRead::of(passage.request);
    let (target, page) = (Some(&*failure.target), Answer::Page(failure.page()));
    let (next, outcome) = connection.respond(passage, target, &page, body_read).await;
    let outcome = Outcome { upstream: Some(failure.address), ..outcome };
    connection.record(passage, Some(&failure.target), &outcome);
    next
}

/// Answers a request of which nothing was forwarded.
pub(super) async fn respond(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    target: Option<&Target>,
    answer: &Answer,
) -> Next {
    let body_read = BodyRead::of(passage.request);
    let (next, outcome) = connection.respond(passage, target, answer, body_read).await;
    connection.record(passage, target, &outcome);
    next
}

enum Attempt {
    Ended(Next),
    /// The instance had closed the pooled connection before the request: nothing was lost.
    Stale,
}

/// An answer that was passed on whole.
struct Received {
    response: Response,
    /// What the instance sent beyond it.
    rest: Buffer,
}

/// Sends the request on `connected` and passes the answer on. It stays open for as long as it is for
/// the client.
async fn attempt(
    connection: &mut Connection<'_>,
    passage: &Passage<'_>,
    open: &OpenRequest,
    mut connected: Connected,
) -> Attempt {
    let (target, upstream) = (&*open.target, open.upstream());
    let progress = Progress::default();
    let (mut up_reader, mut up_writer) = connected.stream.split();
    let end = {
        let Connection { core, reader, writer, buffer, timer, .. } = connection;
        let (request, settings) = (passage.request, &target.settings);
        let send = SendSide {
            reader,
            buffer,
            writer: &mut up_writer,
            progress: &progress,
            timer,
            settings,
        };
        let receive = ReceiveSide {
            settings,
            secure: passage.scheme() == Scheme::Https,
            reader: &mut up_reader,
            writer,
            progress: &progress,
            timer,
            core,
            request,
        };
        // The client's end shows where its requests are read.
        let gone = |_: &mut Context<'_>| Poll::Pending;
        race(send.run(passage.head, request.framing), receive.run(), gone, timer).await
    };
    end.note(connected.reused, upstream, connection.core);
    let ended = Ended { passage, target, upstream: upstream.address, progress: &progress };
    match end {
        end if progress.may_retry(&end, connected.reused, passage.request.replayable()) => {
            Attempt::Stale
        }
        End::Received(received) if received.response.status == 101 => {
            let sides =
                tunnel::Upstream { reader: up_reader, writer: up_writer, rest: received.rest };
            let bytes = tunnel::run(connection, sides, target.settings.tunnel_idle_timeout).await;
            let (bytes, received) = (bytes.to_client, bytes.to_instance);
            let outcome = Outcome { status: 101, bytes, received, ..ended.outcome() };
            connection.record(passage, Some(target), &outcome);
            Attempt::Ended(Next::Close)
        }
        End::Received(received) => {
            let Received { response, rest } = received;
            let now = connection.record(passage, Some(target), &ended.outcome());
            if response.reusable && progress.sent.get() && rest.is_empty() {
                connection.core.pool.keep(upstream, connected.stream, now);
            }
            Attempt::Ended(progress.next(&response))
        }
        end => {
            // Closes the connection to the instance, which so learns at once.
            drop(connected);
            Attempt::Ended(ended.fail(connection, &end).await)
        }
    }
}

/// An exchange with a client on HTTP/1 after its end.
pub(super) struct Ended<'a> {
    pub(super) passage: &'a Passage<'a>,
    pub(super) target: &'a Target,
    pub(super) upstream: SocketAddr,
    pub(super) progress: &'a Progress,
}

impl Ended<'_> {
    pub(super) fn outcome(&self) -> Outcome {
        self.progress.outcome(self.upstream, self.passage.started)
    }

    /// Tells the client what can still be told.
    pub(super) async fn fail<T>(&self, connection: &mut Connection<'_>, end: &End<T>) -> Next {
        let Some((page, detail)) = self.progress.page(end) else {
            connection.record(self.passage, Some(self.target), &self.outcome().left());
            return Next::Close;
        };
        if self.progress.answered.get() {
            let cut = self.outcome().cut(page, detail);
            connection.record(self.passage, Some(self.target), &cut);
            return if self.progress.until_close.get() { Next::Reset } else { Next::Close };
        }
        let sent = self.progress.sent.get();
        let body_read = if sent { BodyRead::Whole } else { BodyRead::of(self.passage.request) };
        let (next, outcome) = {
            let target = Some(self.target);
            connection.respond(self.passage, target, &Answer::Page(page), body_read).await
        };
        let received = self.progress.received.get();
        let outcome = Outcome { upstream: Some(self.upstream), detail, received, ..outcome };
        connection.record(self.passage, Some(self.target), &outcome);
        next
    }
}

/// Client to instance.
struct SendSide<'a, 'c, 'u> {
    reader: &'a mut Reader<'c>,
    buffer: &'a mut Buffer,
    writer: &'a mut WriteHalf<'u>,
    progress: &'a Progress,
    timer: &'a Timer,
    settings: &'a Settings,
}

impl SendSide<'_, '_, '_> {
    /// Sends head and body; then watches whether the client stays. Ends only by a failure.
    async fn run(mut self, head: &[u8], framing: Framing) -> SendEnd {
        match self.send(head, framing).await {
            Ok(Sent::Whole) => {
                self.progress.sent.set(true);
                self.timer.set(self.settings.response_head_timeout);
                self.buffer.watch_end(self.reader).await;
                SendEnd::ClientGone
            }
            Ok(Sent::Refused) => {
                // The instance takes no more, and may have said why: the answer decides.
                self.timer.set(self.settings.response_head_timeout);
                std::future::pending().await
            }
            Err(end) => end,
        }
    }

    async fn send(&mut self, mut head: &[u8], framing: Framing) -> Result<Sent, SendEnd> {
        let idle = self.settings.body_idle_timeout;
        let limit = self.settings.max_body.unwrap_or(u64::MAX);
        let mut body = BodyReader::new(framing);
        loop {
            let taken = body.take(self.buffer.data_mut()).map_err(SendEnd::BadBody)?;
            let payload = &self.buffer.data()[taken.payload];
            let received = self.progress.received.get() + payload.len() as u64;
            if received > limit {
                return Err(SendEnd::TooLong);
            }
            self.progress.received.set(received);
            let envelope = Envelope::new(framing, payload.len(), taken.done);
            let mut slices = envelope.slices(head, payload, body.trailers());
            self.timer.set(idle);
            if write_all(self.writer, &mut slices).await.is_err() {
                return Ok(Sent::Refused);
            }
            head = &[];
            self.buffer.consume(taken.consumed);
            if taken.done {
                return Ok(Sent::Whole);
            }
            self.timer.set(self.settings.request_pause(self.progress.answered.get()));
            self.progress.client_awaited.set(true);
            let read = self.buffer.fill(self.reader).await;
            self.progress.client_awaited.set(false);
            if !matches!(read, Ok(length) if length > 0) {
                return Err(SendEnd::ClientGone);
            }
        }
    }
}

enum Sent {
    Whole,
    /// The instance closed its side before the end.
    Refused,
}

/// Instance to client.
struct ReceiveSide<'a, 'c, 'u> {
    reader: &'a mut ReadHalf<'u>,
    writer: &'a mut Writer<'c>,
    progress: &'a Progress,
    timer: &'a Timer,
    core: &'a Core,
    request: &'a Request,
    settings: &'a Settings,
    /// The client came over TLS.
    secure: bool,
}

impl ReceiveSide<'_, '_, '_> {
    async fn run(mut self) -> Result<Received, ReceiveError> {
        let mut buffer = Buffer::default();
        let mut head = self.core.take_scratch();
        let result = self.receive(&mut buffer, &mut head).await;
        self.core.give_scratch(head);
        result.map(|response| Received { response, rest: buffer })
    }

    async fn receive(
        &mut self,
        buffer: &mut Buffer,
        head: &mut Vec<u8>,
    ) -> Result<Response, ReceiveError> {
        for _ in 0..MAX_INTERIM {
            let head_length = read_head(buffer, self.reader).await?;
            self.progress.heard.set(true);
            head.clear();
            let response = self.rewrite(&buffer.data()[..head_length], head)?;
            buffer.consume(head_length);
            if response.is_interim() {
                self.pass_interim(head).await?;
                continue;
            }
            if response.status == 101 {
                self.progress.begin(&response, self.core);
                self.write(&mut [IoSlice::new(head)]).await?;
            } else {
                self.pass_body(&response, buffer, head).await?;
            }
            return Ok(response);
        }
        Err(BadResponse("it has too many interim responses").into())
    }

    fn rewrite(&self, read: &[u8], head: &mut Vec<u8>) -> Result<Response, BadResponse> {
        let keep_alive =
            self.request.keep_alive && self.progress.sent.get() && !self.core.draining.get();
        self.core.clock.with_http_date(|date| {
            let Request { method, version, upgrade, .. } = *self.request;
            let hsts = self.settings.hsts.as_deref().filter(|_| self.secure);
            let asked = Asked { method, version, upgrade, keep_alive, date, hsts };
            response::rewrite(read, &asked, head)
        })
    }

    /// Passes on 100, 102 and 103; HTTP/1.0 has none of them.
    async fn pass_interim(&mut self, head: &[u8]) -> Result<(), ReceiveError> {
        if self.request.version == Version::Http10 {
            return Ok(());
        }
        // While it is half written, no page of ours can follow.
        self.progress.answered.set(true);
        self.write(&mut [IoSlice::new(head)]).await?;
        self.progress.answered.set(false);
        self.timer.set(self.settings.response_head_timeout);
        Ok(())
    }

    async fn pass_body(
        &mut self,
        response: &Response,
        buffer: &mut Buffer,
        head: &mut Vec<u8>,
    ) -> Result<(), ReceiveError> {
        let mut body = BodyReader::new(response.framing);
        let mut at_end = false;
        loop {
            let taken = body.take(buffer.data_mut()).map_err(|bad| self.broken(bad))?;
            if !head.is_empty() {
                self.progress.begin(response, self.core);
            }
            let done = taken.done || at_end;
            let payload = &buffer.data()[taken.payload];
            let length = payload.len();
            if !head.is_empty()
                && matches!(response.sent_framing, Framing::Length(_))
                && head.len() + length <= stream::COPIED
            {
                // The most usual answer: head and body in one piece.
                head.extend_from_slice(payload);
                self.write(&mut [IoSlice::new(head)]).await?;
            } else {
                let envelope = Envelope::new(response.sent_framing, length, done);
                self.write(&mut envelope.slices(head, payload, body.trailers())).await?;
            }
            head.clear();
            self.progress.bytes.set(self.progress.bytes.get() + length as u64);
            buffer.consume(taken.consumed);
            if done {
                return Ok(());
            }
            if let Some(remaining) = body.remaining().filter(|left| *left >= splice::WORTHWHILE)
                && response.framing == response.sent_framing
                && self.writer.plain().is_some()
            {
                return self.splice(remaining).await;
            }
            self.timer.set(self.settings.answer_pause(response.framing));
            match buffer.fill(self.reader).await {
                Ok(0) if response.framing == Framing::UntilClose => at_end = true,
                Ok(0) => return Err(ReceiveError::Cut("the connection ended inside the body")),
                Ok(_) => {}
                Err(_) => return Err(ReceiveError::Cut("the connection broke inside the body")),
            }
        }
    }

    /// Passes on the rest of a body, of which nothing was read yet, inside the kernel.
    async fn splice(&mut self, mut remaining: u64) -> Result<(), ReceiveError> {
        let Some(client) = self.writer.plain() else { return Err(ReceiveError::Client) };
        let pipe = Pipe::take();
        let mut pipe = pipe.map_err(|_| ReceiveError::Cut("there are no descriptors left"))?;
        while remaining > 0 {
            self.timer.set(self.settings.body_idle_timeout);
            let filled = match pipe.fill(self.reader.as_ref(), remaining).await {
                Ok(0) => return Err(ReceiveError::Cut("the connection ended inside the body")),
                Ok(filled) => filled as u64,
                Err(_) => return Err(ReceiveError::Cut("the connection broke inside the body")),
            };
            remaining -= filled;
            self.timer.set(self.settings.body_idle_timeout);
            while pipe.held() > 0 {
                let passed = pipe.drain(client).await.map_err(|_| ReceiveError::Client)?;
                self.timer.set(self.settings.body_idle_timeout);
                self.progress.bytes.set(self.progress.bytes.get() + passed as u64);
            }
        }
        Ok(())
    }

    fn broken(&self, bad: BadBody) -> ReceiveError {
        match self.progress.answered.get() {
            true => ReceiveError::Cut(bad.0),
            false => BadResponse(bad.0).into(),
        }
    }

    async fn write(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), ReceiveError> {
        self.timer.set(self.settings.body_idle_timeout);
        write_all(self.writer, slices).await.map_err(|_| ReceiveError::Client)
    }
}
