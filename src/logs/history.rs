//! The past, the newest first: all files of an app merged by time, each read backwards.
//!
//! Files are opened when their last line's turn comes and read in chunks from their ends, so that the
//! last hundred lines cost the same whatever lies before them. For a page before a cursor the place
//! in a file is found by halving.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::files::{Found, Places};
use super::filter::Filter;
use super::record::{self, Origin};
use super::tail::Positions;
use crate::domain::{LogCursor, LogLine};

/// Read at once.
const CHUNK: usize = 64 * 1024;
/// Longer than any record: what has no line feed for so long is no log.
const MAX_LINE: usize = 256 * 1024;
/// How far apart in time neighboring lines of the proxy's may be out of order: cores hand over what
/// they gathered five times a second.
const DISORDER: i64 = 2_000_000;
/// Text that is collected at most.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of files that one query reads at most; beyond what the settings keep by default.
const MAX_READ: u64 = 1 << 30;

/// The lines wanted of the past.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// How many at most, the newest.
    pub count: usize,
    /// Not older, in microseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Not younger.
    pub until: Option<i64>,
    /// Before this line.
    pub before: Option<LogCursor>,
    /// After this one.
    pub after: Option<LogCursor>,
}

impl Span {
    fn oldest(&self) -> i64 {
        self.since.unwrap_or(i64::MIN).max(self.after.map_or(i64::MIN, |cursor| cursor.at))
    }

    fn newest(&self) -> i64 {
        self.until.unwrap_or(i64::MAX).min(self.before.map_or(i64::MAX, |cursor| cursor.at))
    }

    fn has(&self, cursor: LogCursor) -> bool {
        (self.oldest()..=self.newest()).contains(&cursor.at)
            && self.before.is_none_or(|before| cursor < before)
            && self.after.is_none_or(|after| cursor > after)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct History {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Whether there are, or may be, older ones within the span.
    pub more: bool,
}

impl History {
    /// The newest lines of the span; of files beyond `ends`, if given, nothing. Blocks.
    pub fn read(
        places: &Places,
        filter: &Filter,
        span: &Span,
        ends: Option<&Positions>,
        mut goes_on: impl FnMut() -> bool,
    ) -> Self {
        let mut merge = Merge::new(places, filter, span, ends);
        let mut history = Self::default();
        let mut bytes = 0;
        for number in 0_u64.. {
            let Some(line) = merge.next() else { break };
            if number.is_multiple_of(1024) && !goes_on() {
                return Self::default();
            }
            if !span.has(line.cursor) || !filter.wants(&line) {
                continue;
            }
            if history.lines.len() >= span.count || bytes > MAX_BYTES {
                history.more = true;
                break;
            }
            bytes += line.text.len() + size_of::<LogLine>();
            history.lines.push(line);
        }
        history.more |= merge.read > MAX_READ;
        history.lines.sort_unstable_by_key(|line| line.cursor);
        history
    }
}

/// All streams, merged.
struct Merge {
    span: Span,
    /// Not opened yet, the one with the youngest end last.
    waiting: Vec<Stream>,
    open: Vec<Stream>,
    /// The next line of each open stream.
    heads: BinaryHeap<(LogCursor, Reverse<usize>)>,
    read: u64,
}

impl Merge {
    fn new(places: &Places, filter: &Filter, span: &Span, ends: Option<&Positions>) -> Self {
        let mut streams: HashMap<(u32, Origin), Stream> = HashMap::new();
        for file in places.list(|origin| filter.wants_file(origin)) {
            if !filter.wants_key(file.key) {
                continue;
            }
            let end = ends.map_or(Some(file.size), |ends| ends.get(file.id));
            let Some(end) = end else { continue };
            if end == 0 || file.modified.saturating_add(DISORDER) < span.oldest() {
                continue;
            }
            let stream = streams.entry((file.key, file.origin.clone()));
            stream.or_insert_with(|| Stream::new(&file.origin, file.key)).add(file, end);
        }
        let mut waiting: Vec<_> = streams.into_values().collect();
        waiting.sort_by_key(|stream| stream.modified);
        Self { span: *span, waiting, open: Vec::new(), heads: BinaryHeap::new(), read: 0 }
    }

    /// The next older line.
    fn next(&mut self) -> Option<LogLine> {
        loop {
            let next = self.heads.peek().map_or(i64::MIN, |(cursor, _)| cursor.at);
            match self.waiting.last() {
                Some(stream) if stream.modified.saturating_add(DISORDER) >= next => {
                    let stream = self.waiting.pop()?;
                    self.open.push(stream);
                    self.advance(self.open.len() - 1);
                }
                _ => break,
            }
        }
        let (_, Reverse(index)) = self.heads.pop()?;
        let line = self.open[index].lines.pop();
        self.advance(index);
        line
    }

    /// Puts the next line of a stream where it is found.
    fn advance(&mut self, index: usize) {
        let stream = &mut self.open[index];
        let read = if self.read > MAX_READ { Ok(0) } else { stream.prepare(&self.span) };
        match read {
            Ok(read) => self.read += read,
            // Cut short in between. What was read of it is shown.
            Err(error) => tracing::debug!(%error, "log file not read"),
        }
        if let Some(line) = stream.lines.last() {
            self.heads.push((line.cursor, Reverse(index)));
        }
    }
}

/// The files of one container, or of the proxy, read backwards.
struct Stream {
    origin: Origin,
    key: u32,
    /// Older files, the next one last, and where to begin in each.
    files: Vec<(Found, u64)>,
    current: Option<Backward>,
    /// Lines that were read, the next one last.
    lines: Vec<LogLine>,
    modified: i64,
}

impl Stream {
    fn new(origin: &Origin, key: u32) -> Self {
        let (files, lines) = (Vec::new(), Vec::new());
        Self { origin: origin.clone(), key, files, current: None, lines, modified: i64::MIN }
    }

    /// Adds a younger file.
    fn add(&mut self, file: Found, end: u64) {
        self.modified = self.modified.max(file.modified);
        self.files.push((file, end));
    }

    /// Reads until the next line is known. Says how much was read.
    fn prepare(&mut self, span: &Span) -> io::Result<u64> {
        let disorder = if self.origin == Origin::Router { DISORDER } else { 0 };
        let mut read = 0;
        loop {
            let settled = match (self.lines.first(), self.lines.last()) {
                (Some(oldest), Some(next)) => {
                    disorder == 0 || oldest.cursor.at + disorder < next.cursor.at
                }
                _ => false,
            };
            let past = self
                .lines
                .first()
                .is_some_and(|oldest| oldest.cursor.at.saturating_add(disorder) < span.oldest());
            if past {
                self.current = None;
                self.files.clear();
            }
            if settled || past {
                return Ok(read);
            }
            let Some(backward) = &mut self.current else {
                let Some((file, end)) = self.files.pop() else { return Ok(read) };
                // Removed in between: it was the oldest there was.
                let Ok(file) = file.open() else { continue };
                let end = end.min(file.metadata()?.len());
                let bound = span.newest().saturating_add(disorder);
                let end = find_end(&file, &self.origin, end, bound)?;
                self.current = Some(Backward { file, end, carry: Vec::new(), is_end: true });
                continue;
            };
            let Some((offset, bytes)) = backward.chunk()? else {
                self.current = None;
                continue;
            };
            read += bytes.len() as u64;
            self.take(offset, &bytes);
        }
    }

    /// Puts older lines below those that are there.
    fn take(&mut self, offset: u64, bytes: &[u8]) {
        let mut older = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let place = (self.key, offset + start as u64);
            older.extend(record::parse(&self.origin, place, &bytes[start..end]));
            start = end + 1;
        }
        older.append(&mut self.lines);
        // Nearly sorted, which this sort is made for.
        older.sort_by_key(|line| line.cursor);
        self.lines = older;
    }
}

/// Whole lines of a file from its end.
struct Backward {
    file: File,
    /// What is before this has not been read.
    end: u64,
    /// The end of a line whose beginning has not been read, line feed included.
    carry: Vec<u8>,
    /// Nothing was read yet: what follows the last line feed is still being written.
    is_end: bool,
}

impl Backward {
    /// The next older lines and where they begin.
    fn chunk(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        while self.end > 0 {
            let start = self.end.saturating_sub(CHUNK as u64);
            let length = usize::try_from(self.end - start).unwrap_or(CHUNK);
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, start)?;
            self.end = start;
            if self.is_end {
                let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
                bytes.truncate(whole);
                self.is_end = whole == 0;
            }
            bytes.append(&mut self.carry);
            let first =
                if start == 0 { Some(0) } else { memchr::memchr(b'\n', &bytes).map(|end| end + 1) };
            match first {
                Some(first) => {
                    let lines = bytes.split_off(first);
                    self.carry = bytes;
                    if !lines.is_empty() {
                        return Ok(Some((start + first as u64, lines)));
                    }
                }
                None if bytes.len() <= MAX_LINE => self.carry = bytes,
                None => {}
            }
        }
        Ok(None)
    }
}

/// Where lines end in `file` that are not younger than `bound`; at most `end`.
fn find_end(file: &File, origin: &Origin, end: u64, bound: i64) -> io::Result<u64> {
    let (mut low, mut high) = (0, end);
    if bound == i64::MAX {
        return Ok(end);
    }
    let mut buffer = vec![0; CHUNK];
    while high - low > CHUNK as u64 {
        let middle = low + (high - low) / 2;
        let room = usize::try_from((high - middle).min(CHUNK as u64)).unwrap_or(CHUNK);
        file.read_exact_at(&mut buffer[..room], middle)?;
        match first_line(origin, &buffer[..room]) {
            Some((start, at)) if at > bound => high = middle + start as u64,
            // Nothing that is a line: what is there does not matter.
            _ => low = middle,
        }
    }
    Ok(high)
}

/// The first whole line of `bytes` that has a time.
fn first_line(origin: &Origin, bytes: &[u8]) -> Option<(usize, i64)> {
    let mut start = memchr::memchr(b'\n', bytes)? + 1;
    while let Some(length) = memchr::memchr(b'\n', &bytes[start..]) {
        if let Some(at) = record::time_of(origin, &bytes[start..start + length]) {
            return Some((start, at));
        }
        start += length + 1;
    }
    None
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
