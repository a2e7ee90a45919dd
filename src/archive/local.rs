//! Files below a directory of this machine.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Entry, Error, Key, MAX_LISTED, Result};

/// What is read at once.
const PIECE: usize = 256 * 1024;

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    pub(super) async fn create(&self, key: &Key) -> Result<Upload> {
        let (path, location) = (self.path(key), self.location());
        blocking(move || {
            let directory = path.parent().unwrap_or(Path::new("/"));
            // Dumps hold all that the service's users entrusted it with.
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(
                "make directory",
                directory,
                &location,
            ))?;
            let temporary = temporary(&path);
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(failed("make file", &temporary, &location))?;
            Ok(Upload {
                file: tokio::fs::File::from_std(file),
                temporary: Temporary(temporary),
                path,
                location,
            })
        })
        .await
    }

    pub(super) async fn open(&self, key: &Key) -> Result<Download> {
        let path = self.path(key);
        match tokio::fs::File::open(&path).await {
            Ok(file) => Ok(Download { file, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::Missing { key: key.to_string(), location: self.location(), code: None })
            }
            Err(source) => Err(Error::File { operation: "open", path, source }),
        }
    }

    pub(super) async fn list(&self, prefix: &Key) -> Result<Vec<Entry>> {
        let (root, directory) = (self.root.clone(), self.path(prefix));
        blocking(move || {
            let mut entries = Vec::new();
            walk(&root, &directory, &mut entries)?;
            Ok(entries)
        })
        .await
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<()> {
        let (root, path) = (self.root.clone(), self.path(key));
        blocking(move || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File { operation: "remove", path, source: error });
                }
                _ => {}
            }
            remove_empty_parents(&root, &path);
            Ok(())
        })
        .await
    }
}

/// Directories go with their last file; what a killed upload left in them goes too.
fn remove_empty_parents(root: &Path, path: &Path) {
    for directory in path.ancestors().skip(1).take_while(|directory| *directory != root) {
        let only_halves = std::fs::read_dir(directory).is_ok_and(|entries| {
            entries.flatten().all(|entry| entry.file_name().as_encoded_bytes().ends_with(b".part"))
        });
        if !only_halves {
            return;
        }
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        // One that was filled meanwhile stays.
        if std::fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Regular files with names of ours; links are not followed, halves are not shown.
fn walk(root: &Path, directory: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    let failed = |source| Error::File { operation: "list", path: directory.into(), source };
    let children = match std::fs::read_dir(directory) {
        Ok(children) => children,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for child in children {
        let child = child.map_err(failed)?;
        let path = child.path();
        let key = path.strip_prefix(root).ok().and_then(|path| path.to_str());
        let Some(key) = key.and_then(|key| key.parse::<Key>().ok()) else { continue };
        let kind = child.file_type().map_err(failed)?;
        if kind.is_dir() {
            walk(root, &path, entries)?;
        } else if kind.is_file() && entries.len() < MAX_LISTED {
            let bytes = child.metadata().map_err(failed)?.len();
            entries.push(Entry { key, bytes });
        }
    }
    Ok(())
}

/// A file that is being written beside its name.
#[derive(Debug)]
pub(super) struct Upload {
    file: tokio::fs::File,
    temporary: Temporary,
    path: PathBuf,
    location: String,
}

/// Removed when dropped, unless it was renamed away.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there any more once it has its name.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Upload {
    /// Lets a test fail the device.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = tokio::fs::File::from_std(file);
    }

    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<()> {
        let written = self.file.write_all(piece).await;
        written.map_err(failed("write", &self.path, &self.location))
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        let failed = failed("write", &self.path, &self.location);
        let file = async {
            self.file.flush().await?;
            self.file.sync_all().await
        };
        file.await.map_err(failed)?;
        let (temporary, path) = (self.temporary, self.path);
        blocking(move || {
            let failed = |source| Error::File { operation: "name", path: path.clone(), source };
            std::fs::rename(&temporary.0, &path).map_err(failed)?;
            // The name is to survive a power cut too, and so are those of its directories.
            for directory in path.ancestors().skip(1).take(4) {
                File::open(directory).and_then(|file| file.sync_all()).map_err(failed)?;
            }
            Ok(())
        })
        .await
    }
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Download {
    file: tokio::fs::File,
    path: PathBuf,
}

impl Download {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = self.file.read_buf(&mut piece).await.map_err(|source| Error::File {
            operation: "read",
            path: self.path.clone(),
            source,
        })?;
        Ok((read > 0).then(|| piece.freeze()))
    }
}

fn temporary(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.{count}.part", std::process::id()))
}

fn failed<'a>(
    operation: &'static str,
    path: &'a Path,
    location: &'a str,
) -> impl FnOnce(io::Error) -> Error + use<'a> {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::Full { location: location.to_owned(), source }
        }
        _ => Error::File { operation, path: path.into(), source },
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::Settings(format!("the task that works on files ended: {error}")))
    })
}
