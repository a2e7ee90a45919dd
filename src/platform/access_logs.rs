//! What the proxy logged of an app's requests.
//!
//! The files belong to the proxy's user, who is not trusted (`logs/router.rs`): only so much of one is
//! read at once.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{AccessLogQuery, Platform, Result};
use crate::domain::AppName;
use crate::logs::RouterLog;
use crate::support::tasks;
use crate::sys;

/// Lines shown unless told otherwise, as of `logs`.
const DEFAULT_LINES: usize = 100;
/// The most lines of the past that are shown.
const MAX_LINES: usize = 100_000;
/// The most of one file that is read at once.
const MAX_BYTES: u64 = 4 << 20;
/// Between two looks for new lines while somebody follows.
const POLL: Duration = Duration::from_millis(200);
/// Lines on their way to a reader.
const QUEUE: usize = 1024;

impl Platform {
    /// The app's access log, oldest line first; ends unless `tail`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn access_log(
        &self,
        name: &AppName,
        query: &AccessLogQuery,
    ) -> Result<mpsc::Receiver<String>> {
        self.find_app(name)?;
        let (tx, rx) = mpsc::channel(QUEUE);
        let count = query.num.unwrap_or(DEFAULT_LINES).min(MAX_LINES);
        let tail = query.tail;
        let mut reader = Reader::new(self.proxy_directory(), name);
        tasks::spawn("access-log", async move {
            let mut skip_to = Some(count);
            loop {
                let (returned, mut lines) = reader.read_off_thread().await;
                reader = returned;
                if let Some(count) = skip_to.take() {
                    lines.drain(..lines.len().saturating_sub(count)).for_each(drop);
                }
                for line in lines {
                    if tx.send(line).await.is_err() {
                        return;
                    }
                }
                if !tail || tx.is_closed() {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        });
        Ok(rx)
    }

    /// Gives the access log of an app that was renamed its new name; the proxy goes on writing to the
    /// file it has open, and finds it again under the new name.
    pub(super) fn rename_access_log(&self, from: &AppName, to: &AppName) {
        let log = RouterLog::new(self.proxy_directory(), from);
        let rename = || {
            let directory = log.open_directory()?;
            for old in log.names(&directory)? {
                let number = log.suffix(&old).unwrap_or_default();
                let new = CString::new(format!("{to}.log{number}"))?;
                sys::fs::rename_at((directory.as_fd(), &old), (directory.as_fd(), &new))?;
            }
            io::Result::Ok(())
        };
        match rename() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(app = %from, %error, "rename an access log");
            }
            _ => {}
        }
    }

    /// Removes the access log of an app that is gone; what is in its place is left alone.
    pub(super) fn remove_access_log(&self, name: &AppName) {
        let log = RouterLog::new(self.proxy_directory(), name);
        let remove = || {
            let directory = log.open_directory()?;
            for file in log.names(&directory)? {
                sys::fs::unlink_at(directory.as_fd(), &file)?;
            }
            io::Result::Ok(())
        };
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(app = %name, %error, "remove an access log");
            }
            _ => {}
        }
    }

    pub(super) fn proxy_directory(&self) -> PathBuf {
        self.settings().data_dir.join("proxy")
    }
}

/// Reads what was appended since the last look.
#[derive(Debug)]
struct Reader {
    log: RouterLog,
    /// How far each file was read, by inode: a rotated file goes on under its new name.
    positions: HashMap<u64, u64>,
}

impl Reader {
    fn new(directory: PathBuf, app: &AppName) -> Self {
        Self { log: RouterLog::new(directory, app), positions: HashMap::new() }
    }

    async fn read_off_thread(self) -> (Self, Vec<String>) {
        let lost = Self { log: self.log.clone(), positions: self.positions.clone() };
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = self;
            let lines = reader.read();
            (reader, lines)
        });
        // Only a panic loses the reader; where it stood is known.
        read.await.unwrap_or((lost, Vec::new()))
    }

    /// The new lines, oldest first. What cannot be read is not there: the log begins with the app's
    /// first request.
    fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Ok(directory) = self.log.open_directory() else { return lines };
        let names = self.log.names(&directory).unwrap_or_default();
        for name in names {
            match self.read_file(&directory, &name) {
                Ok(new) => lines.extend(new),
                // Rotated between listing and opening: its lines are found again.
                Err(error) => tracing::debug!(?name, %error, "access log not read"),
            }
        }
        lines
    }

    fn read_file(&mut self, directory: &OwnedFd, name: &CStr) -> io::Result<Vec<String>> {
        let mut file = self.log.open_file(directory, name)?;
        let metadata = file.metadata()?;
        let known = self.positions.get(&metadata.ino()).copied();
        let start = known.unwrap_or_else(|| metadata.len().saturating_sub(MAX_BYTES));
        let (bytes, complete) = read_lines(&mut file, start)?;
        self.positions.insert(metadata.ino(), start + complete as u64);
        let text = String::from_utf8_lossy(&bytes[..complete]);
        let skip = usize::from(known.is_none() && start > 0);
        Ok(text.lines().skip(skip).map(printable).collect())
    }
}

/// What follows `start`, and how much of it is whole lines.
fn read_lines(file: &mut File, start: u64) -> io::Result<(Vec<u8>, usize)> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let full = bytes.len() as u64 == MAX_BYTES;
    // A line that is still being written is left for the next look; one without an end is not.
    let complete = memchr::memrchr(b'\n', &bytes).map(|end| end + 1);
    let complete = complete.unwrap_or(if full { bytes.len() } else { 0 });
    Ok((bytes, complete))
}

/// Nothing that a terminal would obey.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn world() -> (tempfile::TempDir, PathBuf, Reader) {
        let proxy = tempfile::tempdir().unwrap();
        let access = proxy.path().join("access");
        std::fs::create_dir(&access).unwrap();
        let reader = Reader::new(proxy.path().into(), &"shop".parse().unwrap());
        (proxy, access, reader)
    }

    #[test]
    fn lines_are_read_once_in_order_across_rotations() {
        let (_proxy, access, mut reader) = world();
        append(&access.join("shop.log.10"), "one\n");
        append(&access.join("shop.log.2"), "two\n");
        append(&access.join("shop.log"), "three\nhal");
        append(&access.join("shop-2.log"), "another app's\n");
        assert_eq!(reader.read(), ["one", "two", "three"]);
        append(&access.join("shop.log"), "f\n");
        std::fs::rename(access.join("shop.log"), access.join("shop.log.1")).unwrap();
        append(&access.join("shop.log"), "four\x1b[2J\n");
        assert_eq!(reader.read(), ["half", "four\u{fffd}[2J"]);
        assert!(reader.read().is_empty());
    }

    #[test]
    fn what_a_hostile_proxy_puts_there_is_not_read() {
        let (proxy, access, mut reader) = world();
        let secret = proxy.path().join("secret");
        append(&secret, "secret\n");
        symlink(&secret, access.join("shop.log")).unwrap();
        std::fs::hard_link(&secret, access.join("shop.log.1")).unwrap();
        std::fs::create_dir(access.join("shop.log.2")).unwrap();
        assert!(reader.read().is_empty());
        std::fs::rename(&access, proxy.path().join("elsewhere")).unwrap();
        std::fs::remove_file(proxy.path().join("elsewhere/shop.log.1")).unwrap();
        std::fs::remove_file(proxy.path().join("elsewhere/shop.log")).unwrap();
        append(&proxy.path().join("elsewhere/shop.log"), "seen\n");
        symlink(proxy.path().join("elsewhere"), &access).unwrap();
        assert!(reader.read().is_empty(), "through a link to a directory");
        reader.log.open_directory().unwrap_err();
    }
}
