//! Plugins' names.

use std::fmt;
use std::str::FromStr;

use super::Invalid;
use super::invalid::text_serde;

/// A plugin's name is a noun of the command line, a directory and part of a container's name.
const MAX_NAME: usize = 32;

/// The nouns of the command line, none of which a plugin may take: its commands could never be
/// called. A test beside the command tree compares.
pub const RESERVED_NOUNS: &[&str] = &[
    "access",
    "apps",
    "builds",
    "certs",
    "checks",
    "config",
    "cron",
    "dashboard",
    "domains",
    "enter",
    "error-pages",
    "events",
    "gc",
    "git",
    "help",
    "host",
    "letsencrypt",
    "logs",
    "maintenance",
    "metrics",
    "nginx",
    "openapi",
    "plugin",
    "plugin-command",
    "plugins",
    "ports",
    "proxy",
    "ps",
    "releases",
    "resource",
    "rollback",
    "routes",
    "run",
    "service",
    "services",
    "ssh-keys",
    "staithe",
    "stack",
    "storage",
    "tokens",
    "url",
    "urls",
    "users",
    "version",
];

/// A plugin's name: lowercase letters, digits and hyphens, starting with a letter, at most 32
/// characters, and none of Staithe's own nouns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginName(String);

impl PluginName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Err(Invalid::new("plugin name", text, why));
        if text.is_empty() || text.len() > MAX_NAME {
            return invalid("must have 1 to 32 characters");
        }
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !text.bytes().all(allowed) || !text.as_bytes()[0].is_ascii_lowercase() {
            return invalid(
                "may only contain lowercase letters, digits and hyphens and must start with a letter",
            );
        }
        if RESERVED_NOUNS.contains(&text) {
            return invalid("is a command of Staithe's own");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(PluginName, "^[a-z][a-z0-9-]*$", 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_names_are_plain_and_not_staithes_own() {
        for good in ["postgres", "slack-webhook", "a", "s3"] {
            assert_eq!(good.parse::<PluginName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(33);
        for bad in ["", "Postgres", "-a", "1a", "a_b", "a/b", "..", "a.b", "apps", "ps", &long] {
            assert!(bad.parse::<PluginName>().is_err(), "{bad:?} was accepted");
        }
    }
}
