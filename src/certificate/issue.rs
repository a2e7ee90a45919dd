//! Keys, signing requests and certificates made here.

use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};

use rustls::pki_types::PrivatePkcs8KeyDer;

use super::error::Error;
use super::pair::{Checked, Pair, Validity};
use super::trust::Trust;
use crate::domain::{Hostname, Timestamp};

/// How long a self-signed certificate is valid: browsers take none that is valid for longer than
/// 398 days (CA/Browser Forum ballot 193).
const SELF_SIGNED_DAYS: u32 = 397;
/// Clocks of clients are behind ours now and then.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for one validation.
const CHALLENGE_DAYS: u32 = 7;

/// A new key with a certificate of its own signature, and the request that an authority may sign.
#[derive(Debug)]
pub struct Generated {
    /// Certificate and key.
    pub pair: Pair,
    /// PKCS#10 (RFC 2986) in PEM.
    pub request: String,
}

/// A key (EC P-256), a request and a self-signed certificate for `name`.
///
/// # Errors
/// [`Error::Make`].
pub fn self_signed(name: &Hostname, now: Timestamp, trust: &Trust) -> Result<Generated, Error> {
    let failed = |source| Error::Make { name: name.to_string(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let params = params(name, now, SELF_SIGNED_DAYS).map_err(failed)?;
    let request = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let pair = checked(name, &certificate.pem(), &key, now, trust)?.pair;
    Ok(Generated { pair, request })
}

/// The certificate that answers a TLS-ALPN-01 challenge: self-signed, with the digest of the key
/// authorization in a critical extension (RFC 8737 §3).
///
/// # Errors
/// [`Error::Make`].
pub(super) fn challenge(name: &Hostname, digest: &[u8], now: Timestamp) -> Result<Pair, Error> {
    let failed = |source| Error::Make { name: name.to_string(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params(name, now, CHALLENGE_DAYS).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Pair::for_challenge(certificate.der().clone(), key.into())
        .map_err(|source| Error::Made { name: name.to_string(), source })
}

fn checked(
    name: &Hostname,
    certificate: &str,
    key: &KeyPair,
    now: Timestamp,
    trust: &Trust,
) -> Result<Checked, Error> {
    Pair::parse(certificate, &key.serialize_pem(), now, Validity::Required, trust)
        .map_err(|source| Error::Made { name: name.to_string(), source })
}

fn params(name: &Hostname, now: Timestamp, days: u32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name = DistinguishedName::new();
    // X.520 allows 64 characters for a common name; longer names are in subjectAltName alone.
    if name.as_str().len() <= 64 {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    let now = Duration::from_millis(u64::try_from(now.0).map_err(|_| rcgen::Error::Time)?);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + now + days * DAY;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_767_323_045_000);

    #[test]
    fn a_generated_certificate_is_for_its_name_and_a_request_goes_with_it() {
        let name: Hostname = "*.example.com".parse().unwrap();
        let generated = self_signed(&name, NOW, &Trust::of_host()).unwrap();
        let facts = generated.pair.facts();
        assert_eq!(facts.names, [name]);
        assert_eq!((facts.subject.as_str(), facts.key.as_str()), ("CN=*.example.com", "EC P-256"));
        assert!(generated.request.contains("BEGIN CERTIFICATE REQUEST"));
        assert!(!facts.verified);
    }

    #[test]
    fn a_challenge_certificate_carries_the_digest_in_a_critical_extension() {
        let name: Hostname = "a.test".parse().unwrap();
        let pair = challenge(&name, &[7; 32], NOW).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(pair.leaf()).unwrap();
        let extension = parsed
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
            .unwrap();
        assert!(extension.critical);
        assert!(extension.value.ends_with(&[7; 32]));
    }
}
