//! Collection: what nothing needs is removed.

use std::collections::BTreeSet;

use super::manifest::parse_manifest;
use super::store::{ImageStore, State, store_error};
use super::{Digest, Error, GcReport, Result, Roots};

impl ImageStore {
    /// Removes every image and layer that is reachable neither from a reference, nor from a lease,
    /// nor from what `roots` returns.
    ///
    /// `roots` runs after the leases have been read, so something recorded before its lease is
    /// dropped cannot be missed. It must not call this store: the store is locked meanwhile.
    ///
    /// # Errors
    /// [`Error::Roots`] from `roots`, or a needed image that is missing or damaged, and then nothing
    /// has been removed; or a failure to remove.
    pub fn gc<F, E>(&self, roots: F) -> Result<GcReport>
    where
        F: FnOnce() -> std::result::Result<Roots, E>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let report = {
            let mut state = self.state();
            let leased = self.leased();
            let roots = roots().map_err(|error| Error::Roots { source: Box::new(error) })?;
            let needed = self.mark(&state, &roots, leased)?;
            self.sweep(&mut state, &needed)?
        };
        // Slow, and nobody can reach it any more: outside of the lock.
        self.empty_trash()?;
        Ok(report)
    }

    /// Everything that is needed: layers, manifests and configurations alike.
    fn mark(
        &self,
        state: &State,
        roots: &Roots,
        leased: impl IntoIterator<Item = Digest>,
    ) -> Result<BTreeSet<Digest>> {
        let mut needed: BTreeSet<Digest> = roots.layers.iter().copied().collect();
        for digest in roots.images.iter().chain(state.references.values()) {
            let documents = self.documents(digest)?;
            needed.insert(*digest);
            needed.insert(documents.config_digest);
            needed.extend(documents.layers);
        }
        for digest in leased {
            needed.insert(digest);
            // May be a layer, or a blob that is not written yet; what it names is leased as well.
            if let Ok((config, layers)) = std::fs::read(self.blob_path(&digest))
                .map_err(drop)
                .and_then(|json| parse_manifest(&json).map_err(drop))
            {
                needed.insert(config);
                needed.extend(layers);
            }
        }
        Ok(needed)
    }

    /// Blobs first: a crash in between must leave no manifest whose layers are gone.
    fn sweep(&self, state: &mut State, needed: &BTreeSet<Digest>) -> Result<GcReport> {
        let mut report = GcReport::default();
        self.sweep_blobs(needed, &mut report)?;
        let garbage: Vec<Digest> =
            state.layers.keys().filter(|digest| !needed.contains(digest)).copied().collect();
        for digest in garbage {
            // The record first: a snapshot without one is removed when the store is opened.
            let record = self.record_path(&digest);
            match std::fs::remove_file(&record) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(store_error("remove", &record)(error));
                }
                _ => {}
            }
            let path = self.layer_path(&digest);
            std::fs::rename(&path, self.new_path("trash"))
                .map_err(store_error("move to the trash", &path))?;
            if let Some(layer) = state.layers.remove(&digest) {
                report.layers_removed += 1;
                report.bytes += layer.tar_bytes;
            }
        }
        Ok(report)
    }

    fn sweep_blobs(&self, needed: &BTreeSet<Digest>, report: &mut GcReport) -> Result<()> {
        let directory = self.path("blobs/sha256");
        let list = || store_error("list", &directory);
        for entry in std::fs::read_dir(&directory).map_err(list())? {
            let entry = entry.map_err(list())?;
            // Anything else is a temporary file of a write under way.
            let Some(digest) = entry.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            if !needed.contains(&digest) {
                report.bytes += entry.metadata().map_err(list())?.len();
                let path = entry.path();
                std::fs::remove_file(&path).map_err(store_error("remove", &path))?;
                report.blobs_removed += 1;
            }
        }
        if report.blobs_removed > 0 {
            std::fs::File::open(&directory)
                .and_then(|directory| directory.sync_all())
                .map_err(store_error("sync", &directory))?;
        }
        Ok(())
    }
}
