//! What stands between apps and the web: their front doors' settings, and routes beside domains.

use rusqlite::params;

use super::{Result, Store, failed, from_json, from_text, taken, to_json};
use crate::domain::{AppId, FrontSettings, PathRoute, ProxySettings, RouteAddress};

const GLOBAL_PROXY: &str = "proxy";

impl Store {
    /// An app's front door.
    pub fn front(&self, id: AppId) -> Result<FrontSettings> {
        let text: String = self
            .lock()
            .query_row("select front from apps where id = ?", [id.0], |row| row.get(0))
            .map_err(failed("read front settings"))?;
        from_json("front settings", &text)
    }

    /// Replaces an app's front door.
    pub fn set_front(&self, id: AppId, front: &FrontSettings) -> Result<()> {
        self.lock()
            .execute("update apps set front = ? where id = ?", params![to_json(front), id.0])
            .map_err(failed("write front settings"))?;
        Ok(())
    }

    /// What `proxy:set --global` said.
    pub fn global_proxy(&self) -> Result<ProxySettings> {
        Ok(self.setting(GLOBAL_PROXY, "proxy settings")?.unwrap_or_default())
    }

    /// Replaces what is set for all apps.
    pub fn set_global_proxy(&self, settings: &ProxySettings) -> Result<()> {
        self.set_setting(GLOBAL_PROXY, settings, "write proxy settings")
    }

    /// All routes beside domains, with their apps, by domain and path.
    pub fn path_routes(&self) -> Result<Vec<(AppId, PathRoute)>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select domain, path, app, process_type, strip from routes order by domain, path",
            )
            .map_err(failed("list routes"))?;
        let rows = statement
            .query_map([], |row| {
                let texts: [String; 3] = [row.get(0)?, row.get(1)?, row.get(3)?];
                Ok((texts, row.get::<_, u32>(2)?, row.get::<_, bool>(4)?))
            })
            .map_err(failed("list routes"))?;
        rows.map(|row| {
            let ([domain, path, process_type], app, strip) = row.map_err(failed("list routes"))?;
            let address = RouteAddress {
                domain: from_text("hostname", domain)?,
                path: from_text("path", path)?,
            };
            let process_type = from_text("process type", process_type)?;
            Ok((AppId(app), PathRoute { address, process_type, strip }))
        })
        .collect()
    }

    /// Adds a route, or changes the app's own at that address.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if another app has one there.
    pub fn set_path_route(&self, id: AppId, route: &PathRoute) -> Result<()> {
        let changed = self
            .lock()
            .execute(
                "insert into routes (domain, path, app, process_type, strip)
                 values (?1, ?2, ?3, ?4, ?5)
                 on conflict (domain, path) do update
                 set process_type = ?4, strip = ?5 where app = ?3",
                params![
                    route.address.domain.as_str(),
                    route.address.path.as_str(),
                    id.0,
                    route.process_type.as_str(),
                    route.strip
                ],
            )
            .map_err(taken("route", &route.address.to_string(), "insert route"))?;
        match changed {
            0 => Err(super::Error::Exists { what: "route", name: route.address.to_string() }),
            _ => Ok(()),
        }
    }

    /// Removes a route of an app; says whether there was one.
    pub fn remove_path_route(&self, id: AppId, address: &RouteAddress) -> Result<bool> {
        self.lock()
            .execute(
                "delete from routes where app = ? and domain = ? and path = ?",
                params![id.0, address.domain.as_str(), address.path.as_str()],
            )
            .map(|count| count > 0)
            .map_err(failed("remove route"))
    }
}
