//! Objects that a push has brought and that no ref names yet.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::repositories::remove_directory;
use super::{Error, Repositories};
use crate::domain::AppName;

/// How git's names of quarantines begin; the second one until git 2.35.
const PREFIXES: [&[u8]; 2] = [b"tmp_objdir-incoming-", b"incoming-"];
/// No push takes so long, so that a quarantine of this age was left by a receiver that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// The directory in which `git receive-pack` keeps a push's objects until `pre-receive` has let
/// them in; see git-receive-pack(1), "Quarantine environment".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine(PathBuf);

impl Quarantine {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Repositories {
    /// The quarantine at `path`, which came from a hook and must be one of `app`'s repository:
    /// `<repository>/objects/tmp_objdir-incoming-…`, a directory and no link.
    ///
    /// # Errors
    /// [`Error::ForeignQuarantine`] when it is anything else.
    pub fn quarantine(&self, app: &AppName, path: &Path) -> Result<Quarantine, Error> {
        let foreign =
            || Error::ForeignQuarantine { repository: app.clone(), path: path.to_owned() };
        let objects = self.existing(app)?.join("objects");
        // The hook may name the same directory by another path to the root.
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let canonical = objects.canonicalize().map_err(Error::io("resolve", &objects))?;
        let name = path.file_name().ok_or_else(foreign)?;
        let named = is_quarantine(name);
        let resolved = objects.join(name);
        let directory = std::fs::symlink_metadata(&resolved).is_ok_and(|found| found.is_dir());
        if named && directory && parent == Some(canonical) {
            Ok(Quarantine(resolved))
        } else {
            Err(foreign())
        }
    }

    /// Removes what pushes to `app` have left behind that were killed at least a day ago. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// The directory of the objects cannot be read, or a quarantine not be removed.
    pub fn sweep(&self, app: &AppName) -> Result<(), Error> {
        let objects = self.existing(app)?.join("objects");
        let Some(limit) = SystemTime::now().checked_sub(ABANDONED) else { return Ok(()) };
        for entry in std::fs::read_dir(&objects).map_err(Error::io("read", &objects))? {
            let entry = entry.map_err(Error::io("read", &objects))?;
            let changed = entry.metadata().and_then(|found| found.modified());
            if is_quarantine(&entry.file_name()) && changed.is_ok_and(|time| time < limit) {
                remove_directory(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_quarantine(name: &OsStr) -> bool {
    PREFIXES.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix))
}
