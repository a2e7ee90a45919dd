//! Which authorities are trusted, and clients that trust them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};

/// Where distributions keep the bundle: Debian, Fedora, Alpine and openSUSE.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The authorities of one bundle.
#[derive(Debug, Clone)]
pub struct Trust(Arc<RootCertStore>);

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authority can be read from `{}`: {why}", path.display())]
pub struct BadBundle {
    path: PathBuf,
    why: String,
}

impl Trust {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// If it cannot be read, or holds no certificate.
    pub fn from_file(path: &Path) -> Result<Self, BadBundle> {
        let bad = |why: String| BadBundle { path: path.into(), why };
        let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&text).flatten();
        roots.add_parsable_certificates(certificates);
        match roots.is_empty() {
            true => Err(bad("it holds no PEM certificate".into())),
            false => Ok(Self(Arc::new(roots))),
        }
    }

    /// Those of this machine; none where it has no bundle.
    pub fn of_host() -> Self {
        let bundle = HOST_BUNDLES.iter().map(Path::new).find(|path| path.is_file());
        let trust = bundle.and_then(|path| Self::from_file(path).ok());
        trust.unwrap_or_else(|| Self(Arc::new(RootCertStore::empty())))
    }

    /// TLS for a client that believes them.
    ///
    /// # Errors
    /// None with the provider that is compiled in.
    pub fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.0))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Whether they vouch for `chain`, leaf first, as the certificate of `name`, at `seconds` after
    /// the Unix epoch.
    pub(super) fn vouches(
        &self,
        chain: &[CertificateDer<'static>],
        name: &str,
        seconds: u64,
    ) -> bool {
        let (Some((leaf, rest)), Ok(name)) =
            (chain.split_first(), ServerName::try_from(name.to_owned()))
        else {
            return false;
        };
        if self.0.is_empty() {
            return false;
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.0), provider()).build();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        verifier
            .is_ok_and(|verifier| verifier.verify_server_cert(leaf, rest, &name, &[], now).is_ok())
    }
}

/// The one implementation of cryptography in this program.
pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
