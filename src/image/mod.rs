//! Images: an OCI content store whose layers are directories that overlayfs mounts as they are.
//!
//! ```text
//! <root>/                      0700: layers hold setuid files that no host user may reach
//!   lock                       held by the one process that has the store open
//!   oci-layout, index.json     OCI image layout; index.json holds the references (tags)
//!   blobs/sha256/<hex>         manifests and configurations
//!   layers/sha256/<hex>/       one snapshot per layer, ids as in the image, overlay whiteouts
//!   layers/sha256/<hex>.json   the layer's record: written once the snapshot is safely on disk
//!   tmp/  trash/               content on its way in and out; emptied when the store is opened
//! ```
//!
//! A layer's digest is that of its canonical tar: entries sorted, no timestamps, no names of users,
//! media type `application/vnd.oci.image.layer.v1.tar`. The tar itself is produced only when an
//! image leaves the machine; adding a layer merely hashes it. Snapshots keep the modification times
//! they came with, because Python's bytecode and HTTP's `Last-Modified` depend on them; the tar
//! carries a constant instead, so that equal content has an equal digest.
//!
//! **Invariants.** A snapshot never changes once it has its name. An image is listed only when all
//! its layers are on disk for good. What an image or a [`Lease`] needs is never removed.
//!
//! All functions block; asynchronous callers use `spawn_blocking`.

// The store.
mod archive;
mod config;
mod digest;
mod error;
mod gc;
mod layout;
mod lease;
mod manifest;
mod store;
// What strangers send.
mod adopt;
mod canonical;
mod members;
mod overlay;
mod stream;
mod trash;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use digest::{Digest, InvalidDigest};
pub use error::{Error, Result};
pub use store::{ImageStore, Lease};

use std::collections::BTreeMap;

/// How [`ImageStore::add_layer_from_dir`] reads a directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct DirOptions {
    /// The host id that stands for id 0 of the image. It is subtracted from the owner of every
    /// entry; an owner outside `id_base..id_base + 65536` is refused.
    pub id_base: u32,
}

/// How [`ImageStore::add_layer_from_tar`] reads its stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct TarOptions {
    /// The digest of the uncompressed tar (the "diff id"), if it was announced.
    pub expected: Option<Digest>,
    /// What the stream is compressed with.
    pub compression: Compression,
}

/// Compression of a layer's tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// A plain tar.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
}

/// A layer in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the canonical tar: the layer's name here, and its diff id in image configurations.
    pub digest: Digest,
    /// Size of the canonical tar in bytes.
    pub tar_bytes: u64,
    /// Number of files, directories, links and whiteouts.
    pub entries: u64,
    /// Sockets, FIFOs and device nodes that were left out when it was added.
    pub dropped: u64,
    /// Whether the store had it already, so that nothing new was kept.
    pub existed: bool,
}

/// What a container of the image gets, when nothing overrides it (OCI image spec, config.md).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Environment in order of appearance.
    pub env: Vec<(String, String)>,
    /// First part of the command line.
    pub entrypoint: Vec<String>,
    /// Second part of the command line, or all of it.
    pub cmd: Vec<String>,
    /// Absolute path, or empty for `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub user: String,
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Signal that asks for a clean stop, empty for `SIGTERM`.
    pub stop_signal: String,
}

/// An image to be written.
#[derive(Debug, Clone, Default)]
pub struct ImageSpec {
    /// What its containers get.
    pub config: ImageConfig,
    /// Layers in the store, bottom first.
    pub layers: Vec<Digest>,
    /// One sentence per layer that says where it comes from; shorter lists are padded.
    pub history: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest: the image's name.
    pub digest: Digest,
    /// What its containers get.
    pub config: ImageConfig,
    /// Layers, bottom first.
    pub layers: Vec<Digest>,
    /// Sum of the layers' tar sizes in bytes.
    pub tar_bytes: u64,
}

/// What a collection must keep, beside what references and leases name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roots {
    /// Images. One that is missing stops the collection: without its manifest, its layers look as
    /// if nothing needed them.
    pub images: Vec<Digest>,
    /// Single layers, such as a build cache's. One that is missing is no fault: a crash may have
    /// taken it before it was synced.
    pub layers: Vec<Digest>,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Snapshots removed.
    pub layers_removed: u64,
    /// Manifests and configurations removed.
    pub blobs_removed: u64,
    /// Bytes freed: tar sizes of the snapshots plus sizes of the blobs.
    pub bytes: u64,
}

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The image's digest in this store.
    pub digest: Digest,
    /// The digest its archive gave it. Differs when the archive's layers were not canonical tars.
    pub source_digest: Digest,
    /// The reference name inside the archive, if any.
    pub name: Option<String>,
}
