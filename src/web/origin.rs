//! From where a request comes: the client's address, and how it reached the proxy.
//!
//! The web door listens on loopback and the proxy stands in front of it, so what is forwarded counts
//! only if the peer is on this machine; anybody else speaks for themselves.

use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::error::Refusal;
use crate::platform::{Error, Kind};

/// Where a request comes from. Put in place by the web door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client speaks TLS to the proxy.
    pub secure: bool,
    /// The host (and port) that the client asked for.
    pub host: Option<String>,
}

impl Origin {
    /// Of a request from `peer` with these headers.
    pub(super) fn of(peer: SocketAddr, headers: &HeaderMap) -> Self {
        let direct = peer.ip().to_canonical();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let own_host = text(header::HOST.as_str()).map(str::to_owned);
        if !direct.is_loopback() {
            return Self { address: direct, secure: false, host: own_host };
        }
        // The last one is what the proxy itself has seen; those before it are the client's words.
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
        let forwarded = forwarded.and_then(|value| value.to_str().ok());
        let last = forwarded.and_then(|list| list.rsplit(',').next());
        let address = last.and_then(|text| text.trim().parse::<IpAddr>().ok());
        Self {
            address: address.map_or(direct, |address| address.to_canonical()),
            secure: text("x-forwarded-proto") == Some("https"),
            host: text("x-forwarded-host").map(str::to_owned).or(own_host),
        }
    }
}

impl Origin {
    /// Whether a browser says that a page of this same place makes the request; what is no browser
    /// says nothing. Browsers send `Sec-Fetch-Site` over HTTPS and to loopback, and `Origin` with
    /// every request that may change something.
    pub fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, from)| {
                self.host.as_ref().is_some_and(|host| from.eq_ignore_ascii_case(host))
            }),
            (None, None) => true,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || Error::new(Kind::Internal, "the request has no origin").into();
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, headers: &[(&str, &str)], expected: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let origin = Origin::of(peer.parse().unwrap(), &map);
        let host = origin.host.as_deref().unwrap_or("-");
        let scheme = if origin.secure { "https" } else { "http" };
        assert_eq!(format!("{} {scheme} {host}", origin.address), expected);
    }

    #[test]
    fn what_is_forwarded_counts_only_from_this_machine() {
        let forwarded = [
            ("host", "127.0.0.1:7070"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "box.example.com"),
        ];
        check("127.0.0.1:4000", &forwarded, "192.0.2.7 https box.example.com");
        check("[::ffff:127.0.0.1]:4000", &forwarded, "192.0.2.7 https box.example.com");
        check("198.51.100.1:4000", &forwarded, "198.51.100.1 http 127.0.0.1:7070");
        check("127.0.0.1:4000", &[], "127.0.0.1 http -");
    }

    #[test]
    fn of_several_addresses_the_proxys_own_word_counts() {
        check("127.0.0.1:1", &[("x-forwarded-for", "10.0.0.1, 192.0.2.7")], "192.0.2.7 http -");
        let twice = [("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "192.0.2.8")];
        check("127.0.0.1:1", &twice, "192.0.2.8 http -");
        check("127.0.0.1:1", &[("x-forwarded-for", "nonsense")], "127.0.0.1 http -");
    }
}
