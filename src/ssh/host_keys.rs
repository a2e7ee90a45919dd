//! The server's own keys: made once, then kept, since clients remember them.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

use crate::support::atomic_file;

/// A host key that cannot be had. A new one in place of one that cannot be read would look like an
/// attack to every client.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message names")]
pub enum HostKeyError {
    /// The file cannot be read or written.
    #[error("{operation} host key `{}`", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// The file holds no usable key, or none could be made.
    #[error("{operation} host key `{}`", path.display())]
    Key {
        operation: &'static str,
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
}

/// Loads the host keys from `directory`, and makes those that are missing: Ed25519, and ECDSA for
/// clients without it.
pub(super) fn load_or_create(directory: &Path) -> Result<Vec<PrivateKey>, HostKeyError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| HostKeyError::File {
        operation: "make the directory of",
        path: directory.to_owned(),
        source,
    })?;
    let ecdsa = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
    [("ssh_host_ed25519_key", Algorithm::Ed25519), ("ssh_host_ecdsa_key", ecdsa)]
        .into_iter()
        .map(|(name, algorithm)| load(&directory.join(name), algorithm))
        .collect()
}

fn load(path: &Path, algorithm: Algorithm) -> Result<PrivateKey, HostKeyError> {
    match std::fs::read(path) {
        Ok(text) => PrivateKey::from_openssh(text).map_err(unusable("read", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, algorithm),
        Err(source) => Err(HostKeyError::File { operation: "read", path: path.to_owned(), source }),
    }
}

fn create(path: &Path, algorithm: Algorithm) -> Result<PrivateKey, HostKeyError> {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm)
        .map_err(unusable("make", path))?;
    let text = key.to_openssh(LineEnding::LF).map_err(unusable("encode", path))?;
    atomic_file::write(path, text.as_bytes(), 0o600).map_err(|source| HostKeyError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(key)
}

fn unusable(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(russh::keys::ssh_key::Error) -> HostKeyError {
    move |source| HostKeyError::Key { operation, path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        let made = load_or_create(&keys).unwrap();
        let again = load_or_create(&keys).unwrap();
        let public = |keys: &[PrivateKey]| {
            keys.iter().map(|key| key.public_key().clone()).collect::<Vec<_>>()
        };
        assert_eq!(public(&made), public(&again));
        assert_eq!(made.len(), 2);
        for file in std::fs::read_dir(&keys).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ssh_host_ed25519_key");
        atomic_file::write(&path, b"rubbish", 0o600).unwrap();
        let error = load_or_create(directory.path()).unwrap_err();
        assert!(error.to_string().starts_with("read host key `"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"rubbish");
    }
}
