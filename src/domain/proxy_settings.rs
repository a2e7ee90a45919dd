//! How an app's requests are treated: what `proxy:set` takes, by names that users of nginx and
//! Dokku guess.
//!
//! A setting is looked up in three places: the app's own, the operator's for all apps, the default.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AccessLogFormat, Bytes, Hostname, Invalid, IpRange, Millis, UpstreamProtocol};

/// The most addresses in one list: they are looked through for each request.
const MAX_RANGES: usize = 256;
/// The longest request head that the proxy can hold.
const MAX_HEAD: Bytes = Bytes(32 << 10);
/// The shortest request head: less, and ordinary browsers are refused.
const MIN_HEAD: Bytes = Bytes(1 << 10);
/// The longest timeout: a week, which outlasts any deploy.
const MAX_TIMEOUT: Millis = Millis(7 * 24 * 3_600_000);
/// Half a year, as Dokku's.
const DEFAULT_HSTS_AGE: u64 = 15_724_800;
/// Two years, as the browsers' preload lists recommend, and some.
const MAX_HSTS_AGE: u64 = 3 * 365 * 86_400;
/// What preload lists demand (hstspreload.org).
const MIN_PRELOAD_AGE: u64 = 31_536_000;

/// Stands for no limit.
pub const UNLIMITED: Bytes = Bytes(u64::MAX);

/// What is set in one place; `None`: not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "each is told by the key of the same name")]
pub struct ProxySettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<bool>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts_max_age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts_include_subdomains: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts_preload: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_host: Option<Hostname>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<IpRange>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<IpRange>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_proxies: Option<Vec<IpRange>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_open_requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_head: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_idle_timeout: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_idle_timeout: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_protocol: Option<UpstreamProtocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogFormat>,
}

/// The name of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKey {
    /// Whether plain HTTP is redirected to HTTPS where the domain has a certificate.
    HttpsRedirect,
    /// Whether answers over TLS carry `Strict-Transport-Security` (RFC 6797).
    Hsts,
    /// For how many seconds browsers remember it.
    HstsMaxAge,
    /// Whether it is for all subdomains as well.
    HstsIncludeSubdomains,
    /// Whether the domain wishes to be in the browsers' lists.
    HstsPreload,
    /// The domain that the app's other domains are redirected to.
    CanonicalHost,
    /// The clients that are served.
    Allow,
    /// The clients that are not.
    Deny,
    /// The proxies before ours, whose `X-Forwarded-*` are believed.
    TrustedProxies,
    /// Requests open at once.
    MaxOpenRequests,
    /// The longest request body.
    ClientMaxBodySize,
    /// The longest request head.
    ClientMaxHeaderSize,
    /// How long the app may take to begin its answer, and pause within a body.
    ProxyReadTimeout,
    /// How long both sides may pause within a body.
    BodyIdleTimeout,
    /// How long an upgraded connection may be silent.
    WebsocketIdleTimeout,
    /// What the app speaks.
    UpstreamProtocol,
    /// The shape of the access log.
    AccessLog,
}

use ProxyKey as Key;

impl ProxyKey {
    /// All keys, in the order of reports.
    pub const ALL: [Self; 17] = [
        Key::HttpsRedirect,
        Key::Hsts,
        Key::HstsMaxAge,
        Key::HstsIncludeSubdomains,
        Key::HstsPreload,
        Key::CanonicalHost,
        Key::Allow,
        Key::Deny,
        Key::TrustedProxies,
        Key::MaxOpenRequests,
        Key::ClientMaxBodySize,
        Key::ClientMaxHeaderSize,
        Key::ProxyReadTimeout,
        Key::BodyIdleTimeout,
        Key::WebsocketIdleTimeout,
        Key::UpstreamProtocol,
        Key::AccessLog,
    ];

    /// As `proxy:set` takes it.
    pub fn as_str(self) -> &'static str {
        self.names()[0]
    }

    /// Its name, and what else is understood: nginx's, Dokku's and other proxies' words.
    fn names(self) -> &'static [&'static str] {
        match self {
            Key::HttpsRedirect => &["https-redirect", "force-https", "ssl-redirect"],
            Key::Hsts => &["hsts"],
            Key::HstsMaxAge => &["hsts-max-age"],
            Key::HstsIncludeSubdomains => &["hsts-include-subdomains"],
            Key::HstsPreload => &["hsts-preload"],
            Key::CanonicalHost => &["canonical-host"],
            Key::Allow => &["allow"],
            Key::Deny => &["deny"],
            Key::TrustedProxies => &["trusted-proxies", "set-real-ip-from"],
            Key::MaxOpenRequests => &["max-open-requests", "max-connections", "limit-conn"],
            Key::ClientMaxBodySize => &["client-max-body-size", "max-body-size", "max-body"],
            Key::ClientMaxHeaderSize => &["client-max-header-size", "max-header-size", "max-head"],
            Key::ProxyReadTimeout => &["proxy-read-timeout", "response-timeout"],
            Key::BodyIdleTimeout => {
                &["body-idle-timeout", "client-body-timeout", "proxy-send-timeout", "send-timeout"]
            }
            Key::WebsocketIdleTimeout => &["websocket-idle-timeout", "tunnel-idle-timeout"],
            Key::UpstreamProtocol => &["upstream-protocol"],
            Key::AccessLog => &["access-log", "access-log-format"],
        }
    }
}

impl FromStr for ProxyKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let folded = text.to_ascii_lowercase().replace('_', "-");
        let found = Self::ALL.into_iter().find(|key| key.names().contains(&folded.as_str()));
        found.ok_or_else(|| {
            let keys: Vec<_> = Self::ALL.into_iter().map(Self::as_str).collect();
            let why = format!("does not exist; there are {}", keys.join(", "));
            Invalid::new("proxy property", text, why)
        })
    }
}

impl fmt::Display for ProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

super::invalid::text_serde!(ProxyKey);

impl ProxySettings {
    /// What is in force where nothing is set; what the proxy's configuration decides is `None`.
    pub fn defaults() -> Self {
        Self {
            https_redirect: Some(true),
            hsts: Some(true),
            hsts_max_age: Some(DEFAULT_HSTS_AGE),
            hsts_include_subdomains: Some(false),
            hsts_preload: Some(false),
            upstream_protocol: Some(UpstreamProtocol::Http1),
            access_log: Some(AccessLogFormat::Json),
            ..Self::default()
        }
    }

    /// These, and `other`'s where these are not set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            https_redirect: self.https_redirect.or(other.https_redirect),
            hsts: self.hsts.or(other.hsts),
            hsts_max_age: self.hsts_max_age.or(other.hsts_max_age),
            hsts_include_subdomains: self.hsts_include_subdomains.or(other.hsts_include_subdomains),
            hsts_preload: self.hsts_preload.or(other.hsts_preload),
            canonical_host: self.canonical_host.or(other.canonical_host),
            allow: self.allow.or(other.allow),
            deny: self.deny.or(other.deny),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            max_open_requests: self.max_open_requests.or(other.max_open_requests),
            max_body: self.max_body.or(other.max_body),
            max_head: self.max_head.or(other.max_head),
            read_timeout: self.read_timeout.or(other.read_timeout),
            body_idle_timeout: self.body_idle_timeout.or(other.body_idle_timeout),
            tunnel_idle_timeout: self.tunnel_idle_timeout.or(other.tunnel_idle_timeout),
            upstream_protocol: self.upstream_protocol.or(other.upstream_protocol),
            access_log: self.access_log.or(other.access_log),
        }
    }

    /// Sets `key` to what `value` says, or removes it.
    ///
    /// # Errors
    /// If `value` is not one of the key's.
    pub fn set(&mut self, key: ProxyKey, value: Option<&str>) -> Result<(), Invalid> {
        let value = value.map(|text| Value { key, text: text.trim() });
        let boolean = |value: Option<Value<'_>>| value.map(Value::boolean).transpose();
        let ranges = |value: Option<Value<'_>>| value.map(Value::ranges).transpose();
        let timeout = |value: Option<Value<'_>>| value.map(Value::timeout).transpose();
        match key {
            Key::HttpsRedirect => self.https_redirect = boolean(value)?,
            Key::Hsts => self.hsts = boolean(value)?,
            Key::HstsMaxAge => self.hsts_max_age = value.map(Value::age).transpose()?,
            Key::HstsIncludeSubdomains => self.hsts_include_subdomains = boolean(value)?,
            Key::HstsPreload => self.hsts_preload = boolean(value)?,
            Key::CanonicalHost => self.canonical_host = value.map(Value::host).transpose()?,
            Key::Allow => self.allow = ranges(value)?,
            Key::Deny => self.deny = ranges(value)?,
            Key::TrustedProxies => self.trusted_proxies = ranges(value)?,
            Key::MaxOpenRequests => self.max_open_requests = value.map(Value::count).transpose()?,
            Key::ClientMaxBodySize => self.max_body = value.map(Value::body_size).transpose()?,
            Key::ClientMaxHeaderSize => self.max_head = value.map(Value::head_size).transpose()?,
            Key::ProxyReadTimeout => self.read_timeout = timeout(value)?,
            Key::BodyIdleTimeout => self.body_idle_timeout = timeout(value)?,
            Key::WebsocketIdleTimeout => self.tunnel_idle_timeout = timeout(value)?,
            Key::UpstreamProtocol => {
                self.upstream_protocol = value.map(Value::protocol).transpose()?;
            }
            Key::AccessLog => self.access_log = value.map(Value::log).transpose()?,
        }
        Ok(())
    }

    /// What is set of `key`, in the form that [`ProxySettings::set`] takes.
    pub fn get(&self, key: ProxyKey) -> Option<String> {
        fn text(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        match key {
            Key::HttpsRedirect => text(self.https_redirect),
            Key::Hsts => text(self.hsts),
            Key::HstsMaxAge => text(self.hsts_max_age),
            Key::HstsIncludeSubdomains => text(self.hsts_include_subdomains),
            Key::HstsPreload => text(self.hsts_preload),
            Key::CanonicalHost => text(self.canonical_host.as_ref()),
            Key::Allow => self.allow.as_deref().map(list),
            Key::Deny => self.deny.as_deref().map(list),
            Key::TrustedProxies => self.trusted_proxies.as_deref().map(list),
            Key::MaxOpenRequests => text(self.max_open_requests),
            Key::ClientMaxBodySize => self.max_body.map(|size| match size {
                UNLIMITED => "unlimited".to_owned(),
                size => size.to_string(),
            }),
            Key::ClientMaxHeaderSize => text(self.max_head),
            Key::ProxyReadTimeout => self.read_timeout.map(span),
            Key::BodyIdleTimeout => self.body_idle_timeout.map(span),
            Key::WebsocketIdleTimeout => self.tunnel_idle_timeout.map(span),
            Key::UpstreamProtocol => text(self.upstream_protocol.map(UpstreamProtocol::as_str)),
            Key::AccessLog => text(self.access_log.map(AccessLogFormat::as_str)),
        }
    }

    /// Whether these, with all else that is in force, ask for what no preload list takes.
    ///
    /// # Errors
    /// What is missing (hstspreload.org).
    pub fn check_preload(&self) -> Result<(), Invalid> {
        let wants = self.hsts_preload == Some(true);
        let long = self.hsts_max_age.is_some_and(|age| age >= MIN_PRELOAD_AGE);
        match !wants || (long && self.hsts_include_subdomains == Some(true)) {
            true => Ok(()),
            false => {
                let why = format!(
                    "needs hsts-include-subdomains true and hsts-max-age {MIN_PRELOAD_AGE} or more"
                );
                Err(Invalid::new("hsts-preload", "true", why))
            }
        }
    }
}

fn list(ranges: &[IpRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// In the largest unit that leaves a whole number: `90s`, `2h`.
fn span(span: Millis) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(millis, _)| span.0 != 0 && span.0.is_multiple_of(*millis));
    match unit {
        Some((millis, name)) => format!("{}{name}", span.0 / millis),
        None => format!("{}ms", span.0),
    }
}

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
struct Value<'a> {
    key: ProxyKey,
    text: &'a str,
}

impl Value<'_> {
    fn invalid(self, why: impl Into<String>) -> Invalid {
        Invalid::new(self.key.as_str(), self.text, why)
    }

    fn boolean(self) -> Result<bool, Invalid> {
        match self.text {
            "true" | "on" | "yes" => Ok(true),
            "false" | "off" | "no" => Ok(false),
            _ => Err(self.invalid("must be `true` or `false`")),
        }
    }

    fn host(self) -> Result<Hostname, Invalid> {
        let host: Hostname = self.text.parse()?;
        match host.as_str().starts_with(['*', '_']) {
            true => Err(self.invalid("must be one host, without a wildcard")),
            false => Ok(host),
        }
    }

    fn ranges(self) -> Result<Vec<IpRange>, Invalid> {
        let words = self.text.split([',', ' ']).filter(|word| !word.is_empty());
        let ranges = words.map(str::parse).collect::<Result<Vec<IpRange>, _>>()?;
        match ranges.len() {
            0 => Err(self.invalid("must be addresses or networks such as `10.0.0.0/8`")),
            1..=MAX_RANGES => Ok(ranges),
            _ => Err(self.invalid(format!("must be {MAX_RANGES} addresses or networks at most"))),
        }
    }

    fn count(self) -> Result<u32, Invalid> {
        let count = self.text.parse().ok().filter(|count| *count > 0);
        count.ok_or_else(|| self.invalid("must be a number from 1"))
    }

    fn age(self) -> Result<u64, Invalid> {
        let age = self.text.parse().ok().filter(|age| *age <= MAX_HSTS_AGE);
        age.ok_or_else(|| self.invalid(format!("must be seconds from 0 to {MAX_HSTS_AGE}")))
    }

    fn body_size(self) -> Result<Bytes, Invalid> {
        match self.text {
            // nginx's way to say it.
            "0" | "unlimited" => Ok(UNLIMITED),
            _ => self.size(),
        }
    }

    fn head_size(self) -> Result<Bytes, Invalid> {
        let size = self.size()?;
        match (MIN_HEAD..=MAX_HEAD).contains(&size) {
            true => Ok(size),
            false => Err(self.invalid(format!("must be from {MIN_HEAD} to {MAX_HEAD}"))),
        }
    }

    /// A number without a unit is refused: nginx would take it for bytes, Dokku for megabytes.
    fn size(self) -> Result<Bytes, Invalid> {
        let invalid = || self.invalid("must be a number with its unit, such as `64k` or `10m`");
        match self.text.bytes().all(|c| c.is_ascii_digit()) {
            true => Err(invalid()),
            false => self.text.parse().map_err(|_| invalid()),
        }
    }

    fn timeout(self) -> Result<Millis, Invalid> {
        let invalid = || self.invalid("must be a time up to 7 days, such as `90s`, `5m` or `1h`");
        let digits = self.text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &self.text[digits.len()..] {
            "ms" => 1,
            // nginx's default unit.
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        let span = number.checked_mul(unit).map(Millis).ok_or_else(invalid)?;
        match (Millis(1)..=MAX_TIMEOUT).contains(&span) {
            true => Ok(span),
            false => Err(invalid()),
        }
    }

    fn protocol(self) -> Result<UpstreamProtocol, Invalid> {
        match self.text {
            "http1" | "http/1.1" => Ok(UpstreamProtocol::Http1),
            "h2c" | "http2" | "grpc" => Ok(UpstreamProtocol::H2c),
            _ => Err(self.invalid("must be `http1` or `h2c`")),
        }
    }

    fn log(self) -> Result<AccessLogFormat, Invalid> {
        match self.text {
            "json" => Ok(AccessLogFormat::Json),
            "combined" => Ok(AccessLogFormat::Combined),
            "off" => Ok(AccessLogFormat::Off),
            _ => Err(self.invalid("must be `json`, `combined` or `off`")),
        }
    }
}

#[cfg(test)]
mod tests;
