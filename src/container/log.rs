//! The monitor's log: lines of two pipes into one file, rotated and synced.
//!
//! **Invariants.** Nothing that was read is dropped: while the disk refuses, nothing more is read,
//! and the app waits in write(2). Files hold whole records only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::spec::LogSpec;

/// Longest line in one record; longer ones are split, so that no reader needs more memory.
pub(super) const MAX_LINE: usize = 16 * 1024;
/// At most this often the disk is made to wait: what a power cut can take.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// What has come of a line whose end has not.
#[derive(Debug, Default)]
struct Unfinished(Vec<u8>);

/// The log of one container.
#[derive(Debug)]
pub(super) struct Log {
    spec: LogSpec,
    file: File,
    /// Bytes in `file`.
    size: u64,
    out: Unfinished,
    err: Unfinished,
    /// Whole records that are not in the file yet.
    pending: Vec<u8>,
    /// Since when there is something that a power cut would take, or the disk has refused.
    due: Option<Instant>,
}

impl Log {
    pub(super) fn open(spec: LogSpec) -> io::Result<Self> {
        let mut file = open_append(&spec.path)?;
        let mut size = file.metadata()?.len();
        // A power cut can leave half a record; the next one starts on a line of its own.
        if size > 0 && !ends_in_newline(&spec.path)? {
            file.write_all(b"\n")?;
            size += 1;
        }
        let (out, err) = (Unfinished::default(), Unfinished::default());
        Ok(Self { spec, file, size, out, err, pending: Vec::new(), due: None })
    }

    /// Takes what was read from a pipe.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8], now: &str) {
        let (unfinished, letter) = match stream {
            Stream::Out => (&mut self.out, b'o'),
            Stream::Err => (&mut self.err, b'e'),
        };
        unfinished.split(bytes, |line, whole| record(&mut self.pending, now, letter, line, whole));
        self.flush();
    }

    /// Whether it can take more: not while the disk refuses what it has.
    pub(super) fn is_writable(&self) -> bool {
        self.pending.is_empty()
    }

    /// When [`Log::tick`] wants to be called, if at all.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Syncs, or tries again what the disk refused, if it is time.
    pub(super) fn tick(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            self.flush();
            if self.pending.is_empty() && self.file.sync_data().is_ok() {
                self.due = None;
            }
        }
    }

    /// Writes out lines without end and syncs.
    pub(super) fn finish(mut self, now: &str) {
        for (unfinished, letter) in [(&mut self.out, b'o'), (&mut self.err, b'e')] {
            if !unfinished.0.is_empty() {
                record(&mut self.pending, now, letter, &unfinished.0, true);
            }
        }
        self.flush();
        // Nobody is left to be told, and nothing left to be done.
        let _ = self.file.sync_data();
    }

    fn flush(&mut self) {
        if self.try_flush().is_err() || self.due.is_none() {
            self.due.get_or_insert_with(|| Instant::now() + SYNC_INTERVAL);
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.size >= self.spec.max_bytes {
            self.rotate()?;
        }
        while !self.pending.is_empty() {
            let written = self.file.write(&self.pending)?;
            self.pending.drain(..written);
            self.size += written as u64;
        }
        // A burst's buffer is not kept for the container's life.
        self.pending.shrink_to(MAX_LINE);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        for number in (0..self.spec.files).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.spec.files == 0 {
            fs::remove_file(&self.spec.path)?;
        }
        self.file = open_append(&self.spec.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.spec.path.clone();
        }
        let mut path = self.spec.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl Unfinished {
    /// Gives out each line, or part of one, that `bytes` completes; true for ends of lines.
    fn split(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8], bool)) {
        loop {
            let room = MAX_LINE - self.0.len();
            let end = memchr::memchr(b'\n', &bytes[..bytes.len().min(room + 1)]);
            match end {
                Some(end) if self.0.is_empty() => give(&bytes[..end], true),
                Some(end) => {
                    self.0.extend_from_slice(&bytes[..end]);
                    give(&self.0, true);
                    self.0 = Vec::new();
                }
                None if bytes.len() > room => {
                    self.0.extend_from_slice(&bytes[..room]);
                    give(&self.0, false);
                    self.0 = Vec::new();
                    bytes = &bytes[room..];
                    continue;
                }
                None => {
                    self.0.extend_from_slice(bytes);
                    return;
                }
            }
            bytes = &bytes[end.map_or(0, |end| end + 1)..];
        }
    }
}

/// The time as it stands in records.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn record(to: &mut Vec<u8>, now: &str, letter: u8, line: &[u8], whole: bool) {
    to.extend_from_slice(now.as_bytes());
    to.extend_from_slice(&[b' ', letter]);
    to.extend_from_slice(if whole { b" " } else { b"p " });
    to.extend_from_slice(line);
    to.push(b'\n');
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn ends_in_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &Path, max_bytes: u64, files: u32) -> Log {
        Log::open(LogSpec { path: directory.join("log"), max_bytes, files }).unwrap()
    }

    fn text(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap()
    }

    #[test]
    fn lines_are_put_together_and_told_apart_by_stream() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 1 << 20, 1);
        log.take(Stream::Out, b"one\ntw", "T1");
        log.take(Stream::Err, b"oops\n\n", "T2");
        log.take(Stream::Out, b"o\nthr", "T3");
        log.finish("T4");
        assert_eq!(
            text(directory.path(), "log"),
            "T1 o one\nT2 e oops\nT2 e \nT3 o two\nT4 o thr\n"
        );
    }

    #[test]
    fn long_lines_are_split_and_marked() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 1 << 20, 1);
        let line = "x".repeat(MAX_LINE * 2 + 3);
        log.take(Stream::Out, line.as_bytes(), "T");
        log.take(Stream::Out, b"\nnext\n", "T");
        log.take(Stream::Out, "y".repeat(MAX_LINE).as_bytes(), "T");
        log.take(Stream::Out, b"\n", "T");
        log.finish("T");
        let text = text(directory.path(), "log");
        let shapes: Vec<_> =
            text.lines().map(|line| (&line[..5.min(line.len())], line.len())).collect();
        assert_eq!(
            shapes,
            [
                ("T op ", MAX_LINE + 5),
                ("T op ", MAX_LINE + 5),
                ("T o x", 7),
                ("T o n", 8),
                ("T o y", MAX_LINE + 4)
            ]
        );
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 10, 2);
        for number in 1..=4 {
            log.take(Stream::Out, format!("line {number}\n").as_bytes(), "T");
        }
        log.finish("T");
        assert_eq!(text(directory.path(), "log"), "T o line 4\n");
        assert_eq!(text(directory.path(), "log.1"), "T o line 3\n");
        assert_eq!(text(directory.path(), "log.2"), "T o line 2\n");
        assert!(!directory.path().join("log.3").exists());
    }

    #[test]
    fn half_a_record_of_an_earlier_life_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        fs::File::create(directory.path().join("log")).unwrap().write_all(b"T o hal").unwrap();
        let mut log = log(directory.path(), 1 << 20, 1);
        log.take(Stream::Out, b"new\n", "T");
        log.finish("T");
        assert_eq!(text(directory.path(), "log"), "T o hal\nT o new\n");
    }

    #[test]
    fn times_have_microseconds_and_a_fixed_length() {
        assert_eq!(timestamp().len(), "2026-11-24T08:11:00.123456Z".len());
    }
}
