//! The instance's firewall table: its rules as text, and the program that loads them.
//!
//! Rules tell containers by the prefix of their links' names, so they are the same whatever
//! containers there are. A transaction is applied as a whole or not at all (nft(8)).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::cidr::Cidr;
use super::error::{Error, Result};
use super::link::GROUP_CLOSED;
use super::{Addresses, Exposure};

/// A transaction takes milliseconds; longer means that the kernel or the machine is stuck.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// So much of what `nft` complains about is worth repeating; it quotes the whole line each time.
const MESSAGE_LIMIT: usize = 600;

/// More listing than any sane rule set has.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Ranges no container reaches, whatever the operator's settings: its own loopback, links of the
/// host, and where clouds hand out a machine's credentials to whoever asks. 169.254.0.0/16 and
/// fe80::/10 hold those of most clouds; the others are Alibaba's, Azure's host agent, Oracle's, and
/// the unique local addresses of AWS, Scaleway and Google, and 169.254.0.0/16 by way of NAT64. Names are resolved all the same where
/// the resolver is in such a range, since rules for the resolver come first.
const CLOSED: [&str; 14] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "::/127",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::254/128",
    "fd00:42::42/128",
    "fd20:ce::254/128",
    "64:ff9b::a9fe:0/112",
];

/// How many chains a complete table has.
const CHAINS: usize = 10;

/// Everything the rules depend on.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) table: String,
    pub(super) prefix: String,
    pub(super) pools: [Cidr; 2],
    /// The host's address on the containers' links.
    pub(super) gateway: Addresses,
    /// Resolver as the containers know it, and as the host does; always of one family.
    pub(super) resolvers: Vec<(IpAddr, IpAddr)>,
    pub(super) deny_destinations: Vec<Cidr>,
    pub(super) open_host_ports: Vec<u16>,
    pub(super) connection_limit: u32,
    /// Ports of the host that lead to containers.
    pub(super) exposures: Vec<Exposure>,
}

impl Rules {
    /// The transaction that puts the rules in place of those there are, and keeps the links.
    pub(super) fn replace(&self) -> String {
        let table = &self.table;
        format!("add table inet {table}\nflush table inet {table}\n{}", self.table_text())
            + &if self.connection_limit > 0 {
                // Elements keep the limit they were made with.
                format!("flush set inet {table} open4\nflush set inet {table} open6\n")
            } else {
                String::new()
            }
    }

    /// The transaction that makes the table anew, without links.
    pub(super) fn recreate(&self) -> String {
        format!("{}{}", remove(&self.table), self.table_text())
    }

    /// The transaction that sets which containers may connect to which.
    pub(super) fn links(&self, pairs: &[(Addresses, Addresses)]) -> String {
        let table = &self.table;
        let mut text = format!("flush set inet {table} links4\nflush set inet {table} links6\n");
        if pairs.is_empty() {
            return text;
        }
        let list = |element: fn(&(Addresses, Addresses)) -> String| {
            pairs.iter().map(element).collect::<Vec<_>>().join(", ")
        };
        let ipv4 = list(|(from, to)| format!("{} . {}", from.v4, to.v4));
        let ipv6 = list(|(from, to)| format!("{} . {}", from.v6, to.v6));
        let _ = writeln!(text, "add element inet {table} links4 {{ {ipv4} }}");
        let _ = writeln!(text, "add element inet {table} links6 {{ {ipv6} }}");
        text
    }

    fn table_text(&self) -> String {
        let mut text = format!("table inet {} {{\n", self.table);
        text += "\tset links4 { type ipv4_addr . ipv4_addr; }\n";
        text += "\tset links6 { type ipv6_addr . ipv6_addr; }\n";
        if self.connection_limit > 0 {
            text += "\tset open4 { type ipv4_addr; size 65536; flags dynamic; }\n";
            text += "\tset open6 { type ipv6_addr; size 65536; flags dynamic; }\n";
        }
        for (name, kind, rules) in [
            ("source", "filter hook prerouting priority raw", self.source()),
            ("host", "filter hook prerouting priority mangle", self.host()),
            ("resolver", "nat hook prerouting priority dstnat", self.resolver()),
            // -100 is where the kernel has destinations translated (nft(8), "dstnat", a word that
            // it does not take here).
            ("exposed", "nat hook output priority -100", self.exposed()),
            ("input", "filter hook input priority filter", self.input()),
            ("resolver_source", "nat hook input priority 100", self.resolver_source()),
            ("between", "", self.between()),
            ("outward", "", self.outward()),
            ("forward", "filter hook forward priority filter", self.forward()),
            ("masquerade_source", "nat hook postrouting priority srcnat", self.masquerade()),
        ] {
            let _ = writeln!(text, "\tchain {name} {{");
            if !kind.is_empty() {
                let _ = writeln!(text, "\t\ttype {kind}; policy accept;");
            }
            for rule in rules {
                let _ = writeln!(text, "\t\t{rule}");
            }
            text += "\t}\n";
        }
        text + "}\n"
    }

    /// What can be refused by its addresses alone, before the connection table knows of it.
    fn source(&self) -> Vec<String> {
        let from = format!("iifname \"{}*\"", self.prefix);
        vec![
            // The answer to this source would not go back over this link: it is not the
            // container's own (RFC 3704, strict).
            format!("{from} fib saddr . iif oif missing drop"),
            // With route_localnet the kernel no longer refuses it (CVE-2020-8558).
            format!("{from} ip daddr 127.0.0.0/8 drop"),
        ]
    }

    /// The host's own addresses, before any redirection of ports can hide that they were meant.
    fn host(&self) -> Vec<String> {
        let mut rules = vec![
            format!("iifname != \"{}*\" accept", self.prefix),
            "ct direction reply accept".into(),
            "fib daddr type != { local, broadcast, anycast, multicast } accept".into(),
        ];
        rules.push(format!("meta iifgroup {GROUP_CLOSED} {REJECT}"));
        for gateway in [IpAddr::V4(self.gateway.v4), IpAddr::V6(self.gateway.v6)] {
            rules.push(format!("{} daddr {gateway} {DNS} accept", family(gateway)));
        }
        rules.extend(self.host_ports());
        rules.push(REJECT.into());
        rules
    }

    fn resolver(&self) -> Vec<String> {
        let outside = format!("iifname != \"{}*\"", self.prefix);
        let mut rules: Vec<_> =
            self.exposed().into_iter().map(|rule| format!("{outside} {rule}")).collect();
        rules.extend([format!("{outside} accept"), format!("meta iifgroup {GROUP_CLOSED} accept")]);
        for (known, real) in &self.resolvers {
            let family = family(*known);
            for protocol in ["udp", "tcp"] {
                let rule = format!("{family} daddr {known} {protocol} dport 53");
                rules.push(format!("{rule} dnat {family} to {real}"));
            }
        }
        rules
    }

    /// Ports of the host's own addresses that are sent on to containers.
    fn exposed(&self) -> Vec<String> {
        let rules = self.exposures.iter().flat_map(|Exposure { port, to, to_port }| {
            let known = format!("fib daddr type local tcp dport {port}");
            [
                format!("meta nfproto ipv4 {known} dnat ip to {}:{to_port}", to.v4),
                format!("meta nfproto ipv6 {known} dnat ip6 to [{}]:{to_port}", to.v6),
            ]
        });
        rules.collect()
    }

    fn input(&self) -> Vec<String> {
        let mut rules = vec![
            format!("iifname != \"{}*\" accept", self.prefix),
            "ct direction reply ct state established,related accept".into(),
            // A resolver on one of the host's own addresses.
            format!("ct status dnat {DNS} accept"),
        ];
        rules.extend(self.host_ports());
        rules.push("drop".into());
        rules
    }

    /// A resolver on the host's loopback answers only questions from there.
    fn resolver_source(&self) -> Vec<String> {
        let from = format!("iifname \"{}*\"", self.prefix);
        vec![format!("{from} ip daddr 127.0.0.0/8 ct status dnat {DNS} snat ip to 127.0.0.1")]
    }

    /// From one container to another: only where linked, and back only on what was opened so. No
    /// "established" shortcut: removing a link cuts its connections.
    fn between(&self) -> Vec<String> {
        vec![
            "ip saddr . ip daddr @links4 accept".into(),
            "ip6 saddr . ip6 daddr @links6 accept".into(),
            "ct direction reply ip daddr . ip saddr @links4 accept".into(),
            "ct direction reply ip6 daddr . ip6 saddr @links6 accept".into(),
            REJECT.into(),
        ]
    }

    /// From a container to anywhere but the host. Refusals are told to the program, which then
    /// fails at once and not after minutes.
    fn outward(&self) -> Vec<String> {
        let mut rules = vec![
            // Not translated, so its source would show on the wire.
            "ct state invalid drop".into(),
        ];
        if self.connection_limit > 0 {
            let limit = self.connection_limit;
            for (family, set) in [("ip", "open4"), ("ip6", "open6")] {
                let count = format!("{{ {family} saddr ct count over {limit} }}");
                rules.push(format!("ct state new add @{set} {count} {REJECT}"));
            }
        }
        rules.push(format!("oifname \"{}*\" goto between", self.prefix));
        if !self.exposures.is_empty() {
            // Answers to those who came by an exposed port; the way there is in `forward`.
            rules.push("ct direction reply ct status dnat accept".into());
        }
        rules.push(format!("meta iifgroup {GROUP_CLOSED} {REJECT}"));
        rules.push(format!("ct status dnat {DNS} accept"));
        let closed = self.closed();
        for protocol in ["ip", "ip6"] {
            let ranges: Vec<_> = closed
                .iter()
                .filter(|range| family(range.address()) == protocol)
                .map(Cidr::to_string)
                .collect();
            rules.push(format!("{protocol} daddr {{ {} }} {REJECT}", ranges.join(", ")));
        }
        rules.push("accept".into());
        rules
    }

    /// All closed ranges, without those that lie in another: `nft` refuses overlaps in a list.
    fn closed(&self) -> Vec<Cidr> {
        let fixed = CLOSED.iter().map(|range| range.parse().expect("a constant, read by a test"));
        let mut ranges: Vec<Cidr> =
            fixed.chain(self.pools).chain(self.deny_destinations.iter().copied()).collect();
        ranges.sort_by_key(|range| (range.length(), range.address()));
        let mut outermost: Vec<Cidr> = Vec::new();
        for range in ranges {
            if !outermost.iter().any(|outer| outer.overlaps(&range)) {
                outermost.push(range);
            }
        }
        outermost
    }

    fn forward(&self) -> Vec<String> {
        let prefix = &self.prefix;
        let mut rules = vec![
            format!("iifname \"{prefix}*\" goto outward"),
            format!("oifname \"{prefix}*\" ct direction reply accept"),
            // Errors about a container's own connections, such as "packet too big".
            format!("oifname \"{prefix}*\" ct state related accept"),
        ];
        for Exposure { to, to_port, .. } in &self.exposures {
            let open = format!("tcp dport {to_port} ct status dnat accept");
            rules.push(format!("oifname \"{prefix}*\" ip daddr {} {open}", to.v4));
            rules.push(format!("oifname \"{prefix}*\" ip6 daddr {} {open}", to.v6));
        }
        // Nobody else connects to a container: other instances' containers, other machines.
        rules.push(format!("oifname \"{prefix}*\" drop"));
        rules
    }

    fn masquerade(&self) -> Vec<String> {
        let outside = format!("oifname != \"{}*\"", self.prefix);
        let mut rules: Vec<_> = self
            .pools
            .iter()
            .map(|pool| format!("{} saddr {pool} {outside} masquerade", family(pool.address())))
            .collect();
        if !self.exposures.is_empty() {
            // A container's answer to the host's loopback would stay in the container.
            let inside = format!("oifname \"{}*\"", self.prefix);
            rules.push(format!("ip saddr 127.0.0.0/8 {inside} ct status dnat masquerade"));
        }
        rules
    }

    fn host_ports(&self) -> Option<String> {
        let ports: Vec<_> = self.open_host_ports.iter().map(u16::to_string).collect();
        (!ports.is_empty()).then(|| format!("tcp dport {{ {} }} accept", ports.join(", ")))
    }
}

const REJECT: &str = "reject with icmpx admin-prohibited";
const DNS: &str = "meta l4proto { tcp, udp } th dport 53";

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// The transaction that removes a table, whether it is there or not.
pub(super) fn remove(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

/// Whether `nft -j list chains` shows the table with its chains.
pub(super) fn is_loaded(listing: &str, table: &str) -> bool {
    let Ok(listing) = serde_json::from_str::<serde_json::Value>(listing) else {
        return false;
    };
    let ours = |object: &&serde_json::Value| {
        let chain = &object["chain"];
        chain["family"] == "inet" && chain["table"] == table
    };
    let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    objects.iter().filter(ours).count() == CHAINS
}

/// The forward chain of iptables-legacy, where it is in use. `nft` does not show it.
pub(super) async fn legacy_forward_rules() -> Option<String> {
    let tables = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").ok()?;
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let legacy = Nft { program: "iptables-legacy".into() };
    legacy.list(&["-S", "FORWARD"]).await.ok()
}

/// Runs the firewall program.
#[derive(Debug, Clone)]
pub(super) struct Nft {
    pub(super) program: PathBuf,
}

impl Nft {
    /// Applies a transaction; `operation` names it in errors.
    pub(super) async fn apply(&self, operation: &'static str, transaction: &str) -> Result<()> {
        self.run(operation, &["-f", "-"], transaction).await.map(drop)
    }

    /// What `nft` prints for these arguments.
    pub(super) async fn list(&self, arguments: &[&str]) -> Result<String> {
        self.run("list rules", arguments, "").await
    }

    async fn run(
        &self,
        operation: &'static str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let started = |source| Error::StartNft { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(search_path(&self.program))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(started)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ended early says why on its standard error.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(NFT_TIMEOUT, both)
            .await
            .map_err(|_| Error::NftTimeout { limit: NFT_TIMEOUT })?
            .map_err(started)?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            let message = message.trim().chars().take(MESSAGE_LIMIT).collect();
            return Err(Error::Nft { operation, message });
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.len() > OUTPUT_LIMIT {
            text.truncate(text.floor_char_boundary(OUTPUT_LIMIT));
        }
        Ok(text)
    }
}

/// A name without a directory is looked for where system programs are.
fn search_path(program: &Path) -> Option<(&'static str, &'static str)> {
    let bare = program.components().count() == 1;
    bare.then_some(("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"))
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    fn rules() -> Rules {
        let pools = ["10.83.0.0/16".parse().unwrap(), "fd53:7461::/64".parse().unwrap()];
        let pool = Pool::new(pools[0], pools[1]).unwrap();
        Rules {
            table: "staithe_st".into(),
            prefix: "st-".into(),
            pools,
            gateway: pool.gateway(),
            resolvers: vec![("10.83.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap())],
            deny_destinations: Vec::new(),
            open_host_ports: Vec::new(),
            connection_limit: 8192,
            exposures: Vec::new(),
        }
    }

    fn chain(rules: &Rules, name: &str) -> Vec<String> {
        let text = rules.recreate();
        let start = text.find(&format!("\tchain {name} {{")).unwrap();
        let lines = text[start..].lines().skip(1).take_while(|line| *line != "\t}");
        lines.map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_packet_from_a_container_meets_the_rules_in_this_order() {
        assert_eq!(
            chain(&rules(), "outward"),
            [
                "ct state invalid drop",
                "ct state new add @open4 { ip saddr ct count over 8192 } reject with icmpx \
             admin-prohibited",
                "ct state new add @open6 { ip6 saddr ct count over 8192 } reject with icmpx \
             admin-prohibited",
                "oifname \"st-*\" goto between",
                "meta iifgroup 21332 reject with icmpx admin-prohibited",
                "ct status dnat meta l4proto { tcp, udp } th dport 53 accept",
                "ip daddr { 224.0.0.0/4, 0.0.0.0/8, 127.0.0.0/8, 10.83.0.0/16, 169.254.0.0/16, \
             100.100.100.200/32, 168.63.129.16/32, 192.0.0.192/32 } reject with icmpx \
             admin-prohibited",
                "ip6 daddr { ff00::/8, fe80::/10, fd53:7461::/64, 64:ff9b::a9fe:0/112, ::/127, \
             fd00:42::42/128, fd00:ec2::254/128, fd20:ce::254/128 } reject with icmpx \
             admin-prohibited",
                "accept",
            ]
        );
    }

    #[test]
    fn open_ports_of_the_host_are_accepted_before_the_host_is_closed() {
        let rules = Rules { open_host_ports: vec![80, 443], ..rules() };
        for name in ["host", "input"] {
            let rules = chain(&rules, name);
            let at = rules.iter().position(|rule| rule == "tcp dport { 80, 443 } accept");
            assert_eq!(at, Some(rules.len() - 2), "{rules:?}");
        }
        assert!(!self::rules().recreate().contains("dport { 80"));
    }

    #[test]
    fn closed_ranges_that_lie_in_others_are_left_out() {
        let deny_destinations =
            vec!["10.0.0.0/8".parse().unwrap(), "169.254.169.254".parse().unwrap()];
        let rules = Rules { deny_destinations, ..rules() };
        let closed: Vec<_> = rules.closed().iter().map(Cidr::to_string).collect();
        assert!(closed.contains(&"10.0.0.0/8".to_owned()));
        assert!(!closed.contains(&"10.83.0.0/16".to_owned()));
        assert!(!closed.contains(&"169.254.169.254/32".to_owned()));
    }

    #[test]
    fn an_exposed_port_leads_to_one_container_and_opens_nothing_else() {
        let pool = Pool::new(rules().pools[0], rules().pools[1]).unwrap();
        let exposures = vec![Exposure { port: 15432, to: pool.nth(9), to_port: 5432 }];
        let rules = Rules { exposures, ..rules() };
        let to = "meta nfproto ipv4 fib daddr type local tcp dport 15432 dnat ip to 10.83.0.9:5432";
        assert_eq!(
            chain(&rules, "resolver")[0],
            format!("type nat hook prerouting priority dstnat; policy accept;")
        );
        assert_eq!(chain(&rules, "resolver")[1], format!("iifname != \"st-*\" {to}"));
        assert_eq!(chain(&rules, "exposed")[1], to);
        let forward = chain(&rules, "forward");
        let open = "oifname \"st-*\" ip daddr 10.83.0.9 tcp dport 5432 ct status dnat accept";
        assert!(forward.contains(&open.to_owned()), "{forward:?}");
        assert_eq!(forward.last().unwrap(), "oifname \"st-*\" drop");
        assert!(!self::rules().recreate().contains("15432"));
    }

    #[test]
    fn links_are_replaced_as_a_whole_in_both_families() {
        let pool = Pool::new(rules().pools[0], rules().pools[1]).unwrap();
        assert_eq!(
            rules().links(&[(pool.nth(8), pool.nth(9)), (pool.nth(10), pool.nth(9))]),
            "flush set inet staithe_st links4\n\
             flush set inet staithe_st links6\n\
             add element inet staithe_st links4 { 10.83.0.8 . 10.83.0.9, 10.83.0.10 . 10.83.0.9 }\n\
             add element inet staithe_st links6 { fd53:7461::8 . fd53:7461::9, fd53:7461::a . \
             fd53:7461::9 }\n"
        );
        assert!(!rules().links(&[]).contains("add element"));
    }

    #[test]
    fn a_table_counts_as_loaded_when_all_its_chains_are_there() {
        let count = rules().recreate().matches("\tchain ").count();
        assert_eq!(count, CHAINS);
        let chain = r#"{"chain": {"family": "inet", "table": "staithe_st", "name": "x"}}"#;
        let listing = |count| format!(r#"{{"nftables": [{}]}}"#, vec![chain; count].join(","));
        assert!(is_loaded(&listing(CHAINS), "staithe_st"));
        assert!(!is_loaded(&listing(CHAINS - 1), "staithe_st"));
        assert!(!is_loaded(&listing(CHAINS), "staithe_s"));
    }
}
