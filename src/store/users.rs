//! Users and what they may do.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_text, taken};
use crate::domain::access::{Grants, Role, Scope};
use crate::domain::{AppId, Timestamp};

impl Store {
    /// Keeps a new user.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the name is taken.
    pub fn add_user(&self, name: &str, role: Option<Role>, at: Timestamp) -> Result<()> {
        self.lock()
            .execute(
                "insert into users (name, role, created_at) values (?, ?, ?)",
                params![name, role.map(Role::as_str), at.0],
            )
            .map_err(taken("user", name, "insert user"))?;
        Ok(())
    }

    /// What the user of that name may do; none if there is no such user.
    pub fn grants(&self, user: &str) -> Result<Option<Grants>> {
        let connection = self.lock();
        let found = connection
            .query_row("select id, role from users where name = ?", [user], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))
            })
            .optional()
            .map_err(failed("read user"))?;
        let Some((id, role)) = found else { return Ok(None) };
        let platform = role.map(|role| from_text("role", role)).transpose()?;
        let mut statement = connection
            .prepare_cached(
                "select apps.name, grants.role from grants join apps on apps.id = grants.app
                 where grants.user = ?",
            )
            .map_err(failed("list grants"))?;
        let rows = statement
            .query_map([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(failed("list grants"))?;
        let mut apps = BTreeMap::new();
        for row in rows {
            let (app, role) = row.map_err(failed("list grants"))?;
            apps.insert(from_text("app name", app)?, from_text("role", role)?);
        }
        Ok(Some(Grants { platform, apps, scope: Scope::default() }))
    }

    /// Gives a user a role on an app, instead of the one they had there.
    pub fn grant(&self, user: &str, app: AppId, role: Role) -> Result<()> {
        self.lock()
            .execute(
                "insert into grants (user, app, role) select id, ?2, ?3 from users where name = ?1
                 on conflict (user, app) do update set role = excluded.role",
                params![user, app.0, role.as_str()],
            )
            .map_err(failed("insert grant"))?;
        Ok(())
    }
}
