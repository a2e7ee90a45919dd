//! Port mappings: which ports of the machine lead to which of an app's (Dokku's `ports:*`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Invalid, Scheme, UpstreamProtocol};

/// The most mappings of one app: enough for any, and bounds the route table.
const MAX_MAPPINGS: usize = 32;

/// Stands for all of `[proxy] http_listen`.
const HTTP_PORT: u16 = 80;
/// Stands for all of `[proxy] https_listen`.
const HTTPS_PORT: u16 = 443;

/// What is spoken on both sides of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortScheme {
    /// HTTP to an app that speaks what its settings say.
    Http,
    /// The same over TLS.
    Https,
    /// HTTP to an app that speaks HTTP/2 without TLS, as gRPC servers do.
    Grpc,
    /// The same over TLS.
    Grpcs,
}

impl PortScheme {
    /// As in a mapping.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// What clients speak.
    pub fn client(self) -> Scheme {
        match self {
            Self::Http | Self::Grpc => Scheme::Http,
            Self::Https | Self::Grpcs => Scheme::Https,
        }
    }

    /// What the app must speak, if the mapping says.
    pub fn upstream(self) -> Option<UpstreamProtocol> {
        match self {
            Self::Http | Self::Https => None,
            Self::Grpc | Self::Grpcs => Some(UpstreamProtocol::H2c),
        }
    }
}

/// `scheme:host-port:container-port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortMapping {
    /// What is spoken.
    pub scheme: PortScheme,
    /// The machine's port; 80 and 443 are the proxy's configured listeners, whatever their ports.
    pub host: u16,
    /// The port inside the instances.
    pub container: u16,
}

impl PortMapping {
    /// Whether `host` stands for the listeners of the configuration.
    pub fn is_standard(self) -> bool {
        matches!(self.host, HTTP_PORT | HTTPS_PORT)
    }
}

impl FromStr for PortMapping {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Invalid::new("port mapping", text, why);
        let form = || invalid("must look like `http:80:5000`: scheme, host port, container port");
        let mut parts = text.split(':');
        let (Some(scheme), Some(host), Some(container), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        let all = [PortScheme::Http, PortScheme::Https, PortScheme::Grpc, PortScheme::Grpcs];
        let scheme = all
            .into_iter()
            .find(|known| known.as_str() == scheme)
            .ok_or_else(|| invalid("must have the scheme http, https, grpc or grpcs"))?;
        let host = port(host).ok_or_else(form)?;
        let container = port(container).ok_or_else(form)?;
        match (host, scheme.client()) {
            (HTTP_PORT, Scheme::Https) => Err(invalid("must not have TLS on port 80")),
            (HTTPS_PORT, Scheme::Http) => Err(invalid("must have TLS on port 443")),
            _ => Ok(Self { scheme, host, container }),
        }
    }
}

/// Digits only, as `u16`'s own parser takes a sign as well.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.scheme.as_str(), self.host, self.container)
    }
}

text_serde!(PortMapping);

/// Which mapping `ports:remove` means: a whole one, or that of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSelector {
    /// This one.
    Mapping(PortMapping),
    /// That of this host port.
    Host(u16),
}

impl PortSelector {
    fn selects(self, mapping: PortMapping) -> bool {
        match self {
            Self::Mapping(wanted) => wanted == mapping,
            Self::Host(host) => mapping.host == host,
        }
    }
}

impl FromStr for PortSelector {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match port(text) {
            Some(host) => Ok(Self::Host(host)),
            None => text.parse().map(Self::Mapping),
        }
    }
}

impl fmt::Display for PortSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapping(mapping) => mapping.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

text_serde!(PortSelector);

/// An app's own mappings, in the order they were added; none: the default ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct PortMap(Vec<PortMapping>);

impl PortMap {
    /// The mappings that were set.
    pub fn own(&self) -> &[PortMapping] {
        &self.0
    }

    /// The mappings in force for an app that listens on `port` unless told otherwise: its own, or
    /// the configured listeners to that port.
    pub fn effective(&self, port: u16) -> Vec<PortMapping> {
        if !self.0.is_empty() {
            return self.0.clone();
        }
        let mapping = |scheme, host| PortMapping { scheme, host, container: port };
        vec![mapping(PortScheme::Http, HTTP_PORT), mapping(PortScheme::Https, HTTPS_PORT)]
    }

    /// What `$PORT` is unless a config var says: the first mapping's container port.
    pub fn first_container_port(&self) -> Option<u16> {
        self.0.first().map(|mapping| mapping.container)
    }

    /// Adds mappings; one of the same scheme and host port is replaced.
    ///
    /// # Errors
    /// If a host port would have two schemes, or there are too many.
    pub fn add(&mut self, mappings: &[PortMapping]) -> Result<(), Invalid> {
        for mapping in mappings {
            let same_host = self.0.iter_mut().find(|known| known.host == mapping.host);
            match same_host {
                Some(known) if known.scheme == mapping.scheme => *known = *mapping,
                Some(known) => {
                    let why = format!("has a host port that `{known}` uses; remove that first");
                    return Err(Invalid::new("port mapping", &mapping.to_string(), why));
                }
                None => self.0.push(*mapping),
            }
        }
        match self.0.len() <= MAX_MAPPINGS {
            true => Ok(()),
            false => {
                let count = self.0.len().to_string();
                let why = format!("is too many; an app may have {MAX_MAPPINGS}");
                Err(Invalid::new("count of port mappings", &count, why))
            }
        }
    }

    /// Replaces all mappings; none goes back to the default.
    ///
    /// # Errors
    /// As [`PortMap::add`].
    pub fn set(&mut self, mappings: &[PortMapping]) -> Result<(), Invalid> {
        let mut new = Self::default();
        new.add(mappings)?;
        *self = new;
        Ok(())
    }

    /// Removes mappings.
    ///
    /// # Errors
    /// If there is none that a selector means.
    pub fn remove(&mut self, selectors: &[PortSelector]) -> Result<(), Invalid> {
        for selector in selectors {
            let before = self.0.len();
            self.0.retain(|mapping| !selector.selects(*mapping));
            if self.0.len() == before {
                let why = "is not among the app's own mappings";
                return Err(Invalid::new("port mapping", &selector.to_string(), why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    #[test]
    fn mappings_are_dokkus() {
        for text in ["http:80:5000", "https:443:5000", "grpc:8080:9000", "grpcs:443:9000"] {
            assert_eq!(mapping(text).to_string(), text);
        }
        for bad in
            ["", "80", "http:80", "http:80:0", "http:0:80", "http:+80:80", "tcp:1:2", "http:1:2:3"]
        {
            bad.parse::<PortMapping>().unwrap_err();
        }
        let error = "https:80:5000".parse::<PortMapping>().unwrap_err().to_string();
        assert_eq!(error, "port mapping `https:80:5000` must not have TLS on port 80");
    }

    #[test]
    fn without_mappings_both_listeners_lead_to_the_apps_port() {
        let map = PortMap::default();
        assert_eq!(map.effective(5000), [mapping("http:80:5000"), mapping("https:443:5000")]);
        assert_eq!(map.first_container_port(), None);
    }

    #[test]
    fn a_host_port_has_one_mapping_and_one_scheme() {
        let mut map = PortMap::default();
        map.add(&[mapping("http:80:5000"), mapping("http:8080:6000")]).unwrap();
        map.add(&[mapping("http:8080:7000")]).unwrap();
        assert_eq!(map.own(), [mapping("http:80:5000"), mapping("http:8080:7000")]);
        let error = map.add(&[mapping("https:8080:7000")]).unwrap_err().to_string();
        assert!(error.contains("`http:8080:7000` uses"), "{error}");
        let many: Vec<_> = (1..=33).map(|n| mapping(&format!("http:{}:1", 9000 + n))).collect();
        map.set(&many).unwrap_err();
    }

    #[test]
    fn mappings_are_removed_by_host_port_or_as_a_whole() {
        let mut map = PortMap::default();
        map.set(&[mapping("http:80:5000"), mapping("http:8080:6000")]).unwrap();
        map.remove(&["8080".parse().unwrap()]).unwrap();
        map.remove(&["http:80:4000".parse().unwrap()]).unwrap_err();
        map.remove(&["http:80:5000".parse().unwrap()]).unwrap();
        assert!(map.own().is_empty());
    }
}
