//! The store: opening, adding, reading.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::{
    Config, Digest, DirOptions, GcReport, Image, ImageSpec, Imported, Layer, Result, TarOptions,
};

/// A handle on an open store. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct ImageStore {}

/// Keeps content alive that no image or reference names yet: every layer and image added or held
/// under a lease survives [`ImageStore::gc`] until the lease is dropped.
///
/// Hold one from before the first layer is added until the image's digest is recorded where the
/// `roots` function of `gc` finds it.
#[derive(Debug)]
pub struct Lease {}

impl Lease {
    /// Extends the lease to something that is in the store already, such as a cached layer.
    ///
    /// # Errors
    /// [`super::Error::UnknownLayer`] when it is neither a layer nor an image of the store.
    pub fn hold(&self, _digest: &Digest) -> Result<()> {
        unimplemented!()
    }
}

impl ImageStore {
    /// Opens or creates the store in the directory `root`, and removes what a crash left behind.
    pub fn open(_root: &Path, _config: Config) -> Result<Self> {
        unimplemented!()
    }

    /// A new lease that holds nothing yet.
    pub fn lease(&self) -> Lease {
        unimplemented!()
    }

    /// Takes the directory `dir` (by rename: it must be on the store's file system, and nothing may
    /// be able to write to it any more) as a layer.
    pub fn add_layer_from_dir(
        &self,
        _lease: &Lease,
        _dir: &Path,
        _options: DirOptions,
    ) -> Result<Layer> {
        unimplemented!()
    }

    /// Unpacks a tar as a layer. OCI whiteouts become overlayfs whiteouts.
    pub fn add_layer_from_tar(
        &self,
        _lease: &Lease,
        _reader: impl Read,
        _options: TarOptions,
    ) -> Result<Layer> {
        unimplemented!()
    }

    /// Whether the layer is in the store.
    pub fn has_layer(&self, _digest: &Digest) -> bool {
        unimplemented!()
    }

    /// The layer, if the store has it.
    pub fn layer(&self, _digest: &Digest) -> Option<Layer> {
        unimplemented!()
    }

    /// The snapshot's directory. Read-only for everybody: changing it corrupts the store.
    pub fn layer_path(&self, _digest: &Digest) -> PathBuf {
        unimplemented!()
    }

    /// Writes an image and returns its manifest's digest. When this returns, the image and its
    /// layers survive a power cut.
    pub fn write_image(&self, _lease: &Lease, _spec: &ImageSpec) -> Result<Digest> {
        unimplemented!()
    }

    /// Reads an image.
    pub fn image(&self, _digest: &Digest) -> Result<Image> {
        unimplemented!()
    }

    /// The snapshots of the image, bottom first. (overlayfs wants its `lowerdir` top first.)
    pub fn image_layer_paths(&self, _digest: &Digest) -> Result<Vec<PathBuf>> {
        unimplemented!()
    }

    /// Makes all layers added so far survive a power cut. [`Self::write_image`] includes this;
    /// for layers that are kept without an image, such as a build cache's.
    pub fn sync(&self) -> Result<()> {
        unimplemented!()
    }

    /// Names an image, taking the name from the image that had it.
    pub fn tag(&self, _name: &str, _digest: &Digest) -> Result<()> {
        unimplemented!()
    }

    /// Removes a name; the image stays until `gc`.
    pub fn untag(&self, _name: &str) -> Result<()> {
        unimplemented!()
    }

    /// The image of that name.
    pub fn resolve(&self, _name: &str) -> Result<Digest> {
        unimplemented!()
    }

    /// All names with their images, sorted.
    pub fn list(&self) -> Result<Vec<(String, Digest)>> {
        unimplemented!()
    }

    /// Removes every image and layer that is reachable neither from a reference, nor from a lease,
    /// nor from what `roots` returns (images, and single layers such as a build cache's).
    ///
    /// `roots` runs after the leases have been read, so something recorded before its lease is
    /// dropped cannot be missed. It must not call this store.
    pub fn gc<F, E>(&self, _roots: F) -> Result<GcReport>
    where
        F: FnOnce() -> std::result::Result<Vec<Digest>, E>,
        E: std::error::Error + Send + Sync + 'static,
    {
        unimplemented!()
    }

    /// Writes the image as an OCI archive (a tar of an OCI image layout) under `name`.
    pub fn export_oci_archive(
        &self,
        _digest: &Digest,
        _name: &str,
        _writer: impl Write,
    ) -> Result<()> {
        unimplemented!()
    }

    /// Reads an OCI archive with plain or gzip layers.
    pub fn import_oci_archive(&self, _lease: &Lease, _reader: impl Read) -> Result<Imported> {
        unimplemented!()
    }
}
