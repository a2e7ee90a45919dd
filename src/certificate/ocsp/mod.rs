//! What an authority says of a certificate that it has issued: OCSP (RFC 6960) by the profile of
//! RFC 5019, one certificate in a question, SHA-1 in its name, no nonce.
//!
//! ```text
//!  Pair ─► Question::about ─► ask ─ POST over plain HTTP ─► answer::read ─► Files::keep_staple
//!          AIA, issuer        public addresses only         ours? in time?
//!                                                           signed by the issuer?
//! ```
//!
//! **Invariant.** What came over the network is a staple only if the issuer, or whom the issuer has
//! named for this, has signed that exactly this certificate is good now.

mod answer;
mod der;
mod staple;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::FromDer;

pub use answer::Answer;
pub use staple::Staple;

use super::address::is_private;
use super::fetch::{Fetched, Post, post};
use super::pair::Pair;
use crate::domain::Timestamp;

/// The longest answer: with an RSA responder's certificate it has some 2 KiB.
pub(super) const MAX_ANSWER: usize = 16 << 10;
/// To look the responder up.
const LOOK_UP: Duration = Duration::from_secs(10);
/// Addresses of a responder that are tried.
const MAX_ADDRESSES: usize = 2;
/// The longest URL of a responder.
const MAX_URL: usize = 512;

/// id-sha1.
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// Which responders are asked. Their URLs are in certificates, which apps' owners choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Responders {
    /// None.
    Off,
    /// Those at public addresses and port 80.
    #[default]
    Public,
    /// All, those in networks of one's own included.
    Any,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its name has no address.
    #[error("the responder `{host}` cannot be looked up: {why}")]
    Unknown {
        /// Its host.
        host: String,
        /// What the resolver says.
        why: String,
    },
    /// We do not want to.
    #[error(
        "the responder `{host}` is not asked: it has no public address with port 80; `ocsp = \"any\"` in `[certificates]` allows others"
    )]
    Private {
        /// Its host.
        host: String,
    },
    /// It does not answer.
    #[error("the responder `{host}` {what}")]
    Unreachable {
        /// Its host.
        host: String,
        /// `does not answer`.
        what: String,
    },
    /// It answers in another way than RFC 6960 has it.
    #[error("the responder's answer is unusable: {0}")]
    Unusable(&'static str),
    /// It has no answer.
    #[error("the responder answers `{0}`")]
    Refused(&'static str),
    /// Who signed it may not.
    #[error("the responder's answer is not signed by the certificate's issuer")]
    Signature,
    /// It is too old or not for now.
    #[error("the responder's answer is not for this time")]
    OutOfTime,
    /// The authority does not know the certificate.
    #[error("the responder does not know the certificate")]
    UnknownCertificate,
}

/// What names a certificate (RFC 6960 §4.1.1), by SHA-1 as all responders know it: a name for a
/// certificate, no proof of anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CertificateName {
    issuer_name: [u8; 20],
    issuer_key: [u8; 20],
    /// The content of its INTEGER.
    serial: Vec<u8>,
}

/// A question about one certificate.
#[derive(Debug, Clone)]
pub struct Question {
    responder: Uri,
    name: CertificateName,
    issuer: CertificateDer<'static>,
}

impl Question {
    /// The question about a pair's certificate; none if it names no responder over plain HTTP, or
    /// the chain does not hold its issuer.
    pub fn about(pair: &Pair) -> Option<Self> {
        let issuer = pair.issuer()?;
        let (_, leaf) = X509Certificate::from_der(pair.leaf()).ok()?;
        let (_, parsed) = X509Certificate::from_der(issuer).ok()?;
        let name = CertificateName {
            issuer_name: sha1(leaf.issuer().as_raw()),
            issuer_key: sha1(&parsed.public_key().subject_public_key.data),
            serial: leaf.raw_serial().to_vec(),
        };
        Some(Self { responder: responder(&leaf)?, name, issuer: issuer.clone() })
    }

    /// Asks, and checks the answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(&self, responders: Responders, now: Timestamp) -> Result<Answer, Failure> {
        let der = self.fetch(responders).await?;
        answer::read(&der, &self.name, &self.issuer, now)
    }

    async fn fetch(&self, responders: Responders) -> Result<bytes::Bytes, Failure> {
        let host = self.responder.host().unwrap_or_default().to_owned();
        let addresses = addresses(&host, self.responder.port_u16().unwrap_or(80), responders);
        let path = self.responder.path_and_query().map_or("/", |path| path.as_str());
        let question = Post {
            authority: self.responder.authority().map(ToString::to_string).unwrap_or_default(),
            path: path.to_owned(),
            kind: "application/ocsp-request",
            body: self.request(),
            max_answer: MAX_ANSWER,
        };
        let mut what = String::new();
        for address in addresses.await? {
            what = match post(address, &question).await {
                Fetched::Answer { status: 200, body, .. } if !body.is_empty() => return Ok(body),
                Fetched::Answer { status: 200, .. } => "answers with nothing, or too much".into(),
                Fetched::Answer { status, .. } => format!("answers with status {status}"),
                Fetched::Closed(why) => format!("cannot be reached: {why}"),
                Fetched::Silent => "does not answer".into(),
                Fetched::Garbled => "does not speak HTTP".into(),
            };
        }
        Err(Failure::Unreachable { host, what })
    }

    /// `OCSPRequest` (RFC 6960 §4.1.1): unsigned, version 1, one request.
    fn request(&self) -> Vec<u8> {
        use der::{INTEGER, NULL, OCTETS, OID, SEQUENCE, write};
        let CertificateName { issuer_name, issuer_key, serial } = &self.name;
        let algorithm = write(SEQUENCE, &[&write(OID, &[SHA1]), &write(NULL, &[])]);
        let name = write(
            SEQUENCE,
            &[
                &algorithm,
                &write(OCTETS, &[issuer_name]),
                &write(OCTETS, &[issuer_key]),
                &write(INTEGER, &[serial]),
            ],
        );
        // OCSPRequest, TBSRequest, requestList, Request.
        (0..4).fold(name, |inner, _| write(SEQUENCE, &[&inner]))
    }
}

/// The first responder over plain HTTP that a certificate names. RFC 5019 §5 asks for nothing else:
/// answers are signed.
fn responder(leaf: &X509Certificate<'_>) -> Option<Uri> {
    let access =
        leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        })?;
    access.accessdescs.iter().find_map(|one| match &one.access_location {
        GeneralName::URI(url)
            if one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP && url.len() <= MAX_URL =>
        {
            let uri = url.parse::<Uri>().ok()?;
            // A user's name and password do not belong into `Host`.
            let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            (uri.scheme_str() == Some("http") && plain).then_some(uri)
        }
        _ => None,
    })
}

/// Where the responder is. It is connected to what was looked at here, and nothing else.
async fn addresses(
    host: &str,
    port: u16,
    responders: Responders,
) -> Result<Vec<SocketAddr>, Failure> {
    let unknown = |why: String| Failure::Unknown { host: host.to_owned(), why };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((bare, port))).await;
    let found = found.map_err(|_| unknown("the resolver does not answer".into()))?;
    let found = found.map_err(|error| unknown(error.to_string()))?;
    let allowed = |address: &IpAddr| match responders {
        Responders::Off => false,
        Responders::Public => port == 80 && !is_private(*address),
        Responders::Any => true,
    };
    let found: Vec<_> =
        found.filter(|address| allowed(&address.ip())).take(MAX_ADDRESSES).collect();
    match found.is_empty() {
        true => Err(Failure::Private { host: host.to_owned() }),
        false => Ok(found),
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

#[cfg(test)]
mod tests;
