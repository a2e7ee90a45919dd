//! One daemon for each prefix: whoever opens the network takes over all links of that name and
//! removes those it does not know, so two would cut each other's containers off.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::{Error, Result};

/// For a daemon that was just killed: a program that it was about to start holds its files until
/// it runs.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });
const POLL: Duration = Duration::from_millis(50);

/// The lock on a prefix, until it is dropped.
#[derive(Debug)]
pub(super) struct PrefixLock {
    path: PathBuf,
    /// Nobody reads it; its flock(2) ends with the process, however that ends.
    _file: File,
}

impl PrefixLock {
    /// Takes the lock. Run and data directories are each instance's own, so it lies beside them;
    /// links are a network namespace's, so its number is in the name.
    ///
    /// # Errors
    /// `PrefixInUse` if another has it, `Lock`.
    pub(super) async fn take(prefix: &str) -> Result<Self> {
        let namespace = "/proc/thread-self/ns/net";
        let namespace = std::fs::metadata(namespace)
            .map_err(|source| Error::Lock { path: namespace.into(), source })?
            .ino();
        let path = PathBuf::from(format!("/run/staithe-net-{prefix}{namespace}.lock"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let taken = try_take(&path);
            match taken.map_err(|source| Error::Lock { path: path.clone(), source })? {
                Some(file) => return Ok(Self { path, _file: file }),
                None if Instant::now() > deadline => {
                    return Err(Error::PrefixInUse { prefix: prefix.to_owned() });
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for PrefixLock {
    fn drop(&mut self) {
        // While the lock is held, so that it is nobody else's file. One that stays does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The locked file, if nobody else has it.
fn try_take(path: &Path) -> io::Result<Option<File>> {
    // Whoever may read a file may lock it, which must not be everybody.
    let file = File::options().create(true).read(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever had it may have removed the file between the two steps.
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
