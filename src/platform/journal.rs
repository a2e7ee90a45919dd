//! What an operation prints: kept whole, followed by any number of readers.
//!
//! The writer never waits for a reader; a reader that is slow or late misses nothing.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The most bytes one operation may print; more is cut with a notice. Bounds memory and disk.
const MAX_BYTES: usize = 16 << 20;

/// An append-only list of lines, optionally kept in a file as well; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lines: Mutex<Lines>,
    /// Lines written so far and whether more may come.
    progress: watch::Sender<(usize, bool)>,
}

#[derive(Debug)]
struct Lines {
    lines: Vec<Arc<str>>,
    bytes: usize,
    file: Option<std::fs::File>,
}

impl Journal {
    /// An empty journal in memory.
    pub fn new() -> Self {
        Self::with_file(None)
    }

    /// An empty journal that also appends each line to `file`.
    pub fn with_file(file: Option<std::fs::File>) -> Self {
        let lines = Mutex::new(Lines { lines: Vec::new(), bytes: 0, file });
        let (progress, _) = watch::channel((0, true));
        Self(Arc::new(Shared { lines, progress }))
    }

    /// Appends a line, without its line feed.
    pub fn line(&self, line: &str) {
        let mut state = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes > MAX_BYTES {
            return;
        }
        state.bytes += line.len() + 1;
        let line =
            if state.bytes > MAX_BYTES { " !     output cut: more than 16 MiB" } else { line };
        if let Some(file) = &mut state.file
            && let Err(error) = writeln!(file, "{line}")
        {
            tracing::warn!(%error, "cannot append to an operation's log file");
            state.file = None;
        }
        state.lines.push(line.into());
        let count = state.lines.len();
        drop(state);
        self.0.progress.send_modify(|progress| progress.0 = count);
    }

    /// Says that no line will follow. Followers end after the last line.
    pub fn close(&self) {
        self.0.progress.send_modify(|progress| progress.1 = false);
    }

    /// A reader from the first line.
    pub fn follow(&self) -> Follower {
        Follower { shared: Arc::clone(&self.0), progress: self.0.progress.subscribe(), next: 0 }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Arc<str>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// One reader of a [`Journal`].
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    progress: watch::Receiver<(usize, bool)>,
    next: usize,
}

impl Follower {
    /// The next line, or `None` once the journal is closed and read to its end. Cancel-safe: a line
    /// is only counted as read when it is returned.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        loop {
            let (count, open) = *self.progress.borrow_and_update();
            if self.next < count {
                let state = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
                let line = state.lines.get(self.next).cloned();
                self.next += 1;
                return line;
            }
            if !open || self.progress.changed().await.is_err() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_and_slow_readers_get_every_line() {
        let journal = Journal::new();
        journal.line("one");
        let mut follower = journal.follow();
        journal.line("two");
        journal.close();
        assert_eq!(follower.next().await.as_deref(), Some("one"));
        assert_eq!(follower.next().await.as_deref(), Some("two"));
        assert_eq!(follower.next().await, None);
    }

    #[test]
    fn a_flood_is_cut_with_a_notice() {
        let journal = Journal::new();
        let line = "x".repeat(1 << 20);
        for _ in 0..20 {
            journal.line(&line);
        }
        let lines = journal.lines();
        assert_eq!(lines.len(), 16);
        assert!(lines.last().unwrap().contains("output cut"));
    }
}
