//! Certificates on disk, written by the control plane: `<id>.pem`, a chain and its key, and beside it
//! perhaps `<id>.ocsp`, what its authority says of it (RFC 6066 §8) and for how long.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::domain::CertificateId;
use crate::sys;

/// The longest file: a chain of ten RSA certificates has some 20 KiB.
const MAX_FILE: u64 = 128 * 1024;
/// The longest staple, with the line above it: what the control plane keeps.
const MAX_STAPLE: u64 = 16 * 1024 + 64;

/// The directory of certificates, opened while its owner's rights were still there.
#[derive(Debug)]
pub(in crate::proxy) struct CertificateFiles {
    directory: Option<OwnedFd>,
}

/// Tells one file of a name from the next: files are replaced, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// What an authority says of a certificate.
#[derive(Debug)]
pub(super) struct Staple {
    pub(super) stamp: Stamp,
    /// It must not be shown from then on.
    pub(super) until: SystemTime,
    /// `OCSPResponse` in DER.
    pub(super) der: Vec<u8>,
}

/// The staple of a certificate, compared with the one that is known.
#[derive(Debug)]
pub(super) enum StapleFile {
    None,
    AsBefore,
    New(Staple),
}

/// Why a file is no certificate.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum CertificateError {
    #[error("there is no directory of certificates")]
    NoDirectory,
    #[error("read the file")]
    Read { source: io::Error },
    #[error("the file is longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("the file is not PEM")]
    Pem { source: pem::Error },
    #[error("the certificate and its key cannot be used")]
    Unusable { source: rustls::Error },
}

impl CertificateFiles {
    /// Opens `path`. Without it there are no certificates.
    pub(in crate::proxy) fn open(path: &Path) -> Self {
        let directory = match sys::fs::open_directory(path) {
            Ok(directory) => Some(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "open the certificates");
                None
            }
        };
        Self { directory }
    }

    /// Reads the chain and key `id`.
    pub(super) fn load(
        &self,
        id: &CertificateId,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, CertificateError> {
        let pem = self.read(id)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|source| CertificateError::Pem { source })?;
        let key = PrivateKeyDer::from_pem_slice(&pem);
        let key = key.map_err(|source| CertificateError::Pem { source })?;
        // Not `from_der`: it reads the certificate as a verifier does, and verifiers refuse the
        // critical extension of those that answer TLS-ALPN-01 (RFC 8737 §3).
        let signer = provider.key_provider.load_private_key(key);
        let signer = signer.map_err(|source| CertificateError::Unusable { source })?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) => Ok(key),
            Err(rustls::Error::InvalidCertificate(error)) if is_critical_extension(&error) => {
                Ok(key)
            }
            Err(source) => Err(CertificateError::Unusable { source }),
        }
    }

    /// Looks for a staple of `id` that is another than `known`.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub(super) fn staple(
        &self,
        id: &CertificateId,
        known: Option<Stamp>,
    ) -> io::Result<StapleFile> {
        let Some(directory) = &self.directory else { return Ok(StapleFile::None) };
        let name = CString::new(format!("{}.ocsp", id.as_str())).map_err(io::Error::other)?;
        let file = match sys::fs::open_file_at(directory.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StapleFile::None),
            file => file?,
        };
        let facts = file.metadata()?;
        let stamp = Stamp {
            inode: facts.ino(),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        };
        if known == Some(stamp) {
            return Ok(StapleFile::AsBefore);
        }
        let mut bytes = Vec::new();
        file.take(MAX_STAPLE).read_to_end(&mut bytes)?;
        let staple = parse_staple(stamp, &bytes);
        staple.map(StapleFile::New).ok_or_else(|| io::Error::other("it has no line with its time"))
    }

    fn read(&self, id: &CertificateId) -> Result<Vec<u8>, CertificateError> {
        let directory = self.directory.as_ref().ok_or(CertificateError::NoDirectory)?;
        let read = || {
            // An id is hexadecimal digits, so there is no NUL in it.
            let name = CString::new(format!("{}.pem", id.as_str())).map_err(io::Error::other)?;
            let file = sys::fs::open_file_at(directory.as_fd(), &name)?;
            let mut pem = Vec::new();
            file.take(MAX_FILE + 1).read_to_end(&mut pem)?;
            Ok(pem)
        };
        let pem = read().map_err(|source| CertificateError::Read { source })?;
        match pem.len() as u64 <= MAX_FILE {
            true => Ok(pem),
            false => Err(CertificateError::TooLong),
        }
    }
}

/// A line with the seconds since 1970 from and until which it may be shown, then DER.
fn parse_staple(stamp: Stamp, bytes: &[u8]) -> Option<Staple> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (_, until) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until.parse().ok()?))?;
    Some(Staple { stamp, until, der: bytes[end + 1..].to_vec() })
}

/// What rustls says of a critical extension that it does not know.
fn is_critical_extension(error: &rustls::CertificateError) -> bool {
    match error {
        rustls::CertificateError::Other(error) => {
            error.0.to_string() == "UnsupportedCriticalExtension"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::support::atomic_file;

    use super::*;

    fn provider() -> CryptoProvider {
        rustls::crypto::ring::default_provider()
    }

    fn id() -> CertificateId {
        "a".repeat(64).parse().unwrap()
    }

    fn load(content: &str) -> Result<CertifiedKey, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("{}.pem", id()));
        atomic_file::write_volatile(&path, content.as_bytes(), 0o600).unwrap();
        let files = CertificateFiles::open(directory.path());
        files.load(&id(), &provider()).map_err(|error| crate::support::report(&error))
    }

    fn generated() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_are_read_in_either_order() {
        let (cert, key) = generated();
        assert_eq!(load(&format!("{cert}{key}")).unwrap().cert.len(), 1);
        assert_eq!(load(&format!("{key}{cert}{cert}")).unwrap().cert.len(), 2);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let ((cert, key), (_, other)) = (generated(), generated());
        assert!(load(&cert).unwrap_err().contains("PEM"));
        assert!(load(&key).unwrap_err().contains("cannot be used"));
        assert!(load(&format!("{cert}{other}")).unwrap_err().contains("cannot be used"));
        assert!(load("nothing").unwrap_err().contains("PEM"));
        let long = "#".repeat(usize::try_from(MAX_FILE).unwrap() + 1);
        assert!(load(&long).unwrap_err().contains("longer"));
    }

    #[test]
    fn a_certificate_that_answers_a_challenge_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&[7; 32])];
        let made = params.self_signed(&key).unwrap();
        load(&format!("{}{}", made.pem(), key.serialize_pem())).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = generated();
        let (path, pem) = (directory.path().join("real"), format!("{cert}{key}"));
        atomic_file::write_volatile(&path, pem.as_bytes(), 0o600).unwrap();
        let link = directory.path().join(format!("{}.pem", id()));
        std::os::unix::fs::symlink("real", link).unwrap();
        let files = CertificateFiles::open(directory.path());
        assert!(matches!(files.load(&id(), &provider()), Err(CertificateError::Read { .. })));
    }
}
