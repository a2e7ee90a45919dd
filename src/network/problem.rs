//! What on the host stands in the network's way. Others' rules are reported, not fought.

use serde::Deserialize;

/// Something on the host that keeps containers from the network as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable identifier, such as `network.forward-policy`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What to do about it.
    pub remedy: String,
}

/// A chain that drops what none of its rules accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DroppingChain {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// The chains on the path between links that drop by policy, from `nft -j list chains`. Docker and
/// most firewall front ends have one; a packet must be accepted by every table it meets.
pub(super) fn dropping_chains(listing: &str, own_table: &str) -> Vec<DroppingChain> {
    let Ok(listing) = serde_json::from_str::<Listing>(listing) else {
        return Vec::new();
    };
    listing
        .nftables
        .into_iter()
        .filter_map(|object| object.chain)
        .filter(|chain| chain.hook.as_deref() == Some("forward"))
        .filter(|chain| chain.policy.as_deref() == Some("drop"))
        .filter(|chain| matches!(chain.family.as_str(), "ip" | "ip6" | "inet"))
        .filter(|chain| chain.table != own_table)
        .map(|Chain { family, table, name, .. }| DroppingChain { family, table, name })
        .collect()
}

/// The problem of such a chain, unless its table has rules for our links by now.
pub(super) fn forward_policy(
    chain: &DroppingChain,
    table_listing: &str,
    prefix: &str,
) -> Option<Problem> {
    if table_listing.contains(&format!("\"{prefix}*\"")) {
        return None;
    }
    let DroppingChain { family, table, name } = chain;
    let remedy = if table == "filter" && family != "inet" {
        let program = if family == "ip6" { "ip6tables" } else { "iptables" };
        let target = if table_listing.contains("chain DOCKER-USER") { "DOCKER-USER" } else { name };
        format!(
            "run `{program} -I {target} -i {prefix}+ -j ACCEPT` and `{program} -I {target} -o \
             {prefix}+ -j ACCEPT`; staithe's own rules still apply"
        )
    } else {
        format!(
            "run `nft insert rule {family} {table} {name} iifname \"{prefix}*\" accept` and `nft \
             insert rule {family} {table} {name} oifname \"{prefix}*\" accept`, or allow the links \
             {prefix}* in the program that owns that table; staithe's own rules still apply"
        )
    };
    Some(Problem {
        code: "network.forward-policy",
        sentence: format!(
            "chain {name} of the firewall table {family} {table} drops the packets of apps on \
             their way to the outside"
        ),
        remedy,
    })
}

/// Rules of the older iptables, which `nft` does not show.
pub(super) fn legacy_forward_policy(rules: &str, prefix: &str) -> Option<Problem> {
    let drops = rules.lines().any(|line| line.trim() == "-P FORWARD DROP");
    (drops && !rules.contains(&format!("{prefix}+"))).then(|| Problem {
        code: "network.forward-policy",
        sentence:
            "the FORWARD policy of iptables-legacy drops the packets of apps on their way to \
                   the outside"
                .into(),
        remedy: format!(
            "run `iptables-legacy -I FORWARD -i {prefix}+ -j ACCEPT` and `iptables-legacy -I \
             FORWARD -o {prefix}+ -j ACCEPT`; staithe's own rules still apply"
        ),
    })
}

/// Forwarding was turned off since the network was opened.
pub(super) fn no_forwarding() -> Problem {
    Problem {
        code: "network.no-forwarding",
        sentence: "net.ipv4.ip_forward is off, so apps cannot reach the outside".into(),
        remedy:
            "run `sysctl net.ipv4.ip_forward=1` and remove what turns it off from /etc/sysctl.d"
                .into(),
    }
}

/// The instance's table is gone.
pub(super) fn no_table(table: &str) -> Problem {
    Problem {
        code: "network.no-table",
        sentence: format!("the firewall table inet {table} is gone, so apps are not isolated"),
        remedy:
            "staithe loads it again by itself; find out what runs `nft flush ruleset` (reloading \
                 the service nftables does)"
                .into(),
    }
}

/// No resolver is usable from containers.
pub(super) fn no_resolver() -> Problem {
    Problem {
        code: "network.no-resolver",
        sentence: "the host has no resolver that apps can use".into(),
        remedy: "set `resolvers` in the section [network] of the configuration".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2,
                   "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 3}},
        {"chain": {"family": "inet", "table": "staithe_st", "name": "forward", "handle": 1,
                   "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
        {"chain": {"family": "bridge", "table": "b", "name": "forward", "handle": 1,
                   "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}]}"#;

    fn docker_forward() -> DroppingChain {
        DroppingChain { family: "ip".into(), table: "filter".into(), name: "FORWARD".into() }
    }

    #[test]
    fn dockers_forward_policy_is_found_and_bridges_are_not_our_business() {
        assert_eq!(dropping_chains(DOCKER, "staithe_st"), [docker_forward()]);
        assert_eq!(dropping_chains("not json", "staithe_st"), []);
    }

    #[test]
    fn the_remedy_is_a_command_for_the_chain_that_survives_dockers_restart() {
        let problem = forward_policy(&docker_forward(), "chain DOCKER-USER {", "st-").unwrap();
        assert!(problem.remedy.contains("iptables -I DOCKER-USER -i st-+ -j ACCEPT"));
        let own = DroppingChain { family: "inet".into(), table: "fw".into(), name: "fwd".into() };
        let problem = forward_policy(&own, "", "st-").unwrap();
        assert!(problem.remedy.contains("nft insert rule inet fw fwd iifname \"st-*\" accept"));
    }

    #[test]
    fn a_table_with_rules_for_our_links_is_no_problem() {
        assert_eq!(forward_policy(&docker_forward(), "iifname \"st-*\" accept", "st-"), None);
    }

    #[test]
    fn a_legacy_policy_is_found_until_our_links_are_allowed() {
        assert!(legacy_forward_policy("-P FORWARD DROP\n", "st-").is_some());
        assert!(legacy_forward_policy("-P FORWARD ACCEPT\n", "st-").is_none());
        let allowed = "-P FORWARD DROP\n-A FORWARD -i st-+ -j ACCEPT\n";
        assert!(legacy_forward_policy(allowed, "st-").is_none());
    }
}
