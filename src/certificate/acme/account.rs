//! Accounts: one for each directory and e-mail address, its key kept on disk.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use instant_acme::{Account, AccountCredentials, NewAccount};
use sha2::{Digest, Sha256};

use super::https::{Https, Limits};
use super::{Authority, Failure};
use crate::certificate::trust::Trust;
use crate::support::atomic_file;

/// Loads the account, or makes one. Making one agrees to the authority's terms (RFC 8555 §7.3): the
/// operator did so by giving an e-mail address.
pub(super) async fn open(
    directory: &Path,
    authority: &Authority,
    trust: &Trust,
) -> Result<(Account, Limits), Failure> {
    let limits = Limits::default();
    let https = https(trust, &limits)?;
    let path = path(directory, authority);
    let builder = Account::builder_with_http(Box::new(https));
    let account = match load(&path)? {
        Some(credentials) => builder.from_credentials(credentials).await,
        None => {
            let contact = format!("mailto:{}", authority.email);
            let new = NewAccount {
                contact: &[&contact],
                terms_of_service_agreed: true,
                only_return_existing: false,
            };
            let made = builder.create(&new, authority.directory_url.clone(), None).await;
            match made {
                Ok((account, credentials)) => {
                    keep(&path, &credentials)?;
                    Ok(account)
                }
                Err(error) => Err(error),
            }
        }
    };
    match account {
        Ok(account) => Ok((account, limits)),
        Err(error) => Err(Failure::from_acme(&error, &limits)),
    }
}

/// Forgets an account that the authority does not know any more.
pub(super) fn forget(directory: &Path, authority: &Authority) -> Result<(), Failure> {
    let path = path(directory, authority);
    std::fs::remove_file(&path)
        .map_err(|error| Failure::ours(format!("remove `{}`: {error}", path.display())))
}

pub(super) fn https(trust: &Trust, limits: &Limits) -> Result<Https, Failure> {
    let tls = trust.client().map_err(|error| Failure::ours(format!("set up TLS: {error}")))?;
    Ok(Https::new(tls, limits.clone()))
}

fn path(directory: &Path, authority: &Authority) -> PathBuf {
    let name = format!("{}\n{}", authority.directory_url, authority.email);
    let digest = Sha256::digest(name.as_bytes());
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    directory.join(format!("{name}.json"))
}

fn load(path: &Path) -> Result<Option<AccountCredentials>, Failure> {
    match std::fs::read(path) {
        // The reader's complaint could repeat the key.
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|_| {
            let path = path.display();
            Failure::ours(format!(
                "the account key `{path}` is damaged; restore it, or remove it to make a new account"
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::ours(format!("read `{}`: {error}", path.display()))),
    }
}

fn keep(path: &Path, credentials: &AccountCredentials) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::ours(format!("keep `{}`: {error}", path.display()));
    let directory = path.parent().unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(failed)?;
    let json = serde_json::to_vec(credentials).map_err(|error| failed(error.into()))?;
    atomic_file::write(path, &json, 0o600).map_err(failed)
}
