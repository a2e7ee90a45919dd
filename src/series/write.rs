//! Writing: one row for each series at each step, blocks as they fill, and what must go.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::block::{
    BLOCK, Cell, add_row, decode_cells, decode_row, encode_cells, encode_row, encode_samples, merge,
};
use super::{COARSE_BLOCKS, Config, KEPT_COARSE, KEPT_FINE, KEPT_RAW, Result, Series, failed};
use crate::domain::Timestamp;

/// Steps in a block, for sums of ticks.
pub(super) const BLOCK_TICKS: i64 = BLOCK as i64;

/// How far back the clock may be set without what is recorded after now being dropped, in steps.
const SET_BACK: i64 = BLOCK_TICKS;

/// What one series has at one step; fields without a value are NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name, such as `app/7` or `app/7/web.1`.
    pub series: String,
    /// Its fields, in the order that the caller gives them a meaning by.
    pub values: Vec<f32>,
}

/// What became of a [`Series::record`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Series that there was no room for.
    pub refused: usize,
    /// Old detail went before its time, because the file was full.
    pub shortened: bool,
}

/// The block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Its number; none before the first sample.
    pub(super) block: Option<i64>,
    /// The last step that was recorded.
    pub(super) last: i64,
    pub(super) rows: HashMap<i64, Samples>,
    /// The number of each series.
    pub(super) ids: HashMap<String, i64>,
}

/// A series' samples of one block.
pub(super) type Samples = [Option<Vec<f32>>; BLOCK];

impl Head {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut head = Self::default();
        let mut series = connection.prepare("select name, id from series")?;
        for pair in series.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (name, id) = pair?;
            head.ids.insert(name, id);
        }
        let mut recent =
            connection.prepare("select tick, series, row from recent order by tick")?;
        let mut rows = recent.query([])?;
        while let Some(row) = rows.next()? {
            let (tick, series, bytes): (i64, i64, Vec<u8>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            head.put(tick, series, decode_row(&bytes));
        }
        Ok(head)
    }

    fn put(&mut self, tick: i64, series: i64, row: Vec<f32>) {
        self.block = Some(tick.div_euclid(BLOCK_TICKS));
        self.last = tick;
        let place = usize::try_from(tick.rem_euclid(BLOCK_TICKS)).unwrap_or(0);
        let samples = self.rows.entry(series).or_insert_with(|| std::array::from_fn(|_| None));
        samples[place] = Some(row);
    }
}

impl Series {
    /// Records what there is at `at`, in one transaction; a step that was recorded already is left
    /// as it is. `state` is kept for [`Series::state`].
    ///
    /// # Errors
    /// As SQLite says; nothing is recorded then.
    pub fn record(&self, at: Timestamp, rows: Vec<Row>, state: &[u8]) -> Result<Recorded> {
        let tick = at.0.div_euclid(self.step_ms());
        let mut writer = self.writer();
        let writer = &mut *writer;
        let head = &mut writer.head;
        if head.block.is_some() && tick <= head.last && tick > head.last - SET_BACK {
            return Ok(Recorded::default());
        }
        let transaction = writer.connection.transaction().map_err(failed("begin a sample"))?;
        let set_back = head.block.is_some() && tick <= head.last;
        if set_back {
            forget_after(&transaction, tick).map_err(failed("drop samples of the future"))?;
        }
        let block = tick.div_euclid(BLOCK_TICKS);
        let full = head.block.filter(|open| !set_back && *open != block);
        let mut recorded = Recorded::default();
        if let Some(full) = full {
            close(&transaction, head, full, block).map_err(failed("close a block of samples"))?;
        }
        let mut added = Vec::new();
        for row in rows {
            match id_of(&transaction, &self.config, head, &added, &row.series)
                .map_err(failed("find a series"))?
            {
                Some(id) => {
                    insert(&transaction, tick, id, &row.values).map_err(failed("add a sample"))?;
                    added.push((row.series, id, row.values));
                }
                None => recorded.refused += 1,
            }
        }
        keep_state(&transaction, state).map_err(failed("keep the sampler's state"))?;
        transaction.commit().map_err(failed("commit a sample"))?;
        // Only now: what was rolled back must not be in memory.
        if set_back || full.is_some() {
            head.rows.clear();
        }
        (head.block, head.last) = (Some(block), tick);
        for (name, id, values) in added {
            head.put(tick, id, values);
            head.ids.insert(name, id);
        }
        if full.is_some() {
            recorded.shortened = self.prune(&writer.connection, &mut writer.head, block)?;
        }
        Ok(recorded)
    }

    /// Forgets series: `name` and all below `name/`.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn forget(&self, name: &str) -> Result<()> {
        let below = format!("{name}/");
        let mut writer = self.writer();
        let writer = &mut *writer;
        let ids: Vec<(String, i64)> = writer
            .head
            .ids
            .iter()
            .filter(|(known, _)| *known == name || known.starts_with(&below))
            .map(|(known, id)| (known.clone(), *id))
            .collect();
        let transaction = writer.connection.transaction().map_err(failed("begin forgetting"))?;
        for (_, id) in &ids {
            remove_series(&transaction, *id).map_err(failed("forget a series"))?;
        }
        transaction.commit().map_err(failed("commit forgetting"))?;
        for (known, id) in ids {
            writer.head.ids.remove(&known);
            writer.head.rows.remove(&id);
        }
        Ok(())
    }

    /// What was given with the last [`Series::record`].
    ///
    /// # Errors
    /// As SQLite says.
    pub fn state(&self) -> Result<Option<Vec<u8>>> {
        let writer = self.writer();
        let state = "select value from meta where key = 'state'";
        let row = writer.connection.query_row(state, [], |row| row.get(0)).optional();
        row.map_err(failed("read the sampler's state"))
    }

    /// Removes what is older than it is kept for, and more where the file is full. Whether the
    /// latter.
    fn prune(&self, connection: &Connection, head: &mut Head, block: i64) -> Result<bool> {
        let failed = || failed("remove old samples");
        // Half an hour's slack spares most calls a walk over all series.
        if block.rem_euclid(COARSE_BLOCKS) == 0 {
            for (table, kept) in [("raw", KEPT_RAW), ("fine", KEPT_FINE), ("coarse", KEPT_COARSE)] {
                prune_table(connection, head, table, block - kept).map_err(|e| failed()(e))?;
            }
            forget_silent(connection, head, block).map_err(|e| failed()(e))?;
        }
        let full = || -> Result<bool> {
            Ok(used_bytes(connection).map_err(|e| failed()(e))? > self.config.max_bytes)
        };
        if !full()? {
            return Ok(false);
        }
        // The finest first: a coarse month says more than a fine hour.
        for (table, kept) in [("raw", KEPT_RAW), ("fine", KEPT_FINE), ("coarse", KEPT_COARSE)] {
            for share in [2, 4, 8, 16] {
                prune_table(connection, head, table, block - kept / share)
                    .map_err(|e| failed()(e))?;
                if !full()? {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }
}

fn id_of(
    transaction: &Transaction<'_>,
    config: &Config,
    head: &Head,
    added: &[(String, i64, Vec<f32>)],
    name: &str,
) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = head.ids.get(name) {
        return Ok(Some(*id));
    }
    let new = added.iter().filter(|(name, ..)| !head.ids.contains_key(name)).count();
    if head.ids.len() + new >= usize::try_from(config.max_series).unwrap_or(usize::MAX) {
        return Ok(None);
    }
    let insert = "insert into series (name, seen) values (?, 0)
        on conflict (name) do update set seen = seen returning id";
    let id = transaction.prepare_cached(insert)?.query_row([name], |row| row.get(0))?;
    Ok(Some(id))
}

fn insert(
    transaction: &Transaction<'_>,
    tick: i64,
    series: i64,
    values: &[f32],
) -> rusqlite::Result<()> {
    let insert = "insert or replace into recent (tick, series, row) values (?, ?, ?)";
    transaction.prepare_cached(insert)?.execute(params![tick, series, encode_row(values)])?;
    Ok(())
}

fn keep_state(transaction: &Transaction<'_>, state: &[u8]) -> rusqlite::Result<()> {
    let insert = "insert or replace into meta (key, value) values ('state', ?)";
    transaction.prepare_cached(insert)?.execute([state])?;
    Ok(())
}

/// Writes the block `full` out; the next one is `next`.
fn close(transaction: &Transaction<'_>, head: &Head, full: i64, next: i64) -> rusqlite::Result<()> {
    let mut raw = transaction.prepare_cached("insert or replace into raw values (?, ?, ?)")?;
    let mut fine = transaction.prepare_cached("insert or replace into fine values (?, ?, ?)")?;
    let mut seen = transaction.prepare_cached("update series set seen = ? where id = ?")?;
    for (series, samples) in &head.rows {
        raw.execute(params![series, full, encode_samples(samples)])?;
        fine.execute(params![series, full, encode_cells(&summary(samples))])?;
        seen.execute(params![full, series])?;
    }
    transaction.execute("delete from recent", [])?;
    let window = full.div_euclid(COARSE_BLOCKS);
    match window == next.div_euclid(COARSE_BLOCKS) {
        true => Ok(()),
        false => roll_up(transaction, window),
    }
}

/// What a block's samples come to, for each field.
pub(super) fn summary(samples: &Samples) -> Vec<Cell> {
    let mut cells = Vec::new();
    samples.iter().flatten().for_each(|row| add_row(&mut cells, row));
    cells
}

/// Makes the rows of the coarsest table for one of its windows.
fn roll_up(transaction: &Transaction<'_>, window: i64) -> rusqlite::Result<()> {
    let first = window * COARSE_BLOCKS;
    let mut series = transaction.prepare_cached("select id from series where seen >= ?")?;
    let mut fine = transaction
        .prepare_cached("select cells from fine where series = ? and block >= ? and block < ?")?;
    let mut coarse =
        transaction.prepare_cached("insert or replace into coarse values (?, ?, ?)")?;
    for id in series.query_map([first], |row| row.get::<_, i64>(0))? {
        let id = id?;
        let mut cells = Vec::new();
        let range = params![id, first, first + COARSE_BLOCKS];
        for bytes in fine.query_map(range, |row| row.get::<_, Vec<u8>>(0))? {
            merge(&mut cells, &decode_cells(&bytes?));
        }
        coarse.execute(params![id, first, encode_cells(&cells)])?;
    }
    Ok(())
}

/// Drops what a clock that was ahead has left.
fn forget_after(transaction: &Transaction<'_>, tick: i64) -> rusqlite::Result<()> {
    let block = tick.div_euclid(BLOCK_TICKS);
    transaction.execute("delete from recent", [])?;
    for table in ["raw", "fine", "coarse"] {
        transaction.execute(&format!("delete from {table} where block >= ?"), [block])?;
    }
    transaction.execute("update series set seen = min(seen, ?)", [block])?;
    Ok(())
}

fn prune_table(
    connection: &Connection,
    head: &Head,
    table: &str,
    before: i64,
) -> rusqlite::Result<()> {
    // By series, as the rows lie; one transaction, or each would be one.
    let transaction = connection.unchecked_transaction()?;
    let delete = format!("delete from {table} where series = ? and block < ?");
    let mut delete = transaction.prepare_cached(&delete)?;
    for id in head.ids.values() {
        delete.execute([*id, before])?;
    }
    drop(delete);
    transaction.commit()
}

/// Forgets series of which nothing is left.
fn forget_silent(connection: &Connection, head: &mut Head, block: i64) -> rusqlite::Result<()> {
    let mut silent =
        connection.prepare_cached("select id, name from series where seen < ? and seen > 0")?;
    let rows = silent.query_map([block - KEPT_COARSE], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(i64, String)> = rows.collect::<rusqlite::Result<_>>()?;
    for (id, name) in found {
        if !head.rows.contains_key(&id) {
            remove_series(connection, id)?;
            head.ids.remove(&name);
        }
    }
    Ok(())
}

fn remove_series(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    for table in ["recent", "raw", "fine", "coarse"] {
        connection.execute(&format!("delete from {table} where series = ?"), [id])?;
    }
    connection.execute("delete from series where id = ?", [id])?;
    Ok(())
}

/// Bytes of the pages in use; free ones are used again first.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| -> rusqlite::Result<i64> {
        connection.query_row(&format!("pragma {pragma}"), [], |row| row.get(0))
    };
    let pages = number("page_count")? - number("freelist_count")?;
    Ok(u64::try_from(pages * number("page_size")?).unwrap_or(0))
}
