//! Apps, their current settings and their domains.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Error, Result, Store, failed, from_json, from_text, taken, to_json, to_text};
use crate::domain::{
    App, AppId, AppName, BranchName, CheckSettings, ConfigVars, Formation, Hostname,
    ReleaseVersion, ResourceSettings, RunState, Timestamp, VolumeMounts,
};

/// The most apps on one machine: the number of ranges of 65,536 user ids set aside for them; those
/// after it are services'.
const MAX_APPS: u32 = 3000;

/// An app to be.
#[derive(Debug)]
pub struct NewApp<'a> {
    /// Its name.
    pub name: &'a AppName,
    /// The stack of its builds.
    pub stack: &'a str,
    /// Now.
    pub created_at: Timestamp,
}

/// What the next release of an app will be made with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Config vars.
    pub config: ConfigVars,
    /// Wanted instances.
    pub formation: Formation,
    /// Quotas.
    pub resources: ResourceSettings,
    /// Deploy checks.
    pub checks: CheckSettings,
    /// Volumes and where they are.
    pub mounts: VolumeMounts,
}

const COLUMNS: &str =
    "id, name, created_at, deploy_branch, stack, run_state, restarts, current_release";

impl Store {
    /// Creates an app; its id is the smallest unused one.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken, [`Error::Full`] at the limit.
    pub fn create_app(&self, app: &NewApp<'_>) -> Result<App> {
        let connection = self.lock();
        let id: u32 = connection
            .query_row(
                "select min(candidate) from (select 1 as candidate union select id + 1 from apps)
                 where candidate not in (select id from apps)",
                [],
                |row| row.get(0),
            )
            .map_err(failed("find a free app id"))?;
        if id > MAX_APPS {
            return Err(Error::Full { what: "apps", limit: MAX_APPS });
        }
        connection
            .execute(
                "insert into apps (id, name, created_at, stack, run_state) values (?, ?, ?, ?, ?)",
                params![
                    id,
                    app.name.as_str(),
                    app.created_at.0,
                    app.stack,
                    to_text(&RunState::Running)
                ],
            )
            .map_err(taken("app", app.name.as_str(), "insert app"))?;
        read_app(&connection, "name = ?", app.name.as_str())?.ok_or(Error::Statement {
            operation: "read new app",
            source: rusqlite::Error::QueryReturnedNoRows,
        })
    }

    /// The app of that name.
    pub fn app(&self, name: &AppName) -> Result<Option<App>> {
        read_app(&self.lock(), "name = ?", name.as_str())
    }

    /// The app of that number.
    pub fn app_by_id(&self, id: AppId) -> Result<Option<App>> {
        read_app(&self.lock(), "id = ?", id.0)
    }

    /// All apps by name.
    pub fn apps(&self) -> Result<Vec<App>> {
        let connection = self.lock();
        let sql = format!("select {COLUMNS} from apps order by name");
        let mut statement = connection.prepare_cached(&sql).map_err(failed("list apps"))?;
        let rows = statement.query_map([], app_columns).map_err(failed("list apps"))?;
        rows.map(|row| app_from(row.map_err(failed("list apps"))?)).collect()
    }

    /// Gives an app another name.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is taken.
    pub fn rename_app(&self, id: AppId, name: &AppName) -> Result<()> {
        self.lock()
            .execute("update apps set name = ? where id = ?", params![name.as_str(), id.0])
            .map_err(taken("app", name.as_str(), "rename app"))?;
        Ok(())
    }

    /// Removes an app and all that belongs to it.
    pub fn remove_app(&self, id: AppId) -> Result<()> {
        self.update("delete from apps where id = ?1", "remove app", id, rusqlite::types::Null)
    }

    /// Sets the branch whose pushes deploy.
    pub fn set_deploy_branch(&self, id: AppId, branch: Option<&BranchName>) -> Result<()> {
        let branch = branch.map(BranchName::as_str);
        self.update(
            "update apps set deploy_branch = ?2 where id = ?1",
            "set deploy branch",
            id,
            branch,
        )
    }

    /// Sets whether instances should run.
    pub fn set_run_state(&self, id: AppId, state: RunState) -> Result<()> {
        let state = to_text(&state);
        self.update("update apps set run_state = ?2 where id = ?1", "set run state", id, state)
    }

    /// The settings of the next release.
    pub fn settings(&self, id: AppId) -> Result<Settings> {
        let columns = self
            .lock()
            .query_row(
                "select config, formation, resources, checks, mounts from apps where id = ?",
                [id.0],
                |row| {
                    Ok::<[String; 5], _>([
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                    ])
                },
            )
            .map_err(failed("read settings"))?;
        let [config, formation, resources, checks, mounts] = &columns;
        Ok(Settings {
            config: from_json("config", config)?,
            formation: from_json("formation", formation)?,
            resources: from_json("resources", resources)?,
            checks: from_json("checks", checks)?,
            mounts: from_json("mounts", mounts)?,
        })
    }

    /// Replaces the settings of the next release.
    pub fn set_settings(&self, id: AppId, settings: &Settings) -> Result<()> {
        write_settings(&self.lock(), id, settings)
    }

    /// An app's own domains; none where it has the default ones.
    pub fn domains(&self, id: AppId) -> Result<Option<Vec<Hostname>>> {
        let connection = self.lock();
        let custom: bool = connection
            .query_row("select custom_domains from apps where id = ?", [id.0], |row| row.get(0))
            .map_err(failed("read domains"))?;
        if !custom {
            return Ok(None);
        }
        let mut statement = connection
            .prepare_cached("select hostname from domains where app = ? order by hostname")
            .map_err(failed("read domains"))?;
        let rows = statement.query_map([id.0], |row| row.get(0)).map_err(failed("read domains"))?;
        rows.map(|row| from_text("hostname", row.map_err(failed("read domains"))?))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Whether another app has `domain` as its own, or all of it by a route.
    pub fn is_given_to_another(&self, id: AppId, domain: &Hostname) -> Result<bool> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select exists (select 1 from domains where hostname = ?1 and app <> ?2)
                     or exists (select 1 from routes where domain = ?1 and path = '/' and app <> ?2)",
            )
            .map_err(failed("look a domain up"))?;
        statement
            .query_row(params![domain.as_str(), id.0], |row| row.get(0))
            .map_err(failed("look a domain up"))
    }

    /// Replaces an app's own domains; `None` goes back to the default ones.
    ///
    /// # Errors
    /// [`Error::Exists`] if another app has one of them.
    pub fn set_domains(&self, id: AppId, domains: Option<&[Hostname]>) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        transaction
            .execute("delete from domains where app = ?", [id.0])
            .map_err(failed("remove domains"))?;
        transaction
            .execute(
                "update apps set custom_domains = ? where id = ?",
                params![domains.is_some(), id.0],
            )
            .map_err(failed("mark domains"))?;
        for domain in domains.unwrap_or_default() {
            transaction
                .execute(
                    "insert into domains (hostname, app) values (?, ?)",
                    params![domain.as_str(), id.0],
                )
                .map_err(taken("domain", domain.as_str(), "insert domain"))?;
        }
        transaction.commit().map_err(failed("commit domains"))
    }

    fn update(
        &self,
        sql: &str,
        operation: &'static str,
        id: AppId,
        value: impl rusqlite::ToSql,
    ) -> Result<()> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql).map_err(failed(operation))?;
        let values: [&dyn rusqlite::ToSql; 2] = [&id.0, &value];
        let count = statement.parameter_count();
        statement.execute(&values[..count]).map_err(failed(operation))?;
        Ok(())
    }
}

/// Also within a transaction of somebody else's.
pub(super) fn write_settings(
    connection: &Connection,
    id: AppId,
    settings: &Settings,
) -> Result<()> {
    connection
        .execute(
            "update apps set config = ?, formation = ?, resources = ?, checks = ?, mounts = ?
             where id = ?",
            params![
                to_json(&settings.config),
                to_json(&settings.formation),
                to_json(&settings.resources),
                to_json(&settings.checks),
                to_json(&settings.mounts),
                id.0
            ],
        )
        .map_err(failed("write settings"))?;
    Ok(())
}

type AppColumns = (u32, String, i64, Option<String>, String, String, u32, Option<u32>);

fn app_columns(row: &Row<'_>) -> rusqlite::Result<AppColumns> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

fn app_from(columns: AppColumns) -> Result<App> {
    let (id, name, created_at, deploy_branch, stack, run_state, restarts, current_release) =
        columns;
    Ok(App {
        id: AppId(id),
        name: from_text("app name", name)?,
        created_at: Timestamp(created_at),
        deploy_branch: deploy_branch.map(|branch| from_text("branch", branch)).transpose()?,
        stack,
        run_state: from_text("run state", run_state)?,
        restarts,
        current_release: current_release.map(ReleaseVersion),
    })
}

fn read_app(
    connection: &rusqlite::Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
) -> Result<Option<App>> {
    let sql = format!("select {COLUMNS} from apps where {condition}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed("read app"))?;
    let columns =
        statement.query_row([value], app_columns).optional().map_err(failed("read app"))?;
    columns.map(app_from).transpose()
}
