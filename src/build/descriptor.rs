//! `buildpack.toml` and `order.toml`: which buildpacks there are.

use std::path::{Path, PathBuf};

use super::Error;

/// A component buildpack as installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpack {
    /// `staithe/nodejs`.
    pub id: String,
    /// `1.0.0`.
    pub version: String,
    /// For people.
    pub name: String,
    /// What it looks for, as the end of "found no …".
    pub description: String,
    /// The Buildpack API it speaks.
    pub api: (u32, u32),
    /// Where it is on the host.
    pub path: PathBuf,
    /// Config vars reach it as files only.
    pub clear_env: bool,
}

/// The buildpacks and the groups tried in detection.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    buildpacks: Vec<Buildpack>,
    order: Vec<Vec<GroupEntry>>,
}

/// A place in a group of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupEntry {
    pub id: String,
    pub optional: bool,
}

impl Catalog {
    /// Loads every buildpack below `directory`.
    ///
    /// # Errors
    /// If one is damaged or `order.toml` names one that is not there.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let _ = directory;
        unimplemented!()
    }

    /// All buildpacks, by id.
    pub fn buildpacks(&self) -> &[Buildpack] {
        &self.buildpacks
    }
}
