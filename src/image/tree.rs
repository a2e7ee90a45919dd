//! Walking a directory that a stranger filled.
//!
//! The walk holds one descriptor at a time and no recursion, so that nesting exhausts neither the
//! stack nor the descriptor table. Each directory is opened from the root with a look-up that
//! refuses symbolic links and mount points.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::sys::fs::{self, FileKind, Stat};

use super::{Error, Result};

/// Longest path inside a layer in bytes: one component less than the kernel's `PATH_MAX`, because
/// every path is looked up in one call.
pub(super) const MAX_PATH: usize = 4095;

/// A directory tree, by the descriptor of its root.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    device: u64,
}

/// One entry of a walk.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a CStr,
    /// Path relative to the root of the tree, without a leading `./` and with no NUL inside.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
}

impl Entry<'_> {
    /// An error about this entry.
    pub(super) fn error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        entry_error(operation, self.path)
    }

    /// The refusal of this entry.
    pub(super) fn refuse(&self, why: &'static str) -> Error {
        Error::Refused { entry: printable(self.path), why }
    }
}

pub(super) fn entry_error(operation: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Error {
    let entry = printable(path);
    move |source| Error::Entry { operation, entry, source }
}

/// A name from a stranger in a form that is safe on a terminal and not longer than a line.
pub(super) fn printable(path: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text: String = String::from_utf8_lossy(path).chars().take(LONGEST).collect();
    text.escape_debug().to_string()
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = fs::open_directory(path)?;
        let device = fs::stat(root.as_fd())?.device;
        Ok(Self { root, device })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the directory at the relative `path`; the empty path is the root.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let look_up = if path.is_empty() { b"." } else { path };
        CString::new(look_up)
            .map_err(io::Error::from)
            .and_then(|path| fs::open_directory_beneath(self.root(), &path))
            .map_err(entry_error("open the directory", path))
    }

    /// Calls `visit` for every entry below the root: the entries of one directory sorted by bytes,
    /// then those of its subdirectories in the same order. A parent comes before its children.
    /// `visit` may remove or replace the entry it is given, but not a directory.
    pub(super) fn walk(
        &self,
        max_entries: u64,
        mut visit: impl FnMut(&Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut budget = max_entries;
        let mut directories = vec![Vec::new()];
        while let Some(path) = directories.pop() {
            let directory = self.directory(&path)?;
            let names = sorted_names(directory.as_fd(), &path, &mut budget, max_entries)?;
            let found = directories.len();
            for name in &names {
                let path = join(&path, name.to_bytes())?;
                let entry = self.entry(directory.as_fd(), name, &path)?;
                visit(&entry)?;
                if entry.stat.kind == FileKind::Directory {
                    directories.push(path);
                }
            }
            // The stack gives back the last first.
            directories[found..].reverse();
        }
        Ok(())
    }

    fn entry<'a>(
        &self,
        directory: BorrowedFd<'a>,
        name: &'a CStr,
        path: &'a [u8],
    ) -> Result<Entry<'a>> {
        let stat =
            fs::stat_at(directory, name).map_err(entry_error("read the attributes of", path))?;
        let entry = Entry { directory, name, path, stat };
        if stat.device != self.device {
            return Err(entry.refuse("is a mount point"));
        }
        Ok(entry)
    }
}

fn sorted_names(
    directory: BorrowedFd<'_>,
    path: &[u8],
    budget: &mut u64,
    max_entries: u64,
) -> Result<Vec<CString>> {
    let limit = usize::try_from(*budget).unwrap_or(usize::MAX).saturating_add(1);
    let mut names = fs::names(directory, limit).map_err(entry_error("list", path))?;
    *budget = budget
        .checked_sub(names.len() as u64)
        .ok_or(Error::TooLarge { what: "entries", limit: max_entries })?;
    names.sort_unstable();
    Ok(names)
}

/// `directory/name`, within the longest path.
fn join(directory: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() > MAX_PATH {
        return Err(Error::Refused { entry: printable(&path), why: "is nested too deeply" });
    }
    Ok(path)
}

/// Splits a path of a tree into its directory (empty for the root) and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
