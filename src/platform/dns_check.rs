//! Whether names lead to this machine, as this machine's resolver sees it.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use futures_util::future::join_all;

use super::Platform;
use crate::domain::Hostname;
use crate::wire::{DnsReport, DnsVerdict};

/// A resolver that answers at all does so in seconds; a page waits for this.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most names asked for at once: bounds a page's time and the resolver's load.
const MAX_NAMES: usize = 50;
/// The most addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 16;

impl Platform {
    /// Asks where the first names lead.
    pub async fn check_dns(&self, names: &[Hostname]) -> Vec<DnsReport> {
        // A machine behind address translation is known to the world by the addresses of its name.
        let ours = addresses(self.public_host()).await.unwrap_or_default();
        let names = names.iter().take(MAX_NAMES);
        join_all(names.map(|name| async { report(name, addresses(name.as_str()).await, &ours) }))
            .await
    }
}

async fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    // The port is of no use here, and part of what is asked for.
    let lookup = tokio::net::lookup_host((name, 80));
    match tokio::time::timeout(PATIENCE, lookup).await {
        Err(_) => Err(format!("the resolver gave no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.map(|address| address.ip()).collect();
            found.dedup();
            found.truncate(MAX_ADDRESSES);
            Ok(found)
        }
    }
}

fn report(name: &Hostname, found: Result<Vec<IpAddr>, String>, ours: &[IpAddr]) -> DnsReport {
    let (verdict, addresses, why) = match found {
        Err(why) => (DnsVerdict::Missing, Vec::new(), Some(why)),
        Ok(found) if found.is_empty() => (DnsVerdict::Missing, found, None),
        Ok(found) if found.iter().all(|address| ours.contains(address) || is_ours(*address)) => {
            (DnsVerdict::Here, found, None)
        }
        Ok(found) => (DnsVerdict::Elsewhere, found, None),
    };
    DnsReport { domain: name.clone(), verdict, addresses, why }
}

/// Only an address of the machine's own can be bound to (ip(7), `EADDRNOTAVAIL`).
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_here_elsewhere_or_nowhere() {
        let name: Hostname = "shop.example.com".parse().unwrap();
        let verdict = |found, ours: &[&str]| {
            let ours: Vec<IpAddr> = ours.iter().map(|text| text.parse().unwrap()).collect();
            report(&name, found, &ours).verdict
        };
        let at = |text: &str| Ok(vec![text.parse::<IpAddr>().unwrap()]);
        assert_eq!(verdict(at("127.0.0.1"), &[]), DnsVerdict::Here);
        // TEST-NET-3 (RFC 5737) is nobody's.
        assert_eq!(verdict(at("203.0.113.9"), &[]), DnsVerdict::Elsewhere);
        assert_eq!(verdict(at("203.0.113.9"), &["203.0.113.9"]), DnsVerdict::Here);
        assert_eq!(verdict(Ok(vec![]), &[]), DnsVerdict::Missing);
        assert_eq!(verdict(Err("no such name".to_owned()), &[]), DnsVerdict::Missing);
    }
}
