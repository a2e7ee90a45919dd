//! Why a certificate is refused, and what can go wrong with those that are kept.

use std::io;
use std::path::PathBuf;

/// A certificate or key that cannot be used; the sentence is meant for its owner, and never repeats
/// what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than any real one.
    #[error("the {what} is larger than {limit} KiB")]
    TooLarge {
        /// `certificate` or `key`.
        what: &'static str,
        /// The most, in KiB.
        limit: usize,
    },
    /// There is no PEM block, or a damaged one.
    #[error(
        "the certificate is not PEM; it must hold `-----BEGIN CERTIFICATE-----`, the app's own first, then its intermediates"
    )]
    NoCertificate,
    /// More than any real chain.
    #[error("the file holds more than {limit} certificates")]
    TooMany {
        /// The most.
        limit: usize,
    },
    /// The PEM block holds something else.
    #[error("certificate {number} of the file cannot be read: it is not X.509 in DER")]
    NotX509 {
        /// Counted from 1.
        number: usize,
    },
    /// There is no private key.
    #[error(
        "the key is not PEM; it must hold `-----BEGIN PRIVATE KEY-----`, or its RSA or EC form"
    )]
    NoKey,
    /// The key has a passphrase.
    #[error(
        "the key is encrypted, and nobody is there to type its passphrase; decrypt it with `openssl pkey -in server.key -out plain.key`"
    )]
    Encrypted,
    /// RSA below 2048 bits, a curve that clients no longer accept.
    #[error("the key is {key}, which is too weak or unknown; use RSA 2048, EC P-256 or Ed25519")]
    WeakKey {
        /// `RSA 1024`.
        key: String,
    },
    /// The signature can be forged.
    #[error("the certificate is signed with SHA-1, which clients refuse; have it issued anew")]
    WeakSignature,
    /// Two different pairs.
    #[error("the key does not belong to the certificate; it is another one's")]
    Mismatch,
    /// TLS has no use for it.
    #[error("the certificate cannot be used for TLS: {why}")]
    Unusable {
        /// What rustls says.
        why: String,
    },
    /// Its time is over.
    #[error("the certificate expired on {on}")]
    Expired {
        /// A date.
        on: String,
    },
    /// Its time has not come.
    #[error("the certificate is not valid before {on}")]
    NotYetValid {
        /// A date.
        on: String,
    },
}

/// What can go wrong with kept certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{operation} `{}`", path.display())]
    File {
        /// `write`, `remove`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A kept file does not hold what was written.
    #[error("certificate file `{}` is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: Refused,
    },
    /// A key or certificate cannot be made.
    #[error("make a certificate for `{name}`")]
    Make {
        /// The name.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// What was made is refused by our own checks.
    #[error("the certificate that was made for `{name}` is refused")]
    Made {
        /// The name.
        name: String,
        /// Why.
        source: Refused,
    },
}
