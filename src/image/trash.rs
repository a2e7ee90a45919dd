//! Deleting trees that a stranger filled.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::fs;

/// Names read from a directory at a time.
const BATCH: usize = 10_000;

/// Empties the directory `trash`.
///
/// Neither recursion nor a descriptor per level: a container can nest directories deeper than a
/// stack or a descriptor table, and what could not be deleted would fill the disk. Subdirectories
/// that are not empty are moved up into `trash` itself, which costs one rename each.
pub(super) fn empty(trash: &Path) -> io::Result<()> {
    let trash = fs::open_directory(trash)?;
    let trash = trash.as_fd();
    loop {
        let names = fs::names(trash, BATCH)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in &names {
            remove(trash, name)?;
        }
    }
}

fn remove(trash: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    if unlink(trash, name)? {
        return Ok(());
    }
    let directory = match fs::open_directory_beneath(trash, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    loop {
        let children = fs::names(directory.as_fd(), BATCH)?;
        if children.is_empty() {
            return ignore_missing(fs::remove_directory_at(trash, name));
        }
        for child in &children {
            if !unlink(directory.as_fd(), child)? {
                let moved = unique_name()?;
                ignore_missing(fs::rename_at((directory.as_fd(), child), (trash, &moved)))?;
            }
        }
    }
}

/// Removes a file or an empty directory; false for a directory that is not empty.
fn unlink(directory: BorrowedFd<'_>, name: &CString) -> io::Result<bool> {
    match fs::unlink_at(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
        result => return ignore_missing(result).map(|()| true),
    }
    match fs::remove_directory_at(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        result => ignore_missing(result).map(|()| true),
    }
}

/// Two threads may empty the trash at once; what the other removed is gone as wanted.
fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn unique_name() -> io::Result<CString> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(CString::new(format!("moved.{}.{count}", std::process::id()))?)
}
