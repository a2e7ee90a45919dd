//! How much one client may ask in a while: token buckets, by caller and by address.
//!
//! A bucket holds as many tokens as may be spent at once and fills up evenly. Failed tries to be
//! somebody have buckets of their own, which are small.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::caller::Caller;
use super::error::Refusal;
use super::origin::Origin;
use crate::platform::{Error, Kind};

/// The most clients that are remembered; when there are more, those that ask least are forgotten.
const MAX_CLIENTS: usize = 20_000;
/// Failed tries at once, and the time until all of them are forgiven.
const FAILURES: Bucket = Bucket { size: 20, refill: Duration::from_secs(600) };

/// How much may be asked.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    size: u32,
    /// From empty to full.
    refill: Duration,
}

/// What is left in a bucket.
#[derive(Debug, Clone, Copy)]
struct Level {
    tokens: f64,
    at: Instant,
}

/// What a bucket says to one that takes a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    taken: bool,
    left: u32,
    /// Until there is a token again, or until the bucket is full.
    wait: Duration,
}

#[derive(Debug)]
struct Buckets<K>(Mutex<HashMap<K, Level>>);

impl<K: Eq + Hash + Clone> Buckets<K> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// Takes `cost` tokens out of the bucket of `key`, if there are as many.
    fn take(&self, key: &K, bucket: Bucket, cost: f64, now: Instant) -> Verdict {
        // Levels are set in one step, so they are whole after a panic as well.
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = f64::from(bucket.size);
        let rate = size / bucket.refill.as_secs_f64();
        let level = |level: &Level| {
            let passed = now.saturating_duration_since(level.at).as_secs_f64();
            (level.tokens + passed * rate).min(size)
        };
        if levels.len() >= MAX_CLIENTS && !levels.contains_key(key) {
            levels.retain(|_, kept| level(kept) < size);
            if levels.len() >= MAX_CLIENTS {
                levels.clear();
            }
        }
        let tokens = levels.get(key).map_or(size, level);
        // Sums of thirds are not whole.
        let taken = tokens > 1.0 - 1e-6;
        let rest = if taken { tokens - cost } else { tokens };
        levels.insert(key.clone(), Level { tokens: rest, at: now });
        let missing = if taken { size - rest } else { 1.0 - rest };
        Verdict { taken, left: whole(rest), wait: Duration::from_secs_f64(missing / rate) }
    }
}

/// The tokens in one piece.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as wanted")]
fn whole(tokens: f64) -> u32 {
    tokens.max(0.0) as u32
}

/// The bounds of the web door.
#[derive(Debug)]
pub struct Rates {
    per_minute: u32,
    requests: Buckets<String>,
    failures: Buckets<IpAddr>,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(super::Config::default().requests_per_minute)
    }
}

impl Rates {
    /// At most so many requests in a minute from each caller, and from each address that is nobody's.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, requests: Buckets::new(), failures: Buckets::new() }
    }

    /// Whether this address may try to be somebody.
    ///
    /// # Errors
    /// After too many failures; 429.
    pub fn may_try(&self, address: IpAddr) -> Result<(), Refusal> {
        let verdict = self.failures.take(&network(address), FAILURES, 0.0, now());
        match verdict.taken {
            true => Ok(()),
            false => Err(too_many("too many failed tries to sign in from this address", verdict)),
        }
    }

    /// Remembers a failed try.
    pub fn failed(&self, address: IpAddr) {
        self.failures.take(&network(address), FAILURES, 1.0, now());
    }
}

#[allow(clippy::disallowed_methods, reason = "the one clock of the buckets; tests give their own")]
fn now() -> Instant {
    Instant::now()
}

/// A household, for IPv6: who has one address of it has all.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn too_many(why: &str, verdict: Verdict) -> Refusal {
    let seconds = verdict.wait.as_secs() + 1;
    let error = Error::new(Kind::Unavailable, why)
        .hint(format!("wait {seconds} s, as the Retry-After header says"));
    Refusal::from(error)
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_header(header::RETRY_AFTER, seconds.into())
}

/// Counts a request, and refuses what is too much. The answer says what is left
/// (draft-ietf-httpapi-ratelimit-headers-07, and the older three headers that clients know).
pub(super) async fn limit(
    State(rates): State<std::sync::Arc<Rates>>,
    origin: Origin,
    request: Request,
    next: Next,
) -> Response {
    let key = match request.extensions().get::<Caller>() {
        Some(caller) => format!("{} {}", caller.actor.via, caller.actor.name),
        None => network(origin.address).to_string(),
    };
    let bucket = Bucket { size: rates.per_minute, refill: Duration::from_secs(60) };
    let verdict = rates.requests.take(&key, bucket, 1.0, now());
    let mut response = match verdict.taken {
        true => next.run(request).await,
        false => axum::response::IntoResponse::into_response(too_many(
            &format!("more than {} requests in a minute", rates.per_minute),
            verdict,
        )),
    };
    let fields: [(&'static str, u64); 3] = [
        ("ratelimit-limit", rates.per_minute.into()),
        ("ratelimit-remaining", verdict.left.into()),
        ("ratelimit-reset", verdict.wait.as_secs() + 1),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_A_MINUTE: Bucket = Bucket { size: 10, refill: Duration::from_secs(60) };

    #[test]
    fn a_bucket_empties_and_fills_up_evenly() {
        let buckets = Buckets::new();
        let start = now();
        let take = |after: u64| {
            buckets.take(&"alice", TEN_A_MINUTE, 1.0, start + Duration::from_secs(after))
        };
        for left in (0..10).rev() {
            let verdict = take(0);
            assert_eq!((verdict.taken, verdict.left), (true, left));
        }
        let verdict = take(0);
        assert_eq!((verdict.taken, verdict.wait), (false, Duration::from_secs(6)));
        assert!(!take(5).taken);
        assert!(take(6).taken);
        assert!(!take(6).taken);
        assert_eq!(take(600).left, 9);
        assert!(buckets.take(&"bob", TEN_A_MINUTE, 1.0, start).taken);
    }

    #[test]
    fn looking_costs_nothing_and_failures_do() {
        let rates = Rates::new(10);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..FAILURES.size {
            assert!(rates.may_try(address).is_ok());
            rates.failed(address);
        }
        assert!(rates.may_try(address).is_err());
        assert!(rates.may_try("192.0.2.2".parse().unwrap()).is_ok());
    }

    #[test]
    fn the_addresses_of_one_household_share_a_bucket() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
