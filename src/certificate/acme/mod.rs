//! The client of certificate authorities (RFC 8555).
//!
//! ```text
//!  obtain ─► preflight ─► account ─► order ─► authorization ─► finalize ─► Pair
//!            looks the     loaded     one       proof presented, looked at
//!            name up,      or made    name      ourselves, then the authority
//!            fetches it                         is told; withdrawn in any case
//! ```

mod account;
mod dns;
mod failure;
mod hook;
mod https;
mod order;
mod preflight;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use instant_acme::Account;

pub use failure::Failure;

use super::config::Config;
use super::files::Files;
use super::pair::Pair;
use super::trust::Trust;
use crate::domain::{CertificateId, ChallengeKind, Hostname, Timestamp};

/// Which authority is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its directory.
    pub directory_url: String,
    /// Where it writes to.
    pub email: String,
    /// The authorities behind its own TLS; none: those this machine trusts.
    pub ca_bundle: Option<PathBuf>,
    /// How names are validated that are no wildcards.
    pub challenge: ChallengeKind,
    /// The program that sets DNS records.
    pub dns_hook: Option<PathBuf>,
}

/// Names that no public authority knows (RFC 6761, RFC 6762, RFC 8375, RFC 9476, ICANN's
/// `internal`).
const SPECIAL_DOMAINS: [&str; 11] = [
    "test",
    "localhost",
    "local",
    "internal",
    "lan",
    "home",
    "corp",
    "invalid",
    "example",
    "alt",
    "home.arpa",
];

/// Whether the name can exist in the public DNS: at least two labels, and no special-use domain.
pub fn is_public_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let special = |domain: &&str| {
        name.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    name.contains('.')
        && name.parse::<std::net::IpAddr>().is_err()
        && !SPECIAL_DOMAINS.iter().any(special)
}

impl Authority {
    /// Whether it is one for the public web: one of one's own has an address of its own kind, or
    /// needs a bundle to be believed.
    pub fn is_public(&self) -> bool {
        let host = self.directory_url.parse::<http::Uri>().ok();
        let host = host.as_ref().and_then(|url| url.host()).map(str::to_owned);
        self.ca_bundle.is_none() && host.is_some_and(|host| is_public_name(&host))
    }

    /// How `domain` is validated: only DNS speaks for a wildcard.
    pub fn challenge_for(&self, domain: &Hostname) -> ChallengeKind {
        match domain.as_str().starts_with('*') {
            true => ChallengeKind::Dns01,
            false => self.challenge,
        }
    }

    /// Whether it makes sense to ask for `domain`; where not, nothing is missing: the name is not
    /// one that this authority could know, or a wildcard without a DNS program.
    pub fn can_issue(&self, domain: &Hostname) -> bool {
        let known = !self.is_public() || is_public_name(domain.as_str());
        let needs_hook = domain.as_str().starts_with('*');
        domain.as_str() != "_" && known && (self.dns_hook.is_some() || !needs_hook)
    }
}

/// What the authority will look for, put where it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// `GET http://<domain>/.well-known/acme-challenge/<token>` is answered by `answer`.
    Http01 {
        /// The name.
        domain: Hostname,
        /// The path's last segment.
        token: String,
        /// The body.
        answer: String,
    },
    /// A handshake for `domain` with `acme-tls/1` is answered by the kept certificate.
    TlsAlpn01 {
        /// The name.
        domain: Hostname,
        /// The file.
        certificate: CertificateId,
    },
}

/// Who shows proofs to the world: the proxy, by way of the route table.
pub trait Presenter: Send + Sync {
    /// Puts a proof in force, for all requests from now on.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    fn present(&self, proof: &Proof) -> impl Future<Output = Result<(), String>> + Send;

    /// Takes it away again.
    fn withdraw(&self, proof: &Proof) -> impl Future<Output = ()> + Send;

    /// Where proofs can be looked at over plain HTTP, from this machine.
    fn door(&self) -> Option<SocketAddr>;
}

/// One certificate that is wanted.
#[derive(Debug)]
pub struct Wish<'a> {
    /// For which name.
    pub domain: &'a Hostname,
    /// From whom.
    pub authority: &'a Authority,
    /// In place of which (RFC 9773 §5); authorities do not count a renewal against their limits.
    pub replaces: Option<&'a Pair>,
    /// The time.
    pub now: Timestamp,
}

/// Speaks with authorities; one for the whole process.
#[derive(Debug)]
pub struct Client {
    config: Config,
    /// Where account keys are kept.
    accounts: PathBuf,
    trust: Trust,
    files: Files,
    /// Held while an account is loaded or made, over the network on purpose: two first orders at
    /// once would make two accounts.
    account_lock: tokio::sync::Mutex<()>,
}

impl Client {
    pub(super) fn new(config: Config, accounts: PathBuf, trust: Trust, files: Files) -> Self {
        Self { config, accounts, trust, files, account_lock: tokio::sync::Mutex::new(()) }
    }

    fn trust_of(&self, authority: &Authority) -> Result<Trust, Failure> {
        match &authority.ca_bundle {
            None => Ok(self.trust.clone()),
            Some(path) => Trust::from_file(path).map_err(|error| Failure::ours(error.to_string())),
        }
    }

    /// Asks the authority when it wants `pair` to be renewed (RFC 9773): the window's first and
    /// last moment; none where it has no opinion.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn renewal_window(
        &self,
        authority: &Authority,
        pair: &Pair,
    ) -> Result<Option<(Timestamp, Timestamp)>, Failure> {
        let Some(id) = order::renewal_id(pair) else { return Ok(None) };
        let (account, limits) = self.account(authority).await?;
        match account.renewal_info(&id).await {
            Ok((info, _)) => {
                let at = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
                let window = info.suggested_window;
                Ok(Some((at(window.start.unix_timestamp()), at(window.end.unix_timestamp()))))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(Failure::from_acme(&error, &limits)),
        }
    }

    /// Has the authority declare a certificate void.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke(&self, authority: &Authority, pair: &Pair) -> Result<(), Failure> {
        let (account, limits) = self.account(authority).await?;
        let request = instant_acme::RevocationRequest { certificate: pair.leaf(), reason: None };
        match account.revoke(&request).await {
            Ok(()) => Ok(()),
            Err(instant_acme::Error::Api(problem)) if failure::is(&problem, "alreadyRevoked") => {
                Ok(())
            }
            Err(error) => Err(Failure::from_acme(&error, &limits)),
        }
    }

    async fn account(&self, authority: &Authority) -> Result<(Account, https::Limits), Failure> {
        let trust = self.trust_of(authority)?;
        let _making = self.account_lock.lock().await;
        account::open(&self.accounts, authority, &trust).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(directory_url: &str) -> Authority {
        Authority {
            directory_url: directory_url.into(),
            email: "ops@example.com".into(),
            ca_bundle: None,
            challenge: ChallengeKind::Http01,
            dns_hook: None,
        }
    }

    #[test]
    fn public_authorities_are_not_asked_for_private_names() {
        let public = authority("https://acme-v02.api.letsencrypt.org/directory");
        let private = authority("https://ca.corp.internal/acme/directory");
        assert!(public.is_public() && !private.is_public());
        for (name, by_public, by_private) in [
            ("shop.example.com", true, true),
            ("shop.test", false, true),
            ("shop.localhost", false, true),
            ("shop", false, true),
            ("10.0.0.1", false, true),
            ("*.shop.com", false, false),
            ("_", false, false),
        ] {
            let name: Hostname = name.parse().unwrap();
            assert_eq!(public.can_issue(&name), by_public, "{name}");
            assert_eq!(private.can_issue(&name), by_private, "{name}");
        }
        let hook = Authority { dns_hook: Some("/x".into()), ..public };
        let wildcard = "*.shop.com".parse().unwrap();
        assert!(hook.can_issue(&wildcard));
        assert_eq!(hook.challenge_for(&wildcard), ChallengeKind::Dns01);
    }
}
