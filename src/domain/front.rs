//! What stands between an app and the web: path prefixes, ports, certificates, networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::invalid::text_serde;

/// The protocol of a port that clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS by prior knowledge (RFC 9113 §3.3), as gRPC servers do.
    H2c,
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
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text.len() == 64 && text.bytes().all(digit) {
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
    /// Whether `address` is one of them; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
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
    fn a_range_is_an_address_or_a_network() {
        let range = |text: &str| text.parse::<IpRange>().unwrap();
        assert_eq!(range("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(range("::1").to_string(), "::1");
        assert!(range("10.0.0.0/8").contains("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!range("10.0.0.0/8").contains("11.0.0.1".parse().unwrap()));
        "10.0.0.0/33".parse::<IpRange>().unwrap_err();
    }
}
