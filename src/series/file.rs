//! The file: its tables, and what becomes of one that cannot be read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::write::Head;
use super::{Config, Error, Result, SetAside, Unusable};
use crate::support::report;

/// Raised when older files cannot be read any more.
const SCHEMA: i64 = 1;

/// Rows by series first, so that a query of one series reads pages of its own.
const TABLES: &str = "
    create table meta (key text primary key, value blob not null) without rowid;
    create table series (id integer primary key, name text not null unique, seen integer not null);
    create table recent (tick integer, series integer, row blob not null,
        primary key (tick, series)) without rowid;
    create table raw (series integer, block integer, samples blob not null,
        primary key (series, block)) without rowid;
    create table fine (series integer, block integer, cells blob not null,
        primary key (series, block)) without rowid;
    create table coarse (series integer, block integer, cells blob not null,
        primary key (series, block)) without rowid;
";

type Files = (Connection, Connection, Head);

/// Opens the file for writing and for reading, and what its last block has so far.
pub(super) fn open(path: &Path, config: &Config) -> std::result::Result<Files, Unusable> {
    open_all(path, config).map_err(|source| match is_damage(&source) {
        true => Unusable::Damaged(report(&source)),
        false => Unusable::Failed(Error::Open { path: path.to_owned(), source }),
    })?
}

type Opened = std::result::Result<Files, Unusable>;

fn open_all(path: &Path, config: &Config) -> rusqlite::Result<Opened> {
    let connection = connect(path)?;
    let schema: i64 = connection.query_row("pragma user_version", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    let step = config.step_ms();
    match (schema, tables) {
        (SCHEMA, _) => {}
        (0, 0) => make(&connection, step)?,
        (other, _) => {
            return Ok(Err(Unusable::Damaged(format!("it has schema {other}, not {SCHEMA}"))));
        }
    }
    let kept: Option<i64> = connection
        .query_row("select value from meta where key = 'step_ms'", [], |row| row.get(0))
        .optional()?;
    if kept != Some(step) {
        let kept = kept.map_or("no step".to_owned(), |kept| format!("a step of {kept} ms"));
        return Ok(Err(Unusable::Damaged(format!("it has {kept}, the setting is {step} ms"))));
    }
    let head = Head::load(&connection)?;
    let reader = connect(path)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok(Ok((connection, reader, head)))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Whole after a power cut, if a few samples short: pictures need no more.
    connection.pragma_update(None, "synchronous", "normal")?;
    // Pages of 4 KiB; 8 MiB for each connection.
    connection.pragma_update(None, "cache_size", -8192)?;
    Ok(connection)
}

fn make(connection: &Connection, step_ms: i64) -> rusqlite::Result<()> {
    let version = format!("pragma user_version = {SCHEMA};");
    let step = format!("insert into meta values ('step_ms', {step_ms});");
    connection.execute_batch(&format!("begin; {TABLES} {step} {version} commit;"))
}

/// Whether the file is not what it should be, as against a machine that cannot write.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            let missing = message.as_ref().is_some_and(|text| text.starts_with("no such"));
            missing || matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..) => {
            true
        }
        _ => false,
    }
}

/// Moves the file to `<name>.damaged`, in the place of the one before, and its log away.
pub(super) fn set_aside(path: &Path, why: String) -> Result<SetAside> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(".damaged");
    let failed = |source| Error::SetAside { path: path.to_owned(), source };
    std::fs::rename(path, &aside).map_err(failed)?;
    for log in [with("-wal"), with("-shm")] {
        match std::fs::remove_file(&log) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::SetAside { path: log, source }),
        }
    }
    Ok(SetAside { path: aside, why })
}
