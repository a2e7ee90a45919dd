//! Reading: aligned columns of a window, from the coarsest rows that are fine enough.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::block::{BLOCK, Cell, add_row, decode_cells, decode_samples, merge};
use super::write::{BLOCK_TICKS, Head, summary};
use super::{COARSE_BLOCKS, Result, Series, failed, lock};
use crate::domain::Timestamp;

/// Steps of a point from which on the rows of blocks suffice, and the coarsest ones.
const COARSE_TICKS: i64 = BLOCK_TICKS * COARSE_BLOCKS;

/// What points of a picture may be apart, in steps.
const PITCHES: [i64; 7] = [1, 4, BLOCK_TICKS, 60, COARSE_TICKS, 480, 1_440];

/// The points of a picture, all the same span apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first point's start, in steps.
    first: i64,
    /// Between two points, in steps.
    pitch: i64,
    /// How many points.
    pub points: usize,
    step_ms: i64,
}

impl Window {
    /// The last `span_ms` up to `now`, in at most `max_points` points.
    pub fn last(now: Timestamp, span_ms: i64, step_ms: i64, max_points: usize) -> Self {
        let ticks = (span_ms / step_ms).max(1);
        let most = i64::try_from(max_points).unwrap_or(i64::MAX).max(1);
        let fits = |pitch: &&i64| ticks / **pitch <= most;
        let pitch = PITCHES.iter().find(fits).copied().unwrap_or(ticks / most + 1);
        Self::with_pitch(now, ticks, pitch, step_ms)
    }

    /// The last `span_ms` up to `now`, in points `apart_ms` apart: the next multiple of the step.
    pub fn with_points_apart(now: Timestamp, span_ms: i64, step_ms: i64, apart_ms: i64) -> Self {
        let pitch = (apart_ms + step_ms - 1) / step_ms;
        Self::with_pitch(now, (span_ms / step_ms).max(1), pitch.max(1), step_ms)
    }

    fn with_pitch(now: Timestamp, ticks: i64, pitch: i64, step_ms: i64) -> Self {
        let points = (ticks / pitch).max(1);
        // The last point holds `now`; points begin at multiples of their span, so that a picture
        // drawn again a little later has the same ones.
        let last = now.0.div_euclid(step_ms).div_euclid(pitch);
        let first = (last - points + 1) * pitch;
        Self { first, pitch, points: usize::try_from(points).unwrap_or(1), step_ms }
    }

    /// The first point's start.
    pub fn from(&self) -> Timestamp {
        Timestamp(self.first * self.step_ms)
    }

    /// The last point's end.
    pub fn to(&self) -> Timestamp {
        Timestamp(self.end() * self.step_ms)
    }

    /// Milliseconds between two points.
    pub fn pitch_ms(&self) -> i64 {
        self.pitch * self.step_ms
    }

    fn end(&self) -> i64 {
        self.first + self.pitch * i64::try_from(self.points).unwrap_or(0)
    }

    fn place(&self, tick: i64) -> Option<usize> {
        let place = usize::try_from((tick - self.first).div_euclid(self.pitch)).ok()?;
        (place < self.points).then_some(place)
    }
}

/// A series in a window: for each point a cell for each field; a point without any has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns(Vec<Vec<Cell>>);

impl Columns {
    fn new(window: &Window) -> Self {
        Self(vec![Vec::new(); window.points])
    }

    /// What `field` has at a point.
    pub fn cell(&self, point: usize, field: usize) -> Cell {
        self.0.get(point).and_then(|cells| cells.get(field)).copied().unwrap_or_default()
    }
}

impl Series {
    /// What the named series have in `window`, in their order; empty columns for unknown ones.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn read(&self, names: &[String], window: &Window) -> Result<Vec<Columns>> {
        let mut all = vec![Columns::new(window); names.len()];
        // What is in memory first: a block that is closed meanwhile is read from there, not twice.
        let (open, ids) = {
            let writer = self.writer();
            for (name, columns) in names.iter().zip(&mut all) {
                read_head(&writer.head, name, window, columns);
            }
            let ids: HashMap<&String, i64> =
                names.iter().filter_map(|name| Some((name, *writer.head.ids.get(name)?))).collect();
            (writer.head.block.unwrap_or(i64::MAX), ids)
        };
        let connection = lock(&self.reader);
        for (name, columns) in names.iter().zip(&mut all) {
            if let Some(id) = ids.get(name) {
                read_rows(&connection, *id, window, open, columns)
                    .map_err(failed("read series"))?;
            }
        }
        Ok(all)
    }

    /// The names of the series below `name/`, with those that are silent now.
    pub fn below(&self, name: &str) -> Vec<String> {
        let below = format!("{name}/");
        let writer = self.writer();
        let mut names: Vec<String> =
            writer.head.ids.keys().filter(|name| name.starts_with(&below)).cloned().collect();
        names.sort();
        names
    }

    /// Bytes of the file's pages in use.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn used_bytes(&self) -> Result<u64> {
        super::write::used_bytes(&lock(&self.reader)).map_err(failed("read the file's size"))
    }
}

/// The block that is being filled; by its sum where points are as wide as blocks.
fn read_head(head: &Head, name: &str, window: &Window, columns: &mut Columns) {
    let (Some(block), Some(id)) = (head.block, head.ids.get(name)) else { return };
    let Some(samples) = head.rows.get(id) else { return };
    let first = block * BLOCK_TICKS;
    if window.pitch >= BLOCK_TICKS {
        if let Some(place) = window.place(first) {
            merge(&mut columns.0[place], &summary(samples));
        }
        return;
    }
    for (tick, row) in (first..).zip(samples) {
        if let (Some(row), Some(place)) = (row, window.place(tick)) {
            add_row(&mut columns.0[place], row);
        }
    }
}

fn read_rows(
    connection: &Connection,
    id: i64,
    window: &Window,
    open: i64,
    columns: &mut Columns,
) -> rusqlite::Result<()> {
    let from = window.first.div_euclid(BLOCK_TICKS);
    let until = window.end().div_euclid(BLOCK_TICKS).saturating_add(1).min(open);
    if window.pitch % COARSE_TICKS == 0 {
        // Points begin where coarse rows do; what has no such row yet is in finer ones.
        let mut covered = from;
        read_cells(connection, "coarse", id, (from, until), |block, cells| {
            covered = covered.max(block + COARSE_BLOCKS);
            put(window, columns, block, &cells);
        })?;
        return read_cells(connection, "fine", id, (covered, until), |block, cells| {
            put(window, columns, block, &cells);
        });
    }
    if window.pitch % BLOCK_TICKS == 0 {
        return read_cells(connection, "fine", id, (from, until), |block, cells| {
            put(window, columns, block, &cells);
        });
    }
    let select = "select block, samples from raw where series = ? and block >= ? and block < ?";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query(params![id, from, until])?;
    while let Some(row) = rows.next()? {
        let (block, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let fields = decode_samples(&bytes);
        for (step, tick) in (0..BLOCK).zip(block * BLOCK_TICKS..) {
            if let Some(place) = window.place(tick) {
                let values: Vec<f32> = fields.iter().map(|column| column[step]).collect();
                add_row(&mut columns.0[place], &values);
            }
        }
    }
    Ok(())
}

fn read_cells(
    connection: &Connection,
    table: &str,
    id: i64,
    (from, until): (i64, i64),
    mut each: impl FnMut(i64, Vec<Cell>),
) -> rusqlite::Result<()> {
    let select =
        format!("select block, cells from {table} where series = ? and block >= ? and block < ?");
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query(params![id, from, until])?;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(1)?;
        each(row.get(0)?, decode_cells(&bytes));
    }
    Ok(())
}

fn put(window: &Window, columns: &mut Columns, block: i64, cells: &[Cell]) {
    if let Some(place) = window.place(block * BLOCK_TICKS) {
        merge(&mut columns.0[place], cells);
    }
}
