//! Pages of apps' own: files that the control plane puts into `<data_dir>/pages`.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::sys;

/// The longest page.
const MAX_PAGE: u64 = 64 * 1024;

/// The directory of pages, opened while the process still may look into the data directory.
#[derive(Debug)]
pub(super) struct PageFiles {
    directory: Option<OwnedFd>,
}

impl PageFiles {
    /// Reads out of `directory`.
    pub(super) fn in_directory(directory: OwnedFd) -> Self {
        Self { directory: Some(directory) }
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
        let directory = data.path();
        let pages = PageFiles::in_directory(sys::fs::open_directory(directory).unwrap());
        assert!(pages.read(&good).is_none());
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
