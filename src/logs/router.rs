//! The proxy's log of an app's requests.
//!
//! The files lie in a directory that belongs to the proxy's user, who is reached by everybody on the
//! web and not trusted: no link is followed, and nothing but a file of that user's is opened.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::domain::AppName;
use crate::sys;

/// Names that are looked through; a directory with more is somebody's attack.
const MAX_NAMES: usize = 100_000;

/// Where the access log of one app is.
#[derive(Debug, Clone)]
pub struct RouterLog {
    /// The proxy's directory.
    directory: PathBuf,
    /// The file's name.
    name: String,
}

impl RouterLog {
    /// That of `app`; `directory` is the proxy's.
    pub fn new(directory: PathBuf, app: &AppName) -> Self {
        Self { directory, name: format!("{app}.log") }
    }

    /// The name of the file that is written to.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory that the files are in.
    ///
    /// # Errors
    /// `NotFound` before the proxy's first start; anything that is no directory.
    pub fn open_directory(&self) -> io::Result<OwnedFd> {
        let proxy = sys::fs::open_directory(&self.directory)?;
        sys::fs::open_directory_beneath(proxy.as_fd(), c"access")
    }

    /// What follows the name in `file`: nothing, or the number of a rotated one.
    pub fn suffix<'a>(&self, file: &'a CStr) -> Option<&'a str> {
        file.to_str().ok()?.strip_prefix(&self.name)
    }

    /// The app's files, oldest first: `shop.log.2`, `shop.log.1`, `shop.log`.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn names(&self, directory: &OwnedFd) -> io::Result<Vec<CString>> {
        let number = |name: &CStr| {
            let rest = self.suffix(name)?;
            match rest.strip_prefix('.') {
                Some(number) => number.parse::<u32>().ok(),
                None => rest.is_empty().then_some(0),
            }
        };
        let names = sys::fs::names(directory.as_fd(), MAX_NAMES)?.into_iter();
        let mut names: Vec<_> = names.filter_map(|name| Some((number(&name)?, name))).collect();
        names.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// If it is no file of the proxy's alone.
    pub fn open_file(&self, directory: &OwnedFd, name: &CStr) -> io::Result<File> {
        let file = sys::fs::open_file_at(directory.as_fd(), name)?;
        let (metadata, owner) = (file.metadata()?, sys::fs::stat(directory.as_fd())?.uid);
        if !metadata.is_file() || metadata.nlink() != 1 || metadata.uid() != owner {
            return Err(io::Error::other("it is not a log of the proxy's"));
        }
        Ok(file)
    }
}
