//! Releases: written once; only their status changes.

use rusqlite::{OptionalExtension, Row, params};

use super::apps::write_settings;
use super::{Result, Settings, Store, failed, from_json, from_text, to_json, to_text};
use crate::domain::{App, AppId, Release, ReleaseStatus, ReleaseVersion};

/// A release to be; its version and status are the store's to give.
#[derive(Debug)]
pub struct NewRelease {
    /// All of it but the version.
    pub release: Release,
}

impl Store {
    /// Keeps a release under the app's next version, as `deploying`.
    pub fn add_release(&self, new: NewRelease) -> Result<Release> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        let mut release = new.release;
        let version: u32 = transaction
            .query_row(
                "select coalesce(max(version), 0) + 1 from releases where app = ?",
                [release.app.0],
                |row| row.get(0),
            )
            .map_err(failed("number release"))?;
        release.version = ReleaseVersion(version);
        release.status = ReleaseStatus::Deploying;
        transaction
            .execute(
                "insert into releases (app, version, body, status) values (?, ?, ?, ?)",
                params![release.app.0, version, to_json(&release), to_text(&release.status)],
            )
            .map_err(failed("insert release"))?;
        transaction.commit().map_err(failed("commit release"))?;
        Ok(release)
    }

    /// One release.
    pub fn release(&self, app: AppId, version: ReleaseVersion) -> Result<Option<Release>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select body, status, failure from releases where app = ? and version = ?",
            )
            .map_err(failed("read release"))?;
        let columns = statement
            .query_row(params![app.0, version.0], release_columns)
            .optional()
            .map_err(failed("read release"))?;
        columns.map(release_from).transpose()
    }

    /// An app's releases, newest first.
    pub fn releases(&self, app: AppId, limit: usize) -> Result<Vec<Release>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select body, status, failure from releases where app = ? order by version desc limit ?",
            )
            .map_err(failed("list releases"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![app.0, limit], release_columns)
            .map_err(failed("list releases"))?;
        rows.map(|row| release_from(row.map_err(failed("list releases"))?)).collect()
    }

    /// Makes `version` the release that serves: the commit point of a deploy. With it go the app's
    /// run state and count of restarts, and the `settings` it was made from, if they are new: a
    /// power cut must not part them.
    pub fn set_current_release(
        &self,
        app: &App,
        version: ReleaseVersion,
        settings: Option<&Settings>,
    ) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        if let Some(settings) = settings {
            write_settings(&transaction, app.id, settings)?;
        }
        transaction
            .execute(
                "update apps set current_release = ?, run_state = ?, restarts = ? where id = ?",
                params![version.0, to_text(&app.run_state), app.restarts, app.id.0],
            )
            .map_err(failed("set current release"))?;
        transaction
            .execute(
                "update releases set status = ?, failure = null where app = ? and version = ?",
                params![to_text(&ReleaseStatus::Succeeded), app.id.0, version.0],
            )
            .map_err(failed("set release status"))?;
        transaction.commit().map_err(failed("commit current release"))
    }

    /// Marks a release as one that never served, unless it did.
    pub fn fail_release(&self, app: AppId, version: ReleaseVersion, failure: &str) -> Result<()> {
        self.lock()
            .execute(
                "update releases set status = ?, failure = ? where app = ? and version = ? and status = ?",
                params![
                    to_text(&ReleaseStatus::Failed),
                    failure,
                    app.0,
                    version.0,
                    to_text(&ReleaseStatus::Deploying)
                ],
            )
            .map_err(failed("set release status"))?;
        Ok(())
    }

    /// Releases whose deploy neither succeeded nor failed: the control plane died under them.
    pub fn interrupted_releases(&self) -> Result<Vec<Release>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select body, status, failure from releases where status = ? order by app, version",
            )
            .map_err(failed("list interrupted releases"))?;
        let rows = statement
            .query_map([to_text(&ReleaseStatus::Deploying)], release_columns)
            .map_err(failed("list interrupted releases"))?;
        rows.map(|row| release_from(row.map_err(failed("list interrupted releases"))?)).collect()
    }

    /// The images of all kept releases.
    pub fn release_images(&self) -> Result<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select distinct json_extract(body, '$.image') from releases where status <> 'failed'")
            .map_err(failed("list images"))?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(failed("list images"))?;
        rows.map(|row| row.map_err(failed("list images"))).collect()
    }

    /// Drops the oldest releases of an app beyond `keep`, never the current one.
    pub fn prune_releases(&self, app: AppId, keep: u32) -> Result<usize> {
        self.lock()
            .execute(
                "delete from releases where app = ?1
                 and version <= (select max(version) from releases where app = ?1) - ?2
                 and version <> (select coalesce(current_release, 0) from apps where id = ?1)",
                params![app.0, keep],
            )
            .map_err(failed("prune releases"))
    }
}

type Columns = (String, String, Option<String>);

fn release_columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn release_from((body, status, failure): Columns) -> Result<Release> {
    let release: Release = from_json("release", &body)?;
    Ok(Release { status: from_text("release status", status)?, failure, ..release })
}
