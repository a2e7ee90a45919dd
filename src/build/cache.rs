//! The cache record: what a build left for the next one of the same app.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use super::layer::Types;

/// The format of the file; another number is not read.
const VERSION: u32 = 1;

/// The layers of an app's last successful build. Read by the garbage collector too: every digest
/// in it must stay in the store while the app exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    version: u32,
    /// Digest of the build image that the layers were made on.
    pub(super) stack: String,
    pub(super) layers: Vec<CachedLayer>,
    /// Each buildpack's `store.toml`.
    #[serde(default)]
    pub(super) stores: BTreeMap<String, String>,
}

/// One layer of the last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedLayer {
    pub buildpack: String,
    pub name: String,
    pub types: Types,
    /// The `[metadata]` table as TOML.
    pub metadata: String,
    pub digest: String,
}

impl CacheRecord {
    /// An empty record for builds on `stack`.
    pub(super) fn new(stack: &str) -> Self {
        Self { version: VERSION, stack: stack.to_owned(), ..Self::default() }
    }

    /// Reads the record at `path`; an absent or damaged one is an empty one (it is only a cache).
    pub fn load(path: &Path) -> Self {
        let Ok(text) = std::fs::read(path) else { return Self::default() };
        match serde_json::from_slice::<Self>(&text) {
            Ok(record) if record.version == VERSION => record,
            Ok(_) => Self::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "damaged cache record is ignored");
                Self::default()
            }
        }
    }

    /// Replaces the record at `path`.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(Error::files("create directory", directory))?;
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| crate::support::atomic_file::write(path, &text, 0o600))
            .map_err(Error::files("write cache record", path))
    }

    /// The digests of all layers in it.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|layer| layer.digest.as_str())
    }

    /// The layer `name` of `buildpack`.
    pub(super) fn find(&self, buildpack: &str, name: &str) -> Option<&CachedLayer> {
        self.layers.iter().find(|layer| layer.buildpack == buildpack && layer.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_a_round_trip_and_damage_makes_it_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/cache.json");
        assert_eq!(CacheRecord::load(&path), CacheRecord::default());
        let mut record = CacheRecord::new("sha256:stack");
        record.layers.push(CachedLayer {
            buildpack: "staithe/nodejs".into(),
            name: "node".into(),
            types: Types { launch: true, build: false, cache: true },
            metadata: "version = \"22\"\n".into(),
            digest: "sha256:aa".into(),
        });
        record.save(&path).unwrap();
        assert_eq!(CacheRecord::load(&path), record);
        assert_eq!(record.digests().collect::<Vec<_>>(), ["sha256:aa"]);
        crate::support::atomic_file::write(&path, b"{\"version\": 1, half", 0o600).unwrap();
        assert_eq!(CacheRecord::load(&path), CacheRecord::default());
    }
}
