//! Who may use a site that asks for a name and a password.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The longest user name, in bytes.
const MAX_USER: usize = 128;

/// A salt's length, in bytes. Below the first one, tables of common passwords would pay again.
const SALT: std::ops::RangeInclusive<usize> = 8..=64;

/// A user name, and what its password is known by: SHA-256 of the salt, followed by the password.
/// The digest is quick, because every request has it made; long random passwords are what keeps a
/// stolen one from being searched for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "Text", into = "Text")]
pub struct Credential {
    user: Box<str>,
    salt: Box<[u8]>,
    sha256: [u8; 32],
}

/// The form on the wire; salt and digest in hex.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Text {
    user: String,
    salt: String,
    sha256: String,
}

impl Credential {
    /// Of `user`, with `salt` and `sha256` in hex.
    ///
    /// # Errors
    /// For a name that cannot be said in HTTP (RFC 7617 §2), a short salt, or no digest.
    pub fn new(user: &str, salt: &str, sha256: &str) -> Result<Self, Invalid> {
        let sayable = !user.contains(':') && !user.chars().any(char::is_control);
        if !sayable || user.is_empty() || user.len() > MAX_USER {
            let why =
                format!("must be 1 to {MAX_USER} bytes, without colon and control characters");
            return Err(Invalid::new("user name", user, why));
        }
        // Neither a salt nor a digest is repeated back: refusals are shown and logged.
        let salt = unhex(salt).filter(|salt| SALT.contains(&salt.len())).ok_or_else(|| {
            let (least, most) = (SALT.start() * 2, SALT.end() * 2);
            Invalid::new("salt of user", user, format!("must be {least} to {most} hex digits"))
        })?;
        let digest = unhex(sha256).and_then(|digest| digest.try_into().ok());
        let sha256 = digest.ok_or_else(|| {
            Invalid::new("password digest of user", user, "must be SHA-256 as 64 hex digits")
        })?;
        Ok(Self { user: user.into(), salt: salt.into(), sha256 })
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What comes before the password in what is digested.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The digest of salt and password.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// Without what a password could be searched for with.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

impl TryFrom<Text> for Credential {
    type Error = Invalid;

    fn try_from(text: Text) -> Result<Self, Invalid> {
        Self::new(&text.user, &text.salt, &text.sha256)
    }
}

impl From<Credential> for Text {
    fn from(credential: Credential) -> Self {
        Self {
            user: credential.user.into(),
            salt: hex(&credential.salt),
            sha256: hex(&credential.sha256),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_and_written_the_same() {
        let text =
            format!(r#"{{"user":"ada","salt":"00ff00ff00ff00ff","sha256":"{}"}}"#, "0a".repeat(32));
        let credential: Credential = serde_json::from_str(&text).unwrap();
        assert_eq!(credential.user(), "ada");
        assert_eq!(credential.salt(), [0, 255, 0, 255, 0, 255, 0, 255]);
        assert_eq!(credential.sha256(), &[10; 32]);
        assert_eq!(serde_json::to_string(&credential).unwrap(), text);
        assert_eq!(format!("{credential:?}"), "Credential { user: \"ada\", .. }");
    }

    #[test]
    fn what_no_client_can_say_or_anyone_can_guess_is_refused() {
        let (salt, sha256) = ("00".repeat(8), "00".repeat(32));
        let refused = |user: &str, salt: &str, sha256: &str| {
            Credential::new(user, salt, sha256).unwrap_err().to_string()
        };
        for user in ["", "a:b", "a\nb", &"a".repeat(129)] {
            assert!(refused(user, &salt, &sha256).contains("must be 1 to 128 bytes"), "{user}");
        }
        for salt in ["", "00", "0g".repeat(8).as_str(), &"0".repeat(17), "éééééééé"] {
            assert_eq!(
                refused("ada", salt, &sha256),
                "salt of user `ada` must be 16 to 128 hex digits"
            );
        }
        assert_eq!(
            refused("ada", &salt, &"00".repeat(31)),
            "password digest of user `ada` must be SHA-256 as 64 hex digits"
        );
    }
}
