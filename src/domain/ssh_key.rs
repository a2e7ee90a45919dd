//! SSH public keys in OpenSSH's one-line form.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Base64Unpadded, Encoding};
use sha2::{Digest, Sha256};

use super::Invalid;

/// What OpenSSH still takes by default, less DSA and hardware-bound types the server cannot verify.
const TYPES: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
/// An RSA key of 16384 bits has about 2.7 KiB of base64.
const MAX_LINE: usize = 16 << 10;

/// A public key: its type and its bytes, checked against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPublicKey {
    line: String,
    blob: Vec<u8>,
}

impl SshPublicKey {
    /// `type base64`, without comment.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// `SHA256:…` as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&Sha256::digest(&self.blob)))
    }
}

impl FromStr for SshPublicKey {
    type Err = Invalid;

    /// One line of an `id_*.pub` file; options before the type are refused.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Invalid::new("ssh public key", text.trim(), why);
        let text = text.trim();
        if text.len() > MAX_LINE || text.lines().count() != 1 {
            return Err(invalid("must be one line, such as the contents of ~/.ssh/id_ed25519.pub"));
        }
        if text.contains("PRIVATE KEY") {
            return Err(invalid(
                "is a private key; give the .pub file and keep the other one secret",
            ));
        }
        let mut words = text.split_ascii_whitespace();
        let (kind, encoded) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !TYPES.contains(&kind) {
            return Err(invalid(
                "must start with ssh-ed25519, ecdsa-sha2-nistp256/384/521 or ssh-rsa",
            ));
        }
        let blob = Base64::decode_vec(encoded)
            .map_err(|_| invalid("is damaged: its second word is not base64"))?;
        let named = blob.get(..4).and_then(|length| {
            let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
            blob.get(4..4usize.checked_add(length)?)
        });
        match named == Some(kind.as_bytes()) {
            true => Ok(Self { line: format!("{kind} {encoded}"), blob }),
            false => Err(invalid("is damaged: its bytes are not of the type it names")),
        }
    }
}

impl fmt::Display for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn a_key_has_ssh_keygens_fingerprint() {
        let key: SshPublicKey = format!("{KEY} me@laptop\n").parse().unwrap();
        assert_eq!(key.line(), KEY);
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        let other_type = KEY.replace("ssh-ed25519", "ssh-rsa");
        for (text, why) in [
            ("", "one line"),
            ("hello", "must start with"),
            ("ssh-ed25519", "damaged"),
            ("ssh-ed25519 !!!", "not base64"),
            (&other_type, "not of the type"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            ("ssh-ed25519 AAAA\nssh-ed25519 AAAA", "one line"),
            ("command=\"x\" ssh-ed25519 AAAA", "must start with"),
        ] {
            let error = text.parse::<SshPublicKey>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
