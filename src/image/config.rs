//! The operator's settings of the image store.

use serde::Deserialize;

/// Limits of the store. Content comes from strangers (pushed apps, downloaded archives), so each
/// amount that they control has an upper bound.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most bytes in one layer, counted by apparent size, so that a sparse file or a compression
    /// bomb counts in full. Default 8 GiB less one byte: the largest file a ustar header can name.
    pub max_layer_bytes: u64,
    /// Most files, directories and links in one layer. Default 1,000,000: a large `node_modules`
    /// has 100,000.
    pub max_layer_entries: u64,
    /// Most bytes in one imported archive, before unpacking. Default 32 GiB.
    pub max_import_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_layer_bytes: (8 << 30) - 1,
            max_layer_entries: 1_000_000,
            max_import_bytes: 32 << 30,
        }
    }
}
