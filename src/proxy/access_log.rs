//! The access logs: one file for each app, and one for what no app has, written off the request path.
//!
//! ```text
//!   core: lines ──► batch of lines and whose they are ──► bounded queue ──► one thread ──► files
//! ```
//!
//! A full queue (a slow disk) costs log lines, which are counted, and never requests. Each file is
//! bounded: it is renamed when it is full, and only so many are kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use super::{AccessLogFormat, Config};

/// The file in the proxy's directory for requests that no app has.
const FILE_NAME: &str = "access.log";

/// The directory in the proxy's directory with a file `<app>.log` for each app.
pub(super) const DIRECTORY: &CStr = c"access";

/// Files that are kept open; all are closed when another one is needed.
const MAX_OPEN: usize = 128;

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
    pub(super) referer: Text<'a>,
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

impl Entry<'_> {
    /// As one JSON object.
    fn write_json(&self, line: &mut Vec<u8>) {
        // An Entry has only text and numbers, and a Vec takes everything.
        let _ = serde_json::to_writer(line, self);
    }

    /// In Apache's combined format, which all log analyzers read:
    /// `client - - [time] "request" status bytes "referer" "user agent"`.
    fn write_combined(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(self.client.as_bytes());
        line.extend_from_slice(b" - - [");
        line.extend_from_slice(combined_time(self.time).as_bytes());
        line.extend_from_slice(b"] \"");
        escape_into(line, self.method.0);
        line.push(b' ');
        escape_into(line, self.target.0);
        line.push(b' ');
        line.extend_from_slice(self.protocol.unwrap_or("-").as_bytes());
        line.extend_from_slice(format!("\" {} ", self.status).as_bytes());
        match self.bytes {
            0 => line.push(b'-'),
            bytes => line.extend_from_slice(bytes.to_string().as_bytes()),
        }
        for text in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            escape_into(line, if text.0.is_empty() { b"-" } else { text.0 });
            line.push(b'"');
        }
    }
}

/// `10/Oct/2000:13:55:36 +0000` of `2000-10-10T13:55:36.123Z`.
fn combined_time(rfc3339: &str) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let part = |range: std::ops::Range<usize>| rfc3339.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().unwrap_or(1);
    let month = MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or_default();
    format!("{}/{month}/{}:{} +0000", part(8..10), part(0..4), part(11..19))
}

/// Text as Apache escapes it: what a client sends never ends a field or a line.
fn escape_into(line: &mut Vec<u8>, text: &[u8]) {
    for &byte in &text[..text.len().min(MAX_TEXT)] {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
}

/// Lines on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<u8>,
    parts: Vec<Part>,
}

/// Neighboring lines of one log.
#[derive(Debug)]
struct Part {
    /// The app; `None`: the log of what no app has.
    app: Option<Arc<str>>,
    length: usize,
    lines: u64,
}

impl Batch {
    /// Adds the line that `write` writes.
    fn add(&mut self, app: Option<&Arc<str>>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.lines.len();
        write(&mut self.lines);
        self.lines.push(b'\n');
        let length = self.lines.len() - start;
        match self.parts.last_mut() {
            Some(part) if part.app.as_ref() == app => {
                part.length += length;
                part.lines += 1;
            }
            _ => self.parts.push(Part { app: app.cloned(), length, lines: 1 }),
        }
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn line_count(&self) -> u64 {
        self.parts.iter().map(|part| part.lines).sum()
    }

    /// The lines by log.
    fn by_log(&self) -> BTreeMap<Option<&str>, Vec<u8>> {
        let mut logs = BTreeMap::<_, Vec<u8>>::new();
        let mut rest = self.lines.as_slice();
        for part in &self.parts {
            let (lines, after) = rest.split_at(part.length);
            rest = after;
            logs.entry(part.app.as_deref()).or_default().extend_from_slice(lines);
        }
        logs
    }
}

/// A core's end of the logs.
#[derive(Debug)]
pub(super) struct AccessLog {
    batch: RefCell<Batch>,
    sender: Option<SyncSender<Batch>>,
    dropped: Arc<AtomicU64>,
    begun: Notify,
}

impl AccessLog {
    /// Logs into `sender`; without one, lines go nowhere.
    pub(super) fn new(sender: Option<SyncSender<Batch>>, dropped: Arc<AtomicU64>) -> Self {
        Self { batch: RefCell::default(), sender, dropped, begun: Notify::new() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Adds a line to the log of `app`, or to that of what no app has.
    pub(super) fn add(&self, app: Option<(&Arc<str>, AccessLogFormat)>, entry: &Entry<'_>) {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        match app {
            Some((_, AccessLogFormat::Off)) => return,
            Some((app, AccessLogFormat::Combined)) => {
                batch.add(Some(app), |line| entry.write_combined(line));
            }
            Some((app, AccessLogFormat::Json)) => {
                batch.add(Some(app), |line| entry.write_json(line));
            }
            None => batch.add(None, |line| entry.write_json(line)),
        }
        if batch.lines.len() >= BATCH {
            self.hand_over(&mut batch);
        }
    }

    fn hand_over(&self, batch: &mut Batch) {
        let empty =
            Batch { lines: Vec::with_capacity(BATCH + MAX_TEXT), parts: Vec::with_capacity(4) };
        let full = std::mem::replace(batch, empty);
        let lines = full.line_count();
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
    pub(super) sender: SyncSender<Batch>,
    pub(super) thread: std::thread::JoinHandle<()>,
}

impl LogWriter {
    /// Makes the logs' places in `directory` and starts the thread. It ends when all senders are
    /// gone.
    ///
    /// # Errors
    /// Of opening the log of what no app has, or starting the thread.
    pub(super) fn start(directory: &Path, config: &Config) -> io::Result<Self> {
        let mut files = Files::open(directory, config)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_batches(&mut files, &receiver))?;
        Ok(Self { sender, thread })
    }
}

fn write_batches(files: &mut Files, batches: &Receiver<Batch>) {
    let mut failing = false;
    for batch in batches {
        match files.write(&batch) {
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

/// The files.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    max_size: u64,
    kept: u32,
    strangers: RotatedFile,
    apps: HashMap<Box<str>, RotatedFile>,
}

impl Files {
    fn open(directory: &Path, config: &Config) -> io::Result<Self> {
        let (max_size, kept) = (config.access_log_max_bytes.0, config.access_log_files);
        let strangers = RotatedFile::open(directory.join(FILE_NAME), max_size, kept)?;
        let directory = directory.join(DIRECTORY.to_str().unwrap_or_default());
        DirBuilder::new().recursive(true).mode(0o750).create(&directory)?;
        Ok(Self { directory, max_size, kept, strangers, apps: HashMap::new() })
    }

    /// Writes what can be written.
    ///
    /// # Errors
    /// The last one.
    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let mut result = Ok(());
        for (app, lines) in batch.by_log() {
            let written = match app {
                None => self.strangers.write(&lines),
                Some(app) => self.app(app).and_then(|file| file.write(&lines)),
            };
            if written.is_err() {
                result = written;
            }
        }
        result
    }

    fn app(&mut self, app: &str) -> io::Result<&mut RotatedFile> {
        if !self.apps.contains_key(app) {
            if self.apps.len() >= MAX_OPEN {
                self.apps.clear();
            }
            // The name of an app has neither slashes nor leading dots.
            let path = self.directory.join(format!("{app}.log"));
            self.apps.insert(app.into(), RotatedFile::open(path, self.max_size, self.kept)?);
        }
        self.apps.get_mut(app).ok_or_else(|| io::ErrorKind::NotFound.into())
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
            for _ in 0..2 {
                log.batch.borrow_mut().add(None, |line| line.extend_from_slice(b"{}"));
            }
            log.flush();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        assert_eq!(receiver.recv().unwrap().lines, b"{}\n{}\n");
    }

    #[test]
    fn each_app_has_a_file_of_its_own_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files::open(directory.path(), &Config::default()).unwrap();
        let mut batch = Batch::default();
        let app = |name: &str| Some(Arc::<str>::from(name));
        let apps = [app("a"), None, app("b"), app("a"), app("a")];
        for (number, app) in apps.iter().enumerate() {
            batch.add(app.as_ref(), |line| line.push(b'0' + u8::try_from(number).unwrap()));
        }
        assert_eq!((batch.line_count(), batch.parts.len()), (5, 4));
        files.write(&batch).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("access.log"), "1\n");
        assert_eq!(read("access/a.log"), "0\n3\n4\n");
        assert_eq!(read("access/b.log"), "2\n");
        // More apps than files may be open.
        for number in 0..=MAX_OPEN {
            let mut batch = Batch::default();
            batch.add(app(&format!("n{number}")).as_ref(), |line| line.push(b'x'));
            files.write(&batch).unwrap();
        }
        assert!(files.apps.len() <= MAX_OPEN);
        files.write(&batch).unwrap();
        assert_eq!(read("access/a.log"), "0\n3\n4\n0\n3\n4\n");
    }

    #[test]
    fn combined_lines_are_as_apache_writes_them() {
        let entry = Entry {
            time: "2000-10-10T13:55:36.123Z",
            request_id: "id",
            app: Some("shop"),
            release: Some(1),
            client: "192.0.2.1",
            protocol: Some("HTTP/1.1"),
            tls: None,
            method: Text(b"GET"),
            host: Text(b"shop.test"),
            target: Text(b"/a\"b"),
            referer: Text(b"http://x/\n"),
            user_agent: Text(b""),
            status: 200,
            bytes: 2326,
            received: 0,
            duration_ms: 1,
            upstream: None,
            upstream_ms: None,
            error: None,
            detail: None,
        };
        let mut line = Vec::new();
        entry.write_combined(&mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            r#"192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a\"b HTTP/1.1" 200 2326 "http://x/\x0a" "-""#
        );
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let text = serde_json::to_string(&Text(b"/\"}\n\xff\x1b[31m")).unwrap();
        assert_eq!(text, "\"/\\\"}\\n\u{fffd}\\u001b[31m\"");
    }
}
