//! A client's connection: one request after another.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::admission::{self, Admission, Answer, Arrival, Decision};
use super::buffer::{Buffer, write_all};
use super::client::Client;
use super::core::{Core, Registration};
use super::exchange;
use super::h2;
use super::http::Version;
use super::http::request::{self, Forwarding, Method, Refusal, Request, Wants, push_decimal};
use super::http::scan::HeadScan;
use super::page::{self, Page, Rendered};
use super::record::{self, Outcome, Protocol, Seen};
use super::router::Target;
use super::stream::{Reader, Sink, Stream, Writer};
use super::timer::Timer;
use super::tls::{self, Accepted};
use crate::domain::Scheme;

/// How long a client may go on sending what nobody reads after it was answered. Closing at once
/// would make its kernel throw away the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(5);

/// How a connection goes on after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With another request.
    Request,
    /// It ends.
    Close,
    /// It ends, though the client may still be sending.
    Linger,
    /// With everything anew: the client speaks HTTP/2 (RFC 9113 §3.3).
    Http2,
    /// It ends visibly broken: the end of the connection would look like the end of the answer.
    Reset,
}

/// A client's connection, borrowed from its task.
#[derive(Debug)]
pub(super) struct Connection<'s> {
    pub(super) core: &'s Core,
    pub(super) reader: Reader<'s>,
    pub(super) writer: Writer<'s>,
    /// What the client sent and we did not deal with yet.
    pub(super) buffer: Buffer,
    pub(super) timer: &'s Timer,
    pub(super) client: &'s Client,
}

/// A request on its way, and what is known of it for the log.
#[derive(Debug)]
pub(super) struct Passage<'r> {
    pub(super) request: &'r Request,
    /// The head for the app; the ranges of `request` are into it.
    pub(super) head: &'r [u8],
    admission: &'r Admission,
    pub(super) started: Instant,
    started_ms: i64,
}

/// Serves a client until its connection ends.
///
/// An idle connection costs what this future takes, so everything beyond the wait for a request is
/// in boxes of its own.
pub(super) async fn serve(
    registration: Registration,
    core: Rc<Core>,
    stream: TcpStream,
    client: Client,
) {
    registration.attend().await;
    match client.listener.scheme {
        Scheme::Http => serve_http1(&core, Stream::Plain(stream), &client).await,
        Scheme::Https => Box::pin(serve_https(core, stream, client)).await,
    }
}

async fn serve_https(core: Rc<Core>, stream: TcpStream, client: Client) {
    let deadline = core.shared.config.request_head_timeout_ms.into();
    match Box::pin(tls::accept(&core.shared.tls, stream, deadline)).await {
        Accepted::Secured { stream, session, http2 } => {
            let (stream, client) = (Stream::Tls(stream), client.secured(session));
            match http2 {
                true => Box::pin(h2::serve(core, stream, Bytes::new(), client)).await,
                false => serve_http1(&core, stream, &client).await,
            }
        }
        Accepted::PlainHttp(stream) => refuse_plain(&core, Stream::Plain(stream), &client).await,
        Accepted::Ended => {}
    }
}

async fn serve_http1(core: &Rc<Core>, mut stream: Stream, client: &Client) {
    let timer = Timer::new(core.shared.config.request_head_timeout_ms.into());
    let mut connection = Connection::new(core, &mut stream, &timer, client);
    let next = connection.run().await;
    if next == Next::Http2 {
        let early = Bytes::copy_from_slice(connection.buffer.data());
        drop(connection);
        return Box::pin(h2::serve(Rc::clone(core), stream, early, client.clone())).await;
    }
    drop(connection);
    finish(stream, next).await;
}

/// Answers a client that speaks HTTP to an HTTPS port. What it sent is not read: whatever it is, it
/// came unprotected.
async fn refuse_plain(core: &Core, mut stream: Stream, client: &Client) {
    let timer = Timer::new(core.shared.config.request_head_timeout_ms.into());
    let next = Connection::new(core, &mut stream, &timer, client).refuse(Page::PlainHttp).await;
    finish(stream, next).await;
}

async fn finish(mut stream: Stream, next: Next) {
    match next {
        // So that the end can be told from a cut (RFC 8446 §6.1).
        Next::Request | Next::Close => stream.close_now().await,
        Next::Linger => Box::pin(linger(stream)).await,
        // Goes on elsewhere.
        Next::Http2 => {}
        Next::Reset => {
            // Only affects how the close looks; the connection ends in any case.
            let _ = socket2::SockRef::from(&*stream.tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn linger(mut stream: Stream) {
    let discard = async {
        // Errors mean that the connection has ended, which is what is waited for.
        let (_, mut writer) = stream.split();
        let _ = std::future::poll_fn(|cx| writer.poll_shutdown(cx)).await;
        let mut sink = [0; 4096];
        while matches!(stream.tcp().read(&mut sink).await, Ok(length) if length > 0) {}
    };
    // Past the deadline the client has had its chance.
    let _ = tokio::time::timeout(LINGER, discard).await;
}

impl<'s> Connection<'s> {
    fn new(core: &'s Core, stream: &'s mut Stream, timer: &'s Timer, client: &'s Client) -> Self {
        let (reader, writer) = stream.split();
        Self { core, reader, writer, buffer: Buffer::default(), timer, client }
    }
}

impl Connection<'_> {
    async fn run(&mut self) -> Next {
        let mut is_first = true;
        loop {
            let head_length = match self.next_head().await {
                Ok(Some(head_length)) => head_length,
                Ok(None) => return Next::Close,
                Err(page) => return Box::pin(self.refuse(page)).await,
            };
            // Over TLS the handshake decides about the protocol (RFC 9113 §3.2).
            let may_begin =
                std::mem::replace(&mut is_first, false) && self.client.session.is_none();
            if may_begin && h2::is_preface(self.buffer.data()) {
                return Next::Http2;
            }
            match Box::pin(self.serve_request(head_length)).await {
                Next::Request => {}
                next => return next,
            }
            self.timer.set(self.core.shared.config.client_idle_timeout_ms.into());
        }
    }

    /// Waits for a whole head and returns its length; `None` if there is no further request.
    ///
    /// # Errors
    /// The page that answers a head that is too slow, too long or no head.
    async fn next_head(&mut self) -> Result<Option<usize>, Page> {
        let mut scan = HeadScan::default();
        let mut begun = false;
        loop {
            if !begun && self.skip_empty_lines() {
                begun = true;
                self.timer.set(self.core.shared.config.request_head_timeout_ms.into());
            }
            if begun {
                let end = scan.end(self.buffer.data()).map_err(|_| {
                    Page::Refused(Refusal::Malformed("a line ends without a carriage return"))
                })?;
                if end.is_some() {
                    return Ok(end);
                }
                if self.buffer.is_full() {
                    return Err(Page::Refused(Refusal::TooLarge));
                }
            }
            match self.read_more().await {
                Read::Some => {}
                Read::End => return Ok(None),
                Read::TooSlow if begun => return Err(Page::RequestTimeout),
                Read::TooSlow => return Ok(None),
            }
        }
    }

    /// RFC 9112 §2.2: empty lines before a request are ignored. Returns whether a head has begun.
    fn skip_empty_lines(&mut self) -> bool {
        while self.buffer.data().starts_with(b"\r\n") {
            self.buffer.consume(2);
        }
        !matches!(self.buffer.data(), [] | [b'\r'])
    }

    async fn read_more(&mut self) -> Read {
        let Self { core, reader, buffer, timer, .. } = self;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = buffer.poll_fill(cx, reader) {
                let some = matches!(result, Ok(length) if length > 0);
                return Poll::Ready(if some { Read::Some } else { Read::End });
            }
            if core.stopping.get() && buffer.is_empty() {
                return Poll::Ready(Read::End);
            }
            timer.poll_expired(cx).map(|()| Read::TooSlow)
        })
        .await
    }

    async fn serve_request(&mut self, head_length: usize) -> Next {
        let started = Instant::now();
        let started_ms = self.core.clock.now_ms();
        let mut head = self.core.take_scratch();
        let read = &self.buffer.data()[..head_length];
        let next = match admit(self.core, self.client, read, started_ms, &mut head) {
            Ok((request, admission)) => {
                self.buffer.consume(head_length);
                let passage = Passage {
                    request: &request,
                    head: &head,
                    admission: &admission,
                    started,
                    started_ms,
                };
                match &admission.decision {
                    Decision::Forward(admitted) => {
                        exchange::forward(self, &passage, &admitted.target).await
                    }
                    Decision::Answer { answer, target } => {
                        exchange::respond(self, &passage, target.as_deref(), answer).await
                    }
                }
            }
            Err(refusal) => self.refuse(Page::Refused(refusal)).await,
        };
        self.core.give_scratch(head);
        next
    }

    /// Answers bytes that are not a request, and gives up on the connection: where the next request
    /// would start is unknown.
    async fn refuse(&mut self, page: Page) -> Next {
        let id = self.core.ids.next();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        // Sets the date of the answer.
        self.core.clock.now_ms();
        let reader = page::Reader {
            wants: Wants::Text,
            request_id: id,
            target: None,
            scheme: self.client.listener.scheme,
        };
        let rendered = page.render(&reader);
        self.write_page(&rendered, id, Method::Other, Next::Linger).await;
        record::refused(self.core, self.client.text(), id, &rendered);
        Next::Linger
    }

    /// Answers a request ourselves. `body_read` says whether the request's body, if any, is out of
    /// the way.
    pub(super) async fn respond(
        &mut self,
        passage: &Passage<'_>,
        target: Option<&Target>,
        answer: &Answer,
        body_read: BodyRead,
    ) -> (Next, Outcome) {
        let request = passage.request;
        let (wants, request_id) = (request.wants, passage.id());
        let rendered = answer.render(&page::Reader {
            wants,
            request_id,
            target,
            scheme: passage.admission.scheme,
        });
        let keep = request.keep_alive && body_read == BodyRead::Whole && !self.core.draining.get();
        let next = if keep { Next::Request } else { Next::Linger };
        let written = self.write_page(&rendered, request_id, request.method, next).await;
        (if written { next } else { Next::Close }, Outcome::page(&rendered))
    }

    /// Returns whether the page was written whole.
    async fn write_page(&mut self, page: &Rendered, id: &str, method: Method, next: Next) -> bool {
        let mut head = self.core.take_scratch();
        self.core.clock.with_http_date(|date| page_head(page, id, date, next, &mut head));
        let body = if method == Method::Head { "" } else { page.body.as_str() };
        self.timer.set(self.core.shared.config.body_idle_timeout_ms.into());
        let mut slices = [&head, body.as_bytes()].map(std::io::IoSlice::new);
        let result = self.timer.limit(write_all(&mut self.writer, &mut slices)).await;
        self.core.give_scratch(head);
        matches!(result, Some(Ok(())))
    }

    /// Counts and logs a request that has ended; returns when that was.
    pub(super) fn record(
        &self,
        passage: &Passage<'_>,
        target: Option<&Target>,
        outcome: &Outcome,
    ) -> Instant {
        let request = passage.request;
        let target_sent = &passage.head[request.target.clone()];
        let seen = Seen {
            started: passage.started,
            started_ms: passage.started_ms,
            request_id: passage.id(),
            client: passage.admission.client.as_deref().unwrap_or(self.client.text()),
            protocol: match request.version {
                Version::Http10 => Protocol::Http10,
                Version::Http11 => Protocol::Http11,
            },
            tls: self.client.session.as_ref().map(|session| session.version),
            method: &passage.head[request.method_name.clone()],
            host: request.host.as_str().as_bytes(),
            target: passage.admission.asked_target().map_or(target_sent, str::as_bytes),
            referer: &passage.head[request.referer.clone()],
            user_agent: &passage.head[request.user_agent.clone()],
        };
        record::ended(self.core, target, &seen, outcome)
    }
}

impl Passage<'_> {
    /// How the client came.
    pub(super) fn scheme(&self) -> Scheme {
        self.admission.scheme
    }

    /// The request's name.
    pub(super) fn id(&self) -> &str {
        // Checked to be ASCII when it was read, or made by us.
        std::str::from_utf8(&self.head[self.request.id.clone()]).unwrap_or_default()
    }
}

/// Reads the head, decides about the request and writes the head for the app.
///
/// # Errors
/// The refusal of what is no request.
pub(super) fn admit(
    core: &Core,
    client: &Client,
    head: &[u8],
    start_ms: i64,
    out: &mut Vec<u8>,
) -> Result<(Request, Admission), Refusal> {
    let mut storage = request::storage();
    let parsed = request::read(head, &mut storage)?;
    let arrival = Arrival {
        peer: client.address,
        peer_text: client.text(),
        listener: client.listener.name,
        port: client.listener.address.port(),
        scheme: client.listener.scheme,
    };
    let asked = admission::Asked {
        method: parsed.method(),
        host: parsed.host(),
        authority: parsed.authority(),
        target: parsed.target(),
        head_length: head.len(),
        content_length: parsed.content_length(),
        authorization: parsed.authorization(),
        claims: parsed.claims(),
    };
    let admission = match client.may_ask_for(asked.host.as_str(), &core.shared.tls) {
        true => admission::admit(core, &arrival, &asked),
        false => Admission::misdirected(),
    };
    let id = core.ids.next();
    let forwarding = Forwarding {
        request_id: std::str::from_utf8(&id).unwrap_or_default(),
        start_ms,
        ..admission.forwarding(&arrival, &asked)
    };
    let request = parsed.write(&forwarding, out);
    Ok((request, admission))
}

/// Whether a request's body is out of the way of the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyRead {
    Whole,
    Partly,
}

impl BodyRead {
    /// Before anything of a body was read.
    pub(super) fn of(request: &Request) -> Self {
        if request.has_body() { Self::Partly } else { Self::Whole }
    }
}

enum Read {
    Some,
    End,
    TooSlow,
}

fn page_head(page: &Rendered, id: &str, date: &str, next: Next, head: &mut Vec<u8>) {
    let mut line = |parts: [&str; 3]| {
        parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
        head.extend_from_slice(b"\r\n");
    };
    line([&format!("HTTP/1.1 {}", page.status), " ", page.reason]);
    line(["Date", ": ", date]);
    page.fields(id, |name, value| line([name, ": ", value]));
    line(["Connection", ": ", if next == Next::Request { "keep-alive" } else { "close" }]);
    head.extend_from_slice(b"Content-Length: ");
    push_decimal(head, page.body.len() as u64);
    head.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// 2 KiB for an idle connection is the aim, of which tokio's own parts take some 700 bytes.
    #[test]
    fn an_idle_connection_is_small() {
        let size = size(serve);
        assert!(size <= 768, "{size}");
    }
}
