//! Why a name cannot be validated, found out before an authority is bothered: its patience is
//! limited (five failed validations an hour), and its sentences are short.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::super::address::is_private;
use super::super::fetch::{Fetched, fetch};
use super::dns::{Caa, NoAnswer, Resolver};
use super::https::{Https, Limits};
use super::{Authority, Failure, Presenter, Proof, account};
use crate::certificate::trust::Trust;
use crate::domain::{ChallengeKind, Hostname};

/// Where authorities look (RFC 8555 §8.3).
pub(super) const PATH: &str = "/.well-known/acme-challenge/";
/// The most addresses of one name that are tried; authorities pick any.
const MAX_ADDRESSES: usize = 8;

/// Looks a name up and fetches a probe of ours from each of its addresses.
pub(super) async fn check<P: Presenter>(
    domain: &Hostname,
    authority: &Authority,
    (resolver, http_port): (&Resolver, u16),
    trust: &Trust,
    presenter: &P,
) -> Result<(), Failure> {
    check_caa(domain, authority, resolver, trust).await?;
    let kind = authority.challenge_for(domain);
    if kind == ChallengeKind::Dns01 {
        return Ok(());
    }
    let addresses = match resolver.addresses(domain.as_str()).await {
        Ok(addresses) if addresses.is_empty() => return Err(Failure::ours(no_address(domain))),
        Ok(addresses) => addresses,
        Err(error) => return Err(Failure::ours(unresolved(domain, &error))),
    };
    if authority.is_public()
        && let Some(address) = addresses.iter().find(|address| is_private(**address))
    {
        return Err(Failure::ours(format!(
            "`{domain}` leads to {address}, a private address that the authority cannot reach; use `dns-01`, or point its DNS record at a public address"
        )));
    }
    // For TLS-ALPN-01 it is the TLS port that counts; that the name leads here is found out by
    // plain HTTP where there is any, and otherwise by the authority.
    let Some(_) = presenter.door().filter(|_| kind == ChallengeKind::Http01) else {
        return Ok(());
    };
    probe(domain, &addresses, http_port, presenter).await
}

async fn probe<P: Presenter>(
    domain: &Hostname,
    addresses: &[IpAddr],
    port: u16,
    presenter: &P,
) -> Result<(), Failure> {
    let token = random_token()?;
    let answer = random_token()?;
    let proof =
        Proof::Http01 { domain: domain.clone(), token: token.clone(), answer: answer.clone() };
    presenter.present(&proof).await.map_err(Failure::ours)?;
    let path = format!("{PATH}{token}");
    let mut result = Ok(());
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let fetched = fetch(SocketAddr::new(*address, port), domain.as_str(), &path).await;
        if let Some(problem) = problem(domain, *address, port, &fetched, answer.as_bytes()) {
            result = Err(Failure::ours(problem));
            break;
        }
    }
    presenter.withdraw(&proof).await;
    result
}

/// 128 random bits in hexadecimal.
fn random_token() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::ours(format!("the kernel gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn no_address(domain: &Hostname) -> String {
    format!("`{domain}` has no address: add an A or AAAA record that points at this machine")
}

fn unresolved(domain: &Hostname, error: &NoAnswer) -> String {
    match error {
        NoAnswer::NoName => format!(
            "`{domain}` does not exist in the DNS (NXDOMAIN): add an A or AAAA record that points at this machine"
        ),
        NoAnswer::Failed(code) => format!(
            "`{domain}` cannot be looked up: its name servers fail ({code}); look at its zone, DNSSEC included"
        ),
        NoAnswer::Silence => format!(
            "`{domain}` cannot be looked up: no DNS server of this machine answers; look at `resolvers` or /etc/resolv.conf"
        ),
    }
}

/// What is wrong with an address of a name, if anything.
fn problem(
    domain: &Hostname,
    address: IpAddr,
    port: u16,
    fetched: &Fetched,
    answer: &[u8],
) -> Option<String> {
    let record = if address.is_ipv6() { "AAAA" } else { "A" };
    Some(match fetched {
        Fetched::Answer { status: 200, body, .. } if body == answer => return None,
        Fetched::Answer { status, server, .. } => {
            let server = server.as_deref().map(|server| format!(" ({server})")).unwrap_or_default();
            format!(
                "`{domain}` leads to {address}, where another server{server} answers with status {status}; point its {record} record at this machine"
            )
        }
        Fetched::Closed(why) => format!(
            "`{domain}` leads to {address}, where port {port} is closed ({why}); open it, or correct the {record} record"
        ),
        Fetched::Silent => format!(
            "`{domain}` leads to {address}, where port {port} does not answer; look at the firewall, or correct the {record} record"
        ),
        Fetched::Garbled => format!(
            "`{domain}` leads to {address}, where port {port} does not speak HTTP; correct the {record} record"
        ),
    })
}

/// The part of a directory that instant-acme does not tell (RFC 8555 §7.1.1).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    caa_identities: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Directory {
    meta: Meta,
}

/// Whether the name's owner lets this authority issue (RFC 8659). Lookups that fail are left to the
/// authority to judge.
async fn check_caa(
    domain: &Hostname,
    authority: &Authority,
    resolver: &Resolver,
    trust: &Trust,
) -> Result<(), Failure> {
    let Ok(records) = resolver.caa(domain.as_str()).await else { return Ok(()) };
    if records.is_empty() {
        return Ok(());
    }
    let https: Https = account::https(trust, &Limits::default())?;
    let directory = https.get(&authority.directory_url).await.map_err(|error| {
        Failure::unreachable(format!("the certificate authority cannot be reached: {error}"))
    })?;
    let directory: Directory = serde_json::from_slice(&directory).unwrap_or_default();
    let ours = directory.meta.caa_identities;
    match forbidden(&records, &ours, domain.as_str().starts_with('*')) {
        None => Ok(()),
        Some(allowed) => Err(Failure::ours(format!(
            "the CAA records of `{domain}` allow {allowed} to issue certificates, but not {}; add it there",
            ours.join(", ")
        ))),
    }
}

/// Who is allowed, if we are not; nothing where the authority has told no identity of its own.
fn forbidden(records: &[Caa], ours: &[String], wildcard: bool) -> Option<String> {
    let of = |tag: &str| -> Vec<&str> {
        let tagged = records.iter().filter(|record| record.tag == tag);
        // Parameters follow a semicolon; an empty name allows nobody.
        tagged.map(|record| record.value.split(';').next().unwrap_or_default().trim()).collect()
    };
    let special = if wildcard { of("issuewild") } else { Vec::new() };
    let allowed = if special.is_empty() { of("issue") } else { special };
    if ours.is_empty() || allowed.is_empty() {
        return None;
    }
    let is_ours = |name: &&str| ours.iter().any(|own| own.eq_ignore_ascii_case(name));
    if allowed.iter().any(is_ours) {
        return None;
    }
    let named: Vec<String> = allowed
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| name.chars().filter(|c| !c.is_control()).take(80).collect())
        .collect();
    Some(if named.is_empty() { "nobody".into() } else { named.join(", ") })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn caa(tag: &str, value: &str) -> Caa {
        Caa { tag: tag.into(), value: value.into() }
    }

    #[test]
    fn caa_records_are_obeyed() {
        let ours = ["letsencrypt.org".to_owned()];
        let check = |records: &[Caa], wildcard| forbidden(records, &ours, wildcard);
        assert_eq!(
            check(&[caa("issue", "letsencrypt.org; validationmethods=dns-01")], false),
            None
        );
        assert_eq!(check(&[caa("issue", "ca.test")], false).as_deref(), Some("ca.test"));
        assert_eq!(check(&[caa("issue", ";")], false).as_deref(), Some("nobody"));
        assert_eq!(check(&[caa("iodef", "mailto:x@y")], false), None);
        let both = [caa("issue", "letsencrypt.org"), caa("issuewild", "ca.test")];
        assert_eq!(check(&both, false), None);
        assert_eq!(check(&both, true).as_deref(), Some("ca.test"));
        assert_eq!(forbidden(&both, &[], true), None);
    }

    #[test]
    fn each_problem_of_an_address_has_a_sentence() {
        let domain: Hostname = "shop.example.com".parse().unwrap();
        let check = |fetched: &Fetched| {
            problem(&domain, "192.0.2.7".parse().unwrap(), 80, fetched, b"answer")
        };
        let answer = |status, server: Option<&str>, body: &'static [u8]| Fetched::Answer {
            status,
            server: server.map(str::to_owned),
            body: Bytes::from_static(body),
        };
        assert_eq!(check(&answer(200, None, b"answer")), None);
        for (fetched, expected) in [
            (
                answer(404, Some("nginx"), b"x"),
                "another server (nginx) answers with status 404; point its A record at this machine",
            ),
            (answer(200, None, b"x"), "another server answers with status 200"),
            (Fetched::Closed("refused".into()), "port 80 is closed (refused)"),
            (Fetched::Silent, "port 80 does not answer; look at the firewall"),
            (Fetched::Garbled, "does not speak HTTP"),
        ] {
            let problem = check(&fetched).unwrap();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
