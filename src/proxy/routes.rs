//! The route table as the control plane states it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use crate::domain::{AccessLogFormat, PageOccasion};
use crate::domain::{
    AppName, Bytes, CertificateId, Hostname, IpRange, Millis, PathPrefix, ProcessType,
    ReleaseVersion, Scheme, UpstreamProtocol,
};

/// Every route of the machine. Replaced as a whole; a higher version wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every change; a lower one than the version in force is refused.
    pub version: u64,
    /// Ports beyond those of the configuration (`ports:add`); bound when the process starts, so a
    /// change of them is an upgrade of the process.
    #[serde(default)]
    pub listeners: Vec<ExtraListener>,
    /// One for each app and process type that is reached from outside.
    pub routes: Vec<Route>,
    /// What certificate authorities ask for at this moment.
    #[serde(default)]
    pub challenges: Vec<Challenge>,
}

/// A port that some app asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtraListener {
    /// The port, on all addresses.
    pub port: u16,
    /// What is spoken on it.
    pub scheme: Scheme,
}

/// Where requests for some domains go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The app, for logs, counters and pages.
    pub app: AppName,
    /// Which of its processes answers.
    pub process_type: ProcessType,
    /// Where it is found. The most exact match wins.
    pub bindings: Vec<Binding>,
    /// How its requests are treated.
    pub settings: RouteSettings,
    /// What answers.
    pub state: RouteState,
}

/// A name, and a path below it, under which a route is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Exact, `*.wildcard`, or `_`.
    pub domain: Hostname,
    /// The longest one that a path begins with, segment by segment, wins.
    #[serde(default)]
    pub path: PathPrefix,
    /// Whether the app sees paths without the prefix; it gets it as `X-Forwarded-Prefix`.
    #[serde(default)]
    pub strip_path: bool,
    /// On which ports.
    pub listeners: Vec<ListenerName>,
    /// What is shown to clients that ask for the domain over TLS; without one their handshake is
    /// refused. The same for all bindings of a domain. A file `<id>.pem`, chain and key, in
    /// `certificates/` of the data directory.
    #[serde(default)]
    pub certificate: Option<CertificateId>,
}

/// A port as a binding names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerName {
    /// All of `[proxy] http_listen`.
    Http,
    /// All of `[proxy] https_listen`.
    Https,
    /// One of the table's own.
    Port(u16),
}

/// How an app's requests are treated; what is `None` is as the proxy's configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Whether plain HTTP is answered by a redirect to HTTPS; only for domains with a certificate.
    pub https_redirect: bool,
    /// `Strict-Transport-Security` (RFC 6797) on answers over TLS, unless the app sends its own.
    pub hsts: Option<Hsts>,
    /// The host that requests for all other domains of the route are redirected to.
    pub canonical_host: Option<Hostname>,
    /// Clients that are served; empty: all.
    pub allow: Vec<IpRange>,
    /// Clients that are not, whatever `allow` says.
    pub deny: Vec<IpRange>,
    /// Proxies before us, whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpRange>,
    /// Requests open at once, over all instances; more are answered 503 with `Retry-After`.
    pub max_open_requests: Option<u32>,
    /// The longest request body; longer ones are answered 413.
    pub max_body: Option<Bytes>,
    /// The longest request head, up to 32 KiB; longer ones are answered 431.
    pub max_head: Option<Bytes>,
    /// From the end of the request to the head of the answer.
    pub response_head_timeout: Option<Millis>,
    /// The longest pause inside the body of a request, and of an answer of known length.
    pub body_idle_timeout: Option<Millis>,
    /// The longest silence on an upgraded connection, and inside an answer without a length.
    pub tunnel_idle_timeout: Option<Millis>,
    /// What the instances speak.
    pub upstream_protocol: UpstreamProtocol,
    /// Every request is answered 503 by the maintenance page.
    pub maintenance: bool,
    /// Pages of the app's own.
    pub pages: Vec<CustomPage>,
    /// Whether and how its requests are logged.
    pub access_log: AccessLogFormat,
}

/// RFC 6797 §6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    /// Seconds.
    pub max_age_s: u64,
    /// For all subdomains as well.
    pub include_subdomains: bool,
    /// The wish to be in the browsers' lists.
    pub preload: bool,
}

/// A page that replaces one of ours, for clients that want HTML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomPage {
    /// What it stands for.
    pub when: PageOccasion,
    /// The file `<id>.html` in `pages/` of the data directory: SHA-256 of its content, in hex.
    pub id: String,
}

/// Something a certificate authority looks for to know that a name is ours (RFC 8555 §8,
/// RFC 8737).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Challenge {
    /// `GET http://<domain>/.well-known/acme-challenge/<token>` is answered by `answer`, whatever
    /// the domain's app does.
    #[serde(rename = "http-01")]
    Http01 {
        /// The name in question.
        domain: Hostname,
        /// The path's last segment.
        token: String,
        /// The key authorization.
        answer: String,
    },
    /// A TLS handshake for `domain` with the one protocol `acme-tls/1` gets `certificate`.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01 {
        /// The name in question.
        domain: Hostname,
        /// A file like those of bindings.
        certificate: CertificateId,
    },
}

/// What stands behind a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RouteState {
    /// Instances that are ready.
    Live {
        /// The release they run, for the access log.
        release: ReleaseVersion,
        /// Their addresses, each a different one.
        upstreams: Vec<SocketAddr>,
    },
    /// Stopped by its owner (`ps:stop`, or scaled to nothing).
    Stopped,
    /// Every instance keeps crashing.
    Crashed {
        /// For the log; visitors do not see it.
        reason: String,
    },
    /// The first deploy is under way, or nothing was deployed yet.
    Deploying,
}

impl Route {
    /// A web process under `domains`, on the configured ports, with default settings.
    pub fn web(app: AppName, domains: Vec<Hostname>, state: RouteState) -> Self {
        let binding = |domain| Binding {
            domain,
            path: PathPrefix::root(),
            strip_path: false,
            listeners: vec![ListenerName::Http, ListenerName::Https],
            certificate: None,
        };
        Self {
            app,
            process_type: ProcessType::web(),
            bindings: domains.into_iter().map(binding).collect(),
            settings: RouteSettings::default(),
            state,
        }
    }
}
