//! The build plan: what buildpacks provide and require of each other.

/// A requirement handed to the buildpack that provides it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    pub metadata: toml::Table,
}
