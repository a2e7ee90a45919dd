//! Names of users.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, invalid::text_serde};

/// The longest name; the name of a key, which may be an address of mail, names a user too.
const MAX_CHARS: usize = 100;

/// A user's name: 1 to 100 letters, digits or `@._-+`, and not `root`, whom the kernel vouches for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

impl UserName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "@._-+".contains(c);
        let fits = (1..=MAX_CHARS).contains(&text.len()) && text.chars().all(allowed);
        // A word that begins with a hyphen is an option on a command line.
        match fits && text != "root" && !text.starts_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new(
                "user name",
                text,
                "must have 1 to 100 letters, digits or `@._-+`, not begin with `-`, and not be `root`",
            )),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(UserName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_and_machines_are_names() {
        for name in ["alice", "alice@example.com", "CI-1", "a", "x+y.z_0"] {
            assert_eq!(name.parse::<UserName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(101);
        for name in ["", "root", "-x", "zoë", "a b", "a/b", "<script>", "a\n", &long] {
            assert!(name.parse::<UserName>().is_err(), "{name}");
        }
    }
}
