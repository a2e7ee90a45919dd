//! What can go wrong with the store; each variant names the operation and its object.

use std::io;
use std::path::PathBuf;

use super::Digest;

/// Result of the image store.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation of the image store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the store.
    #[error("image store `{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
    /// A file of the store itself could not be read, written or moved.
    #[error("{operation} `{}`", path.display())]
    Store { operation: &'static str, path: PathBuf, source: io::Error },
    /// An entry of a layer being added could not be handled.
    #[error("{operation} `{entry}` of the layer")]
    Entry { operation: &'static str, entry: String, source: io::Error },
    /// The layer's content is not acceptable; the author of the content can fix it.
    #[error("layer refused: `{entry}` {why}")]
    Refused { entry: String, why: &'static str },
    /// The layer exceeds a limit of [`super::Config`].
    #[error("layer refused: more than {limit} {what}")]
    TooLarge { what: &'static str, limit: u64 },
    /// The directory is on another file system than the store, so it cannot be taken by rename.
    #[error("`{}` is not on the image store's file system", path.display())]
    OtherFileSystem { path: PathBuf },
    /// Reading a layer or image archive failed.
    #[error("read the {what}")]
    ReadStream { what: &'static str, source: io::Error },
    /// Writing an image archive failed.
    #[error("write the image archive")]
    WriteStream { source: io::Error },
    /// The content does not have the digest it was announced with.
    #[error("{what} has digest {actual}, not {expected} as announced")]
    Mismatch { what: &'static str, expected: Digest, actual: Digest },
    /// No such layer.
    #[error("layer {digest} is not in the image store")]
    UnknownLayer { digest: Digest },
    /// No such image.
    #[error("image {digest} is not in the image store")]
    UnknownImage { digest: Digest },
    /// No such reference.
    #[error("no image is named `{name}`")]
    UnknownReference { name: String },
    /// A name that cannot be a reference.
    #[error("`{name}` cannot name an image: {why}")]
    InvalidReference { name: String, why: &'static str },
    /// A manifest, configuration or index that does not say what it must.
    #[error("{what}: {why}")]
    InvalidDocument { what: String, why: String },
    /// The caller could not say which images are needed, so nothing was removed.
    #[error("list the images that must be kept")]
    Roots { source: Box<dyn std::error::Error + Send + Sync> },
}
