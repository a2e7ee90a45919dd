//! Tokens: what programs show in place of a person.
//!
//! `stt_<id>_<secret>`: the id is no secret and finds the record, of the secret only a SHA-256 is
//! kept. 256 random bits cannot be guessed from it, so that no slow hash is needed.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{Invalid, Secret, invalid::text_serde};

/// What every token begins with, so that programs which look for leaked secrets find it.
const PREFIX: &str = "stt_";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;

/// What a token is called where it must not be shown: 12 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

impl TokenId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.len() == ID_DIGITS && text.bytes().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new("token id", text, "must be 12 hexadecimal digits")),
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(TokenId);

/// A whole token.
#[derive(Debug, Clone)]
pub struct Token {
    id: TokenId,
    secret: Secret,
}

impl Token {
    /// The token of these random bytes.
    pub fn of(id: [u8; ID_DIGITS / 2], secret: [u8; SECRET_DIGITS / 2]) -> Self {
        Self { id: TokenId(hex(&id)), secret: Secret::new(hex(&secret)) }
    }

    /// What finds its record.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// What its record holds of the secret.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose()).into()
    }

    /// Whether `hash` is of this token's secret. Takes the same time wherever they differ.
    pub fn is_of(&self, hash: &[u8]) -> bool {
        let own = self.hash();
        let differing = own.iter().zip(hash).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == hash.len() && differing == 0
    }

    /// The token as it is shown to its owner, once.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret.expose())
    }
}

impl FromStr for Token {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // What was given is never repeated: it may be a real token with a typing error.
        let invalid = || Invalid::new("token", "…", "must be `stt_<id>_<secret>`, as it was shown");
        let (id, secret) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .filter(|(_, secret)| secret.len() == SECRET_DIGITS && secret.bytes().all(is_hex))
            .ok_or_else(invalid)?;
        let id = id.parse().map_err(|_| invalid())?;
        Ok(Self { id, secret: Secret::new(secret.to_owned()) })
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_shown_and_hides_its_secret() {
        let token = Token::of([1; 6], [0xab; 32]);
        let shown = token.expose();
        assert!(shown.starts_with("stt_010101010101_abab"), "{shown}");
        let read: Token = shown.parse().unwrap();
        assert_eq!(read.id().as_str(), "010101010101");
        assert!(read.is_of(&token.hash()));
        assert!(!read.is_of(&Token::of([1; 6], [0xac; 32]).hash()));
        assert!(!read.is_of(&[]) && !read.is_of(&token.hash()[..31]));
        assert!(!format!("{read:?}").contains("abab"));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let secret = "a".repeat(64);
        for text in [
            "",
            "stt_",
            "stt_010101010101",
            &format!("stt_01010101010_{secret}"),
            &format!("stt_010101010101_{secret}0"),
            &format!("stt_010101010101_{}", secret.to_uppercase()),
            &format!("ghp_010101010101_{secret}"),
        ] {
            let error = text.parse::<Token>().unwrap_err().to_string();
            assert!(!error.contains("0101") && !error.contains("aaa"), "{error}");
        }
    }
}
