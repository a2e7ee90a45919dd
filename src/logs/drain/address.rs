//! Which addresses a drain may lead to. Whoever may operate an app shall not reach what only this
//! machine reaches: databases, metadata services (CWE-918).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::domain::{DrainHost, DrainUrl};

/// For an answer of the resolver.
const RESOLVE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A drain that may not lead where it leads.
#[derive(Debug, thiserror::Error)]
#[error(
    "it leads to the private address {0}, which an admin of the platform must allow by setting it"
)]
struct Forbidden(IpAddr);

/// The addresses that `url` leads to, all public unless `private`. Connections are made to these, so
/// that a name cannot lead elsewhere the next moment.
///
/// # Errors
/// `Forbidden` as the source of a `PermissionDenied`; those of the resolver.
pub async fn resolve(url: &DrainUrl, private: bool) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = match url.host() {
        DrainHost::Address(address) => vec![SocketAddr::new(*address, url.port())],
        DrainHost::Name(name) => {
            let lookup = tokio::net::lookup_host((name.as_str(), url.port()));
            let late =
                |_| io::Error::new(io::ErrorKind::TimedOut, "its name is not resolved in time");
            let found = tokio::time::timeout(RESOLVE, lookup).await.map_err(late)??;
            found.take(MAX_ADDRESSES).collect()
        }
    };
    if let Some(address) = addresses.iter().find(|address| !private && !is_public(address.ip())) {
        let forbidden = Forbidden(address.ip());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, forbidden));
    }
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "its name has no address")),
        false => Ok(addresses),
    }
}

/// Whether an address is one of the internet's (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && (b == 168 || (b == 0 && matches!(c, 0 | 2)) || (b == 88 && c == 99)))
        || (a == 198 && (matches!(b, 18 | 19) || (b == 51 && c == 100)))
        || (a == 203 && b == 0 && c == 113))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the address that is in them.
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && v4(g, h),
        (0x2002, _) => v4(b, c),
        // Teredo, ORCHID and the other protocols' assignments; documentation.
        (0x2001, 0..=0x01ff | 0xdb8) => false,
        (0x2000..=0x3ffe, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_in_all_their_forms() {
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_unless_an_admin_set_it() {
        let url = "syslog+tcp://localhost:5140".parse().unwrap();
        let refused = resolve(&url, false).await.unwrap_err();
        assert!(refused.to_string().contains("private address"), "{refused}");
        assert_eq!(resolve(&url, true).await.unwrap()[0].port(), 5140);
    }
}
