//! A client's connection: its frames and streams in one task.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};

use super::meter::Meter;
use super::stream::{self, Session};
use super::wire::Wire;
use crate::proxy::client::Client;
use crate::proxy::core::Core;
use crate::proxy::http::{MAX_FIELDS, MAX_HEAD};
use crate::proxy::stream::Stream;
use crate::proxy::timer::Timer;

/// Requests open at once; what RFC 9113 §6.5.2 recommends as the least, and nginx's number.
const MAX_STREAMS: u32 = 128;

/// The size of a header list as RFC 9113 §6.5.2 counts: what fits an HTTP/1.1 head, and 32 bytes for
/// each field. A longer one is answered 431; what a client must send to get there bounds CONTINUATION
/// floods (CVE-2024-27316).
const MAX_HEADER_LIST: u32 = 32 * 1024 + 100 * 32;
const _: () = assert!(MAX_HEADER_LIST as usize == MAX_HEAD + MAX_FIELDS * 32);

/// What a client may send of one body before the instance has taken any. With [`CONNECTION_WINDOW`]
/// it bounds what a connection makes us hold.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all bodies of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What we hold of one answer while the client does not take it.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams taken back before we have looked at them: the batch form of CVE-2023-44487.
const MAX_PENDING_RESETS: usize = 50;

/// Streams that the client broke so that the crate resets them (CVE-2025-8671). A correct client
/// breaks none.
const MAX_PROVOKED_RESETS: usize = 50;

/// Streams that we reset, and whose late frames are still ignored as RFC 9113 §5.1 asks.
const MAX_REMEMBERED_RESETS: usize = MAX_STREAMS as usize;

/// For how long.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// How long a client may take to notice the end of its connection.
const LINGER: Duration = Duration::from_secs(5);

/// Serves a client on HTTP/2 until its connection ends. `early` are bytes that were read already,
/// from the preface on.
pub(in crate::proxy) async fn serve(core: Rc<Core>, stream: Stream, early: Bytes, client: Client) {
    let meter = Rc::new(Meter::new());
    let wire = Wire::new(stream, early, Rc::clone(&meter));
    let timer = Timer::new(core.shared.config.request_head_timeout_ms.into());
    if let Some(connection) = begin(&wire, &timer).await {
        let session = Rc::new(Session::new(core, client, meter));
        let serve = |request, response| stream::serve(Rc::clone(&session), request, response);
        let mut task = Task {
            connection: Some(connection),
            wire: wire.clone(),
            streams: FuturesUnordered::new(),
            serve,
            session: &session,
            timer: &timer,
            state: State::Open,
            resting: true,
            written: 0,
        };
        poll_fn(|cx| task.poll(cx)).await;
    }
    timer.set(LINGER);
    // Past the deadline the client has had its chance.
    timer.limit(wire.drain()).await;
}

/// Reads the preface and sends our settings. `None` if the client does not get that far.
async fn begin(wire: &Wire, timer: &Timer) -> Option<Connection<Wire, Bytes>> {
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBERED_FOR)
        .enable_connect_protocol()
        .handshake(wire.clone());
    let mut handshake = pin!(handshake);
    let handshake = poll_fn(|cx| {
        let result = handshake.as_mut().poll(cx);
        // Our settings may be what the client waits for. A broken connection shows above.
        let _ = wire.poll_write_out(cx);
        result
    });
    timer.limit(handshake).await?.ok()
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Taking requests.
    Open,
    /// The client was told to send no more; those it has sent are served.
    Leaving,
    /// The client has gone too far: only the last frames go out.
    Closing,
}

struct Task<'a, S, F> {
    /// `None` when it has ended: streams notice, and record how they ended.
    connection: Option<Connection<Wire, Bytes>>,
    wire: Wire,
    streams: FuturesUnordered<F>,
    serve: S,
    session: &'a Session,
    timer: &'a Timer,
    state: State,
    /// No stream is being served, and the deadline is in force.
    resting: bool,
    /// What the client had taken when the deadline was set.
    written: u64,
}

impl<S, F> Task<'_, S, F>
where
    S: Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> F,
    F: Future<Output = ()>,
{
    /// Ready when connection and streams have ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // What several streams have to say goes out together.
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
            if self.session.core.draining.get() {
                self.leave();
            }
            if !self.poll_connection(cx) && !self.poll_deadline(cx) {
                break;
            }
        }
        match self.connection.is_none() && self.streams.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Moves frames. Returns whether streams have something new to do.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_news = false;
        while let Some(connection) = &mut self.connection {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, response)))) => {
                    self.streams.push((self.serve)(request, response));
                    is_news = true;
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    self.connection = None;
                    is_news = true;
                }
                Poll::Pending if self.state == State::Closing => break,
                Poll::Pending => match self.session.meter.fault() {
                    None => break,
                    Some(reason) => {
                        self.state = State::Closing;
                        self.timer.set(LINGER);
                        connection.abrupt_shutdown(reason);
                    }
                },
            }
        }
        // Before they see their end, so that the last frames of a connection are written too.
        match self.wire.poll_write_out(cx) {
            // The next read tells the connection.
            Poll::Ready(Err(_)) => self.connection.is_some(),
            _ => is_news,
        }
    }

    /// Ends a connection that has nothing to do, or nothing to do with us any more. Returns whether
    /// frames or streams have something new to do.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        if self.connection.is_none() {
            return false;
        }
        if self.state != State::Closing {
            let resting = self.streams.is_empty();
            if resting && !std::mem::replace(&mut self.resting, resting) {
                self.rest();
            }
            self.resting = resting;
            if !resting {
                return false;
            }
        }
        if self.timer.poll_expired(cx).is_pending() {
            return false;
        }
        // The end of an answer may still be on its way to a slow client.
        let is_sending = self.connection.as_ref().is_some_and(Connection::has_streams)
            && self.wire.written() != self.written;
        if self.state == State::Open && is_sending {
            self.rest();
        } else if self.state == State::Open {
            self.leave();
            self.rest();
        } else {
            self.connection = None;
        }
        true
    }

    /// Sets the deadline of a connection that serves no stream.
    fn rest(&mut self) {
        self.session.rest();
        self.wire.rest();
        self.written = self.wire.written();
        self.timer.set(match self.state {
            State::Open => self.session.core.shared.config.client_idle_timeout_ms.into(),
            State::Leaving | State::Closing => LINGER,
        });
    }

    /// Takes no further requests (RFC 9113 §6.8).
    fn leave(&mut self) {
        if let (State::Open, Some(connection)) = (self.state, &mut self.connection) {
            self.state = State::Leaving;
            connection.graceful_shutdown();
            if self.resting {
                self.rest();
            }
        }
    }
}
