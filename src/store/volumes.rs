//! Volumes.

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_json, taken, to_json};
use crate::domain::{App, AppId, Volume, VolumeId, VolumeMounts, VolumeName};

impl Store {
    /// Keeps a new volume.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the name is taken.
    pub fn add_volume(&self, volume: &Volume) -> Result<()> {
        self.lock()
            .execute(
                "insert into volumes (id, name, body) values (?, ?, ?)",
                params![volume.id.as_str(), volume.name.as_str(), to_json(volume)],
            )
            .map_err(taken("volume", volume.name.as_str(), "insert volume"))?;
        Ok(())
    }

    /// Replaces what is known of a volume.
    pub fn set_volume(&self, volume: &Volume) -> Result<()> {
        self.lock()
            .execute(
                "update volumes set body = ? where id = ?",
                params![to_json(volume), volume.id.as_str()],
            )
            .map_err(failed("write volume"))?;
        Ok(())
    }

    /// The volume of that name.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<Volume>> {
        let body: Option<String> = self
            .lock()
            .query_row("select body from volumes where name = ?", [name.as_str()], |row| row.get(0))
            .optional()
            .map_err(failed("read volume"))?;
        body.map(|body| from_json("volume", &body)).transpose()
    }

    /// All volumes by name.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select body from volumes order by name")
            .map_err(failed("list volumes"))?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(failed("list volumes"))?;
        rows.map(|row| from_json("volume", &row.map_err(failed("list volumes"))?)).collect()
    }

    /// Forgets a volume.
    pub fn remove_volume(&self, id: &VolumeId) -> Result<()> {
        self.lock()
            .execute("delete from volumes where id = ?", [id.as_str()])
            .map_err(failed("remove volume"))?;
        Ok(())
    }

    /// Each app with the mounts of its settings and those of its current release, which differ
    /// where a change was not deployed yet.
    pub fn mounts(&self) -> Result<Vec<(App, VolumeMounts)>> {
        let mut all = Vec::new();
        for app in self.apps()? {
            let settings = self.settings(app.id)?.mounts;
            let deployed = self.deployed_mounts(app.id)?;
            all.extend([(app.clone(), settings), (app, deployed)]);
        }
        Ok(all)
    }

    fn deployed_mounts(&self, app: AppId) -> Result<VolumeMounts> {
        let text: Option<Option<String>> = self
            .lock()
            .query_row(
                "select json_extract(body, '$.mounts') from releases join apps
                 on releases.app = apps.id and releases.version = apps.current_release
                 where apps.id = ?",
                [app.0],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("read mounts"))?;
        text.flatten().map_or(Ok(VolumeMounts::default()), |text| from_json("mounts", &text))
    }
}
