//! Whether a request may go where it wants to: one decision for every protocol.
//!
//! The caller reads a request, asks [`admit`], and then either forwards it as [`Admitted`] says or
//! sends the [`Answer`]. The questions, in this order; the first one that has an answer ends it:
//!
//! 1. Is it a certificate authority's, about a name of ours? The challenge's answer, before
//!    anything that an app's settings could put in its way.
//! 2. Whose host and path is it? 404; 400 for a path that can be read in two ways.
//! 3. Do the route's lists let the client in? 403.
//! 4. Is the route in maintenance? 503.
//! 5. Should it have gone to HTTPS, or to the canonical host? One redirect to the final URL.
//! 6. Who is it, where the route asks for a password? 401. After 5, so that nobody is asked in clear
//!    where there is a better way, and once, on the host where the browser will remember it.
//! 7. Are head and body short enough? 431, 413.
//! 8. Is there an instance? 503 with the app's state.
//! 9. Is there a place among the open requests? 503.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::domain::Scheme;

use super::ListenerName;
use super::core::Core;
use super::gate::Entry;
use super::http::host::FoldedHost;
use super::http::request::{Claims, Forwarding, Method, Refusal};
use super::page::Page;
use super::router::{Bound, Found, Permit, Router, Target};

/// Where http-01 challenges are looked for, RFC 8555 §8.3.
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// The most proxies in a row that a client's address is looked for behind.
const MAX_HOPS: usize = 32;

/// What is known of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) peer: IpAddr,
    /// The same as text.
    pub(super) peer_text: &'a str,
    pub(super) listener: ListenerName,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    pub(super) host: &'a FoldedHost,
    /// The same as the client wrote it, with its port.
    pub(super) authority: &'a str,
    /// Path and query, origin form.
    pub(super) target: &'a str,
    /// Bytes of its head.
    pub(super) head_length: usize,
    pub(super) content_length: Option<u64>,
    /// Its `Authorization`, if there is one and one only.
    pub(super) authorization: Option<&'a [u8]>,
    /// Its `X-Forwarded-*`.
    pub(super) claims: &'a Claims<'a>,
}

/// What was found out about a request.
#[derive(Debug)]
pub(super) struct Admission {
    /// The client's address, where a trusted proxy knows it better than the connection.
    pub(super) client: Option<String>,
    /// Whether the peer may say `X-Forwarded-*`.
    pub(super) peer_trusted: bool,
    /// How the client came: the connection's scheme, or what a trusted proxy said.
    pub(super) scheme: Scheme,
    pub(super) decision: Decision,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Decision {
    /// An instance.
    Forward(Admitted),
    /// We do.
    Answer {
        answer: Answer,
        /// Whose request it was.
        target: Option<Arc<Target>>,
    },
}

/// A request that goes to an instance. To be kept until it has ended.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) target: Arc<Target>,
    /// Path and query for the instance, where they are not the client's.
    pub(super) rewritten: Option<Rewritten>,
    /// Whether its `Authorization` was for us.
    authorized: bool,
    /// Its place among the target's open requests.
    _permit: Option<Permit>,
    core: usize,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.target.counters.closed(self.core);
    }
}

/// A request target that was normalized, or stripped of its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// What the client sent.
    pub(super) asked: String,
    /// What the instance gets.
    pub(super) target: String,
    /// What was taken away: `X-Forwarded-Prefix`.
    pub(super) prefix: Option<String>,
}

impl Admission {
    /// Of a request on a connection that was made for another name.
    pub(super) fn misdirected() -> Self {
        let answer = Answer::Page(Page::Misdirected);
        let decision = Decision::Answer { answer, target: None };
        Self { client: None, peer_trusted: false, scheme: Scheme::Https, decision }
    }

    /// What the instance is told of the request's way; without the request's id and start.
    pub(super) fn forwarding<'a>(
        &'a self,
        arrival: &Arrival<'a>,
        asked: &Asked<'a>,
    ) -> Forwarding<'a> {
        let rewritten = self.rewritten();
        Forwarding {
            peer: arrival.peer_text,
            proto: arrival.scheme.as_str(),
            port: arrival.port,
            trusted: self.peer_trusted.then_some(asked.claims),
            prefix: rewritten.and_then(|rewritten| rewritten.prefix.as_deref()),
            target: rewritten.map(|rewritten| rewritten.target.as_str()),
            authorized: matches!(&self.decision, Decision::Forward(admitted) if admitted.authorized),
            request_id: "",
            start_ms: 0,
        }
    }

    /// Path and query as the client sent them, where the instance gets others.
    pub(super) fn asked_target(&self) -> Option<&str> {
        self.rewritten().map(|rewritten| rewritten.asked.as_str())
    }

    fn rewritten(&self) -> Option<&Rewritten> {
        match &self.decision {
            Decision::Forward(admitted) => admitted.rewritten.as_ref(),
            Decision::Answer { .. } => None,
        }
    }
}

/// What we answer ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Page(Page),
    /// To another URL.
    Redirect {
        status: u16,
        location: String,
    },
    /// The key authorization of RFC 8555 §8.3.
    Challenge(String),
}

/// Decides about a request.
pub(super) fn admit(core: &Core, arrival: &Arrival<'_>, asked: &Asked<'_>) -> Admission {
    let router = core.shared.routes.of_core(core.index);
    let mine = |answer, target| Admission {
        client: None,
        peer_trusted: false,
        scheme: arrival.scheme,
        decision: Decision::Answer { answer, target },
    };
    if let Some(answer) = challenge(&router, asked) {
        return mine(answer, None);
    }
    let (bound, path) = match router.find(arrival.listener, asked.host.as_str(), asked.target) {
        Found::Bound { bound, path } => (bound, path),
        Found::Nothing => return mine(Answer::Page(Page::UnknownHost), None),
        Found::Ambiguous => {
            let refusal = Refusal::Malformed("its path can be read in two ways");
            return mine(Answer::Page(Page::Refused(refusal)), None);
        }
    };
    let target = &bound.target;
    let peer_trusted = target.settings.trusts(arrival.peer);
    let visitor = match peer_trusted {
        true => Visitor::behind_proxy(arrival, asked, target),
        false => {
            Visitor { client: arrival.peer, scheme: arrival.scheme, authority: asked.authority }
        }
    };
    let https_port = core.shared.https_port;
    let decision = match decide(&router, bound, arrival, asked, &visitor, https_port) {
        Ok((entry, permit)) => {
            target.counters.opened(core.index);
            Decision::Forward(Admitted {
                target: Arc::clone(target),
                rewritten: path.map(|path| Rewritten {
                    asked: asked.target.to_owned(),
                    target: path.target,
                    prefix: path.prefix,
                }),
                authorized: entry == Entry::User,
                _permit: permit,
                core: core.index,
            })
        }
        Err(answer) => Decision::Answer { answer, target: Some(Arc::clone(target)) },
    };
    let client = (visitor.client != arrival.peer).then(|| visitor.client.to_string());
    Admission { client, peer_trusted, scheme: visitor.scheme, decision }
}

/// Questions 3 to 9, to the route that has the request.
///
/// # Errors
/// The answer that ends it.
fn decide(
    router: &Router,
    bound: &Bound,
    arrival: &Arrival<'_>,
    asked: &Asked<'_>,
    visitor: &Visitor<'_>,
    https_port: Option<u16>,
) -> Result<(Entry, Option<Permit>), Answer> {
    let target = &*bound.target;
    let settings = &target.settings;
    if !settings.admits(visitor.client) {
        return Err(Answer::Page(Page::Forbidden));
    }
    if settings.maintenance {
        return Err(Answer::Page(Page::Maintenance));
    }
    let https_port = https_port
        .filter(|_| settings.https_redirect && bound.has_certificate)
        .filter(|_| arrival.listener == ListenerName::Http && visitor.scheme == Scheme::Http);
    if let Some(redirect) = redirect(router, target, asked, visitor, https_port) {
        return Err(redirect);
    }
    let entry = match &settings.gate {
        Some(gate) => gate.judge(asked.authorization, visitor.client),
        None => Entry::Exempt,
    };
    if entry == Entry::Refused {
        return Err(Answer::Page(Page::Unauthorized));
    }
    if asked.head_length > settings.max_head {
        return Err(Answer::Page(Page::Refused(Refusal::TooLarge)));
    }
    let body_limit = settings.max_body.unwrap_or(u64::MAX);
    if asked.content_length.is_some_and(|length| length > body_limit) {
        return Err(Answer::Page(Page::BodyTooLarge));
    }
    if let Some(page) = target.page() {
        return Err(Answer::Page(page));
    }
    let permit = target.take_place().map_err(|_| Answer::Page(Page::Busy))?;
    Ok((entry, permit))
}

/// The answer to a certificate authority.
fn challenge(router: &Router, asked: &Asked<'_>) -> Option<Answer> {
    let token = asked.target.strip_prefix(CHALLENGE_PATH)?;
    if !matches!(asked.method, Method::Get | Method::Head) {
        return None;
    }
    let answer = router.http_challenge(asked.host.as_str(), token)?;
    Some(Answer::Challenge(answer.to_owned()))
}

/// Who asks, and what for, once proxies before us are taken into account.
struct Visitor<'a> {
    client: IpAddr,
    scheme: Scheme,
    authority: &'a str,
}

impl<'a> Visitor<'a> {
    /// As the trusted peer says.
    fn behind_proxy(arrival: &Arrival<'_>, asked: &Asked<'a>, target: &Target) -> Self {
        let claims = asked.claims;
        let scheme = match claims.proto {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ => arrival.scheme,
        };
        let host = claims.host.and_then(|host| std::str::from_utf8(host).ok());
        let authority = host.filter(|host| FoldedHost::parse(host).is_some());
        Self {
            client: client_behind(arrival.peer, &claims.forwarded_for, target),
            scheme,
            authority: authority.unwrap_or(asked.authority),
        }
    }
}

/// Walks the proxies from us to the client: the first one that is not trusted is whom we serve.
/// What it says of others is its own business.
fn client_behind(peer: IpAddr, forwarded_for: &[&[u8]], target: &Target) -> IpAddr {
    let hops = forwarded_for.iter().rev().flat_map(|value| value.rsplit(|&c| c == b','));
    let mut client = peer;
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = hop_address(hop.trim_ascii()) else { break };
        client = address;
        if !target.settings.trusts(address) {
            break;
        }
    }
    client
}

/// An address, perhaps in brackets, perhaps with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// One redirect to where the request should have gone, scheme and host at once.
fn redirect(
    router: &Router,
    target: &Target,
    asked: &Asked<'_>,
    visitor: &Visitor<'_>,
    https_port: Option<u16>,
) -> Option<Answer> {
    let (name, port) = match visitor.authority.rfind(':') {
        Some(at) if !visitor.authority[at..].contains(']') => visitor.authority.split_at(at),
        _ => (visitor.authority, ""),
    };
    let canonical = target.settings.canonical_host.as_ref().map(|host| host.as_str());
    let canonical = canonical.filter(|host| *host != asked.host.as_str());
    // Without a certificate for the canonical host, HTTPS there would be refused.
    let https_port =
        https_port.filter(|_| canonical.is_none_or(|host| router.has_certificate(host)));
    if canonical.is_none() && https_port.is_none() {
        return None;
    }
    let host = canonical.unwrap_or(name);
    if host.is_empty() {
        // HTTP/1.0 without a Host: there is no URL to name.
        return None;
    }
    let (scheme, port) = match https_port {
        Some(443) => (Scheme::Https, String::new()),
        Some(port) => (Scheme::Https, format!(":{port}")),
        None => (visitor.scheme, port.to_owned()),
    };
    let default_port = if scheme == Scheme::Https { ":443" } else { ":80" };
    let port = if port == default_port || port == ":" { "" } else { &port };
    // RFC 9110 §15.4.9: after 301 a browser may turn POST into GET, after 308 it may not.
    let status = if matches!(asked.method, Method::Get | Method::Head) { 301 } else { 308 };
    let path = if asked.target.starts_with('/') { asked.target } else { "/" };
    let location = format!("{}://{host}{port}{}", scheme.as_str(), url_safe(path));
    Some(Answer::Redirect { status, location })
}

/// A request target as part of a header and of a text: nothing but visible ASCII.
fn url_safe(target: &str) -> String {
    let mut safe = String::with_capacity(target.len());
    for byte in target.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'#' | 0..=0x20 | 0x7f.. => {
                safe.push_str(&format!("%{byte:02X}"));
            }
            byte => safe.push(char::from(byte)),
        }
    }
    safe
}
