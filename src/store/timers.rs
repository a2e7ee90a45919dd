//! Timers, and the runs of cron tasks.

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_json, to_json};
use crate::domain::{AppId, CronOutcome, CronRun, CronSettings, CronTaskId, Timestamp};

const GLOBAL_CRON: &str = "global-cron-maintenance";

/// How far a timer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerState {
    /// Up to here everything that was due has been seen to.
    pub handled_until: Timestamp,
    /// How often it was due while nobody was there to see to it.
    pub missed: u32,
}

impl Store {
    /// The state of all timers.
    pub fn timers(&self) -> Result<Vec<(String, TimerState)>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select key, handled_until, missed from timers order by key")
            .map_err(failed("list timers"))?;
        let rows = statement
            .query_map([], |row| {
                let handled_until = Timestamp(row.get(1)?);
                Ok((row.get(0)?, TimerState { handled_until, missed: row.get(2)? }))
            })
            .map_err(failed("list timers"))?;
        rows.map(|row| row.map_err(failed("list timers"))).collect()
    }

    /// The state of one timer.
    pub fn timer(&self, key: &str) -> Result<Option<TimerState>> {
        self.lock()
            .query_row("select handled_until, missed from timers where key = ?", [key], |row| {
                let handled_until = Timestamp(row.get(0)?);
                Ok(TimerState { handled_until, missed: row.get(1)? })
            })
            .optional()
            .map_err(failed("read timer"))
    }

    /// Keeps the state of a timer.
    pub fn set_timer(&self, key: &str, state: TimerState) -> Result<()> {
        self.lock()
            .execute(
                "insert into timers (key, handled_until, missed) values (?1, ?2, ?3)
                 on conflict (key) do update set handled_until = ?2, missed = ?3",
                params![key, state.handled_until.0, state.missed],
            )
            .map_err(failed("write timer"))?;
        Ok(())
    }

    /// Forgets a timer.
    pub fn remove_timer(&self, key: &str) -> Result<()> {
        self.lock()
            .execute("delete from timers where key = ?", [key])
            .map_err(failed("remove timer"))?;
        Ok(())
    }

    /// Keeps a new run; its number is the store's to give.
    pub fn add_cron_run(&self, run: &CronRun) -> Result<CronRun> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        transaction
            .execute(
                "insert into cron_runs (app, task, body) values (?, ?, '')",
                params![run.app.0, run.task.as_str()],
            )
            .map_err(failed("insert cron run"))?;
        let run = CronRun { id: transaction.last_insert_rowid(), ..run.clone() };
        transaction
            .execute("update cron_runs set body = ? where id = ?", params![to_json(&run), run.id])
            .map_err(failed("insert cron run"))?;
        transaction.commit().map_err(failed("commit cron run"))?;
        Ok(run)
    }

    /// Keeps how a run ended, and drops the oldest of its task beyond `keep`. One whose app is gone
    /// is gone as well.
    pub fn finish_cron_run(&self, run: &CronRun, keep: u32) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed("begin"))?;
        transaction
            .execute("update cron_runs set body = ? where id = ?", params![to_json(run), run.id])
            .map_err(failed("write cron run"))?;
        transaction
            .execute(
                "delete from cron_runs where app = ?1 and task = ?2 and id not in
                 (select id from cron_runs where app = ?1 and task = ?2 order by id desc limit ?3)",
                params![run.app.0, run.task.as_str(), keep],
            )
            .map_err(failed("prune cron runs"))?;
        transaction.commit().map_err(failed("commit cron run"))
    }

    /// The last runs of an app's tasks, newest first; of one task if given.
    pub fn cron_runs(
        &self,
        app: AppId,
        task: Option<&CronTaskId>,
        limit: usize,
    ) -> Result<Vec<CronRun>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select body from cron_runs where app = ?1 and (?2 is null or task = ?2)
                 order by id desc limit ?3",
            )
            .map_err(failed("list cron runs"))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![app.0, task.map(CronTaskId::as_str), limit], |row| {
                row.get::<_, String>(0)
            })
            .map_err(failed("list cron runs"))?;
        rows.map(|row| from_json("cron run", &row.map_err(failed("list cron runs"))?)).collect()
    }

    /// Runs that have not ended: the control plane died under them.
    pub fn unfinished_cron_runs(&self) -> Result<Vec<CronRun>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select body from cron_runs where json_extract(body, '$.outcome') = ? order by id",
            )
            .map_err(failed("list unfinished cron runs"))?;
        let rows = statement
            .query_map([CronOutcome::Running.as_str()], |row| row.get::<_, String>(0))
            .map_err(failed("list unfinished cron runs"))?;
        rows.map(|row| from_json("cron run", &row.map_err(failed("list unfinished cron runs"))?))
            .collect()
    }

    /// What was decided about an app's tasks.
    pub fn cron_settings(&self, app: AppId) -> Result<CronSettings> {
        let text: String = self
            .lock()
            .query_row("select cron from apps where id = ?", [app.0], |row| row.get(0))
            .map_err(failed("read cron settings"))?;
        from_json("cron settings", &text)
    }

    /// Keeps what was decided about an app's tasks.
    pub fn set_cron_settings(&self, app: AppId, settings: &CronSettings) -> Result<()> {
        self.lock()
            .execute("update apps set cron = ? where id = ?", params![to_json(settings), app.0])
            .map_err(failed("write cron settings"))?;
        Ok(())
    }

    /// Whether no task of any app runs by schedule.
    pub fn global_cron_maintenance(&self) -> Result<bool> {
        Ok(self.setting(GLOBAL_CRON, "global cron maintenance")?.unwrap_or(false))
    }

    /// Sets whether no task of any app runs by schedule.
    pub fn set_global_cron_maintenance(&self, maintenance: bool) -> Result<()> {
        self.set_setting(GLOBAL_CRON, &maintenance, "write global cron maintenance")
    }
}
