//! The access log: one JSON object a line, written off the request path.
//!
//! Cores gather lines and hand them over in batches through a bounded queue to one thread that
//! writes; a full queue (a slow disk) costs log lines, which are counted, and never requests.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use super::Config;

/// The file's name in the proxy's directory.
const FILE_NAME: &str = "access.log";

/// Bytes that a core gathers before it hands them over.
const BATCH: usize = 16 * 1024;

/// How long a line may wait for its batch to fill.
const BATCH_AGE: Duration = Duration::from_millis(200);

/// Batches under way to the disk: 4 MiB, some 10,000 requests.
const QUEUE: usize = 256;

/// The most of a text from the client that is logged.
const MAX_TEXT: usize = 2048;

/// One request.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    /// When it came, RFC 3339.
    pub(super) time: &'a str,
    pub(super) request_id: &'a str,
    /// The app; none for unknown hosts and malformed requests.
    pub(super) app: Option<&'a str>,
    pub(super) release: Option<u32>,
    pub(super) client: &'a str,
    /// Between client and proxy; none for bytes that are no request.
    pub(super) protocol: Option<&'a str>,
    /// The version of TLS, if it was used.
    pub(super) tls: Option<&'a str>,
    pub(super) method: Text<'a>,
    pub(super) host: Text<'a>,
    pub(super) target: Text<'a>,
    pub(super) user_agent: Text<'a>,
    /// The status sent; 499 if the client left before there was one.
    pub(super) status: u16,
    /// Bytes of body to the client.
    pub(super) bytes: u64,
    /// Bytes of body from the client.
    pub(super) received: u64,
    pub(super) duration_ms: u64,
    /// The instance that answered, or should have.
    pub(super) upstream: Option<std::net::SocketAddr>,
    /// Of `duration_ms`, until the head of its answer was there.
    pub(super) upstream_ms: Option<u64>,
    /// What went wrong, by the code on the page.
    pub(super) error: Option<&'a str>,
    /// More about it, for the app's owner.
    pub(super) detail: Option<&'a str>,
}

/// Text as it came: shortened, and made UTF-8 where it is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = &self.0[..self.0.len().min(MAX_TEXT)];
        serializer.serialize_str(&String::from_utf8_lossy(shown))
    }
}

/// A core's end of the log.
#[derive(Debug)]
pub(super) struct AccessLog {
    batch: RefCell<Vec<u8>>,
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
    begun: Notify,
}

impl AccessLog {
    /// A log into `sender`; without one, lines go nowhere.
    pub(super) fn new(sender: Option<SyncSender<Vec<u8>>>, dropped: Arc<AtomicU64>) -> Self {
        Self { batch: RefCell::default(), sender, dropped, begun: Notify::new() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Adds a line.
    pub(super) fn add(&self, entry: &Entry<'_>) {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        // An Entry has only text and numbers, and a Vec takes everything.
        let _ = serde_json::to_writer(&mut *batch, entry);
        batch.push(b'\n');
        if batch.len() >= BATCH {
            self.hand_over(&mut batch);
        }
    }

    fn hand_over(&self, batch: &mut Vec<u8>) {
        let full = std::mem::replace(batch, Vec::with_capacity(BATCH + MAX_TEXT));
        let lines = memchr::memchr_iter(b'\n', &full).count() as u64;
        if self.sender.as_ref().is_some_and(|sender| sender.try_send(full).is_err()) {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if !batch.is_empty() {
            self.hand_over(&mut batch);
        }
    }

    /// Hands over batches that do not fill. Sleeps while there are none.
    pub(super) async fn keep_flushed(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(BATCH_AGE).await;
            self.flush();
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct LogWriter {
    pub(super) sender: SyncSender<Vec<u8>>,
    pub(super) thread: std::thread::JoinHandle<()>,
}

impl LogWriter {
    /// Opens the log in `directory` and starts the thread. It ends when all senders are gone.
    ///
    /// # Errors
    /// Of opening the file or starting the thread.
    pub(super) fn start(directory: &Path, config: &Config) -> io::Result<Self> {
        let file = RotatedFile::open(
            directory.join(FILE_NAME),
            config.access_log_max_bytes.0,
            config.access_log_files,
        )?;
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_batches(file, &receiver))?;
        Ok(Self { sender, thread })
    }
}

fn write_batches(mut file: RotatedFile, batches: &Receiver<Vec<u8>>) {
    let mut failing = false;
    for batch in batches {
        match file.write(&batch) {
            Ok(()) => failing = false,
            // Once for each outage: the log of the log must not fill the disk that is full.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "write the access log");
            }
            Err(_) => {}
        }
    }
}

/// A file that is renamed when it is full: `access.log`, `access.log.1` (younger), …
#[derive(Debug)]
struct RotatedFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    kept: u32,
}

impl RotatedFile {
    fn open(path: PathBuf, max_size: u64, kept: u32) -> io::Result<Self> {
        let file = open_log(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, max_size, kept })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.follow()?;
        if self.size > 0 && self.size + lines.len() as u64 > self.max_size {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    /// A process that retires and its successor write to one log: what the other has appended
    /// counts, and when it has rotated the file its new one is ours.
    fn follow(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => self.file = open_log(&self.path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.file = open_log(&self.path)?;
            }
            Err(error) => return Err(error),
        }
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            // The older file is missing until enough were rotated.
            let _ = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        match self.kept {
            0 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, self.numbered(1))?,
        }
        self.file = open_log(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_by_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut file = RotatedFile::open(path.clone(), 10, 2).unwrap();
        for line in ["one....\n", "two....\n", "three..\n", "four...\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "four...\n");
        assert_eq!(read(&file.numbered(1)), "three..\n");
        assert_eq!(read(&file.numbered(2)), "two....\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn two_processes_share_one_log_and_its_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let [mut old, mut new] = [(); 2].map(|()| RotatedFile::open(path.clone(), 10, 2).unwrap());
        old.write(b"one....\n").unwrap();
        // Together too long: rotated by the one, followed by the other.
        new.write(b"two....\n").unwrap();
        assert_eq!(std::fs::read_to_string(old.numbered(1)).unwrap(), "one....\n");
        new.max_size = 100;
        old.max_size = 100;
        old.write(b"three..\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two....\nthree..\n");
    }

    #[test]
    fn lines_that_find_no_room_are_counted() {
        let (sender, receiver) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = AccessLog::new(Some(sender), Arc::clone(&dropped));
        for _ in 0..3 {
            log.batch.borrow_mut().extend_from_slice(b"{}\n{}\n");
            log.flush();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        assert_eq!(receiver.recv().unwrap(), b"{}\n{}\n");
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let text = serde_json::to_string(&Text(b"/\"}\n\xff\x1b[31m")).unwrap();
        assert_eq!(text, "\"/\\\"}\\n\u{fffd}\\u001b[31m\"");
    }
}
