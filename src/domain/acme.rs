//! Certificates issued by themselves: what an app wants, what has happened, when to try again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CertificateFacts, Hostname, Invalid, Timestamp};

/// How an authority learns that a name is ours (RFC 8555 §8, RFC 8737).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ChallengeKind {
    /// A file under `/.well-known/acme-challenge/`, over plain HTTP.
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate shown to whoever speaks `acme-tls/1`.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record under `_acme-challenge`.
    #[serde(rename = "dns-01")]
    Dns01,
}

impl ChallengeKind {
    /// As settings have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

impl std::str::FromStr for ChallengeKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::Http01, Self::TlsAlpn01, Self::Dns01];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            Invalid::new("challenge", text, "must be `http-01`, `tls-alpn-01` or `dns-01`")
        })
    }
}

/// What an app, or all of them, set about certificates; what is `None` is as the next wider scope
/// says: app, then all apps, then the operator's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeSettings {
    /// Whether certificates are had for the app; none: once there is an e-mail address.
    pub enabled: Option<bool>,
    /// The address that the authority writes to.
    pub email: Option<String>,
    /// The authority's directory.
    pub server: Option<String>,
    /// A file with the authorities behind the directory's own TLS.
    pub ca_bundle: Option<std::path::PathBuf>,
    /// How names are validated.
    pub challenge: Option<ChallengeKind>,
    /// The program that sets DNS records.
    pub dns_hook: Option<std::path::PathBuf>,
    /// Seconds before its end at which a certificate is renewed.
    pub grace_s: Option<u64>,
}

impl AcmeSettings {
    /// These, filled up by `wider` ones.
    #[must_use]
    pub fn or(self, wider: Self) -> Self {
        Self {
            enabled: self.enabled.or(wider.enabled),
            email: self.email.or(wider.email),
            server: self.server.or(wider.server),
            ca_bundle: self.ca_bundle.or(wider.ca_bundle),
            challenge: self.challenge.or(wider.challenge),
            dns_hook: self.dns_hook.or(wider.dns_hook),
            grace_s: self.grace_s.or(wider.grace_s),
        }
    }
}

/// In what way an attempt failed: how soon the next one makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AcmeFailure {
    /// The authority was not asked: the name does not lead here, or something failed on this side.
    Ours,
    /// The authority could not be reached or failed.
    Unreachable,
    /// The authority looked and did not find the name to be ours, or refuses it.
    Refused,
    /// The authority says to come back later.
    Limited {
        /// When, in seconds, if it says.
        after_s: Option<u64>,
    },
}

/// Failed validations that Let's Encrypt allows for one account, name and hour are five; one is
/// left to the user.
const REFUSALS_PER_HOUR: usize = 4;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest an authority is believed to mean by `Retry-After`.
const LONGEST_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is remembered about a domain between attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AcmeProgress {
    /// Failures since the last success.
    pub failures: u32,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
    /// When the next attempt is made; none: as soon as it is due.
    pub next_attempt: Option<Timestamp>,
    /// When the authority refused, within the last hour.
    pub refusals: Vec<Timestamp>,
    /// When the authority wants the certificate to be renewed (RFC 9773).
    pub suggested: Option<Timestamp>,
    /// When it was last asked for that.
    pub asked_at: Option<Timestamp>,
}

impl AcmeProgress {
    /// After a failed attempt. The wait doubles: from a minute to an hour where it costs nobody but
    /// us, from 15 minutes to a day where the authority was bothered.
    pub fn failed(&mut self, why: String, failure: AcmeFailure, domain: &Hostname, now: Timestamp) {
        self.failures += 1;
        self.last_failure = Some(why);
        let (first, longest) = match failure {
            AcmeFailure::Ours | AcmeFailure::Unreachable => (Duration::from_secs(60), HOUR),
            AcmeFailure::Refused => (HOUR / 4, DAY),
            AcmeFailure::Limited { after_s } => {
                let wait = after_s.map_or(HOUR, Duration::from_secs).min(LONGEST_LIMIT);
                (wait, wait)
            }
        };
        if failure == AcmeFailure::Refused {
            self.refusals.push(now);
        }
        self.refusals.retain(|at| now.since(*at) < HOUR);
        let doubled = first.saturating_mul(1 << (self.failures - 1).min(16)).min(longest);
        self.next_attempt = Some(now.after(doubled + spread(domain, doubled / 4)));
    }

    /// What the authority suggests: some point of a window, another one for each domain
    /// (RFC 9773 §4.2).
    pub fn suggest(&mut self, (start, end): (Timestamp, Timestamp), domain: &Hostname) {
        self.suggested = Some(start.after(spread(domain, end.since(start))));
    }

    /// Whether an attempt may be made by itself.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_attempt.is_none_or(|at| now >= at)
    }

    /// Until when not even a user's wish may bother the authority.
    pub fn locked_until(&self, now: Timestamp) -> Option<Timestamp> {
        let recent = self.refusals.iter().filter(|at| now.since(**at) < HOUR);
        let (count, first) = (recent.clone().count(), recent.min());
        first.filter(|_| count >= REFUSALS_PER_HOUR).map(|at| at.after(HOUR))
    }
}

/// A span below `most` that is always the same for a domain, and different for different ones: so
/// that what was issued in one minute is not renewed in one minute.
fn spread(domain: &Hostname, most: Duration) -> Duration {
    // FNV-1a; a hash that stays the same over versions.
    let hash = domain.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(if millis == 0 { 0 } else { hash % millis })
}

/// When a certificate is to be renewed: `grace` before its end, or when a third of its lifetime is
/// left; never before half of it is over. Up to a thirtieth of the lifetime earlier, by domain.
pub fn renew_at(facts: &CertificateFacts, grace: Option<Duration>, domain: &Hostname) -> Timestamp {
    let lifetime = facts.lifetime();
    let before = grace.unwrap_or(lifetime / 3) + spread(domain, lifetime / 30);
    facts.not_before.after(lifetime - before.min(lifetime / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Hostname {
        "shop.example.com".parse().unwrap()
    }

    /// The waits after `count` failures in a row, in minutes, spread aside.
    fn waits(failure: AcmeFailure, count: u32) -> Vec<u64> {
        let mut progress = AcmeProgress::default();
        let mut now = Timestamp(0);
        let mut waits = Vec::new();
        for _ in 0..count {
            progress.failed("x".into(), failure, &domain(), now);
            let wait = progress.next_attempt.unwrap().since(now);
            waits.push((wait * 4 / 5).as_secs().div_ceil(60));
            assert!(!progress.is_due(now));
            now = progress.next_attempt.unwrap();
            assert!(progress.is_due(now));
        }
        waits
    }

    #[test]
    fn waits_double_up_to_an_hour_or_a_day() {
        let ours = waits(AcmeFailure::Ours, 9);
        assert!(ours[0] <= 1 && ours[1] <= 2 && ours[8] >= 48 && ours[8] <= 60, "{ours:?}");
        let refused = waits(AcmeFailure::Refused, 9);
        assert!(refused[0] >= 12 && refused[8] >= 24 * 48 && refused[8] <= 24 * 60, "{refused:?}");
    }

    #[test]
    fn what_the_authority_asks_for_is_kept_within_a_week() {
        let limited = |after_s| waits(AcmeFailure::Limited { after_s }, 2);
        assert!(limited(Some(7200)).iter().all(|wait| (96..=120).contains(wait)));
        assert!(limited(Some(u64::MAX)).iter().all(|wait| *wait <= 7 * 24 * 60));
        assert!(limited(None).iter().all(|wait| (48..=60).contains(wait)));
    }

    #[test]
    fn four_refusals_within_an_hour_lock_even_the_user_out() {
        let mut progress = AcmeProgress::default();
        let minute = |minutes: i64| Timestamp(minutes * 60_000);
        for at in [0, 10, 20] {
            progress.failed("x".into(), AcmeFailure::Refused, &domain(), minute(at));
        }
        assert_eq!(progress.locked_until(minute(21)), None);
        progress.failed("x".into(), AcmeFailure::Refused, &domain(), minute(30));
        assert_eq!(progress.locked_until(minute(31)), Some(minute(60)));
        assert_eq!(progress.locked_until(minute(61)), None);
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_left_and_never_in_its_first_half() {
        let day = 86_400_000;
        let facts = CertificateFacts {
            id: "0".repeat(64).parse().unwrap(),
            subject: String::new(),
            issuer: String::new(),
            names: Vec::new(),
            not_before: Timestamp(0),
            not_after: Timestamp(90 * day),
            key: String::new(),
            verified: true,
        };
        let days = |grace: Option<u64>| {
            let grace = grace.map(|days| DAY * u32::try_from(days).unwrap());
            renew_at(&facts, grace, &domain()).0 / day
        };
        assert!((56..=60).contains(&days(None)), "{}", days(None));
        assert!((76..=80).contains(&days(Some(10))), "{}", days(Some(10)));
        assert_eq!(days(Some(1000)), 45);
    }

    #[test]
    fn the_narrower_scope_wins() {
        let app = AcmeSettings { email: Some("a".into()), ..AcmeSettings::default() };
        let global =
            AcmeSettings { email: Some("b".into()), grace_s: Some(1), ..AcmeSettings::default() };
        let settings = app.or(global);
        assert_eq!((settings.email.as_deref(), settings.grace_s), (Some("a"), Some(1)));
    }
}
