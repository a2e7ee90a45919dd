//! One request that has ended: counted and logged the same, whichever protocol it came by.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::AccessLogFormat;
use super::access_log::{Entry, Text};
use super::core::Core;
use super::metrics::Counted;
use super::page::{self, Page, Rendered};
use super::router::{Target, TargetState};

/// The status logged for a client that left before its answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// Its code.
pub(super) const CLIENT_LEFT_CODE: &str = "client-left";

/// The protocol between client and proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    /// As access logs name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// What is known of a request, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// When its head was whole.
    pub(super) started: Instant,
    /// The same in milliseconds of Unix time.
    pub(super) started_ms: i64,
    pub(super) request_id: &'a str,
    /// The client's address: the peer's, or what a trusted proxy said.
    pub(super) client: &'a str,
    pub(super) protocol: Protocol,
    /// The version of TLS, if it was used: `TLSv1.3`.
    pub(super) tls: Option<&'static str>,
    pub(super) method: &'a [u8],
    pub(super) host: &'a [u8],
    /// Path and query as the client sent them.
    pub(super) target: &'a [u8],
    pub(super) referer: &'a [u8],
    pub(super) user_agent: &'a [u8],
}

/// How a request ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// Bytes of body that were sent to the client.
    pub(super) bytes: u64,
    /// Bytes of body that came from the client.
    pub(super) received: u64,
    /// The answer was cut short.
    pub(super) aborted: bool,
    pub(super) upstream: Option<SocketAddr>,
    /// From the request's start until the head of the instance's answer.
    pub(super) upstream_ms: Option<u64>,
    pub(super) error: Option<&'static str>,
    pub(super) detail: Option<&'static str>,
}

impl Outcome {
    /// Of a page of ours.
    pub(super) fn page(page: &Rendered) -> Self {
        Self {
            status: page.status,
            bytes: page.body.len() as u64,
            error: page.code,
            ..Self::default()
        }
    }

    /// The same where the client has left.
    pub(super) fn left(self) -> Self {
        let status = if self.status == 0 { CLIENT_LEFT } else { self.status };
        Self { status, aborted: true, error: Some(CLIENT_LEFT_CODE), ..self }
    }

    /// The same where the answer was cut short, for which `page` comes too late.
    pub(super) fn cut(self, page: Page, detail: Option<&'static str>) -> Self {
        Self { aborted: true, error: Some(page.code()), detail, ..self }
    }
}

/// Counts and logs a request that has ended, which is when it returns; `target` is `None` if no app
/// has its host.
pub(super) fn ended(
    core: &Core,
    target: Option<&Target>,
    seen: &Seen<'_>,
    outcome: &Outcome,
) -> Instant {
    let now = Instant::now();
    let duration = now.saturating_duration_since(seen.started);
    match target {
        Some(target) => {
            let counted = Counted {
                protocol: seen.protocol,
                status: outcome.status,
                aborted: outcome.aborted,
                received: outcome.received,
                sent: outcome.bytes,
                duration,
            };
            target.counters.count(core.index, &counted);
        }
        None => increment_shared(&core.shared.unknown_host),
    }
    count_error(core, outcome.error);
    let format = target.map_or(AccessLogFormat::Json, |target| target.settings.access_log);
    if core.log.is_on() && format != AccessLogFormat::Off {
        log(core, target, seen, (outcome, duration));
    }
    now
}

fn log(
    core: &Core,
    target: Option<&Target>,
    seen: &Seen<'_>,
    (outcome, duration): (&Outcome, Duration),
) {
    let release = match target.map(|target| &target.state) {
        Some(TargetState::Live { release, .. }) => Some(release.0),
        _ => None,
    };
    let whose = target.map(|target| (&target.log, target.settings.access_log));
    let entry = Entry {
        time: &core.clock.rfc3339(seen.started_ms),
        request_id: seen.request_id,
        app: target.map(|target| target.app.as_str()),
        release,
        client: seen.client,
        protocol: Some(seen.protocol.as_str()),
        tls: seen.tls,
        method: Text(seen.method),
        host: Text(seen.host),
        target: Text(seen.target),
        referer: Text(seen.referer),
        user_agent: Text(seen.user_agent),
        status: outcome.status,
        bytes: outcome.bytes,
        received: outcome.received,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        upstream: outcome.upstream,
        upstream_ms: outcome.upstream_ms,
        error: outcome.error,
        detail: outcome.detail,
    };
    core.log.add(whose, &entry);
}

/// Counts and logs bytes that are no request, which were answered with `page`.
pub(super) fn refused(core: &Core, client: &str, request_id: &str, page: &Rendered) {
    increment_shared(&core.shared.bad_request);
    count_error(core, page.code);
    if !core.log.is_on() {
        return;
    }
    let entry = Entry {
        time: &core.clock.rfc3339(core.clock.now_ms()),
        request_id,
        app: None,
        release: None,
        client,
        protocol: None,
        tls: None,
        method: Text(b""),
        host: Text(b""),
        target: Text(b""),
        referer: Text(b""),
        user_agent: Text(b""),
        status: page.status,
        bytes: page.body.len() as u64,
        received: 0,
        duration_ms: 0,
        upstream: None,
        upstream_ms: None,
        error: page.code,
        detail: None,
    };
    core.log.add(None, &entry);
}

/// Counts what a client was told instead of an app's answer.
fn count_error(core: &Core, code: Option<&'static str>) {
    let index = code.and_then(|code| page::CODES.iter().position(|known| *known == code));
    if let Some(counter) = index.and_then(|index| core.shared.errors.get(index)) {
        increment_shared(counter);
    }
}

/// For counters that several cores write, off the usual path.
fn increment_shared(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
