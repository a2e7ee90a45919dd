//! The build's layer sink over the image store.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::build::{LayerRef, LayerSink};
use crate::image::{Digest, DirOptions, ImageStore, Lease};
use crate::sys;

/// Adds layers under a lease, so that nothing of a build in progress is collected.
#[derive(Debug)]
pub(super) struct Sink {
    images: ImageStore,
    lease: Lease,
}

impl Sink {
    pub(super) fn new(images: &ImageStore) -> Self {
        Self { images: images.clone(), lease: images.lease() }
    }

    /// The lease, for the image that the layers end up in.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl LayerSink for Sink {
    fn add_layer(&self, dir: &Path, id_base: u32) -> io::Result<LayerRef> {
        let layer = self
            .images
            .add_layer_from_dir(&self.lease, dir, DirOptions { id_base })
            .map_err(io::Error::other)?;
        Ok(LayerRef { digest: layer.digest.to_string(), size: layer.tar_bytes })
    }

    fn layer_path(&self, digest: &str) -> PathBuf {
        match digest.parse::<Digest>() {
            Ok(digest) => self.images.layer_path(&digest),
            // A digest that is none names no layer; nothing can be at this path.
            Err(_) => PathBuf::from("/nonexistent"),
        }
    }

    fn layer(&self, digest: &str) -> Option<LayerRef> {
        let parsed: Digest = digest.parse().ok()?;
        self.lease.hold(&parsed).ok()?;
        let layer = self.images.layer(&parsed)?;
        Some(LayerRef { digest: digest.to_owned(), size: layer.tar_bytes })
    }

    fn is_opaque(&self, dir: &Path) -> io::Result<bool> {
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Ok(false);
        };
        let name = CString::new(name.as_bytes())?;
        let parent = sys::fs::open_directory(parent)?;
        let marked = |key| sys::fs::xattr_is_at(parent.as_fd(), &name, key, b"y");
        Ok(marked(c"trusted.overlay.opaque")? || marked(c"user.overlay.opaque")?)
    }
}
