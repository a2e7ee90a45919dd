//! A certificate chain with its key: read from PEM, checked, put in order.

use std::fmt;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::error::Refused;
use super::trust::{Trust, provider};
use crate::domain::{CertificateFacts, CertificateId, Hostname, Timestamp};

/// The largest file of certificates; a chain has some 8 KiB. With the key below it is less than the
/// 128 KiB that the proxy reads.
const MAX_CERTIFICATE_BYTES: usize = 96 << 10;
/// The largest key file; RSA 16384 has 13 KiB.
const MAX_KEY_BYTES: usize = 16 << 10;
/// The longest chain: leaf and intermediates. Real ones have two to four.
const MAX_CHAIN: usize = 16;
/// The most names that are kept of one certificate; authorities stop at 100 or 250.
const MAX_NAMES: usize = 1000;

/// Whether a certificate outside its time is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It must be valid now.
    Required,
    /// It may be expired or not yet valid (`--force`); a warning says so.
    Waived,
}

/// A usable chain, leaf first, and its key.
pub struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    facts: CertificateFacts,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A pair, and what its owner should know about it.
#[derive(Debug)]
pub struct Checked {
    /// The pair.
    pub pair: Pair,
    /// Sentences, lower case, without full stop.
    pub warnings: Vec<String>,
}

impl Pair {
    /// Reads a chain in any order, and its key. Certificates that do not belong to the chain are
    /// left out, as is a root, which clients have themselves.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn parse(
        certificates: &str,
        key: &str,
        now: Timestamp,
        validity: Validity,
        trust: &Trust,
    ) -> Result<Checked, Refused> {
        let ders = read_certificates(certificates)?;
        let key = read_key(key)?;
        let parsed = parse_all(&ders)?;
        let signer = signer(&key, &parsed)?;
        let leaf = leaf_of(&parsed, signer.as_ref())?;
        let mut warnings = Vec::new();
        refuse_weak(&parsed[leaf])?;
        check_time(&parsed[leaf], now, validity, &mut warnings)?;
        let order = order(&parsed, leaf);
        note_strays(&parsed, &order, &mut warnings);
        let chain: Vec<_> = order.iter().map(|index| ders[*index].clone()).collect();
        CertifiedKey::new(chain.clone(), signer)
            .keys_match()
            .map_err(|error| Refused::Unusable { why: error.to_string() })?;
        let mut facts = facts(&parsed[leaf], &chain);
        facts.verified = vouched(&facts, &chain, now, trust);
        note_gaps(&parsed, &order, &facts, &mut warnings);
        drop(parsed);
        Ok(Checked { pair: Self { chain, key, facts }, warnings })
    }

    /// A certificate that answers a challenge. Nobody verifies it, and verifiers would refuse its
    /// critical extension.
    pub(super) fn for_challenge(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Refused> {
        let chain = vec![certificate];
        let facts = facts(&parse_all(&chain)?[0], &chain);
        Ok(Self { chain, key, facts })
    }

    /// What it says about itself.
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The leaf's DER.
    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The DER of who issued the leaf, if the chain holds it.
    pub(super) fn issuer(&self) -> Option<&CertificateDer<'static>> {
        self.chain.get(1)
    }

    /// The chain in PEM, leaf first.
    pub fn certificate_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key in PEM. Not for logs, reports or events.
    pub fn key_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            // `PrivateKeyDer` is open to new forms, which `read_key` does not let in.
            _ => "PRIVATE KEY",
        };
        pem(label, self.key.secret_der())
    }
}

/// RFC 7468: base64 in lines of 64 characters between two labels.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    let text = Base64::encode_string(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn read_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Refused> {
    if text.len() > MAX_CERTIFICATE_BYTES {
        return Err(Refused::TooLarge { what: "certificate", limit: MAX_CERTIFICATE_BYTES >> 10 });
    }
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let ders = ders.map_err(|_| Refused::NoCertificate)?;
    match ders.len() {
        0 => Err(Refused::NoCertificate),
        count if count > MAX_CHAIN => Err(Refused::TooMany { limit: MAX_CHAIN }),
        _ => Ok(ders),
    }
}

fn read_key(text: &str) -> Result<PrivateKeyDer<'static>, Refused> {
    if text.len() > MAX_KEY_BYTES {
        return Err(Refused::TooLarge { what: "key", limit: MAX_KEY_BYTES >> 10 });
    }
    // RFC 7468 §11 and RFC 1421's header: neither form is readable without a passphrase.
    if text.contains("ENCRYPTED") {
        return Err(Refused::Encrypted);
    }
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).flatten();
    let mut keys = sections.filter_map(|(kind, der)| match kind {
        SectionKind::PrivateKey => Some(PrivateKeyDer::Pkcs8(der.into())),
        SectionKind::RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(der.into())),
        SectionKind::EcPrivateKey => Some(PrivateKeyDer::Sec1(der.into())),
        _ => None,
    });
    keys.next().ok_or(Refused::NoKey)
}

fn parse_all<'a>(ders: &'a [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'a>>, Refused> {
    let parse = |(index, der): (usize, &'a CertificateDer<'static>)| {
        X509Certificate::from_der(der)
            .map(|(_, certificate)| certificate)
            .map_err(|_| Refused::NotX509 { number: index + 1 })
    };
    ders.iter().enumerate().map(parse).collect()
}

fn signer(
    key: &PrivateKeyDer<'static>,
    parsed: &[X509Certificate<'_>],
) -> Result<std::sync::Arc<dyn SigningKey>, Refused> {
    provider().key_provider.load_private_key(key.clone_key()).map_err(|_| {
        // What the library refuses is weak or exotic; the certificate tells which it is.
        let key = parsed.first().map(|certificate| key_kind(certificate).0);
        Refused::WeakKey { key: key.unwrap_or_else(|| "of an unknown kind".into()) }
    })
}

/// The certificate whose public key is that of the private one.
fn leaf_of(parsed: &[X509Certificate<'_>], signer: &dyn SigningKey) -> Result<usize, Refused> {
    let public = signer.public_key().ok_or(Refused::Mismatch)?;
    let ours = |certificate: &X509Certificate<'_>| certificate.public_key().raw == public.as_ref();
    parsed.iter().position(ours).ok_or(Refused::Mismatch)
}

/// The kind of a certificate's key, and whether it is strong enough.
fn key_kind(certificate: &X509Certificate<'_>) -> (String, bool) {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            // DER integers may begin with a zero octet; the size is that of the number.
            let modulus: &[u8] = rsa.modulus;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let bits = (modulus.len() - zeros) * 8;
            (format!("RSA {bits}"), bits >= 2048)
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            match curve.map(|oid| oid.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => ("EC P-256".into(), true),
                Some("1.3.132.0.34") => ("EC P-384".into(), true),
                Some("1.3.132.0.35") => ("EC P-521".into(), true),
                _ => ("EC on another curve".into(), false),
            }
        }
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => ("Ed25519".into(), true),
        _ => ("of an unknown kind".into(), false),
    }
}

fn refuse_weak(leaf: &X509Certificate<'_>) -> Result<(), Refused> {
    let (key, strong) = key_kind(leaf);
    if !strong {
        return Err(Refused::WeakKey { key });
    }
    // sha1WithRSAEncryption and ecdsa-with-SHA1.
    let signature = leaf.signature_algorithm.algorithm.to_id_string();
    match ["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"].contains(&signature.as_str()) {
        true => Err(Refused::WeakSignature),
        false => Ok(()),
    }
}

fn timestamp(time: x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp(time.timestamp().saturating_mul(1000))
}

/// `2026-01-02`.
fn date(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0);
    time.map_or_else(|_| "an unknown day".into(), |time| time.to_string()[..10].to_owned())
}

fn check_time(
    leaf: &X509Certificate<'_>,
    now: Timestamp,
    validity: Validity,
    warnings: &mut Vec<String>,
) -> Result<(), Refused> {
    let (from, until) =
        (timestamp(leaf.validity().not_before), timestamp(leaf.validity().not_after));
    let problem = match now {
        now if now > until => Refused::Expired { on: date(until) },
        now if now < from => Refused::NotYetValid { on: date(from) },
        _ => return Ok(()),
    };
    match validity {
        Validity::Required => Err(problem),
        Validity::Waived => {
            warnings.push(problem.to_string());
            Ok(())
        }
    }
}

/// The leaf, then who signed it, and so on; without a root at the end, unless it is all there is.
fn order(parsed: &[X509Certificate<'_>], leaf: usize) -> Vec<usize> {
    let mut order = vec![leaf];
    let mut last = leaf;
    loop {
        let signed = &parsed[last];
        let signs = |index: &usize| {
            let issuer = &parsed[*index];
            !order.contains(index)
                && issuer.subject().as_raw() == signed.issuer().as_raw()
                && signed.verify_signature(Some(issuer.public_key())).is_ok()
        };
        let Some(next) = (0..parsed.len()).find(signs) else { return order };
        if is_root(&parsed[next]) {
            return order;
        }
        order.push(next);
        last = next;
    }
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn note_strays(parsed: &[X509Certificate<'_>], order: &[usize], warnings: &mut Vec<String>) {
    for (index, certificate) in parsed.iter().enumerate() {
        if !order.contains(&index) && !is_root(certificate) {
            let subject = shown(&certificate.subject().to_string());
            warnings.push(format!("`{subject}` does not belong to the chain and was left out"));
        }
    }
}

fn note_gaps(
    parsed: &[X509Certificate<'_>],
    order: &[usize],
    facts: &CertificateFacts,
    warnings: &mut Vec<String>,
) {
    if facts.names.is_empty() {
        warnings.push(
            "the certificate names no host (subjectAltName is empty), so that no client accepts it"
                .into(),
        );
    }
    let last = order.last().map(|index| &parsed[*index]);
    if let Some(last) = last.filter(|last| !facts.verified && !is_root(last)) {
        let issuer = shown(&last.issuer().to_string());
        warnings.push(format!(
            "no authority that this machine trusts vouches for it: the chain ends at `{issuer}`; add the intermediate certificates after the app's own, if there are any"
        ));
    }
}

/// Names in certificates are chosen by strangers: bounded, and without what terminals obey.
fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

fn names(leaf: &X509Certificate<'_>) -> Vec<Hostname> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter()).into_iter().flatten();
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => name.parse::<Hostname>().ok(),
        _ => None,
    });
    hosts.filter(|name| name.as_str() != "_").take(MAX_NAMES).collect()
}

fn facts(leaf: &X509Certificate<'_>, chain: &[CertificateDer<'static>]) -> CertificateFacts {
    CertificateFacts {
        id: id(chain),
        subject: shown(&leaf.subject().to_string()),
        issuer: shown(&leaf.issuer().to_string()),
        names: names(leaf),
        not_before: timestamp(leaf.validity().not_before),
        not_after: timestamp(leaf.validity().not_after),
        key: key_kind(leaf).0,
        verified: false,
    }
}

/// See [`CertificateId`].
fn id(chain: &[CertificateDer<'static>]) -> CertificateId {
    let digest =
        chain.iter().fold(Sha256::new(), |digest, der| digest.chain_update(der)).finalize();
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.parse().expect("32 bytes are 64 hexadecimal digits")
}

/// Whether `trust` vouches for the chain as that of its first name.
fn vouched(
    facts: &CertificateFacts,
    chain: &[CertificateDer<'static>],
    now: Timestamp,
    trust: &Trust,
) -> bool {
    // A wildcard is verified by a name that it covers.
    let name = facts.names.first().map(|name| name.as_str().replacen('*', "www", 1));
    let seconds = u64::try_from(now.0 / 1000).unwrap_or(0);
    name.is_some_and(|name| trust.vouches(chain, &name, seconds))
}

#[cfg(test)]
mod tests;
