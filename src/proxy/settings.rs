//! A route's settings as requests need them: every default filled in, every page read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{Hostname, IpRange, Millis, UpstreamProtocol};

use super::gate::Gate;
use super::http::MAX_HEAD;
use super::http::body::Framing;
use super::{AccessLogFormat, Config, Hsts, PageOccasion, RouteSettings};

/// Compiled [`RouteSettings`].
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) https_redirect: bool,
    /// The value of `Strict-Transport-Security`.
    pub(super) hsts: Option<Box<str>>,
    pub(super) canonical_host: Option<Hostname>,
    allow: Box<[IpRange]>,
    deny: Box<[IpRange]>,
    /// `None` where nobody is asked for a password.
    pub(super) gate: Option<Arc<Gate>>,
    trusted_proxies: Box<[IpRange]>,
    pub(super) max_open_requests: Option<u64>,
    pub(super) max_body: Option<u64>,
    pub(super) max_head: usize,
    pub(super) response_head_timeout: Duration,
    pub(super) body_idle_timeout: Duration,
    pub(super) tunnel_idle_timeout: Duration,
    pub(super) upstream_protocol: UpstreamProtocol,
    pub(super) maintenance: bool,
    pages: Box<[(PageOccasion, Arc<str>)]>,
    pub(super) access_log: AccessLogFormat,
}

impl Settings {
    /// Compiles `settings`; `page` finds the text of an app's own page.
    pub(super) fn compile(
        settings: &RouteSettings,
        config: &Config,
        mut page: impl FnMut(&str) -> Option<Arc<str>>,
    ) -> Self {
        let or = |own: Option<Millis>, default: Millis| Duration::from(own.unwrap_or(default));
        let max_head = settings.max_head.map_or(MAX_HEAD as u64, |bytes| bytes.0);
        let pages = settings.pages.iter();
        Self {
            https_redirect: settings.https_redirect,
            hsts: settings.hsts.map(hsts_value),
            canonical_host: settings.canonical_host.clone(),
            allow: settings.allow.clone().into(),
            deny: settings.deny.clone().into(),
            gate: Gate::compile(settings).map(Arc::new),
            trusted_proxies: settings.trusted_proxies.clone().into(),
            max_open_requests: settings.max_open_requests.map(u64::from),
            max_body: settings.max_body.map(|bytes| bytes.0),
            max_head: usize::try_from(max_head).unwrap_or(MAX_HEAD).min(MAX_HEAD),
            response_head_timeout: or(
                settings.response_head_timeout,
                config.response_head_timeout_ms,
            ),
            body_idle_timeout: or(settings.body_idle_timeout, config.body_idle_timeout_ms),
            tunnel_idle_timeout: or(settings.tunnel_idle_timeout, config.tunnel_idle_timeout_ms),
            upstream_protocol: settings.upstream_protocol,
            maintenance: settings.maintenance,
            pages: pages.filter_map(|own| Some((own.when, page(&own.id)?))).collect(),
            access_log: settings.access_log,
        }
    }

    /// How long an instance may be silent inside an answer. One whose length it has announced has an
    /// end, and silence is a fault; one without is a stream, as server-sent events, and silent for as
    /// long as there is nothing to tell.
    pub(super) fn answer_pause(&self, framing: Framing) -> Duration {
        match framing {
            Framing::None | Framing::Length(_) => self.body_idle_timeout,
            Framing::Chunked | Framing::UntilClose => self.tunnel_idle_timeout,
        }
    }

    /// How long a client may be silent inside its request. Once there is an answer to it the two are
    /// a conversation, as in gRPC.
    pub(super) fn request_pause(&self, is_answered: bool) -> Duration {
        if is_answered { self.tunnel_idle_timeout } else { self.body_idle_timeout }
    }

    /// Whether the lists let `client` in.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let names = |ranges: &[IpRange]| ranges.iter().any(|range| range.contains(client));
        (self.allow.is_empty() || names(&self.allow)) && !names(&self.deny)
    }

    /// Whether `peer` may say on whose behalf it asks.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|range| range.contains(peer))
    }

    /// The app's own page for `occasion`.
    pub(super) fn page(&self, occasion: PageOccasion) -> Option<&str> {
        let page = self.pages.iter().find(|(when, _)| *when == occasion);
        page.map(|(_, text)| &**text)
    }
}

/// RFC 6797 §6.1.
fn hsts_value(hsts: Hsts) -> Box<str> {
    let subdomains = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    format!("max-age={}{subdomains}{preload}", hsts.max_age_s).into()
}
