//! One request of a client on HTTP/2.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{self, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::clear::{self, ClearAnswer, ClearSink, OpenError};
use super::message::{self, Kind};
use super::meter::Meter;
use super::origin::Place;
use super::plain::{self, PlainAnswer, PlainSink};
use super::relay::{self, Relay, Sink};
use super::responder::{Responder, StreamBody, StreamClient};
use super::tunnel;
use crate::domain::{Scheme, UpstreamProtocol};
use crate::proxy::admission::{Admission, Answer, Decision};
use crate::proxy::attempts::{Failure, MAX_ATTEMPTS};
use crate::proxy::client::Client;
use crate::proxy::connection;
use crate::proxy::core::{Core, Lease};
use crate::proxy::http::request::{Method, Refusal, Request, Wants};
use crate::proxy::http::response::Asked;
use crate::proxy::page::{Page, Reader, Rendered};
use crate::proxy::progress::{End, Progress};
use crate::proxy::record::{self, Outcome, Protocol, Seen};
use crate::proxy::router::Target;
use crate::proxy::timer::Timer;
use crate::proxy::upstream::{Connected, OpenRequest, Reuse};

/// What the streams of a connection share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) core: Rc<Core>,
    pub(super) client: Client,
    pub(super) meter: Rc<Meter>,
    /// Those of streams that have ended, for the next: a runtime's timer that fires too early costs
    /// less than one that is taken out and put in.
    timers: RefCell<Vec<Timer>>,
}

impl Session {
    pub(super) fn new(core: Rc<Core>, client: Client, meter: Rc<Meter>) -> Self {
        Self { core, client, meter, timers: RefCell::default() }
    }

    fn take_timer(&self) -> Timer {
        let after = self.core.shared.config.body_idle_timeout_ms.into();
        match self.timers.borrow_mut().pop() {
            Some(timer) => {
                timer.set(after);
                timer
            }
            None => Timer::new(after),
        }
    }

    /// Keeps no timers while there is nothing to time.
    pub(super) fn rest(&self) {
        self.timers.take();
    }
}

/// Serves one stream until it has ended.
pub(super) async fn serve(
    session: Rc<Session>,
    request: http::Request<RecvStream>,
    response: SendResponse<Bytes>,
) {
    let core = &session.core;
    let (started, started_ms) = (Instant::now(), core.clock.now_ms());
    let responder = Responder::new(response, Rc::clone(&session.meter));
    let timer = session.take_timer();
    let mut head = core.take_scratch();
    let (parts, stream) = request.into_parts();
    match read(&session, &parts, !stream.is_end_stream(), started_ms, &mut head) {
        Ok((request, admission, kind)) => {
            drop(parts);
            let passage = Passage {
                session: &session,
                responder: &responder,
                timer: &timer,
                request: &request,
                head: &head,
                admission: &admission,
                kind,
                started,
                started_ms,
            };
            passage.serve(stream).await;
        }
        Err(refusal) => refuse(&session, &responder, &timer, refusal).await,
    }
    core.give_scratch(head);
    session.timers.borrow_mut().push(timer);
}

/// Reads the head, decides about the request and writes the head for the app.
fn read(
    session: &Session,
    parts: &http::request::Parts,
    has_body: bool,
    start_ms: i64,
    out: &mut Vec<u8>,
) -> Result<(Request, Admission, Kind), Refusal> {
    let core = &session.core;
    let mut text = core.take_scratch();
    let kind = message::request_text(parts, has_body, &mut text)?;
    let (request, admission) = connection::admit(core, &session.client, &text, start_ms, out)?;
    core.give_scratch(text);
    Ok((request, admission, kind))
}

/// Answers what is no request that we forward.
async fn refuse(session: &Session, responder: &Responder, timer: &Timer, refusal: Refusal) {
    let id = session.core.ids.next();
    let request_id = std::str::from_utf8(&id).unwrap_or_default();
    let scheme = session.client.listener.scheme;
    let reader = Reader { wants: Wants::Text, request_id, target: None, scheme };
    let rendered = Page::Refused(refusal).render(&reader);
    send_page(session, responder, timer, &rendered, (request_id, Method::Other)).await;
    record::refused(&session.core, session.client.text(), request_id, &rendered);
}

/// Returns whether the client was there for all of it.
async fn send_page(
    session: &Session,
    responder: &Responder,
    timer: &Timer,
    page: &Rendered,
    (request_id, method): (&str, Method),
) -> bool {
    let core = &session.core;
    timer.set(core.shared.config.body_idle_timeout_ms.into());
    let Some(response) = core.clock.with_http_date(|date| page_head(page, request_id, date)) else {
        return false;
    };
    let body = if method == Method::Head { "" } else { page.body.as_str() };
    if !responder.send_head(response, body.is_empty()) {
        return false;
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    body.is_empty() || timer.limit(responder.send_data(body, true)).await == Some(true)
}

fn page_head(page: &Rendered, id: &str, date: &str) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(page.status).ok()?;
    let fields = response.headers_mut();
    fields.insert(header::DATE, HeaderValue::from_str(date).ok()?);
    fields.insert(header::CONTENT_LENGTH, page.body.len().into());
    let mut malformed = false;
    page.fields(id, |name, value| {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => drop(fields.append(name, value)),
            _ => malformed = true,
        }
    });
    (!malformed).then_some(response)
}

/// A request on its way, and what is known of it.
struct Passage<'r> {
    session: &'r Session,
    responder: &'r Responder,
    timer: &'r Timer,
    request: &'r Request,
    /// The head for the app; the ranges of `request` are into it.
    head: &'r [u8],
    admission: &'r Admission,
    kind: Kind,
    started: Instant,
    started_ms: i64,
}

/// How an attempt ended.
enum Attempt {
    /// The client has its answer, or as much as there is.
    Ended,
    /// The instance takes no connection.
    Unreachable(io::Error),
    /// The instance had closed the connection before the request, or says that it has not looked at
    /// it: nothing was lost. Connections that were there before are not trusted again if `fresh`.
    Again { fresh: bool },
}

impl Passage<'_> {
    async fn serve(&self, stream: RecvStream) {
        let meter = Rc::clone(&self.session.meter);
        let mut body = StreamBody { stream, meter, withheld: self.kind != Kind::Plain };
        match &self.admission.decision {
            Decision::Forward(admitted) => self.forward(&mut body, &admitted.target).await,
            Decision::Answer { answer, target } => {
                self.respond(target.as_deref(), answer, Outcome::default()).await;
            }
        }
    }

    async fn forward(&self, body: &mut StreamBody, admitted: &Arc<Target>) {
        let core = &self.session.core;
        let mut tried: Vec<SocketAddr> = Vec::new();
        let replayable = self.request.replayable();
        let mut reuse = if replayable { Reuse::Freely } else { Reuse::Cautiously };
        // What the last attempt met; a page only if no other attempt is possible.
        let mut failure: Option<Failure> = None;
        for _ in 0..MAX_ATTEMPTS {
            let open = match core.lease(admitted, &tried) {
                Lease::Open(open) => open,
                Lease::Unavailable { target, page } => {
                    let answer = Answer::Page(page);
                    return self.respond(Some(&target), &answer, Outcome::default()).await;
                }
                Lease::Gone => {
                    let answer = Answer::Page(Page::UnknownHost);
                    return self.respond(None, &answer, Outcome::default()).await;
                }
                Lease::Exhausted => break,
            };
            let address = open.upstream().address;
            let fresh = reuse == Reuse::Never;
            let attempt = match open.target.settings.upstream_protocol {
                UpstreamProtocol::Http1 => match core.pool.connect(address, reuse).await {
                    Ok(connected) => self.attempt_plain(body, &open, connected).await,
                    Err(error) => self.unreachable(&open, error),
                },
                UpstreamProtocol::H2c => match core.origins.place(address, fresh).await {
                    Ok(place) => self.attempt_clear(body, &open, &place).await,
                    Err(error) => self.unreachable(&open, error),
                },
            };
            match attempt {
                Attempt::Ended => return,
                Attempt::Unreachable(error) => {
                    tried.push(address);
                    failure = Some(Failure::connect(Arc::clone(&open.target), address, &error));
                }
                Attempt::Again { fresh } => {
                    reuse = if fresh { Reuse::Never } else { reuse };
                    failure = Some(Failure::closed(Arc::clone(&open.target), address));
                }
            }
        }
        match failure {
            Some(failure) => {
                let known = Outcome { upstream: Some(failure.address), ..Outcome::default() };
                self.respond(Some(&failure.target), &Answer::Page(failure.page()), known).await;
            }
            // Every attempt sets it; without instances there would have been a page above.
            None => self.respond(None, &Answer::Page(Page::UnknownHost), Outcome::default()).await,
        }
    }

    fn asked<'t>(&self, target: &'t Target) -> Asked<'t> {
        let secure = self.admission.scheme == Scheme::Https;
        plain::asked(self.request, target.settings.hsts.as_deref().filter(|_| secure))
    }

    fn unreachable(&self, open: &OpenRequest, error: io::Error) -> Attempt {
        self.session.core.note_failure(open.upstream());
        Attempt::Unreachable(error)
    }

    /// Sends the request to an instance that speaks HTTP/1.1, and passes the answer on.
    async fn attempt_plain(
        &self,
        body: &mut StreamBody,
        open: &OpenRequest,
        mut connected: Connected,
    ) -> Attempt {
        let (core, target) = (&self.session.core, &*open.target);
        let relay = Relay::new(self.timer, &target.settings, core);
        let upstream = open.upstream().address;
        let (mut reader, mut writer) = connected.stream.split();
        let mut sink = PlainSink { writer: &mut writer, framing: self.request.framing };
        let mut answer = PlainAnswer::new(&mut reader, self.asked(target), &core.clock);
        let end = self.relay(&relay, (body, &mut sink), &mut answer).await;
        let rest = answer.buffer;
        end.note(connected.reused, open.upstream(), core);
        match end {
            end if relay.progress.may_retry(&end, connected.reused, self.request.replayable()) => {
                return Attempt::Again { fresh: true };
            }
            End::Received(response) if response.status == 101 => {
                body.withheld = false;
                let sides = tunnel::Upstream { reader, writer, rest };
                let limit = (self.timer, target.settings.tunnel_idle_timeout);
                let (received, bytes) = tunnel::run(self.responder, body, sides, limit).await;
                self.record(
                    Some(target),
                    &Outcome { bytes, received, ..relay.progress.outcome(upstream, self.started) },
                );
            }
            End::Received(response) => {
                let now =
                    self.record(Some(target), &relay.progress.outcome(upstream, self.started));
                if response.reusable && relay.progress.sent.get() && rest.is_empty() {
                    core.pool.keep(open.upstream(), connected.stream, now);
                }
            }
            end => {
                // Closes the connection to the instance, which so learns at once.
                drop((rest, connected));
                self.fail(&relay.progress, &end, target, upstream).await;
            }
        }
        Attempt::Ended
    }

    /// The same to one that speaks HTTP/2.
    async fn attempt_clear(
        &self,
        body: &mut StreamBody,
        open: &OpenRequest,
        place: &Place,
    ) -> Attempt {
        let (core, target) = (&self.session.core, &*open.target);
        if self.kind != Kind::Plain {
            let refusal = Answer::Page(Page::Refused(Refusal::Connect));
            self.respond(Some(target), &refusal, Outcome::default()).await;
            return Attempt::Ended;
        }
        let (response, stream) = match clear::open(place, self.head, self.request.has_body()).await
        {
            Ok(opened) => opened,
            Err(OpenError::Closed) => return Attempt::Again { fresh: false },
            Err(OpenError::Unsayable(refusal)) => {
                let refusal = Answer::Page(Page::Refused(refusal));
                self.respond(Some(target), &refusal, Outcome::default()).await;
                return Attempt::Ended;
            }
        };
        let relay = Relay::new(self.timer, &target.settings, core);
        let upstream = open.upstream().address;
        let mut sink = ClearSink { stream, ended: !self.request.has_body() };
        let mut answer = ClearAnswer::new(
            response,
            place,
            &core.clock,
            (self.asked(target), &relay.progress.sent),
        );
        let end = self.relay(&relay, (body, &mut sink), &mut answer).await;
        // Resets the stream to the instance if it has not ended.
        drop((sink, answer));
        end.note(place.reused, open.upstream(), core);
        match end {
            end if relay.progress.may_retry(&end, place.reused, self.request.replayable()) => {
                return Attempt::Again { fresh: end.is_closed() };
            }
            End::Received(_) => {
                self.record(Some(target), &relay.progress.outcome(upstream, self.started));
            }
            end => self.fail(&relay.progress, &end, target, upstream).await,
        }
        Attempt::Ended
    }

    async fn relay(
        &self,
        relay: &Relay<'_>,
        request: (&mut StreamBody, &mut impl Sink),
        answer: &mut impl relay::Answer,
    ) -> End {
        let mut client = StreamClient { responder: self.responder, kind: self.kind };
        let gone = |cx: &mut Context<'_>| self.responder.poll_gone(cx);
        relay.run(self.head, request, (answer, &mut client), gone).await
    }

    /// Tells the client what can still be told.
    async fn fail(&self, progress: &Progress, end: &End, target: &Target, upstream: SocketAddr) {
        let known = progress.outcome(upstream, self.started);
        let Some((page, detail)) = progress.page(end) else {
            self.session.meter.spend_reset();
            self.record(Some(target), &known.left());
            return;
        };
        if progress.answered.get() {
            // RFC 9113 §8.1.1: what is incomplete must not look complete.
            self.responder.reset(Reason::INTERNAL_ERROR);
            self.record(Some(target), &known.cut(page, detail));
        } else {
            self.respond(Some(target), &Answer::Page(page), Outcome { detail, ..known }).await;
        }
    }

    /// Answers the request ourselves, and records that; `known` is what else there is to say.
    async fn respond(&self, target: Option<&Target>, answer: &Answer, known: Outcome) {
        let (wants, request_id) = (self.request.wants, self.id());
        let scheme = self.admission.scheme;
        let rendered = answer.render(&Reader { wants, request_id, target, scheme });
        let asked = (request_id, self.request.method);
        let written = send_page(self.session, self.responder, self.timer, &rendered, asked).await;
        let page = Outcome::page(&rendered);
        let outcome =
            Outcome { aborted: !written, upstream: known.upstream, detail: known.detail, ..page };
        self.record(target, &outcome);
    }

    fn id(&self) -> &str {
        // Checked to be ASCII when it was read, or made by us.
        std::str::from_utf8(&self.head[self.request.id.clone()]).unwrap_or_default()
    }

    fn record(&self, target: Option<&Target>, outcome: &Outcome) -> Instant {
        let request = self.request;
        let sent = &self.head[request.target.clone()];
        let seen = Seen {
            started: self.started,
            started_ms: self.started_ms,
            request_id: self.id(),
            client: self.admission.client.as_deref().unwrap_or(self.session.client.text()),
            protocol: Protocol::Http2,
            tls: self.session.client.session.as_ref().map(|session| session.version),
            method: &self.head[request.method_name.clone()],
            host: request.host.as_str().as_bytes(),
            target: self.admission.asked_target().map_or(sent, str::as_bytes),
            referer: &self.head[request.referer.clone()],
            user_agent: &self.head[request.user_agent.clone()],
        };
        record::ended(&self.session.core, target, &seen, outcome)
    }
}
