//! The file as a whole: what comes back, what goes, what survives.

use std::path::Path;

use super::*;
use crate::domain::Timestamp;

const STEP: i64 = 15_000;
/// A multiple of every span.
const START: i64 = 1_800_000_000_000 / 7_200_000 * 7_200_000;
const HOUR: i64 = 3_600_000;

fn open(path: &Path) -> Series {
    Series::open(path, Config::default()).unwrap()
}

fn at(steps: i64) -> Timestamp {
    Timestamp(START + steps * STEP)
}

fn row(series: &str, values: &[f32]) -> Row {
    Row { series: series.to_owned(), values: values.to_vec() }
}

/// Records one series' only field from step to step.
fn fill(series: &Series, steps: std::ops::Range<i64>, value: impl Fn(i64) -> f32) {
    for step in steps {
        series.record(at(step), vec![row("a", &[value(step)])], b"").unwrap();
    }
}

fn means(series: &Series, name: &str, window: &Window) -> Vec<Option<f64>> {
    let columns = series.read(&[name.to_owned()], window).unwrap();
    (0..window.points).map(|point| columns[0].cell(point, 0).mean()).collect()
}

#[test]
fn samples_come_back_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.db");
    let series = open(&path);
    fill(&series, 0..50, |step| step as f32);
    let window = Window::last(at(49), HOUR, STEP, 400);
    assert_eq!((window.points, window.pitch_ms(), window.to()), (240, STEP, at(50)));
    let before = means(&series, "a", &window);
    assert_eq!(before.iter().flatten().count(), 50);
    assert_eq!((before[190], before[239]), (Some(0.0), Some(49.0)));
    series.record(at(50), Vec::new(), b"state").unwrap();
    drop(series);
    let again = open(&path);
    assert!(again.take_set_aside().is_none());
    assert_eq!(means(&again, "a", &window), before);
    assert_eq!(again.state().unwrap().as_deref(), Some(&b"state"[..]));
    assert_eq!(means(&again, "unknown", &window), vec![None; 240]);
}

#[test]
fn coarser_pictures_have_means_and_extremes() {
    let directory = tempfile::tempdir().unwrap();
    let series = open(&directory.path().join("metrics.db"));
    fill(&series, 0..500, |step| (step % 20) as f32);
    for (span, pitch, points) in [(24 * HOUR, 300_000, 288), (168 * HOUR, 1_800_000, 336)] {
        let window = Window::last(at(499), span, STEP, 400);
        assert_eq!((window.pitch_ms(), window.points), (pitch, points));
        let columns = series.read(&["a".into()], &window).unwrap();
        let last: Vec<Cell> = (0..points).map(|point| columns[0].cell(point, 0)).collect();
        let known: Vec<&Cell> = last.iter().filter(|cell| cell.count > 0).collect();
        let samples: u32 = known.iter().map(|cell| cell.count).sum();
        assert_eq!(samples, 500, "each sample is in one point");
        assert_eq!(known[0].mean(), Some(9.5));
        assert_eq!((known[0].min, known[0].max), (0.0, 19.0));
    }
}

#[test]
fn gaps_are_missing_and_not_zero() {
    let directory = tempfile::tempdir().unwrap();
    let series = open(&directory.path().join("metrics.db"));
    fill(&series, 0..3, |_| 1.0);
    fill(&series, 40..42, |_| 1.0);
    let means = means(&series, "a", &Window::last(at(41), HOUR, STEP, 400));
    let known: Vec<usize> = (0..240).filter(|point| means[*point].is_some()).collect();
    assert_eq!(known, [198, 199, 200, 238, 239]);
}

#[test]
fn a_clock_that_is_set_back_begins_anew_there() {
    let directory = tempfile::tempdir().unwrap();
    let series = open(&directory.path().join("metrics.db"));
    fill(&series, 0..200, |_| 1.0);
    // A step that is there stays as it is.
    fill(&series, 199..200, |_| 7.0);
    fill(&series, 100..103, |_| 2.0);
    let means = means(&series, "a", &Window::last(at(199), HOUR, STEP, 400));
    assert_eq!((means[139], means[140], means[142]), (Some(1.0), Some(2.0), Some(2.0)));
    assert!(means[143..].iter().all(Option::is_none), "what was in the future is gone");
}

#[test]
fn old_samples_go_and_the_file_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.db");
    let config = Config { max_bytes: 300_000, ..Config::default() };
    let series = Series::open(&path, config).unwrap();
    let mut shortened = false;
    for step in 0..3_000 {
        let values: Vec<f32> = (0..30).map(|field| ((step * 7 + field) % 97) as f32).collect();
        let rows = vec![row("a", &values), row("b", &values)];
        shortened |= series.record(at(step), rows, b"").unwrap().shortened;
        let used = series.used_bytes().unwrap();
        assert!(used < 450_000, "{used} bytes at step {step}");
    }
    assert!(shortened, "a full file was said to be");
    let window = Window::last(at(2_999), 24 * HOUR, STEP, 400);
    let known = means(&series, "a", &window).iter().flatten().count();
    assert!(known > 100, "the coarser rows are still there: {known}");
}

#[test]
fn what_is_older_than_it_is_kept_goes() {
    let directory = tempfile::tempdir().unwrap();
    let series = open(&directory.path().join("metrics.db"));
    // One sample in each block, for two days.
    for block in 0..600 {
        series.record(at(block * 20), vec![row("a", &[1.0])], b"").unwrap();
    }
    let count = |table: &str| -> i64 {
        let connection = lock(&series.reader);
        let count = format!("select count(*) from {table}");
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    let raw = count("raw");
    assert!((KEPT_RAW..KEPT_RAW + COARSE_BLOCKS + 1).contains(&raw), "{raw} blocks of samples");
    assert_eq!((count("fine"), count("coarse"), count("recent")), (599, 99, 1));
}

#[test]
fn there_is_room_for_so_many_series_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_series: 2, ..Config::default() };
    let series = Series::open(&directory.path().join("metrics.db"), config).unwrap();
    let rows = || ["a", "b", "c"].map(|name| row(name, &[1.0])).to_vec();
    assert_eq!(series.record(at(0), rows(), b"").unwrap().refused, 1);
    series.forget("a").unwrap();
    let recorded = series.record(at(1), vec![row("c", &[1.0])], b"").unwrap();
    assert_eq!(recorded.refused, 0, "what is forgotten makes room");
}

#[test]
fn an_app_is_forgotten_with_its_instances_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let series = open(&directory.path().join("metrics.db"));
    for step in 0..30 {
        let names = ["app/1", "app/1/web.1", "app/10"];
        series.record(at(step), names.map(|name| row(name, &[1.0])).to_vec(), b"").unwrap();
    }
    assert_eq!(series.below("app/1"), ["app/1/web.1"]);
    series.forget("app/1").unwrap();
    let window = Window::last(at(29), HOUR, STEP, 400);
    assert!(means(&series, "app/1/web.1", &window).iter().all(Option::is_none));
    assert_eq!(means(&series, "app/10", &window).iter().flatten().count(), 30);
}

#[test]
fn a_damaged_file_is_set_aside_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.db");
    crate::support::atomic_file::write(&path, &[b'x'; 9000], 0o600).unwrap();
    let series = open(&path);
    let aside = series.take_set_aside().expect("it was told");
    assert_eq!(std::fs::read(&aside.path).unwrap(), [b'x'; 9000]);
    fill(&series, 0..3, |_| 1.0);
    drop(series);
    let other = Config { sample_s: 1, ..Config::default() };
    let series = Series::open(&path, other).unwrap();
    let why = series.take_set_aside().expect("another step is another file").why;
    assert!(why.contains("15000 ms"), "{why}");
}

#[test]
fn damage_that_shows_later_is_mended_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.db");
    let series = open(&path);
    fill(&series, 0..45, |_| 1.0);
    lock(&series.reader).pragma_update(None, "query_only", false).unwrap();
    lock(&series.reader).execute_batch("drop table recent").unwrap();
    let error = series.record(at(45), vec![row("a", &[1.0])], b"").unwrap_err();
    assert!(error.is_damage(), "{error:?}");
    series.start_anew(&error).unwrap();
    fill(&series, 46..48, |_| 2.0);
    let means = means(&series, "a", &Window::last(at(47), HOUR, STEP, 400));
    assert_eq!(means.iter().flatten().count(), 2);
}
