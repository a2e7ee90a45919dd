//! Build records and the outcomes of pushes.

use rusqlite::{OptionalExtension, Row, params};

use super::{Error, Result, Store, failed, from_json, from_text, to_json, to_text};
use crate::domain::{Actor, AppId, Build, BuildId, BuildStatus, ReleaseVersion, Timestamp};

/// A build to be.
#[derive(Debug)]
pub struct NewBuild<'a> {
    /// For which app.
    pub app: AppId,
    /// Of which commit.
    pub commit: &'a str,
    /// Who pushed.
    pub actor: &'a Actor,
    /// Now.
    pub created_at: Timestamp,
}

const COLUMNS: &str =
    "id, app, commit_id, actor, status, failure, created_at, finished_at, release";

impl Store {
    /// Records a queued build.
    pub fn add_build(&self, build: &NewBuild<'_>) -> Result<Build> {
        let connection = self.lock();
        connection
            .execute(
                "insert into builds (app, commit_id, actor, status, created_at) values (?, ?, ?, ?, ?)",
                params![
                    build.app.0,
                    build.commit,
                    to_json(build.actor),
                    to_text(&BuildStatus::Queued),
                    build.created_at.0
                ],
            )
            .map_err(failed("insert build"))?;
        let id = BuildId(connection.last_insert_rowid());
        drop(connection);
        self.build(id)?.ok_or(Error::Statement {
            operation: "read new build",
            source: rusqlite::Error::QueryReturnedNoRows,
        })
    }

    /// Marks a build as running.
    pub fn start_build(&self, id: BuildId) -> Result<()> {
        self.lock()
            .execute(
                "update builds set status = ? where id = ?",
                params![to_text(&BuildStatus::Running), id.0],
            )
            .map_err(failed("start build"))?;
        Ok(())
    }

    /// Records a build's end.
    pub fn finish_build(
        &self,
        id: BuildId,
        status: BuildStatus,
        failure: Option<&str>,
        release: Option<ReleaseVersion>,
        at: Timestamp,
    ) -> Result<()> {
        self.lock()
            .execute(
                "update builds set status = ?, failure = ?, release = ?, finished_at = ? where id = ?",
                params![to_text(&status), failure, release.map(|version| version.0), at.0, id.0],
            )
            .map_err(failed("finish build"))?;
        Ok(())
    }

    /// One build.
    pub fn build(&self, id: BuildId) -> Result<Option<Build>> {
        let connection = self.lock();
        let sql = format!("select {COLUMNS} from builds where id = ?");
        let mut statement = connection.prepare_cached(&sql).map_err(failed("read build"))?;
        let columns =
            statement.query_row([id.0], build_columns).optional().map_err(failed("read build"))?;
        columns.map(build_from).transpose()
    }

    /// An app's builds, newest first.
    pub fn builds(&self, app: AppId, limit: usize) -> Result<Vec<Build>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.list_builds("app = ? order by id desc limit ?", params![app.0, limit])
    }

    /// Builds that never ended: the control plane died under them.
    pub fn interrupted_builds(&self) -> Result<Vec<Build>> {
        self.list_builds(
            "status in (?, ?) order by id",
            params![to_text(&BuildStatus::Queued), to_text(&BuildStatus::Running)],
        )
    }

    /// Drops the oldest build records of an app beyond `keep`; answers their numbers.
    pub fn prune_builds(&self, app: AppId, keep: u32) -> Result<Vec<BuildId>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "delete from builds where app = ?1 and finished_at is not null and id not in
                 (select id from builds where app = ?1 order by id desc limit ?2) returning id",
            )
            .map_err(failed("prune builds"))?;
        let rows = statement
            .query_map(params![app.0, keep], |row| row.get(0).map(BuildId))
            .map_err(failed("prune builds"))?;
        rows.map(|row| row.map_err(failed("prune builds"))).collect()
    }

    /// Keeps what became of a push, for a hook that lost its connection; forgets old ones.
    pub fn set_push_outcome<T: serde::Serialize>(
        &self,
        id: &str,
        outcome: &T,
        at: Timestamp,
    ) -> Result<()> {
        /// A hook asks within a minute; a day leaves room for people who look.
        const KEPT_MS: i64 = 86_400_000;
        let connection = self.lock();
        connection
            .execute("delete from pushes where at < ?", [at.0 - KEPT_MS])
            .and_then(|_| {
                connection.execute(
                    "insert into pushes (id, at, outcome) values (?1, ?2, ?3)
                     on conflict (id) do update set at = ?2, outcome = ?3",
                    params![id, at.0, to_json(outcome)],
                )
            })
            .map_err(failed("write push outcome"))?;
        Ok(())
    }

    /// Gives every push that stands at `pending` the outcome `outcome`.
    pub fn settle_pushes<T: serde::Serialize>(&self, pending: &T, outcome: &T) -> Result<()> {
        self.lock()
            .execute(
                "update pushes set outcome = ? where outcome = ?",
                [to_json(outcome), to_json(pending)],
            )
            .map_err(failed("settle pushes"))?;
        Ok(())
    }

    /// What became of a push.
    pub fn push_outcome<T: serde::de::DeserializeOwned>(&self, id: &str) -> Result<Option<T>> {
        let text: Option<String> = self
            .lock()
            .query_row("select outcome from pushes where id = ?", [id], |row| row.get(0))
            .optional()
            .map_err(failed("read push outcome"))?;
        text.map(|text| from_json("push outcome", &text)).transpose()
    }

    fn list_builds(&self, condition: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Build>> {
        let connection = self.lock();
        let sql = format!("select {COLUMNS} from builds where {condition}");
        let mut statement = connection.prepare_cached(&sql).map_err(failed("list builds"))?;
        let rows = statement.query_map(values, build_columns).map_err(failed("list builds"))?;
        rows.map(|row| build_from(row.map_err(failed("list builds"))?)).collect()
    }
}

type Columns = (i64, u32, String, String, String, Option<String>, i64, Option<i64>, Option<u32>);

fn build_columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
        row.get(8)?,
    ))
}

fn build_from(columns: Columns) -> Result<Build> {
    let (id, app, commit, actor, status, failure, created_at, finished_at, release) = columns;
    Ok(Build {
        id: BuildId(id),
        app: AppId(app),
        commit,
        actor: from_json("actor", &actor)?,
        status: from_text("build status", status)?,
        failure,
        created_at: Timestamp(created_at),
        finished_at: finished_at.map(Timestamp),
        release: release.map(ReleaseVersion),
    })
}
