//! History over real files.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::domain::{LogSources, ReleaseVersion};
use crate::logs::{RouterLog, Selection};

const SECOND: i64 = 1_000_000;
/// 2026-01-01.
const START: i64 = 1_767_225_600_000_000;

struct World {
    _directory: tempfile::TempDir,
    places: Places,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let app = directory.path().join("app");
        let router = RouterLog::new(directory.path().join("proxy"), &"shop".parse().unwrap());
        std::fs::create_dir_all(directory.path().join("proxy/access")).unwrap();
        Self { places: Places { app, router: Some(router) }, _directory: directory }
    }

    /// Lines of a container, each at its second and with its number as text.
    fn container(&self, name: &str, lines: impl Iterator<Item = i64>) {
        let mut text = String::new();
        for at in lines {
            let time = record::write_time(START + at * SECOND);
            writeln!(text, "{time} o {at} {}", "x".repeat(50)).unwrap();
        }
        append(&self.places.app.join(name), &text);
    }

    fn requests(&self, name: &str, lines: impl Iterator<Item = i64>) {
        let mut text = String::new();
        for at in lines {
            let time = record::write_time(START + at * SECOND);
            writeln!(text, r#"{{"time":"{time}","request_id":"r","release":1,"client":"c","protocol":null,"method":"GET","host":"h","target":"/{at}","status":200,"bytes":0,"duration_ms":0}}"#).unwrap();
        }
        append(&self._directory.path().join("proxy/access").join(name), &text);
    }

    fn read(&self, filter: &Filter, span: &Span) -> History {
        History::read(&self.places, filter, span, None, || true)
    }

    fn seconds(&self, filter: &Filter, span: &Span) -> Vec<i64> {
        let lines = self.read(filter, span).lines;
        lines.iter().map(|line| (line.cursor.at - START) / SECOND).collect()
    }
}

fn append(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn last(count: usize) -> Span {
    Span { count, ..Span::default() }
}

#[test]
fn the_last_lines_of_all_files_are_merged_by_time() {
    let world = World::new();
    world.container("web.1/1-v1-aa.log.1", (0..3000).step_by(2));
    world.container("web.1/1-v1-aa.log", (3000..4000).step_by(2));
    world.container("web.1/2-v2-bb.log", (1..4000).step_by(2));
    world.requests("shop.log.1", [500, 501].into_iter());
    let all = Filter::all();
    assert_eq!(world.seconds(&all, &last(5)), [3995, 3996, 3997, 3998, 3999]);
    let everything = world.seconds(&all, &last(100_000));
    assert_eq!(everything.len(), 4002);
    assert!(everything.is_sorted());
    let history = world.read(&all, &last(10));
    assert!(history.more);
    assert!(!world.read(&all, &last(4002)).more);
    assert!(world.read(&all, &last(4001)).more);
}

#[test]
fn pages_before_a_cursor_have_each_line_once() {
    let world = World::new();
    // Lines of one moment, more than a page and over a chunk's end.
    world.container("web.1/1-v1-aa.log", (0..6000).map(|n| n / 3000));
    world.container("web.2/1-v1-bb.log", (0..100).map(|n| n / 50));
    // As cores of the proxy write them: not quite in order, across a rotation.
    world.requests("shop.log.1", [0, 1, 0, 1, 0, 1].into_iter());
    world.requests("shop.log", [1, 0, 2, 1, 2, 1].into_iter());
    let all = Filter::all();
    let whole = world.read(&all, &last(100_000)).lines;
    assert_eq!(whole.len(), 6112);
    let mut pages = Vec::new();
    let mut span = last(701);
    loop {
        let page = world.read(&all, &span);
        span.before = page.lines.first().map(|line| line.cursor);
        pages.splice(0..0, page.lines);
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, whole);
    let after = Span { after: Some(whole[6000].cursor), ..last(100_000) };
    assert_eq!(world.read(&all, &after).lines, whole[6001..]);
}

#[test]
fn spans_and_filters_choose() {
    let world = World::new();
    world.container("web.1/1-v1-aa.log", 0..5000);
    world.container("worker.1/1-v2-bb.log", 0..5000);
    let filter = |selection| Filter::new(selection).unwrap();
    let web = filter(Selection { process: Some("web".into()), ..Selection::default() });
    let at = |second| Some(START + second * SECOND);
    let span = Span { since: at(100), until: at(103), ..last(1000) };
    assert_eq!(world.seconds(&web, &span), [100, 101, 102, 103]);
    let v2 = filter(Selection { release: Some(ReleaseVersion(2)), ..Selection::default() });
    let lines = world.read(&v2, &last(3)).lines;
    assert!(lines.iter().all(|line| line.process == "worker.1") && lines.len() == 3);
    let text =
        Selection { text: Some("^49 X".to_lowercase()), regex: true, ..Selection::default() };
    assert_eq!(world.seconds(&filter(text), &last(10)), [49, 49]);
    let router = "router".parse::<LogSources>().unwrap();
    let none = filter(Selection { sources: router, ..Selection::default() });
    assert!(world.read(&none, &last(10)).lines.is_empty());
}

#[test]
fn what_is_no_log_costs_no_more_than_its_size() {
    let world = World::new();
    world.container("web.1/1-v1-aa.log", 0..1);
    append(&world.places.app.join("web.1/1-v1-aa.log"), &"y".repeat(1 << 20));
    append(&world.places.app.join("web.1/1-v1-aa.log"), "\n\n\n\0\0\0\n");
    world.container("web.1/1-v1-aa.log", 1..2);
    append(&world.places.app.join("web.1/1-v1-aa.log"), "2026-01-01T00:00:09Z o half a li");
    append(&world.places.app.join("web.1/1-v1-bb.log"), "");
    append(&world.places.app.join("web.1/notes.txt"), "x");
    assert_eq!(world.seconds(&Filter::all(), &last(10)), [0, 1]);
    let nothing = Places { app: "/nonexistent".into(), router: None };
    assert!(History::read(&nothing, &Filter::all(), &last(1), None, || true).lines.is_empty());
}
