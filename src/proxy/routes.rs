//! The route table as the control plane states it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use crate::domain::{AccessLogFormat, PageOccasion};
use crate::domain::{
    AppName, Bytes, CertificateId, Credential, Hostname, IpRange, Millis, PathPrefix, ProcessType,
    ReleaseVersion, RouteChange, Scheme, UpstreamProtocol,
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
    /// Who has to give a name and a password (RFC 7617); empty: nobody is asked. Not written where
    /// empty: a proxy of an earlier version knows no such field, and refuses a table in which it
    /// would have to ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub basic_auth: Vec<Credential>,
    /// Clients that come in without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub basic_auth_bypass: Vec<IpRange>,
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

impl RouteSettings {
    /// Puts a plugin's wish in force. Lists and limits that are set already hold as well: whatever
    /// plugins say, and in whatever order, a client that `self` keeps out stays out.
    pub fn narrow(&mut self, change: &RouteChange) {
        if !change.basic_auth.is_empty() {
            self.bypass_of_both(&change.basic_auth_bypass);
            self.basic_auth.extend(change.basic_auth.iter().cloned());
        }
        if !change.allow_ips.is_empty() {
            self.allow_of_both(&change.allow_ips);
        }
        self.deny.extend(&change.deny_ips);
        self.maintenance |= change.maintenance;
        if let Some(limit) = change.max_open_requests {
            let before = self.max_open_requests.unwrap_or(u32::MAX);
            self.max_open_requests = Some(before.min(limit.get()));
        }
    }

    /// Of two plugins that ask for passwords, one must not open the other's door by an address.
    fn bypass_of_both(&mut self, bypass: &[IpRange]) {
        self.basic_auth_bypass = match self.basic_auth.is_empty() {
            true => bypass.to_vec(),
            false => intersection(&self.basic_auth_bypass, bypass),
        };
    }

    fn allow_of_both(&mut self, allow: &[IpRange]) {
        if self.allow.is_empty() {
            self.allow = allow.to_vec();
            return;
        }
        let both = intersection(&self.allow, allow);
        if both.is_empty() {
            // An empty list would let everybody in.
            self.deny.extend([IpRange::ALL_V4, IpRange::ALL_V6]);
        } else {
            self.allow = both;
        }
    }
}

fn intersection(one: &[IpRange], other: &[IpRange]) -> Vec<IpRange> {
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| (one, other)));
    let mut both: Vec<IpRange> = pairs.filter_map(|(one, other)| one.intersection(other)).collect();
    both.dedup();
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(json: &str) -> RouteChange {
        serde_json::from_str(json).unwrap()
    }

    fn ranges(list: &[IpRange]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn narrowed(settings: &RouteSettings, json: &str) -> RouteSettings {
        let mut settings = settings.clone();
        settings.narrow(&change(json));
        settings
    }

    fn user(name: &str) -> String {
        format!(r#"{{"user":"{name}","salt":"{}","sha256":"{}"}}"#, "00".repeat(8), "00".repeat(32))
    }

    #[test]
    fn a_change_of_nothing_changes_nothing() {
        let settings = RouteSettings { max_open_requests: Some(3), ..RouteSettings::default() };
        assert_eq!(narrowed(&settings, "{}"), settings);
        // Without passwords there is nothing to pass by.
        assert_eq!(narrowed(&settings, r#"{"basic_auth_bypass":["::1"]}"#), settings);
    }

    #[test]
    fn lists_of_addresses_hold_together() {
        let open = RouteSettings::default();
        let office = narrowed(&open, r#"{"allow_ips":["10.0.0.0/8","192.0.2.1"]}"#);
        assert_eq!(ranges(&office.allow), ["10.0.0.0/8", "192.0.2.1"]);
        let both = narrowed(&office, r#"{"allow_ips":["10.1.0.0/16","192.0.0.0/8","::1"]}"#);
        assert_eq!(ranges(&both.allow), ["10.1.0.0/16", "192.0.2.1"]);
        assert_eq!(both.deny, []);
        let nobody = narrowed(&office, r#"{"allow_ips":["::1"],"deny_ips":["10.0.0.1"]}"#);
        assert_eq!(ranges(&nobody.allow), ["10.0.0.0/8", "192.0.2.1"]);
        assert_eq!(ranges(&nobody.deny), ["0.0.0.0/0", "::/0", "10.0.0.1"]);
    }

    #[test]
    fn limits_only_get_lower_and_maintenance_only_on() {
        let open = RouteSettings::default();
        let limited = narrowed(&open, r#"{"max_open_requests":5}"#);
        assert_eq!(limited.max_open_requests, Some(5));
        assert_eq!(narrowed(&limited, r#"{"max_open_requests":9}"#).max_open_requests, Some(5));
        assert_eq!(narrowed(&limited, r#"{"max_open_requests":2}"#).max_open_requests, Some(2));
        let closed = narrowed(&open, r#"{"maintenance":true}"#);
        assert!(closed.maintenance);
        assert!(narrowed(&closed, r#"{"maintenance":false}"#).maintenance);
    }

    #[test]
    fn nobody_passes_by_the_passwords_of_another_plugin() {
        let change = |name: &str, bypass: &str| {
            format!(r#"{{"basic_auth":[{}],"basic_auth_bypass":[{bypass}]}}"#, user(name))
        };
        let open = RouteSettings::default();
        let first = narrowed(&open, &change("ada", r#""10.0.0.0/8""#));
        assert_eq!(ranges(&first.basic_auth_bypass), ["10.0.0.0/8"]);
        let both = narrowed(&first, &change("bob", r#""10.1.0.0/16","::1""#));
        assert_eq!(ranges(&both.basic_auth_bypass), ["10.1.0.0/16"]);
        let users: Vec<_> = both.basic_auth.iter().map(Credential::user).collect();
        assert_eq!(users, ["ada", "bob"]);
        let neither = narrowed(&first, &change("bob", ""));
        assert_eq!(neither.basic_auth_bypass, []);
    }

    #[test]
    fn a_table_without_passwords_is_as_earlier_versions_know_it() {
        let json = serde_json::to_string(&RouteSettings::default()).unwrap();
        assert!(!json.contains("basic_auth"), "{json}");
        let asking =
            narrowed(&RouteSettings::default(), &format!(r#"{{"basic_auth":[{}]}}"#, user("ada")));
        let json = serde_json::to_string(&asking).unwrap();
        assert_eq!(serde_json::from_str::<RouteSettings>(&json).unwrap(), asking);
    }
}
