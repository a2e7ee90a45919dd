//! Process types, instances and formations.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::invalid::text_serde;

/// A declared process type, such as `web`: a DNS label of at most 63 characters (Dokku's rule).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessType(String);

impl ProcessType {
    /// The type that the proxy serves.
    pub fn web() -> Self {
        Self("web".into())
    }

    /// The one-off that runs before a deploy; never scaled.
    pub fn release() -> Self {
        Self("release".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the proxy sends requests to it.
    pub fn is_web(&self) -> bool {
        self.0 == "web"
    }
}

impl FromStr for ProcessType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let good = (1..=63).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_alphanumeric();
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid::new(
                "process type",
                text,
                "must have 1 to 63 letters, digits, hyphens or underscores and start with a letter or digit",
            )),
        }
    }
}

impl fmt::Display for ProcessType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(ProcessType, "^[A-Za-z0-9][A-Za-z0-9_-]*$", 63);

/// One running copy of a process type: `web.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName {
    /// The process type it is a copy of.
    pub process_type: ProcessType,
    /// Its number, from 1.
    pub index: u32,
}

impl FromStr for InstanceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("instance", text, "must look like `web.1`");
        let (process_type, index) = text.rsplit_once('.').ok_or_else(invalid)?;
        let index = index.parse().map_err(|_| invalid())?;
        Ok(Self { process_type: process_type.parse()?, index })
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process_type, self.index)
    }
}

text_serde!(InstanceName);

/// How many instances of each process type should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Formation(BTreeMap<ProcessType, u32>);

/// The most instances of one type on one machine: enough for any, and bounds what a typo starts.
const MAX_INSTANCES: u32 = 100;

impl Formation {
    /// The wanted count of `process_type`: what was set, else one `web` and none of any other.
    pub fn count(&self, process_type: &ProcessType) -> u32 {
        self.0.get(process_type).copied().unwrap_or(u32::from(process_type.is_web()))
    }

    /// Sets the count of `process_type`.
    ///
    /// # Errors
    /// For `release`, which runs once per deploy, and for more than 100.
    pub fn set(&mut self, process_type: ProcessType, count: u32) -> Result<(), Invalid> {
        if process_type == ProcessType::release() {
            return Err(Invalid::new(
                "process type",
                "release",
                "runs once per deploy and cannot be scaled",
            ));
        }
        if count > MAX_INSTANCES {
            return Err(Invalid::new("count", &count.to_string(), "must be at most 100"));
        }
        self.0.insert(process_type, count);
        Ok(())
    }

    /// The counts that were set explicitly.
    pub fn explicit(&self) -> impl Iterator<Item = (&ProcessType, u32)> {
        self.0.iter().map(|(process_type, count)| (process_type, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_web_and_no_worker_by_default() {
        let formation = Formation::default();
        assert_eq!(formation.count(&ProcessType::web()), 1);
        assert_eq!(formation.count(&"worker".parse().unwrap()), 0);
    }

    #[test]
    fn release_is_never_scaled() {
        let error = Formation::default().set(ProcessType::release(), 2).unwrap_err();
        assert!(error.to_string().contains("once per deploy"), "{error}");
    }

    #[test]
    fn instance_names_round_trip() {
        let name: InstanceName = "web.12".parse().unwrap();
        assert_eq!((name.index, name.to_string().as_str()), (12, "web.12"));
        assert!("web".parse::<InstanceName>().is_err());
        assert!("web.x".parse::<InstanceName>().is_err());
    }
}
