//! Followers of files that grow, rotate and vanish.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::domain::LogSources;
use crate::logs::{History, Selection, Span};

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000;
/// Later than all lines.
const LATE: i64 = START + 1_000_000_000;
const BACKLOG: u64 = 64 << 20;

fn world() -> (tempfile::TempDir, Places, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let process = directory.path().join("web.1");
    std::fs::create_dir(&process).unwrap();
    let places = Places { app: directory.path().into(), router: None };
    (directory, places, process.join("1-v1-aa.log"))
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn line(at: i64, text: &str) -> String {
    format!("{} o {text}\n", record::write_time(START + at))
}

fn rotate(path: &Path, kept: u32) {
    for number in (0..kept).rev() {
        let name = |number| match number {
            0 => path.to_owned(),
            number => PathBuf::from(format!("{}.{number}", path.display())),
        };
        let _ = std::fs::rename(name(number), name(number + 1));
    }
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.line.text.clone()).collect()
}

impl Tail {
    /// Polls as if the next look for files was due.
    fn poll_anew(&mut self, now: i64) -> Vec<Entry> {
        self.listed = None;
        self.poll(now)
    }
}

#[test]
fn following_sees_each_line_once_also_across_rotations() {
    let (_directory, places, path) = world();
    append(&path, &line(1, "before"));
    append(&path, "2026-01-01T00:00:00.000002Z o on");
    let mut tail = Tail::at_end(places, Filter::all(), BACKLOG, LATE);
    append(&path, "e\n");
    assert_eq!(texts(&tail.poll(LATE)), ["one"]);
    append(&path, "2026-01-01T00:00:00.000003Z o tw");
    assert!(tail.poll(LATE).is_empty());
    append(&path, "o\n");
    rotate(&path, 2);
    append(&path, &line(4, "three"));
    assert_eq!(texts(&tail.poll_anew(LATE)), ["two", "three"]);
    // Rotated away while nobody looked, but open.
    append(&path, &line(5, "four"));
    rotate(&path, 1);
    append(&path, &line(6, "five"));
    assert_eq!(texts(&tail.poll_anew(LATE)), ["four", "five"]);
    assert!(tail.poll_anew(LATE).is_empty());
}

#[test]
fn lines_wait_for_older_ones_of_other_files() {
    let (directory, places, path) = world();
    append(&path, "");
    let mut tail = Tail::at_end(places, Filter::all(), BACKLOG, LATE);
    append(&path, &line(1000, "second"));
    assert!(tail.poll(START + 1000 + HOLD - 1).is_empty());
    let other = directory.path().join("worker.1");
    std::fs::create_dir(&other).unwrap();
    append(&other.join("1-v1-bb.log"), &line(999, "first"));
    assert_eq!(texts(&tail.poll_anew(START + 1000 + ROUTER_HOLD)), ["first", "second"]);
    // A clock that is ahead holds nothing back for long.
    append(&path, &line(LATE, "from the future"));
    assert!(tail.poll(START).is_empty());
    tail.pending.iter_mut().for_each(|(read, _)| *read -= 2 * MAX_HOLD);
    assert_eq!(texts(&tail.poll(START)), ["from the future"]);
}

#[test]
fn a_flood_comes_whole_and_in_order() {
    let (_directory, places, path) = world();
    append(&path, "");
    let mut tail = Tail::at_end(places, Filter::all(), BACKLOG, LATE);
    let mut seen = Vec::new();
    for round in 0..20 {
        let lines: String =
            (0..5000).map(|n| line(round * 5000 + n, &format!("{}", round * 5000 + n))).collect();
        append(&path, &lines);
        if round % 3 == 2 {
            rotate(&path, 2);
            append(&path, "");
        }
        seen.extend(tail.poll_anew(LATE));
    }
    while tail.backlog() > 0 {
        seen.extend(tail.poll_anew(LATE));
    }
    seen.extend(tail.poll_anew(LATE));
    let expected: Vec<_> = (0..100_000).map(|n| n.to_string()).collect();
    assert_eq!(texts(&seen), expected);
}

#[test]
fn what_a_reader_cannot_take_is_counted_and_told() {
    let (_directory, places, path) = world();
    append(&path, "");
    let mut tail = Tail::at_end(places.clone(), Filter::all(), 4000, LATE);
    let lines: String = (0..1000).map(|n| line(n, "0123456789")).collect();
    append(&path, &lines);
    let seen = tail.poll(LATE);
    let told = &seen[0].line;
    assert_eq!(told.process, "logs");
    let left_out: usize = told.text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(left_out + seen.len() - 1, 1000);
    assert!(left_out > 0 && seen.len() > 10, "{left_out}");

    // Whole files that were never seen.
    for _ in 0..3 {
        append(&path, &line(5000, "gone"));
        rotate(&path, 1);
    }
    append(&path, &line(6000, "there"));
    tail.files.values_mut().for_each(|file| file.file = None);
    let seen = texts(&tail.poll_anew(LATE));
    assert!(seen[0].contains("lines may be missing"), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "there");
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let (_directory, places, path) = world();
    append(&path, &line(1, "one"));
    let mut positions = Positions::default();
    let mut tail = Tail::resume(places.clone(), Filter::all(), BACKLOG, &positions);
    let seen = tail.poll(LATE);
    assert_eq!(texts(&seen), ["one"]);
    positions.advance(&seen);
    append(&path, &line(2, "two"));
    append(&path, &line(3, "three"));
    positions.advance(&tail.poll(LATE)[..1]);
    let kept = serde_json::to_string(&positions).unwrap();
    rotate(&path, 1);
    append(&path, &line(4, "four"));
    let positions: Positions = serde_json::from_str(&kept).unwrap();
    let mut tail = Tail::resume(places.clone(), Filter::all(), BACKLOG, &positions);
    assert_eq!(texts(&tail.poll(LATE)), ["three", "four"]);
    // All that it knew is gone.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(format!("{}.1", path.display())).unwrap();
    append(&path, &line(5, "five"));
    let mut tail = Tail::resume(places, Filter::all(), BACKLOG, &positions);
    let seen = texts(&tail.poll(LATE));
    assert!(seen[0].contains("may be missing") && seen[1] == "five", "{seen:?}");
}

#[test]
fn past_and_future_meet_without_a_gap() {
    let (_directory, places, path) = world();
    append(&path, &line(1, "one"));
    append(&path, "2026-01-01T00:00:00.000002Z o tw");
    let app = Selection { sources: "app".parse::<LogSources>().unwrap(), ..Selection::default() };
    let filter = Filter::new(app).unwrap();
    let mut tail = Tail::at_end(places.clone(), filter.clone(), BACKLOG, LATE);
    append(&path, "o\n");
    append(&path, &line(3, "three"));
    let span = Span { count: 10, ..Span::default() };
    let past = History::read(&places, &filter, &span, Some(&tail.positions()), || true);
    let past: Vec<_> = past.lines.into_iter().map(|line| line.text).collect();
    assert_eq!(past, ["one"]);
    assert_eq!(texts(&tail.poll(LATE)), ["two", "three"]);
}
