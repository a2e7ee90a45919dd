//! What is appended to an app's files, each line once and in the order of time.
//!
//! Lines wait for a moment, since those of other files may be older and not be written yet. A file
//! that is removed is read to its end as long as it is open; what was never seen is told of in a
//! line of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::{Found, Places};
use super::filter::Filter;
use super::record::{self, Origin};
use crate::domain::{LogCursor, LogLevel, LogLine, LogSource, LogStream};

/// Between two looks for new files.
const LIST: Duration = Duration::from_millis(500);
/// Read of one file at once.
const STEP: usize = 256 * 1024;
/// Read of all files at once.
const ROUND: usize = 4 << 20;
/// Lines that wait at most; beyond, order matters less than memory.
const MAX_PENDING: usize = 50_000;
/// How long a line waits for older ones of monitors, who write what they read at once.
const HOLD: i64 = 30_000;
/// The same where the proxy's are shown, which gathers lines for 200 ms.
const ROUTER_HOLD: i64 = 300_000;
/// No line waits longer, whatever its time says.
const MAX_HOLD: Duration = Duration::from_secs(1);
/// Files that are kept open at most.
const MAX_OPEN: usize = 256;
/// How long a file that nothing is written to is kept open.
const KEEP_OPEN: Duration = Duration::from_secs(60);
/// A file written to within this may end in half a line.
const FRESH: i64 = 60_000_000;

/// A file, whatever its name is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct FileId {
    pub(super) inode: u64,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub(super) born: u64,
}

/// How far each file has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(FileId, u64)>", into = "Vec<(FileId, u64)>")]
pub struct Positions(HashMap<FileId, u64>);

impl From<Vec<(FileId, u64)>> for Positions {
    fn from(list: Vec<(FileId, u64)>) -> Self {
        Self(list.into_iter().collect())
    }
}

impl From<Positions> for Vec<(FileId, u64)> {
    fn from(positions: Positions) -> Self {
        positions.0.into_iter().collect()
    }
}

impl Positions {
    pub(super) fn get(&self, file: FileId) -> Option<u64> {
        self.0.get(&file).copied()
    }

    /// Notes that all before and including these lines needs not be read again.
    pub fn advance(&mut self, lines: &[Entry]) {
        for entry in lines {
            if let Some((file, end)) = entry.place {
                let position = self.0.entry(file).or_insert(0);
                *position = end.max(*position);
            }
        }
    }
}

/// A line that was appended.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The line.
    pub line: LogLine,
    /// Where it ends; nowhere if it is a notice of ours.
    place: Option<(FileId, u64)>,
}

/// Follows an app's files.
#[derive(Debug)]
pub struct Tail {
    places: Places,
    filter: Filter,
    hold: i64,
    /// The most that may wait to be read; beyond, the oldest is left out.
    max_backlog: u64,
    files: HashMap<FileId, Followed>,
    /// The file that each container, and the proxy, last wrote to.
    current: HashMap<(u32, Origin), FileId>,
    listed: Option<Instant>,
    pending: Vec<(Instant, Entry)>,
    lost: Lost,
    /// Lines that were left out since the beginning.
    left_out: u64,
}

/// What was left out since it was last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lost {
    lines: u64,
    /// There may be more.
    unseen: bool,
}

#[derive(Debug)]
struct Followed {
    origin: Origin,
    key: u32,
    file: Option<File>,
    position: u64,
    size: u64,
    /// When it was last seen to grow.
    grown: Instant,
    /// Whether it still has a name, and so may be written to.
    named: bool,
    modified: i64,
    /// The time of the last line that was read.
    reached: i64,
}

impl Tail {
    /// Begins after what is there now.
    pub fn at_end(places: Places, filter: Filter, max_backlog: u64, now: i64) -> Self {
        let mut tail = Self::new(places, filter, max_backlog);
        for file in tail.found() {
            let fresh = file.modified > now - FRESH && file.rotation == 0;
            let end = if fresh { whole_end(&file).unwrap_or(file.size) } else { file.size };
            tail.follow(file, end);
        }
        tail
    }

    /// Goes on at `positions`; files that are not in it are read from their beginning.
    pub fn resume(places: Places, filter: Filter, max_backlog: u64, positions: &Positions) -> Self {
        let mut tail = Self::new(places, filter, max_backlog);
        for file in tail.found() {
            let position = positions.get(file.id).unwrap_or(0);
            tail.follow(file, position);
        }
        tail.lost.unseen = tail.has_gap(positions);
        tail
    }

    fn new(places: Places, filter: Filter, max_backlog: u64) -> Self {
        let hold = if filter.wants_file(&Origin::Router) { ROUTER_HOLD } else { HOLD };
        Self {
            places,
            filter,
            hold,
            max_backlog,
            files: HashMap::new(),
            current: HashMap::new(),
            listed: None,
            pending: Vec::new(),
            lost: Lost::default(),
            left_out: 0,
        }
    }

    /// Lines that were left out so far.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How far it has read, to bound a look at the past with.
    pub fn positions(&self) -> Positions {
        Positions(self.files.iter().map(|(id, file)| (*id, file.position)).collect())
    }

    /// Forgets files that are gone.
    pub fn forget_gone(&self, positions: &mut Positions) {
        positions.0.retain(|file, _| self.files.contains_key(file));
    }

    /// Bytes that have not been read.
    pub fn backlog(&self) -> u64 {
        self.files.values().map(Followed::unread).sum()
    }

    /// The lines whose turn it is; `now` in microseconds since the Unix epoch. Blocks, but never for
    /// new lines.
    pub fn poll(&mut self, now: i64) -> Vec<Entry> {
        self.look();
        self.read();
        self.due(now)
    }

    /// Looks at what is there without reading lines: what is opened is not lost. For who cannot take
    /// any at the moment.
    pub fn look(&mut self) {
        if self.listed.is_none_or(|listed| listed.elapsed() > LIST) {
            self.list();
        }
        for file in self.files.values_mut() {
            file.look();
        }
        self.bound();
    }

    fn found(&self) -> Vec<Found> {
        self.places.list(|origin| self.filter.wants_file(origin))
    }

    fn follow(&mut self, file: Found, position: u64) {
        if file.rotation == 0 {
            self.current.insert((file.key, file.origin.clone()), file.id);
        }
        let followed = Followed {
            position: position.min(file.size),
            size: file.size,
            grown: Instant::now(),
            named: true,
            modified: file.modified,
            reached: i64::MIN,
            file: None,
            key: file.key,
            origin: file.origin.clone(),
        };
        // One that is being written to must stay readable when it is removed.
        let wanted = followed.unread() > 0 || file.rotation == 0;
        let fits = self.files.values().filter(|file| file.file.is_some()).count() < MAX_OPEN;
        let open = (wanted && fits).then(|| file.open().ok()).flatten();
        self.files.insert(file.id, Followed { file: open, ..followed });
    }

    fn list(&mut self) {
        let mut found = self.found();
        if self.is_cut_off(&found) {
            // A rotation during the listing can hide a file.
            found = self.found();
            self.lost.unseen |= self.is_cut_off(&found);
        }
        self.listed = Some(Instant::now());
        self.files.values_mut().for_each(|file| file.named = false);
        for file in found {
            match self.files.get_mut(&file.id) {
                Some(known) => known.found_again(&file),
                None => self.follow(file, 0),
            }
            // The newest file of a container is the last of it in the list.
        }
        let lost = &mut self.lost;
        self.files.retain(|_, file| {
            let unreadable = !file.named && file.unread() > 0 && file.file.is_none();
            lost.unseen |= unreadable;
            file.named || (file.unread() > 0 && file.file.is_some())
        });
        let files = &self.files;
        self.current.retain(|_, id| files.contains_key(id));
    }

    /// Whether a container's files were rotated so often since the last look that the one then
    /// written to is gone, and others may be.
    fn is_cut_off(&self, found: &[Found]) -> bool {
        let there = |id: FileId| found.iter().any(|file| file.id == id);
        let newer = |key: u32, id: FileId| {
            found.iter().any(|file| file.key == key && file.rotation == 0 && file.id != id)
        };
        self.current.iter().any(|((key, _), id)| newer(*key, *id) && !there(*id))
    }

    /// Whether files that were not read to their end are gone.
    fn has_gap(&self, positions: &Positions) -> bool {
        !positions.0.is_empty() && positions.0.keys().all(|id| !self.files.contains_key(id))
    }

    /// Leaves out the oldest of what waits beyond the limit.
    fn bound(&mut self) {
        while self.backlog() > self.max_backlog {
            let waiting = self.files.values_mut().filter(|file| file.unread() > 0);
            let Some(oldest) = waiting.min_by_key(|file| (file.named, file.modified)) else {
                return;
            };
            // Half of a file at most: what is newest of it may still fit.
            let end = oldest.position + oldest.unread().div_ceil(2);
            let skipped = oldest.skip(end);
            match skipped {
                Ok(lines) => {
                    self.lost.lines += lines;
                    self.left_out += lines;
                }
                Err(_) => {
                    self.lost.unseen = true;
                    oldest.position = oldest.size;
                }
            }
        }
    }

    fn read(&mut self) {
        let mut left = ROUND;
        let now = Instant::now();
        let mut waiting: Vec<_> =
            self.files.iter_mut().filter(|(_, file)| file.unread() > 0).collect();
        waiting.sort_by_key(|(_, file)| file.reached);
        for (id, file) in waiting {
            if left == 0 {
                return;
            }
            match file.step(left.min(STEP)) {
                Ok(lines) => {
                    left -= left.min(lines.read);
                    let wanted =
                        lines.lines.into_iter().filter(|(line, _)| self.filter.wants(line));
                    self.pending.extend(
                        wanted.map(|(line, end)| (now, Entry { line, place: Some((*id, end)) })),
                    );
                }
                Err(error) => {
                    tracing::debug!(%error, "log file not read");
                    self.lost.unseen = true;
                    file.position = file.size;
                }
            }
        }
    }

    /// Those that no older line can come before any more.
    fn due(&mut self, now: i64) -> Vec<Entry> {
        let behind = self.files.values().filter(|file| file.unread() > STEP as u64 / 64);
        let behind = behind.map(|file| file.reached).min().unwrap_or(i64::MAX);
        let until = behind.min(now - self.hold);
        let all = self.pending.len() > MAX_PENDING;
        let mut due = Vec::new();
        self.pending.retain(|(read, entry)| {
            let is_due = all || entry.line.cursor.at <= until || read.elapsed() > MAX_HOLD;
            if is_due {
                due.push(entry.clone());
            }
            !is_due
        });
        due.sort_by_key(|entry| entry.line.cursor);
        if self.lost != Lost::default() {
            due.insert(0, notice(now, std::mem::take(&mut self.lost)));
        }
        due
    }
}

impl Followed {
    fn unread(&self) -> u64 {
        self.size.saturating_sub(self.position)
    }

    fn found_again(&mut self, found: &Found) {
        self.named = true;
        self.modified = found.modified;
        if found.size > self.size {
            self.size = found.size;
            self.grown = Instant::now();
        }
        if self.unread() > 0 && self.file.is_none() {
            self.file = found.open().ok();
        }
    }

    fn look(&mut self) {
        let Some(file) = &self.file else { return };
        let size = file.metadata().map_or(self.size, |metadata| metadata.len());
        if size > self.size {
            self.size = size;
            self.grown = Instant::now();
        }
        if self.unread() == 0 && self.grown.elapsed() > KEEP_OPEN {
            self.file = None;
        }
    }

    fn open(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn step(&mut self, room: usize) -> io::Result<Step> {
        let room = room.min(usize::try_from(self.unread()).unwrap_or(room));
        let mut bytes = vec![0; room];
        let read = self.open()?.read_at(&mut bytes, self.position)?;
        bytes.truncate(read);
        let mut step = Step { lines: Vec::new(), read };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &bytes) {
            let place = (self.key, self.position + start as u64);
            if let Some(line) = record::parse(&self.origin, place, &bytes[start..end]) {
                self.reached = line.cursor.at;
                step.lines.push((line, self.position + end as u64 + 1));
            }
            start = end + 1;
        }
        // A line that is still being written is left for the next look; one without an end is not,
        // nor what a file that nobody writes to any more ends in.
        let endless = start == 0 && (read >= STEP || !self.named);
        self.position += if endless { read as u64 } else { start as u64 };
        Ok(step)
    }

    /// Goes on at the line that begins before `end`; says how many lines are left out.
    fn skip(&mut self, end: u64) -> io::Result<u64> {
        let mut lines = 0;
        let mut bytes = vec![0; STEP];
        while self.position < end {
            let room = usize::try_from(end - self.position).map_or(STEP, |left| left.min(STEP));
            let read = self.open()?.read_at(&mut bytes[..room], self.position)?;
            let whole = memchr::memrchr(b'\n', &bytes[..read]).map_or(read, |at| at + 1);
            // The line that `end` is in stays, unless it is all there is.
            let is_line = bytes[..read].contains(&b'\n');
            if read == 0 || (!is_line && lines > 0 && read < STEP) {
                break;
            }
            lines += memchr::memchr_iter(b'\n', &bytes[..whole]).count() as u64;
            self.position += whole as u64;
        }
        Ok(lines)
    }
}

/// What one read of a file gave.
struct Step {
    /// With where each ends.
    lines: Vec<(LogLine, u64)>,
    read: usize,
}

/// Where the last whole line ends.
fn whole_end(found: &Found) -> io::Result<u64> {
    let file = found.open()?;
    let size = file.metadata()?.len();
    let start = size.saturating_sub(STEP as u64);
    let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(STEP)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(memchr::memrchr(b'\n', &bytes).map_or(start, |end| start + end as u64 + 1))
}

/// The line that says what is missing.
fn notice(now: i64, lost: Lost) -> Entry {
    let text = match (lost.lines, lost.unseen) {
        (0, _) => "lines may be missing here: they were removed before they could be read".into(),
        (lines, false) => {
            format!("{lines} lines are left out here: they came faster than they were taken")
        }
        (lines, true) => format!(
            "{lines} lines or more are left out here: they came faster than they were taken"
        ),
    };
    Entry { line: say(now, text), place: None }
}

/// A line about the log itself.
pub fn say(now: i64, text: String) -> LogLine {
    LogLine {
        at: record::write_time(now),
        source: LogSource::Platform,
        process: super::NOTICES.into(),
        release: None,
        stream: LogStream::Stderr,
        level: LogLevel::Warn,
        text,
        cursor: LogCursor { at: now, file: 0, offset: 0 },
    }
}

#[cfg(test)]
#[path = "tail/tests.rs"]
mod tests;
