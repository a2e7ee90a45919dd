//! Config vars: the environment an app is given.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::invalid::text_serde;

/// The name of a config var: `[A-Za-z_][A-Za-z0-9_]*` (POSIX environment names, Dokku's rule).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvKey(String);

impl EnvKey {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let first = |c: u8| c.is_ascii_alphabetic() || c == b'_';
        let rest = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let good =
            (1..=256).contains(&text.len()) && first(text.as_bytes()[0]) && text.bytes().all(rest);
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new(
                "config var name",
                text,
                "must be letters, digits and underscores and not start with a digit",
            )),
        }
    }
}

impl fmt::Display for EnvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(EnvKey, "^[A-Za-z_][A-Za-z0-9_]*$", 256);

/// A value that logs and debug output must never show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The most bytes of all names and values together: a process's environment shares `ARG_MAX` with
/// its arguments (execve(2)), and a single string may have 128 KiB.
const MAX_TOTAL: usize = 512 * 1024;
const MAX_VALUE: usize = 127 * 1024;

/// An app's config vars, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct ConfigVars(BTreeMap<EnvKey, Secret>);

impl ConfigVars {
    /// The value of `key`.
    pub fn get(&self, key: &EnvKey) -> Option<&Secret> {
        self.0.get(key)
    }

    /// All vars by name.
    pub fn iter(&self) -> impl Iterator<Item = (&EnvKey, &Secret)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a var.
    ///
    /// # Errors
    /// If the value holds a NUL byte or is larger than an environment can be.
    pub fn set(&mut self, key: EnvKey, value: Secret) -> Result<(), Invalid> {
        if value.0.contains('\0') {
            return Err(Invalid::new("config var", key.as_str(), "must not contain a NUL byte"));
        }
        let others: usize =
            self.0.iter().filter(|(k, _)| **k != key).map(|(k, v)| k.0.len() + v.0.len()).sum();
        if value.0.len() > MAX_VALUE || others + key.0.len() + value.0.len() > MAX_TOTAL {
            return Err(Invalid::new(
                "config var",
                key.as_str(),
                "is too large: a value may have 127 KiB, all together 512 KiB",
            ));
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// Takes over all vars of `others`, which were accepted one by one before.
    pub(super) fn overlay(&mut self, others: &Self) {
        self.0.extend(others.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// Removes a var; says whether it was there.
    pub fn unset(&mut self, key: &EnvKey) -> bool {
        self.0.remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_show_in_debug_output() {
        let mut vars = ConfigVars::default();
        vars.set("TOKEN".parse().unwrap(), Secret::new("hunter2")).unwrap();
        assert!(!format!("{vars:?}").contains("hunter2"));
    }

    #[test]
    fn names_are_posix_names() {
        for good in ["A", "_x", "DATABASE_URL", "a1"] {
            assert!(good.parse::<EnvKey>().is_ok(), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "Ä"] {
            assert!(bad.parse::<EnvKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_environment_that_execve_would_refuse_is_refused_here() {
        let mut vars = ConfigVars::default();
        let error =
            vars.set("A".parse().unwrap(), Secret::new("x".repeat(MAX_VALUE + 1))).unwrap_err();
        assert!(error.to_string().contains("too large"), "{error}");
        assert!(vars.set("A".parse().unwrap(), Secret::new("a\0b")).is_err());
    }
}
