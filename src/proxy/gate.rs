//! Who comes in with a name and a password (RFC 7617).

use std::hint::black_box;
use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use crate::domain::{Credential, IpRange};

use super::RouteSettings;

/// The longest `Authorization` that is looked into. It holds some 700 bytes of name and password;
/// the head's own limit would let clients have 32 KiB digested at each request.
const MAX_VALUE: usize = 1024;

/// What a name is digested with that nobody has, so that it takes as long as one that somebody has.
const NO_SALT: [u8; 16] = [0; 16];

/// The users of a site, and who needs no name.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    credentials: Box<[Credential]>,
    bypass: Box<[IpRange]>,
}

/// How a client stands at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Its name and password are those of a user. They are ours, and not the app's.
    User,
    /// Its address is enough. If it sent an `Authorization`, that is for the app.
    Exempt,
    /// Neither.
    Refused,
}

impl Gate {
    /// `None` where nobody is asked.
    pub(super) fn compile(settings: &RouteSettings) -> Option<Self> {
        let RouteSettings { basic_auth, basic_auth_bypass, .. } = settings;
        (!basic_auth.is_empty()).then(|| Self {
            credentials: basic_auth.clone().into(),
            bypass: basic_auth_bypass.clone().into(),
        })
    }

    /// Judges the client by the value of its `Authorization` and by its address.
    pub(super) fn judge(&self, authorization: Option<&[u8]>, client: IpAddr) -> Entry {
        if authorization.is_some_and(|value| self.knows(value)) {
            return Entry::User;
        }
        let exempt = self.bypass.iter().any(|range| range.contains(client));
        if exempt { Entry::Exempt } else { Entry::Refused }
    }

    fn knows(&self, authorization: &[u8]) -> bool {
        let mut storage = [0; MAX_VALUE];
        let Some((user, password)) = user_and_password(authorization, &mut storage) else {
            return false;
        };
        let (mut named, mut right) = (false, false);
        for credential in &self.credentials {
            if is_same(credential.user().as_bytes(), user) {
                named = true;
                right |= is_same(credential.sha256(), &digest(credential.salt(), password));
            }
        }
        if !named {
            black_box(digest(&NO_SALT, password));
        }
        right
    }
}

fn digest(salt: &[u8], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(password).finalize().into()
}

/// `Basic`, and `user:password` in base64; of several colons the first one counts.
fn user_and_password<'s>(
    authorization: &[u8],
    storage: &'s mut [u8; MAX_VALUE],
) -> Option<(&'s [u8], &'s [u8])> {
    let space = authorization.iter().position(|&c| c == b' ')?;
    let (scheme, encoded) = authorization.split_at(space);
    if authorization.len() > MAX_VALUE || !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let decoded = Base64::decode(encoded.trim_ascii(), storage).ok()?;
    let colon = decoded.iter().position(|&c| c == b':')?;
    Some((&decoded[..colon], &decoded[colon + 1..]))
}

/// Takes as long for all of one length, wherever they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest as a plugin makes it.
    fn credential(user: &str, password: &str) -> Credential {
        let salt = "0011223344556677";
        let bytes = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        let hex: String = digest(&bytes, password.as_bytes()).map(|b| format!("{b:02x}")).concat();
        Credential::new(user, salt, &hex).unwrap()
    }

    fn gate() -> Gate {
        let settings = RouteSettings {
            basic_auth: vec![credential("ada", "ti:ger"), credential("bö", "")],
            basic_auth_bypass: vec!["192.0.2.0/24".parse().unwrap()],
            ..RouteSettings::default()
        };
        Gate::compile(&settings).unwrap()
    }

    fn judge(authorization: &str) -> Entry {
        gate().judge(Some(authorization.as_bytes()), "198.51.100.1".parse().unwrap())
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", Base64::encode_string(text.as_bytes()))
    }

    #[test]
    fn a_digest_is_that_of_salt_and_password() {
        // printf '\x00\x11\x22\x33\x44\x55\x66\x77tiger' | sha256sum
        let sha256 = "c1bc2909a4037d771da1d202f76a62ae5039150089bddd4493cbd5fa4a7b6400";
        let settings = RouteSettings {
            basic_auth: vec![Credential::new("ada", "0011223344556677", sha256).unwrap()],
            ..RouteSettings::default()
        };
        let gate = Gate::compile(&settings).unwrap();
        let client = "198.51.100.1".parse().unwrap();
        assert_eq!(gate.judge(Some(basic("ada:tiger").as_bytes()), client), Entry::User);
    }

    #[test]
    fn users_come_in_with_their_own_password() {
        assert_eq!(judge(&basic("ada:ti:ger")), Entry::User);
        assert_eq!(judge(&basic("bö:")), Entry::User);
        assert_eq!(judge(&basic("ada:ti:ger").replace("Basic ", "bAsIc   ")), Entry::User);
        for refused in ["ada:ti:geR", "ada:", "ada:ti", "Ada:ti:ger", "bö:ti:ger", "eve:", ":", "x"]
        {
            assert_eq!(judge(&basic(refused)), Entry::Refused, "{refused}");
        }
    }

    #[test]
    fn what_is_not_basic_is_nobody() {
        let encoded = Base64::encode_string(b"ada:ti:ger");
        let long = format!("Basic {}", "A".repeat(MAX_VALUE));
        let padded = format!("Basic {}{encoded}", " ".repeat(MAX_VALUE));
        for refused in [
            "",
            "Basic",
            "Basic ",
            encoded.as_str(),
            &format!("Bearer {encoded}"),
            &format!("Basic {encoded}="),
            &format!("Basic {encoded}, Basic {encoded}"),
            "Basic \u{e9}",
            &long,
            &padded,
        ] {
            assert_eq!(judge(refused), Entry::Refused, "{refused}");
        }
    }

    #[test]
    fn an_address_may_be_enough() {
        let (near, far) = ("192.0.2.9".parse().unwrap(), "198.51.100.1".parse().unwrap());
        assert_eq!(gate().judge(None, near), Entry::Exempt);
        assert_eq!(gate().judge(None, far), Entry::Refused);
        // A token for the app stays its own; a user's password does not reach it.
        assert_eq!(gate().judge(Some(b"Bearer x"), near), Entry::Exempt);
        assert_eq!(gate().judge(Some(basic("ada:ti:ger").as_bytes()), near), Entry::User);
    }
}
