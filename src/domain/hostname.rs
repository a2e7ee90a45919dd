//! Host names that route to an app.

use std::fmt;
use std::str::FromStr;

use super::Invalid;
use super::invalid::text_serde;

/// A domain of an app: a host name, folded to lower case without the final dot, a wildcard
/// `*.example.com`, or `_` for every host that no other domain matches (Dokku's catch-all).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<label>.<self>`, the default domain of an app under a global domain.
    ///
    /// # Errors
    /// If the result is longer than a host name may be.
    pub fn child(&self, label: &str) -> Result<Self, Invalid> {
        format!("{label}.{}", self.0).parse()
    }
}

impl FromStr for Hostname {
    type Err = Invalid;

    /// RFC 1123 §2.1 names; underscores are allowed as browsers do.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "_" {
            return Ok(Self(text.into()));
        }
        let folded = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = folded.strip_prefix("*.").unwrap_or(&folded);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match folded.len() <= 253 && name.split('.').all(label) {
            true => Ok(Self(folded)),
            false => Err(Invalid::new(
                "domain",
                text,
                "is not a host name; give one such as `shop.example.com` or `*.example.com`, without scheme, port or path",
            )),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(Hostname);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded() {
        assert_eq!("Shop.Example.COM.".parse::<Hostname>().unwrap().as_str(), "shop.example.com");
        assert_eq!("*.Example.com".parse::<Hostname>().unwrap().as_str(), "*.example.com");
    }

    #[test]
    fn urls_and_ports_are_refused_with_advice() {
        for bad in ["http://a.b", "a.b:80", "a.b/c", "", "a..b", "-a.b", "*.*.b", "a*.b"] {
            let error = bad.parse::<Hostname>().unwrap_err().to_string();
            assert!(error.contains("without scheme"), "{error}");
        }
    }
}
