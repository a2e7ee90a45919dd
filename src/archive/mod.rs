//! A place for files that must be found again: a directory of this machine, or a bucket that speaks
//! S3's protocol.
//!
//! ```text
//!  Writer ─► hash, count ─┬─► local::Upload ─► temporary file, fsync, rename ─► <root>/<key>
//!                         └─► s3::Upload ────► parts ─► complete ─────────────► s3://bucket/<key>
//!  Reader ◄────────────────── whole file, in pieces
//! ```
//!
//! It knows no service and no backup; what a file means is the caller's matter. HTTP is ours
//! (`transport.rs`), since the program has one TLS and one HTTP stack; signatures, retries and the
//! protocol itself are those of the crate `object_store`.
//!
//! **Invariants.** A file is whole under its name or not there at all; it is on disk, or confirmed by
//! the store, when `finish` returns. What a store answers is bounded and parsed: a key that it lists
//! is taken only if it is one of ours. No error or log line holds a secret.

mod error;
mod key;
mod local;
mod s3;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ClientConfig;
use sha2::{Digest, Sha256};

pub use error::Error;
pub use key::Key;
pub use s3::Bucket;

type Result<T> = std::result::Result<T, Error>;

/// The most files that one listing may have: more are a mistake, or somebody else's bucket.
const MAX_LISTED: usize = 100_000;

/// Where files are.
#[derive(Debug, Clone)]
pub enum Place {
    /// Below a directory of this machine.
    Local(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

/// A place that can be used; cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Local(local::Directory),
    S3(Arc<s3::Store>),
}

/// One file as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the contents, hexadecimal.
    pub sha256: String,
}

impl Archive {
    /// Takes a place into use. Nothing is asked of it yet; `tls` says whom to trust.
    ///
    /// # Errors
    /// [`Error::Settings`] if they cannot be meant.
    pub fn open(place: &Place, tls: Arc<ClientConfig>) -> Result<Self> {
        Ok(Self(match place {
            Place::Local(root) => Kind::Local(local::Directory::new(root.clone())),
            Place::Bucket(bucket) => Kind::S3(Arc::new(s3::Store::open(bucket, tls)?)),
        }))
    }

    /// Begins a file of at most `limit` bytes. It is not there before [`Writer::finish`].
    ///
    /// # Errors
    /// Whatever keeps it from being begun.
    pub async fn create(&self, key: &Key, limit: u64) -> Result<Writer> {
        let upload = match &self.0 {
            Kind::Local(directory) => Upload::Local(directory.create(key).await?),
            Kind::S3(store) => Upload::S3(s3::Upload::new(Arc::clone(store), key.clone())),
        };
        Ok(Writer { upload, sha: Sha256::new(), bytes: 0, limit })
    }

    /// Writes a small file at once.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    pub async fn put(&self, key: &Key, contents: Bytes) -> Result<Stored> {
        let mut writer = self.create(key, u64::MAX).await?;
        match writer.write(contents).await {
            Ok(()) => writer.finish().await,
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// Opens a file for reading from its beginning.
    ///
    /// # Errors
    /// [`Error::Missing`], or whatever keeps it from being read.
    pub async fn open_file(&self, key: &Key) -> Result<Reader> {
        Ok(Reader(match &self.0 {
            Kind::Local(directory) => Source::Local(directory.open(key).await?),
            Kind::S3(store) => Source::S3(s3::Download::open(Arc::clone(store), key).await?),
        }))
    }

    /// A small file as a whole.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it has more than `limit` bytes; those of [`Archive::open_file`].
    pub async fn get(&self, key: &Key, limit: u64) -> Result<Bytes> {
        let mut reader = self.open_file(key).await?;
        let mut contents = Vec::new();
        while let Some(piece) = reader.next().await? {
            if (contents.len() + piece.len()) as u64 > limit {
                return Err(Error::TooLarge { key: key.clone(), limit });
            }
            contents.extend_from_slice(&piece);
        }
        Ok(contents.into())
    }

    /// The files below `prefix`, by name; none where there is nothing.
    ///
    /// # Errors
    /// Whatever keeps them from being listed.
    pub async fn list(&self, prefix: &Key) -> Result<Vec<Entry>> {
        let mut entries = match &self.0 {
            Kind::Local(directory) => directory.list(prefix).await?,
            Kind::S3(store) => store.list(prefix).await?,
        };
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Removes a file; one that is not there is no failure.
    ///
    /// # Errors
    /// Whatever keeps it from being removed.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        match &self.0 {
            Kind::Local(directory) => directory.delete(key).await,
            Kind::S3(store) => store.delete(key).await,
        }
    }

    /// Where it is, for people: a path, or `s3://bucket/prefix`.
    pub fn location(&self) -> String {
        match &self.0 {
            Kind::Local(directory) => directory.location(),
            Kind::S3(store) => store.location().to_owned(),
        }
    }
}

/// A file on its way into its place.
///
/// Dropping it leaves nothing of a local file; parts in a bucket stay until [`Writer::abort`].
#[derive(Debug)]
pub struct Writer {
    upload: Upload,
    sha: Sha256,
    bytes: u64,
    limit: u64,
}

#[derive(Debug)]
enum Upload {
    Local(local::Upload),
    S3(s3::Upload),
}

impl Writer {
    /// Appends.
    ///
    /// # Errors
    /// [`Error::TooMuch`] beyond the limit, [`Error::Full`], or whatever the place says. The file
    /// cannot be finished then.
    pub async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if self.bytes > self.limit {
            return Err(Error::TooMuch { limit: self.limit });
        }
        self.sha.update(&piece);
        match &mut self.upload {
            Upload::Local(upload) => upload.write(&piece).await,
            Upload::S3(upload) => upload.write(&piece).await,
        }
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.bytes
    }

    /// Puts the file under its name.
    ///
    /// # Errors
    /// Whatever keeps it from being whole; nothing is left then.
    pub async fn finish(self) -> Result<Stored> {
        match self.upload {
            Upload::Local(upload) => upload.finish().await?,
            Upload::S3(upload) => upload.finish().await?,
        }
        Ok(Stored { bytes: self.bytes, sha256: hex(&self.sha.finalize()) })
    }

    /// Gives it up; what the place keeps of it is removed as far as it can be reached.
    pub async fn abort(self) {
        match self.upload {
            Upload::Local(upload) => drop(upload),
            Upload::S3(upload) => upload.abort().await,
        }
    }
}

/// A file being read.
#[derive(Debug)]
pub struct Reader(Source);

#[derive(Debug)]
enum Source {
    Local(local::Download),
    S3(s3::Download),
}

impl Reader {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.0 {
            Source::Local(download) => download.next().await,
            Source::S3(download) => download.next().await,
        }
    }
}

/// The sum of contents that arrive in pieces, in the form of [`Stored`].
#[derive(Debug, Default)]
pub struct Sum {
    sha: Sha256,
    bytes: u64,
}

impl Sum {
    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.sha.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// What was added.
    pub fn finish(self) -> Stored {
        Stored { bytes: self.bytes, sha256: hex(&self.sha.finalize()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
