//! Names of files in a place.

use std::fmt;
use std::str::FromStr;

use crate::domain::Invalid;

/// Names have few parts, and none is long: together they fit in a path and in S3's 1,024 bytes.
const MAX_PARTS: usize = 6;
const MAX_PART: usize = 96;

/// A name of some parts, as `postgres/shop/20261124-143209-00ab12cd/dump`.
///
/// Each part begins with a letter or digit and has letters, digits, `.`, `_` and `-`: no name leads
/// out of its place, and none is hidden.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, from the left.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The name one level below.
    ///
    /// # Errors
    /// If `part` may not be part of a name.
    pub fn join(&self, part: &str) -> Result<Self, Invalid> {
        format!("{}/{part}", self.0).parse()
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let part = |part: &str| {
            let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
            part.len() <= MAX_PART
                && part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
                && part.bytes().all(allowed)
        };
        if text.split('/').count() > MAX_PARTS || !text.split('/').all(part) {
            return Err(Invalid::new("archive key", text, "is no name of a file in an archive"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_place() {
        let good = ["a", "postgres/My_db/20261124-143209-00ab12cd/manifest.json"];
        for text in good {
            assert_eq!(text.parse::<Key>().unwrap().as_str(), text);
        }
        let bad =
            ["", "/a", "a/", "a//b", "..", "a/../b", "a/.b", "a b", "a\n", "ä", "a/b/c/d/e/f/g"];
        for text in bad {
            assert!(text.parse::<Key>().is_err(), "{text:?}");
        }
        assert!("a".parse::<Key>().unwrap().join("..").is_err());
    }
}
