//! One order: from a wish to a certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, Error,
    Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::Der;
use x509_parser::extensions::ParsedExtension;

use super::super::fetch::{Fetched, fetch};
use super::dns::Resolver;
use super::hook::{Hook, Verb};
use super::https::Limits;
use super::preflight;
use super::{Client, Failure, Presenter, Proof, Wish, account, failure};
use crate::certificate::issue;
use crate::certificate::pair::{Checked, Pair, Validity};
use crate::domain::{ChallengeKind, Timestamp};
use crate::support::report;

/// How the authority is asked whether it is done: after a quarter of a second, then less and less
/// often. Validation takes seconds; DNS-01 at some authorities a minute.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// What an order goes by.
struct Work<'a, P> {
    client: &'a Client,
    wish: &'a Wish<'a>,
    presenter: &'a P,
    say: &'a (dyn Fn(&str) + Send + Sync),
    limits: Limits,
}

impl Client {
    /// Has a certificate for one name. `say` is told what is done, in a few words.
    ///
    /// # Errors
    /// [`Failure`]: nothing is in force that was not before.
    ///
    /// # Cancellation
    /// Dropped, a proof may be left in force; it harms nobody, and a restart forgets it.
    pub async fn obtain<P: Presenter>(
        &self,
        wish: &Wish<'_>,
        presenter: &P,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Pair, Failure> {
        if self.config.preflight {
            let trust = self.trust_of(wish.authority)?;
            let resolver = Resolver::new(&self.config.resolvers);
            let seen = (&resolver, self.config.http_port);
            preflight::check(wish.domain, wish.authority, seen, &trust, presenter).await?;
        }
        match self.order(wish, presenter, say).await {
            // The authority has forgotten the account (RFC 8555 §6.7, accountDoesNotExist): a new
            // one is made, once.
            Err(Stop::NoAccount) => {
                account::forget(&self.accounts, wish.authority)?;
                say("The authority does not know the account any more; making a new one");
                self.order(wish, presenter, say).await
            }
            result => result,
        }
        .map_err(|stop| match stop {
            Stop::Failed(failure) => failure,
            Stop::NoAccount => Failure::refused("the certificate authority accepts no account"),
        })
    }

    async fn order<P: Presenter>(
        &self,
        wish: &Wish<'_>,
        presenter: &P,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Pair, Stop> {
        let (account, limits) = match self.account(wish.authority).await {
            Ok(account) => account,
            Err(failure) => return Err(Stop::Failed(failure)),
        };
        let work = Work { client: self, wish, presenter, say, limits };
        let mut order = work.open(&account).await?;
        work.authorize(&mut order).await?;
        work.collect(&mut order).await
    }
}

/// Why an order came to no end.
enum Stop {
    Failed(Failure),
    NoAccount,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<P: Presenter> Work<'_, P> {
    fn failed(&self, error: &Error) -> Failure {
        Failure::from_acme(error, &self.limits)
    }

    async fn open(&self, account: &Account) -> Result<Order, Stop> {
        let identifiers = [Identifier::Dns(self.wish.domain.to_string())];
        let replaces = self.wish.replaces.and_then(renewal_id);
        let result = match replaces {
            Some(id) => {
                let order = NewOrder::new(&identifiers).replaces(id);
                match account.new_order(&order).await {
                    // An authority without RFC 9773, or one that saw this certificate replaced
                    // already: then it is an order like any other.
                    Err(Error::Unsupported(_) | Error::Other(_)) => {
                        account.new_order(&NewOrder::new(&identifiers)).await
                    }
                    Err(Error::Api(problem))
                        if ["alreadyReplaced", "malformed", "conflict"]
                            .iter()
                            .any(|kind| failure::is(&problem, kind)) =>
                    {
                        account.new_order(&NewOrder::new(&identifiers)).await
                    }
                    result => result,
                }
            }
            None => account.new_order(&NewOrder::new(&identifiers)).await,
        };
        match result {
            Ok(order) => Ok(order),
            Err(Error::Api(problem)) if failure::is(&problem, "accountDoesNotExist") => {
                Err(Stop::NoAccount)
            }
            Err(error) => Err(self.failed(&error).into()),
        }
    }

    /// Proves each name of the order that is not proven yet.
    async fn authorize(&self, order: &mut Order) -> Result<(), Failure> {
        let kind = self.wish.authority.challenge_for(self.wish.domain);
        let wanted = match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Dns01 => ChallengeType::Dns01,
        };
        let mut shown = Vec::new();
        let result = self.show_all(order, &wanted, kind, &mut shown).await;
        let result = match result {
            Ok(()) => self.await_ready(order).await,
            Err(failure) => Err(failure),
        };
        // In any case, and before anything else is done.
        for evidence in &shown {
            self.take_down(evidence).await;
        }
        result
    }

    async fn show_all(
        &self,
        order: &mut Order,
        wanted: &ChallengeType,
        kind: ChallengeKind,
        shown: &mut Vec<Evidence>,
    ) -> Result<(), Failure> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(&error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => {
                    (self.say)("The authority knows the name already");
                    continue;
                }
                status => {
                    let sentence = format!("the authority's authorization is {status:?}");
                    return Err(Failure::refused(sentence));
                }
            }
            let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
                let sentence = format!(
                    "the authority does not validate `{}` by {}; choose another by `letsencrypt:set … challenge`",
                    self.wish.domain,
                    kind.as_str()
                );
                return Err(Failure::ours(sentence));
            };
            let evidence = self.evidence(&challenge, kind)?;
            (self.say)(&format!("Validating by {}", kind.as_str()));
            shown.push(evidence);
            if let Some(evidence) = shown.last() {
                self.put_up(evidence).await?;
            }
            challenge.set_ready().await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// What the authority will look for.
    fn evidence(
        &self,
        challenge: &ChallengeHandle<'_>,
        kind: ChallengeKind,
    ) -> Result<Evidence, Failure> {
        let authorization = challenge.key_authorization();
        let domain = self.wish.domain.clone();
        Ok(match kind {
            ChallengeKind::Http01 => Evidence::Proof(Proof::Http01 {
                domain,
                token: token(&challenge.token)?,
                answer: authorization.as_str().to_owned(),
            }),
            ChallengeKind::TlsAlpn01 => {
                let digest = authorization.digest();
                let pair = issue::challenge(&domain, digest.as_ref(), self.wish.now)
                    .and_then(|pair| self.client.files.keep(&pair).map(|()| pair))
                    .map_err(|error| Failure::ours(report(&error)))?;
                let certificate = pair.facts().id.clone();
                Evidence::Proof(Proof::TlsAlpn01 { domain, certificate })
            }
            ChallengeKind::Dns01 => {
                let name = domain.as_str();
                let base = name.strip_prefix("*.").unwrap_or(name);
                Evidence::Record {
                    name: format!("_acme-challenge.{base}"),
                    value: authorization.dns_value(),
                }
            }
        })
    }

    async fn put_up(&self, evidence: &Evidence) -> Result<(), Failure> {
        match evidence {
            Evidence::Proof(proof) => {
                self.presenter.present(proof).await.map_err(Failure::ours)?;
                self.look(proof).await
            }
            Evidence::Record { name, value } => self.hook()?.call(Verb::Present, name, value).await,
        }
    }

    async fn take_down(&self, evidence: &Evidence) {
        match evidence {
            Evidence::Proof(proof) => {
                self.presenter.withdraw(proof).await;
                if let Proof::TlsAlpn01 { certificate, .. } = proof
                    && let Err(error) = self.client.files.remove(certificate)
                {
                    (self.say)(&report(&error));
                }
            }
            Evidence::Record { name, value } => {
                let cleaned = match self.hook() {
                    Ok(hook) => hook.call(Verb::Cleanup, name, value).await,
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = cleaned {
                    (self.say)(&format!("The record `{name}` was left behind: {failure}"));
                }
            }
        }
    }

    fn hook(&self) -> Result<Hook<'_>, Failure> {
        let config = &self.client.config;
        match &self.wish.authority.dns_hook {
            Some(program) => {
                Ok(Hook { program, user: config.dns_hook_user, deadline: config.hook_timeout() })
            }
            None => Err(Failure::ours(
                "dns-01 needs a program that sets DNS records: `dns_hook` in the operator's file",
            )),
        }
    }

    /// Looks at an HTTP proof through our own door: what we do not see, the authority will not
    /// either, and it counts failures.
    async fn look(&self, proof: &Proof) -> Result<(), Failure> {
        let (Proof::Http01 { domain, token, answer }, Some(door)) = (proof, self.presenter.door())
        else {
            return Ok(());
        };
        let path = format!("{}{token}", preflight::PATH);
        match fetch(reachable(door), domain.as_str(), &path).await {
            Fetched::Answer { status: 200, body, .. } if body == answer.as_bytes() => Ok(()),
            other => Err(Failure::ours(format!(
                "the proxy does not show the challenge for `{domain}` ({}); `staithe events` and the server's log may tell why",
                summary(&other)
            ))),
        }
    }

    async fn await_ready(&self, order: &mut Order) -> Result<(), Failure> {
        match order.poll_ready(&POLL).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
            Ok(_) => Err(self.verdict(order).await),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Why the order became invalid: the error of the challenge that the authority tried.
    async fn verdict(&self, order: &mut Order) -> Failure {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            if let Some(problem) = state.challenges.iter().find_map(|one| one.error.as_ref()) {
                return Failure::from_problem(problem, &self.limits);
            }
        }
        Failure::refused("the certificate authority refuses the order and does not say why")
    }

    /// Has the certificate made and looks at it.
    async fn collect(&self, order: &mut Order) -> Result<Pair, Stop> {
        (self.say)("Waiting for the certificate");
        let key = order.finalize().await.map_err(|error| self.failed(&error))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|error| self.failed(&error))?;
        let now = self.wish.now.max(Timestamp(0));
        // What was issued this second may begin in the next by our clock.
        let Checked { pair, .. } =
            Pair::parse(&chain, &key, now, Validity::Waived, &self.client.trust).map_err(
                |refused| Failure::refused(format!("what was issued is no good: {refused}")),
            )?;
        match pair.facts().covers(self.wish.domain) {
            true => Ok(pair),
            false => Err(Failure::refused("what was issued is for another name").into()),
        }
    }
}

/// What is shown to the authority, and where.
enum Evidence {
    Proof(Proof),
    Record { name: String, value: String },
}

/// A token goes into a path and a route table: RFC 8555 §8.1 allows base64url only.
fn token(token: &str) -> Result<String, Failure> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    match (1..=256).contains(&token.len()) && token.bytes().all(allowed) {
        true => Ok(token.to_owned()),
        false => Err(Failure::refused("the certificate authority sent a token that is none")),
    }
}

/// Where a listener on all addresses is reached from here.
fn reachable(door: SocketAddr) -> SocketAddr {
    let ip = match door.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, door.port())
}

fn summary(fetched: &Fetched) -> String {
    match fetched {
        Fetched::Answer { status, .. } => format!("it answers {status}"),
        Fetched::Closed(why) => why.clone(),
        Fetched::Silent => "it does not answer".into(),
        Fetched::Garbled => "it does not speak HTTP".into(),
    }
}

/// What RFC 9773 §4.1 calls a certificate: the issuer's key identifier and the serial number.
pub(super) fn renewal_id(pair: &Pair) -> Option<CertificateIdentifier<'static>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(pair.leaf()).ok()?;
    let issuer = certificate.extensions().iter().find_map(|extension| {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref(),
            _ => None,
        }
    })?;
    let serial = certificate.tbs_certificate.raw_serial();
    Some(
        CertificateIdentifier::new(Der::from_slice(issuer.0), Der::from_slice(serial)).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_base64url_and_nothing_else() {
        assert!(token("DGyRejmCefe7v4NfDGDKfA").is_ok());
        for bad in ["", "../../x", "a b", "a/b", &"a".repeat(257)] {
            assert!(token(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_door_on_all_addresses_is_looked_at_from_here() {
        for (door, from_here) in [
            ("[::]:80", "[::1]:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(door.parse().unwrap()).to_string(), from_here);
        }
    }
}
