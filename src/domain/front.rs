//! What stands between an app and the web: path prefixes, ports, certificates, networks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Hostname, Invalid, PortMap, ProcessType, ProxySettings};

/// The protocol of a port that clients connect to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What an instance speaks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS by prior knowledge (RFC 9113 §3.3), as gRPC servers do.
    H2c,
}

impl UpstreamProtocol {
    /// As `proxy:set` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
        }
    }
}

/// A path under which an app answers: begins with `/`, has no final one (but for `/` itself), no
/// dot segments, no query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// `/`, which every path begins with.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl Default for PathPrefix {
    fn default() -> Self {
        Self::root()
    }
}

impl FromStr for PathPrefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // The characters of a path (RFC 3986 §3.3), without percent-encoding: a prefix is compared
        // byte for byte, so it must have one spelling.
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&c);
        let folded = text.strip_suffix('/').unwrap_or(text);
        let segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        let good = match folded.strip_prefix('/') {
            Some(rest) => {
                text.len() <= 256 && rest.bytes().all(allowed) && rest.split('/').all(segment)
            }
            None => text == "/",
        };
        match good {
            true if folded.is_empty() => Ok(Self::root()),
            true => Ok(Self(folded.to_owned())),
            false => Err(Invalid::new("path", text, "must be a plain path such as `/api`")),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(PathPrefix);

/// Names a certificate with its key: SHA-256 over the DER of its chain, leaf first, in lower-case
/// hexadecimal. A leaf with other intermediates is another one, so that what a name stands for never
/// changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateId(String);

impl CertificateId {
    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match is_digest(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new("certificate", text, "must be 64 hexadecimal digits")),
        }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(CertificateId);

/// Addresses: one, or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpRange(ipnet::IpNet);

impl IpRange {
    /// Every IPv4 address.
    pub const ALL_V4: Self =
        Self(ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)));
    /// Every IPv6 address.
    pub const ALL_V6: Self =
        Self(ipnet::IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)));

    /// Whether `address` is one of them; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The addresses that are in both: all of the one within the other, or none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.0.contains(&other.0) {
            return Some(*other);
        }
        other.0.contains(&self.0).then_some(*self)
    }
}

impl FromStr for IpRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let network = text.parse::<ipnet::IpNet>().ok();
        let single = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
        match network.or_else(single) {
            Some(network) => Ok(Self(network.trunc())),
            None => {
                let hint = "must be an address or a network such as `10.0.0.0/8`";
                Err(Invalid::new("network", text, hint))
            }
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => write!(f, "{}", self.0.addr()),
            false => write!(f, "{}", self.0),
        }
    }
}

text_serde!(IpRange);

/// When an app's own page is shown.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PageOccasion {
    /// Maintenance is on.
    Maintenance,
    /// Nothing is ready: stopped, crashed, being deployed, busy (503).
    Unavailable,
    /// An instance failed: 502 and 504.
    Error,
}

impl PageOccasion {
    /// All occasions.
    pub const ALL: [Self; 3] = [Self::Maintenance, Self::Unavailable, Self::Error];

    /// As commands take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Unavailable => "unavailable",
            Self::Error => "error",
        }
    }
}

impl FromStr for PageOccasion {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|occasion| occasion.as_str() == text);
        found.ok_or_else(|| {
            Invalid::new("page", text, "must be `maintenance`, `unavailable` or `error`")
        })
    }
}

impl fmt::Display for PageOccasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The shape of an app's access log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Apache's combined format.
    Combined,
    /// None.
    Off,
}

impl AccessLogFormat {
    /// As `proxy:set` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Combined => "combined",
            Self::Off => "off",
        }
    }
}

/// Names a page of an app's own: SHA-256 of its content, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(String);

impl PageId {
    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PageId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match is_digest(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new("page", text, "must be 64 hexadecimal digits")),
        }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(PageId);

/// SHA-256 as text, in its one spelling.
fn is_digest(text: &str) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.len() == 64 && text.bytes().all(digit)
}

/// What an app's owner says of its front door, beside its domains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FrontSettings {
    /// `proxy:set`.
    pub proxy: ProxySettings,
    /// `ports:*`.
    pub ports: PortMap,
    /// `proxy:disable`: the app is not on the web at all.
    pub disabled: bool,
    /// `maintenance:on`.
    pub maintenance: bool,
    /// `error-pages:set`.
    pub pages: BTreeMap<PageOccasion, PageId>,
}

/// A domain, and a path of it: `example.org/api`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteAddress {
    /// The domain.
    pub domain: Hostname,
    /// The path; `/` for all of the domain.
    pub path: PathPrefix,
}

impl FromStr for RouteAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (domain, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let path = if path.is_empty() { PathPrefix::root() } else { path.parse()? };
        Ok(Self { domain: domain.parse()?, path })
    }
}

impl fmt::Display for RouteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.domain, self.path)
    }
}

text_serde!(RouteAddress);

/// What leads to an app beside its domains (`routes:add`), whoever has the domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PathRoute {
    /// Where it is found.
    pub address: RouteAddress,
    /// Which of the app's processes answers.
    pub process_type: ProcessType,
    /// Whether the app sees paths without the prefix.
    pub strip: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_spelling() {
        let prefix = |text: &str| text.parse::<PathPrefix>().map(|prefix| prefix.to_string());
        assert_eq!(prefix("/api/").unwrap(), "/api");
        assert_eq!(prefix("/").unwrap(), "/");
        for bad in ["", "api", "//", "/a//b", "/a/../b", "/a%2fb", "/a?b", "/a b"] {
            prefix(bad).unwrap_err();
        }
    }

    #[test]
    fn a_route_is_a_domain_and_a_path() {
        let route = |text: &str| text.parse::<RouteAddress>().map(|route| route.to_string());
        assert_eq!(route("Example.org/api/v1/").unwrap(), "example.org/api/v1");
        assert_eq!(route("example.org").unwrap(), "example.org/");
        assert_eq!(route("*.example.org/").unwrap(), "*.example.org/");
        for bad in ["", "/api", "http://example.org/api", "example.org//", "example.org/.."] {
            route(bad).unwrap_err();
        }
    }

    #[test]
    fn a_range_is_an_address_or_a_network() {
        let range = |text: &str| text.parse::<IpRange>().unwrap();
        assert_eq!(range("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(range("::1").to_string(), "::1");
        assert!(range("10.0.0.0/8").contains("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!range("10.0.0.0/8").contains("11.0.0.1".parse().unwrap()));
        "10.0.0.0/33".parse::<IpRange>().unwrap_err();
    }
}
