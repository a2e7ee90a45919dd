//! Names: which resolvers the host uses, and what containers are told.
//!
//! Containers ask the gateway; the firewall sends the question on to the host's resolver. There is
//! no process in between that could be away. Each resolver of the host appears under an address of
//! its own, so that a container's library falls back from one to the next as the host's would.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use super::error::{Error, Result};
use super::{Addresses, Pool};

/// The C library reads no more (resolv.conf(5), MAXNS).
const MOST_RESOLVERS: u32 = 3;

const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the real resolvers while `/etc/resolv.conf` names its own stub,
/// which answers to the loopback link only.
const SYSTEMD_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// A resolver configuration is a few lines.
const FILE_LIMIT: u64 = 64 << 10;

/// What of a resolver configuration matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    /// In the order they are to be asked.
    pub(super) servers: Vec<IpAddr>,
    /// Domains to complete short names with.
    pub(super) search: Vec<String>,
}

impl Resolvers {
    /// Those configured, or else those of the host.
    pub(super) fn load(configured: &[IpAddr]) -> Result<Resolvers> {
        let host = read(HOST_FILE.as_ref())?.unwrap_or_default();
        if !configured.is_empty() {
            return Ok(Resolvers { servers: configured.to_vec(), search: host.search });
        }
        if host.servers.iter().all(IpAddr::is_loopback)
            && let Some(real) = read(SYSTEMD_FILE.as_ref())?
            && !real.servers.iter().all(IpAddr::is_loopback)
        {
            return Ok(real);
        }
        Ok(host)
    }

    /// Pairs of a resolver as containers know it and as the host does. Left out are those that
    /// packets cannot be redirected to: IPv6 ones without IPv6, and `::1`.
    pub(super) fn redirections(&self, pool: &Pool, ipv6: bool) -> Vec<(IpAddr, IpAddr)> {
        self.servers
            .iter()
            .filter(|server| server.is_ipv4() || (ipv6 && !server.is_loopback()))
            .zip(1..=MOST_RESOLVERS)
            .map(|(server, number)| {
                let known = pool.nth(number);
                match server {
                    IpAddr::V4(_) => (IpAddr::V4(known.v4), *server),
                    IpAddr::V6(_) => (IpAddr::V6(known.v6), *server),
                }
            })
            .collect()
    }

    /// The container's `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self, redirections: &[(IpAddr, IpAddr)]) -> String {
        let mut text = String::new();
        for (known, _) in redirections {
            let _ = writeln!(text, "nameserver {known}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        text
    }
}

/// The container's `/etc/hosts`.
pub(super) fn hosts(hostname: &str, addresses: Addresses, ipv6: bool) -> String {
    let text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    text + &host_lines(hostname, addresses, ipv6)
}

/// The lines of `/etc/hosts` for one name.
pub(super) fn host_lines(hostname: &str, addresses: Addresses, ipv6: bool) -> String {
    let mut text = String::new();
    // A name with other characters could add lines of its own.
    if is_domain(hostname) && hostname != "localhost" {
        let _ = writeln!(text, "{} {hostname}", addresses.v4);
        if ipv6 {
            let _ = writeln!(text, "{} {hostname}", addresses.v6);
        }
    }
    text
}

fn read(path: &Path) -> Result<Option<Resolvers>> {
    let mut text = Vec::new();
    let result = File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut text));
    match result {
        Ok(_) => Ok(Some(parse(&String::from_utf8_lossy(&text)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::ResolverFile { path: path.to_owned(), source }),
    }
}

/// Reads resolv.conf(5). Addresses with a zone (`fe80::1%eth0`) are skipped: packets cannot be
/// redirected to them.
fn parse(text: &str) -> Resolvers {
    let mut resolvers = Resolvers::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                resolvers.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            }
            // The last one counts; "domain" is the older word for a list of one.
            Some("search" | "domain") => {
                resolvers.search =
                    words.filter(|word| is_domain(word)).map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    resolvers
}

fn is_domain(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !word.is_empty() && word.bytes().all(allowed) && word != "."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new("10.83.0.0/16".parse().unwrap(), "fd53:7461::/64".parse().unwrap()).unwrap()
    }

    fn check(host: &str, ipv6: bool, expected: &str) {
        let resolvers = parse(host);
        let redirections = resolvers.redirections(&pool(), ipv6);
        assert_eq!(resolvers.resolv_conf(&redirections), expected);
    }

    #[test]
    fn each_resolver_of_the_host_has_an_address_of_its_own_in_its_family() {
        check("nameserver 9.9.9.9\n", true, "nameserver 10.83.0.1\n");
        check(
            "# two\nnameserver 2620:fe::fe\nnameserver 9.9.9.9 # trailing\n",
            true,
            "nameserver fd53:7461::1\nnameserver 10.83.0.2\n",
        );
        check(
            "nameserver 1.1.1.1\nnameserver 1.0.0.1\nnameserver 9.9.9.9\nnameserver 8.8.8.8\n",
            true,
            "nameserver 10.83.0.1\nnameserver 10.83.0.2\nnameserver 10.83.0.3\n",
        );
    }

    #[test]
    fn resolvers_that_packets_cannot_be_sent_on_to_are_left_out() {
        check("nameserver 2620:fe::fe\nnameserver 9.9.9.9\n", false, "nameserver 10.83.0.1\n");
        check("nameserver ::1\nnameserver fe80::1%eth0\nnameserver nonsense\n", true, "");
    }

    #[test]
    fn search_domains_are_passed_on_and_odd_ones_are_not() {
        check(
            "search old.example\nnameserver 9.9.9.9\nsearch corp.example . a{b\n",
            true,
            "nameserver 10.83.0.1\nsearch corp.example\n",
        );
    }

    #[test]
    fn a_host_name_cannot_add_lines_to_the_hosts_file() {
        let addresses = pool().nth(8);
        assert_eq!(
            hosts("shop-web-1", addresses, true),
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n\
             10.83.0.8 shop-web-1\nfd53:7461::8 shop-web-1\n"
        );
        assert!(!hosts("a\n6.6.6.6 bank.example", addresses, true).contains("6.6.6.6"));
        assert!(!hosts("localhost", addresses, true).contains("10.83"));
    }
}
