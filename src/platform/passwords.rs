//! Passwords: hashed with argon2id, checked in the same time whether there is such a user or not.

use std::sync::OnceLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use super::{Error, Kind, Platform, Result};
use crate::domain::{Secret, UserName};

/// The fewest characters; NIST SP 800-63B asks for 8 of those who have a second factor.
const MIN_CHARS: usize = 10;
/// The most bytes: longer ones are no better, and hashing them is work that strangers can cause.
const MAX_BYTES: usize = 1024;
/// Hashes at once: each takes 19 MiB (OWASP's parameters, the crate's defaults) and one core.
const AT_ONCE: usize = 2;
const SALT_BYTES: usize = 16;

/// Bounds what checking costs.
#[derive(Debug)]
pub(super) struct Checker {
    permits: Semaphore,
    /// What the password of a user who is not there is compared with.
    decoy: OnceLock<String>,
}

impl Default for Checker {
    fn default() -> Self {
        Self { permits: Semaphore::new(AT_ONCE), decoy: OnceLock::new() }
    }
}

impl Platform {
    /// The user of that name, if this is their password. Costs the same for a user that does not
    /// exist, has no password or is kept out; slowing guesses down is the caller's matter.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn check_password(&self, name: &str, password: &str) -> Result<Option<UserName>> {
        let checker = &self.0.passwords;
        let closed = |error| Error::internal("passwords cannot be checked", error);
        let _permit = checker.permits.acquire().await.map_err(closed)?;
        let user = name.parse::<UserName>().ok();
        let stored = match &user {
            Some(user) => self.store.password_hash(user)?,
            None => None,
        };
        let known = stored.is_some();
        let hash = match stored {
            Some(hash) => hash,
            None => self.decoy().await?,
        };
        // Cut, not refused: the answer to a long password takes as long as to any other.
        let fits = password.len() <= MAX_BYTES;
        let password = Secret::new(if fits { password } else { "" });
        let right = blocking(move || verify(&hash, &password)).await??;
        Ok(user.filter(|_| right && known && fits))
    }

    async fn decoy(&self) -> Result<String> {
        if let Some(hash) = self.0.passwords.decoy.get() {
            return Ok(hash.clone());
        }
        let hash = blocking(|| hash(&Secret::new("nobody has this password"))).await??;
        Ok(self.0.passwords.decoy.get_or_init(|| hash).clone())
    }

    /// The hash of a new password.
    pub(super) async fn hash_password(&self, password: Secret) -> Result<String> {
        check_strength(&password)?;
        let closed = |error| Error::internal("passwords cannot be hashed", error);
        let _permit = self.0.passwords.permits.acquire().await.map_err(closed)?;
        blocking(move || hash(&password)).await?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let broken = |error| Error::internal("hashing broke off", error);
    tokio::task::spawn_blocking(work).await.map_err(broken)
}

fn check_strength(password: &Secret) -> Result<()> {
    let text = password.expose();
    let why = match text {
        _ if text.chars().count() < MIN_CHARS => "is too short: it needs 10 characters or more",
        _ if text.len() > MAX_BYTES => "is longer than 1024 bytes",
        _ if text.chars().any(char::is_control) => "has control characters",
        _ if text.chars().all(|c| text.starts_with(c)) => "is one character only",
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Invalid, format!("the password {why}")))
}

fn hash(password: &Secret) -> Result<String> {
    let failed = |error: String| Error::internal("a password cannot be hashed", error);
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| failed(error.to_string()))?;
    let hash = Argon2::default().hash_password(password.expose().as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| failed(error.to_string()))
}

fn verify(hash: &str, password: &Secret) -> Result<bool> {
    let damaged = |error: argon2::password_hash::Error| {
        Error::internal("a stored password hash is damaged", error.to_string())
    };
    let hash = PasswordHash::new(hash).map_err(damaged)?;
    match Argon2::default().verify_password(password.expose().as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(damaged(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_password_and_salted() {
        let secret = Secret::new("correct horse battery");
        let (first, second) = (hash(&secret).unwrap(), hash(&secret).unwrap());
        assert!(first.starts_with("$argon2id$") && first != second, "{first}");
        assert!(verify(&first, &secret).unwrap());
        assert!(!verify(&first, &Secret::new("correct horse batterz")).unwrap());
        assert!(verify("nonsense", &secret).is_err());
    }

    #[test]
    fn weak_passwords_are_refused_with_a_reason() {
        for (password, why) in [
            ("brief", "too short"),
            ("aaaaaaaaaaaa", "one character"),
            ("0123456789\n", "control"),
            (&"ab".repeat(600), "longer"),
        ] {
            let error = check_strength(&Secret::new(password)).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains(password), "{error}");
        }
        assert!(check_strength(&Secret::new("zehn zeich")).is_ok());
    }
}
