//! Objects that a push has brought and that no ref names yet.

use std::path::{Path, PathBuf};

use super::{Error, Repositories};
use crate::domain::AppName;

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
        // "incoming-" was the prefix before git 2.35.
        let prefixes: [&[u8]; 2] = [b"tmp_objdir-incoming-", b"incoming-"];
        let named = prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix));
        let resolved = objects.join(name);
        let directory = std::fs::symlink_metadata(&resolved).is_ok_and(|found| found.is_dir());
        if named && directory && parent == Some(canonical) {
            Ok(Quarantine(resolved))
        } else {
            Err(foreign())
        }
    }
}
