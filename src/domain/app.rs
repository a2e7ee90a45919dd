//! Apps and their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Invalid, ReleaseVersion, Timestamp};

/// The longest app name: it is a DNS label in the default domain (RFC 1035 §2.3.4).
const MAX_NAME: usize = 63;

/// An app's name: lowercase letters, digits, dots and hyphens, starting with a letter or digit.
///
/// The same rule as Dokku's, plus DNS's limit, so that `<app>.<domain>` is always a host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(String);

impl AppName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: &str| Err(Invalid::new("app name", text, why));
        if text.is_empty() || text.len() > MAX_NAME {
            return invalid("must have 1 to 63 characters");
        }
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
        if !text.bytes().all(allowed) {
            return invalid("may only contain lowercase letters, digits, dots and hyphens");
        }
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !edge(text.bytes().next()) || !edge(text.bytes().last()) {
            return invalid("must start and end with a lowercase letter or a digit");
        }
        if text.contains("..") || text.contains(".-") || text.contains("-.") {
            return invalid("must not have empty parts or hyphens beside a dot");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(AppName, r"^[a-z0-9]+(-+[a-z0-9]+)*(\.[a-z0-9]+(-+[a-z0-9]+)*)*$", 63);

/// An app's number: stays the same when the app is renamed, and picks its range of user ids.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A git branch by its short name, as `git check-ref-format --branch` allows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchName(String);

impl BranchName {
    /// The name as text, without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BranchName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
        let bad = text.is_empty()
            || text.len() > 250
            || text.chars().any(forbidden)
            || text.contains("..")
            || text.contains("@{")
            || text == "@"
            || text
                .split('/')
                .any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
            || text.starts_with('-')
            || text.ends_with('.');
        match bad {
            true => Err(Invalid::new("branch name", text, "is not a valid git branch name")),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(BranchName);

/// Whether an app's instances should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// As many instances as the formation says.
    Running,
    /// None, until `ps:start`.
    Stopped,
}

/// An app as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct App {
    /// Its number, never reused.
    pub id: AppId,
    /// Its name now.
    pub name: AppName,
    /// When it was created.
    pub created_at: Timestamp,
    /// The branch whose pushes deploy; none before the first push of `main` or `master`.
    pub deploy_branch: Option<BranchName>,
    /// The stack its builds use.
    pub stack: String,
    /// Whether its instances should run.
    pub run_state: RunState,
    /// Counts explicit restarts; part of what makes an instance current.
    pub restarts: u32,
    /// The release that serves; none before the first deploy.
    pub current_release: Option<ReleaseVersion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_follow_dokkus_rule_and_dns() {
        for good in ["shop", "a", "node-js-app", "my.app.io", "0day"] {
            assert_eq!(good.parse::<AppName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "Shop", "-a", "a-", "a_b", "a/b", "..", "a..b", ".a", "a\n", "é", &long] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_refusal_says_what_and_why_without_raw_control_characters() {
        let error = "Sh\x1b[31mop".parse::<AppName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "app name `Sh\\u{1b}[31mop` may only contain lowercase letters, digits, dots and hyphens"
        );
    }

    #[test]
    fn branch_names_follow_git() {
        for good in ["main", "feature/x", "v1.2"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in ["", "a..b", "a b", "/a", "a/", "a.lock", "-x", "@", "a~1", "a//b"] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?} was accepted");
        }
    }
}
