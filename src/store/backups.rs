//! Backups and what is set about them. Both outlive the services they are of.

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_json, to_json};
use crate::domain::{Backup, BackupId, BackupSettings, PluginName, ServiceName};

const GLOBAL_BACKUPS: &str = "backups";

impl Store {
    /// Keeps what is known of a backup, in place of what was known before.
    pub fn set_backup(&self, backup: &Backup) -> Result<()> {
        self.lock()
            .execute(
                "insert into backups (id, kind, service, running, body) values (?1, ?2, ?3, ?4, ?5)
                 on conflict (id) do update set running = ?4, body = ?5",
                params![
                    backup.id.as_str(),
                    backup.kind.as_str(),
                    backup.service.as_str(),
                    backup.state == crate::domain::BackupState::Running,
                    to_json(backup)
                ],
            )
            .map_err(failed("write backup"))?;
        Ok(())
    }

    /// The backups of the service of that type and name, newest first.
    pub fn backups(&self, kind: &PluginName, service: &ServiceName) -> Result<Vec<Backup>> {
        self.backups_where(
            "select body from backups where kind = ? and service = ? order by id desc",
            params![kind.as_str(), service.as_str()],
        )
    }

    /// Those that are being made, as far as is known.
    pub fn running_backups(&self) -> Result<Vec<Backup>> {
        self.backups_where("select body from backups where running order by id", params![])
    }

    fn backups_where(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Backup>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql).map_err(failed("list backups"))?;
        let rows = statement
            .query_map(values, |row| row.get::<_, String>(0))
            .map_err(failed("list backups"))?;
        rows.map(|row| from_json("backup", &row.map_err(failed("list backups"))?)).collect()
    }

    /// Forgets a backup.
    pub fn remove_backup(&self, id: &BackupId) -> Result<()> {
        self.lock()
            .execute("delete from backups where id = ?", [id.as_str()])
            .map_err(failed("remove backup"))?;
        Ok(())
    }

    /// What is set about the backups of the service of that type and name.
    pub fn backup_settings(
        &self,
        kind: &PluginName,
        service: &ServiceName,
    ) -> Result<BackupSettings> {
        let text: Option<String> = self
            .lock()
            .query_row(
                "select body from backup_settings where kind = ? and service = ?",
                params![kind.as_str(), service.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("read backup settings"))?;
        Ok(text.map(|text| from_json("backup settings", &text)).transpose()?.unwrap_or_default())
    }

    /// Replaces them.
    pub fn set_backup_settings(
        &self,
        kind: &PluginName,
        service: &ServiceName,
        settings: &BackupSettings,
    ) -> Result<()> {
        self.lock()
            .execute(
                "insert into backup_settings (kind, service, body) values (?1, ?2, ?3)
                 on conflict (kind, service) do update set body = ?3",
                params![kind.as_str(), service.as_str(), to_json(settings)],
            )
            .map_err(failed("write backup settings"))?;
        Ok(())
    }

    /// What `backup-set --global` said.
    pub fn global_backup_settings(&self) -> Result<BackupSettings> {
        Ok(self.setting(GLOBAL_BACKUPS, "backup settings")?.unwrap_or_default())
    }

    /// Replaces what is set for all.
    pub fn set_global_backup_settings(&self, settings: &BackupSettings) -> Result<()> {
        self.set_setting(GLOBAL_BACKUPS, settings, "write backup settings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actor, BackupCause, BackupPlace, BackupState, Timestamp};

    fn backup(second: i64, service: &str) -> Backup {
        let at = Timestamp(1_795_530_729_000 + second * 1000);
        Backup {
            id: BackupId::new(at, [0; 4]).unwrap(),
            kind: "postgres".parse().unwrap(),
            service: service.parse().unwrap(),
            place: BackupPlace::Local,
            created_at: at,
            finished_at: None,
            cause: BackupCause::Manual,
            actor: Actor::platform(),
            extension: "dump".into(),
            bytes: 0,
            sha256: String::new(),
            facts: String::new(),
            state: BackupState::Running,
        }
    }

    #[test]
    fn backups_are_kept_by_service_and_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        let (old, mut new) = (backup(0, "shop"), backup(1, "shop"));
        for one in [&old, &new, &backup(2, "blog")] {
            store.set_backup(one).unwrap();
        }
        assert_eq!(store.running_backups().unwrap().len(), 3);
        new.state = BackupState::Verified { at: new.created_at };
        store.set_backup(&new).unwrap();
        assert_eq!(store.running_backups().unwrap().len(), 2);
        let shop = store.backups(&old.kind, &old.service).unwrap();
        assert_eq!(shop, [new.clone(), old.clone()]);
        store.remove_backup(&old.id).unwrap();
        assert_eq!(store.backups(&old.kind, &old.service).unwrap(), [new]);
    }

    #[test]
    fn settings_are_kept_by_service_and_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("staithe.db")).unwrap();
        let (kind, name) = ("postgres".parse().unwrap(), "shop".parse().unwrap());
        let mut settings = BackupSettings::default();
        assert_eq!(store.backup_settings(&kind, &name).unwrap(), settings);
        settings.set("keep", "3").unwrap();
        settings.schedule = Some("0 3 * * *".parse().unwrap());
        store.set_backup_settings(&kind, &name, &settings).unwrap();
        assert_eq!(store.backup_settings(&kind, &name).unwrap(), settings);
        assert_eq!(store.global_backup_settings().unwrap(), BackupSettings::default());
        store.set_global_backup_settings(&settings).unwrap();
        assert_eq!(store.global_backup_settings().unwrap(), settings);
    }
}
