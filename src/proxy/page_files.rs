//! Pages of apps' own: files that the control plane puts into `<data_dir>/pages`.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::sys;

/// The directory's name in the data directory.
const DIRECTORY: &str = "pages";

/// The longest page.
const MAX_PAGE: u64 = 64 * 1024;

/// The directory of pages, opened while the process still may look into the data directory.
#[derive(Debug)]
pub(super) struct PageFiles {
    directory: Option<OwnedFd>,
}

impl PageFiles {
    /// Opens the directory below `data_dir`, and makes it if it is not there: the control plane may
    /// put pages there later.
    ///
    /// # Errors
    /// `NotFound` is none: without the directory no app has a page of its own.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(DIRECTORY);
        match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::warn!(%error, "make the directory of custom pages");
            }
            _ => {}
        }
        match sys::fs::open_directory(&path) {
            Ok(directory) => Ok(Self { directory: Some(directory) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { directory: None }),
            Err(error) => Err(error),
        }
    }

    /// No pages.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { directory: None }
    }

    /// The page `id`, a SHA-256 in hexadecimal. `None` if there is no usable one, which is logged:
    /// our own page is shown then.
    pub(super) fn read(&self, id: &str) -> Option<Arc<str>> {
        match self.try_read(id) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::warn!(%error, page = id, "read a custom page; the default is shown");
                None
            }
        }
    }

    fn try_read(&self, id: &str) -> io::Result<Arc<str>> {
        let directory = self.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if id.len() != 64 || !id.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(io::Error::other("its name is not a digest"));
        }
        let name = CString::new(format!("{id}.html"))?;
        let file = sys::fs::open_file_at(directory.as_fd(), &name)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        file.take(MAX_PAGE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_PAGE {
            return Err(io::Error::other("it is longer than 64 KiB"));
        }
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::atomic_file;

    #[test]
    fn only_whole_pages_of_the_directory_are_read() {
        let data = tempfile::tempdir().unwrap();
        let (good, long, link) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let pages = PageFiles::open(data.path()).unwrap();
        assert!(pages.read(&good).is_none());
        let directory = data.path().join(DIRECTORY);
        let file = |id: &str| directory.join(format!("{id}.html"));
        atomic_file::write(&file(&good), b"<p>closed", 0o644).unwrap();
        atomic_file::write(&file(&long), &[b'x'; 65_537], 0o644).unwrap();
        std::os::unix::fs::symlink(file(&good), file(&link)).unwrap();
        assert_eq!(pages.read(&good).as_deref(), Some("<p>closed"));
        for bad in [long.as_str(), &link, "../x", ""] {
            assert!(pages.read(bad).is_none(), "{bad}");
        }
    }
}
