//! A client's connection: one request after another.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::Instant;

use crate::domain::Scheme;

use super::access_log::{Entry, Text};
use super::buffer::{Buffer, write_all};
use super::client::Client;
use super::core::{Core, Registration};
use super::exchange;
use super::http::request::{self, Forwarding, Method, Refusal, Request, Wants, push_decimal};
use super::http::scan::HeadScan;
use super::page::{Page, Rendered};
use super::router::{Counted, Target, TargetState};
use super::timer::Timer;

/// How long a client may go on sending what nobody reads after it was answered. Closing at once
/// would make its kernel throw away the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(5);

/// The status logged for a client that left before its answer, as nginx does.
pub(super) const CLIENT_LEFT: u16 = 499;

/// How a connection goes on after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// With another request.
    Request,
    /// It ends.
    Close,
    /// It ends, though the client may still be sending.
    Linger,
    /// It ends visibly broken: the end of the connection would look like the end of the answer.
    Reset,
}

/// A client's connection, borrowed from its task.
#[derive(Debug)]
pub(super) struct Connection<'s> {
    pub(super) core: &'s Core,
    pub(super) reader: ReadHalf<'s>,
    pub(super) writer: WriteHalf<'s>,
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
    started: Instant,
    started_ms: i64,
}

/// How a request ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// Bytes of body that were sent to the client.
    pub(super) bytes: u64,
    /// The answer was cut short.
    pub(super) aborted: bool,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) error: Option<&'static str>,
    pub(super) detail: Option<&'static str>,
}

/// Serves a client until its connection ends.
pub(super) async fn serve(core: Rc<Core>, mut stream: TcpStream, client: Client) {
    if client.listener.scheme == Scheme::Https {
        // Nothing can be said to such a client before its handshake.
        return;
    }
    let _registration = Registration::new(Rc::clone(&core)).await;
    let timer = Timer::new(core.shared.config.request_head_timeout_ms.into());
    let (reader, writer) = stream.split();
    let buffer = Buffer::default();
    let mut connection =
        Connection { core: &core, reader, writer, buffer, timer: &timer, client: &client };
    let next = connection.run().await;
    drop(connection);
    match next {
        Next::Request | Next::Close => {}
        Next::Linger => linger(stream).await,
        Next::Reset => {
            // Only affects how the close looks; the connection ends in any case.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

async fn linger(mut stream: TcpStream) {
    let discard = async {
        // Errors mean that the connection has ended, which is what is waited for.
        let _ = stream.shutdown().await;
        let mut sink = [0; 4096];
        while matches!(stream.read(&mut sink).await, Ok(length) if length > 0) {}
    };
    // Past the deadline the client has had its chance.
    let _ = tokio::time::timeout(LINGER, discard).await;
}

impl Connection<'_> {
    async fn run(&mut self) -> Next {
        loop {
            let head_length = match self.next_head().await {
                Ok(Some(head_length)) => head_length,
                Ok(None) => return Next::Close,
                Err(page) => return self.refuse(page).await,
            };
            match self.serve_request(head_length).await {
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
    async fn next_head(&mut self) -> Result<Option<usize>, Page<'static>> {
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
        let id = self.core.ids.next();
        let mut head = self.core.take_scratch();
        let forwarding = Forwarding {
            client: self.client.text(),
            proto: self.client.listener.scheme.as_str(),
            port: self.client.listener.address.port(),
            request_id: std::str::from_utf8(&id).unwrap_or_default(),
            start_ms: started_ms,
        };
        let read = &self.buffer.data()[..head_length];
        let next = match request::rewrite(read, &forwarding, &mut head) {
            Ok(request) => {
                self.buffer.consume(head_length);
                let passage = Passage { request: &request, head: &head, started, started_ms };
                exchange::forward(self, &passage).await
            }
            Err(refusal) => self.refuse(Page::Refused(refusal)).await,
        };
        self.core.give_scratch(head);
        next
    }

    /// Answers bytes that are not a request, and gives up on the connection: where the next request
    /// would start is unknown.
    async fn refuse(&mut self, page: Page<'_>) -> Next {
        increment_shared(&self.core.shared.bad_request);
        let now_ms = self.core.clock.now_ms();
        let id = self.core.ids.next();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        let rendered = page.render(Wants::Text, id);
        self.write_page(&rendered, id, Method::Other, Next::Linger).await;
        if self.core.log.is_on() {
            self.core.log.add(&Entry {
                time: &self.core.clock.rfc3339(now_ms),
                request_id: id,
                app: None,
                release: None,
                client: self.client.text(),
                method: Text(b""),
                host: Text(b""),
                target: Text(b""),
                user_agent: Text(b""),
                status: rendered.status,
                bytes: rendered.body.len() as u64,
                duration_ms: 0,
                upstream: None,
                error: Some(rendered.code),
                detail: None,
            });
        }
        Next::Linger
    }

    /// Answers a request with a page of ours. `body_read` says whether the request's body, if any,
    /// is out of the way.
    pub(super) async fn respond(
        &mut self,
        passage: &Passage<'_>,
        page: Page<'_>,
        body_read: BodyRead,
    ) -> (Next, Outcome) {
        let request = passage.request;
        let rendered = page.render(request.wants, passage.id());
        let keep = request.keep_alive && body_read == BodyRead::Whole && !self.core.draining.get();
        let next = if keep { Next::Request } else { Next::Linger };
        let written = self.write_page(&rendered, passage.id(), request.method, next).await;
        let outcome = Outcome {
            status: rendered.status,
            bytes: rendered.body.len() as u64,
            error: Some(rendered.code),
            ..Outcome::default()
        };
        (if written { next } else { Next::Close }, outcome)
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

    /// Counts and logs a request that has ended.
    pub(super) fn record(&self, passage: &Passage<'_>, target: Option<&Target>, outcome: &Outcome) {
        match (target, outcome.aborted) {
            (Some(target), true) => target.counters.count(self.core.index, Counted::Aborted),
            (Some(target), false) => {
                target.counters.count(self.core.index, Counted::Status(outcome.status));
            }
            (None, _) => increment_shared(&self.core.shared.unknown_host),
        }
        if self.core.log.is_on() {
            self.log(passage, target, outcome);
        }
    }

    fn log(&self, passage: &Passage<'_>, target: Option<&Target>, outcome: &Outcome) {
        let release = match target.map(|target| &target.state) {
            Some(TargetState::Live { release, .. }) => Some(release.0),
            _ => None,
        };
        let duration = passage.started.elapsed().as_millis();
        let request = passage.request;
        self.core.log.add(&Entry {
            time: &self.core.clock.rfc3339(passage.started_ms),
            request_id: passage.id(),
            app: target.map(|target| target.app.as_str()),
            release,
            client: self.client.text(),
            method: Text(&passage.head[request.method_name.clone()]),
            host: Text(request.host.as_str().as_bytes()),
            target: Text(&passage.head[request.target.clone()]),
            user_agent: Text(&passage.head[request.user_agent.clone()]),
            status: outcome.status,
            bytes: outcome.bytes,
            duration_ms: u64::try_from(duration).unwrap_or(u64::MAX),
            upstream: outcome.upstream,
            error: outcome.error,
            detail: outcome.detail,
        });
    }
}

impl Passage<'_> {
    /// The request's name.
    pub(super) fn id(&self) -> &str {
        // Checked to be ASCII when it was read, or made by us.
        std::str::from_utf8(&self.head[self.request.id.clone()]).unwrap_or_default()
    }
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

/// For counters that several cores write, off the usual path.
fn increment_shared(counter: &std::sync::atomic::AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn page_head(page: &Rendered, id: &str, date: &str, next: Next, head: &mut Vec<u8>) {
    let mut line = |parts: [&str; 2]| {
        parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
        head.extend_from_slice(b"\r\n");
    };
    line([&format!("HTTP/1.1 {} ", page.status), page.reason]);
    line(["Content-Type: ", page.content_type]);
    line(["Date: ", date]);
    line(["X-Request-Id: ", id]);
    line(["Cache-Control: ", "no-store"]);
    line(["X-Content-Type-Options: ", "nosniff"]);
    line(["Content-Security-Policy: ", "default-src 'none'; style-src 'unsafe-inline'"]);
    if let Some(seconds) = page.retry_after_s {
        line(["Retry-After: ", &seconds.to_string()]);
    }
    line(["Connection: ", if next == Next::Request { "keep-alive" } else { "close" }]);
    head.extend_from_slice(b"Content-Length: ");
    push_decimal(head, page.body.len() as u64);
    head.extend_from_slice(b"\r\n\r\n");
}
