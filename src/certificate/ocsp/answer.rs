//! An answer, taken apart and checked (RFC 6960 §3.2, §4.2.1).

use x509_parser::asn1_rs::BitString;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::verify::verify_signature;
use x509_parser::x509::AlgorithmIdentifier;

use super::der::{
    BIT_STRING, BOOLEAN, ENUMERATED, INTEGER, OCTETS, OID, Reader, SEQUENCE, TIME, Value, explicit,
    time,
};
use super::staple::Staple;
use super::{CertificateName, Failure, MAX_ANSWER, SHA1, sha1};
use crate::domain::{OcspSpan, Timestamp};

/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// Certificates of an answer that are looked at; there is one.
const MAX_CERTIFICATES: usize = 4;
/// `certStatus` (RFC 6960 §4.2.1): `[0] IMPLICIT NULL`, `[1] IMPLICIT RevokedInfo`, `[2]`.
const GOOD: u8 = 0x80;
const REVOKED: u8 = explicit(1);
const UNKNOWN: u8 = 0x82;
/// Signatures that can be forged: sha1WithRSAEncryption, its old name of OIW, ecdsa-with-SHA1.
const WEAK: [&str; 3] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10045.4.1"];

/// What an authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The certificate is good, and this may be shown to visitors.
    Good(Staple),
    /// It was declared void.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

/// Reads an answer about `name`, which `issuer` has issued.
pub(super) fn read(
    der: &[u8],
    name: &CertificateName,
    issuer: &[u8],
    now: Timestamp,
) -> Result<Answer, Failure> {
    if der.len() > MAX_ANSWER {
        return Err(Failure::Unusable("it is too long"));
    }
    let basic = basic_of(der)?;
    let parts = parts(basic).ok_or(Failure::Unusable("it is no basic response"))?;
    // First of all: nothing that anybody could have written decides anything.
    check_signature(&parts, issuer, now)?;
    let single = single(&parts, name)?;
    if !(single.span.from <= now && now < single.span.until) {
        return Err(Failure::OutOfTime);
    }
    match single.status {
        Status::Good => Ok(Answer::Good(Staple { span: single.span, der: der.to_vec() })),
        Status::Revoked(at) => Ok(Answer::Revoked { at }),
        Status::Unknown => Err(Failure::UnknownCertificate),
    }
}

/// The `BasicOCSPResponse` of a successful `OCSPResponse`.
fn basic_of(der: &[u8]) -> Result<&[u8], Failure> {
    const NO_DER: Failure = Failure::Unusable("it is no OCSP response in DER");
    let mut response = Reader::of_sequence(der).ok_or(NO_DER)?;
    match response.expect(ENUMERATED).ok_or(NO_DER)? {
        [0] => {}
        [1] => return Err(Failure::Refused("malformed request")),
        [2] => return Err(Failure::Refused("internal error")),
        [3] => return Err(Failure::Refused("try later")),
        [5] => return Err(Failure::Refused("signature required")),
        [6] => return Err(Failure::Refused("unauthorized")),
        _ => return Err(NO_DER),
    }
    let mut bytes = response.enter(explicit(0)).ok_or(NO_DER)?;
    let mut inner = bytes.enter(SEQUENCE).ok_or(NO_DER)?;
    if inner.expect(OID) != Some(BASIC) {
        return Err(Failure::Unusable("it is of an unknown type"));
    }
    let basic = inner.expect(OCTETS).ok_or(NO_DER)?;
    match response.is_empty() && bytes.is_empty() && inner.is_empty() {
        true => Ok(basic),
        false => Err(NO_DER),
    }
}

/// A basic response in its parts.
struct Parts<'a> {
    /// `tbsResponseData`, as it was signed.
    signed: &'a [u8],
    responder: Value<'a>,
    singles: Reader<'a>,
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

fn parts(basic: &[u8]) -> Option<Parts<'_>> {
    let mut basic = Reader::of_sequence(basic)?;
    let data = basic.optional(SEQUENCE)?;
    let algorithm = basic.optional(SEQUENCE)?;
    let signature = basic.optional(BIT_STRING)?;
    // Stricter than the parser that reads them below.
    Reader::new(algorithm.content).expect(OID)?;
    signature.content.first().filter(|unused| **unused == 0)?;
    let mut certificates = Vec::new();
    if let Some(mut list) = basic.enter(explicit(0)) {
        let mut list = list.enter(SEQUENCE)?;
        while !list.is_empty() && certificates.len() < MAX_CERTIFICATES {
            certificates.push(list.optional(SEQUENCE)?.whole);
        }
    }
    let mut fields = Reader::new(data.content);
    // Version 1 is the default, which DER leaves out; some responders write it.
    if let Some(mut version) = fields.enter(explicit(0))
        && version.expect(INTEGER) != Some(&[0])
    {
        return None;
    }
    let responder = fields.any()?;
    time(fields.expect(TIME)?)?;
    let singles = fields.enter(SEQUENCE)?;
    known_extensions(&mut fields)?;
    (basic.is_empty() && fields.is_empty()).then_some(Parts {
        signed: data.whole,
        responder,
        singles,
        algorithm: algorithm.whole,
        signature: signature.whole,
        certificates,
    })
}

/// Passes over `[1] Extensions`. None that are critical are known here (RFC 6960 §4.4).
fn known_extensions(fields: &mut Reader<'_>) -> Option<()> {
    let Some(mut extensions) = fields.enter(explicit(1)) else { return Some(()) };
    let mut extensions = extensions.enter(SEQUENCE)?;
    while !extensions.is_empty() {
        let mut extension = extensions.enter(SEQUENCE)?;
        extension.expect(OID)?;
        if extension.expect(BOOLEAN).is_some_and(|critical| critical != [0]) {
            return None;
        }
        extension.expect(OCTETS)?;
    }
    Some(())
}

enum Status {
    Good,
    Revoked(Timestamp),
    Unknown,
}

struct Single {
    status: Status,
    span: OcspSpan,
}

/// What is said about `name`; the last word, if it is said several times.
fn single(parts: &Parts<'_>, name: &CertificateName) -> Result<Single, Failure> {
    const DAMAGED: Failure = Failure::Unusable("one of its statuses cannot be read");
    let mut list = parts.singles;
    while !list.is_empty() {
        let mut fields = list.enter(SEQUENCE).ok_or(DAMAGED)?;
        let about = fields.enter(SEQUENCE).ok_or(DAMAGED)?;
        if !is_about(about, name) {
            continue;
        }
        return status(&mut fields).ok_or(DAMAGED)?;
    }
    Err(Failure::Unusable("it is about another certificate"))
}

fn is_about(mut about: Reader<'_>, name: &CertificateName) -> bool {
    let algorithm = about.enter(SEQUENCE).and_then(|mut algorithm| algorithm.expect(OID));
    algorithm == Some(SHA1)
        && about.expect(OCTETS) == Some(&name.issuer_name)
        && about.expect(OCTETS) == Some(&name.issuer_key)
        && about.expect(INTEGER) == Some(&name.serial)
        && about.is_empty()
}

fn status(fields: &mut Reader<'_>) -> Option<Result<Single, Failure>> {
    let status = fields.any()?;
    let status = match status.tag {
        GOOD if status.content.is_empty() => Status::Good,
        REVOKED => Status::Revoked(time(Reader::new(status.content).expect(TIME)?)?),
        UNKNOWN if status.content.is_empty() => Status::Unknown,
        _ => return None,
    };
    let from = time(fields.expect(TIME)?)?;
    let Some(mut next) = fields.enter(explicit(0)) else {
        // Newer information is available all the time, RFC 6960 §2.4 says; RFC 5019 §2.2.4 wants
        // one. Without an end it could be shown for ever.
        return Some(Err(Failure::Unusable("it has no end (nextUpdate)")));
    };
    let until = time(next.expect(TIME)?)?;
    known_extensions(fields)?;
    fields.is_empty().then_some(Ok(Single { status, span: OcspSpan { from, until } }))
}

/// The issuer has signed it, or a certificate that the issuer has issued for this (RFC 6960
/// §4.2.2.2). Whether that one is revoked in turn is not asked: RFC 6960 §4.2.2.2.1 lets it say so
/// itself, and clients decide by what they get.
fn check_signature(parts: &Parts<'_>, issuer: &[u8], now: Timestamp) -> Result<(), Failure> {
    let (_, issuer) = X509Certificate::from_der(issuer).map_err(|_| Failure::Signature)?;
    if is_responder(parts, &issuer) && signed_by(parts, &issuer) {
        return Ok(());
    }
    let now = ASN1Time::from_timestamp(now.0 / 1000).map_err(|_| Failure::OutOfTime)?;
    let delegated = parts.certificates.iter().any(|der| {
        let Ok((_, delegate)) = X509Certificate::from_der(der) else { return false };
        is_responder(parts, &delegate)
            && delegate.issuer().as_raw() == issuer.subject().as_raw()
            && delegate.validity().is_valid_at(now)
            && matches!(delegate.extended_key_usage(), Ok(Some(usage)) if usage.value.ocsp_signing)
            && strong(&delegate.signature_algorithm)
            && delegate.verify_signature(Some(issuer.public_key())).is_ok()
            && signed_by(parts, &delegate)
    });
    if delegated { Ok(()) } else { Err(Failure::Signature) }
}

/// Whether the answer calls `certificate` its responder, by name or by key.
fn is_responder(parts: &Parts<'_>, certificate: &X509Certificate<'_>) -> bool {
    const BY_NAME: u8 = explicit(1);
    const BY_KEY: u8 = explicit(2);
    match parts.responder.tag {
        BY_NAME => parts.responder.content == certificate.subject().as_raw(),
        BY_KEY => {
            let hash = sha1(&certificate.public_key().subject_public_key.data);
            Reader::new(parts.responder.content).expect(OCTETS) == Some(&hash)
        }
        _ => false,
    }
}

fn signed_by(parts: &Parts<'_>, signer: &X509Certificate<'_>) -> bool {
    let (Ok((_, algorithm)), Ok((_, signature))) =
        (AlgorithmIdentifier::from_der(parts.algorithm), BitString::from_der(parts.signature))
    else {
        return false;
    };
    strong(&algorithm)
        && verify_signature(signer.public_key(), &algorithm, &signature, parts.signed).is_ok()
}

fn strong(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    !WEAK.contains(&algorithm.algorithm.to_id_string().as_str())
}
