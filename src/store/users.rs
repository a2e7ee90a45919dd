//! Users and what they may do.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store, failed, from_text, taken};
use crate::domain::access::{Grants, Role, Scope};
use crate::domain::{AppId, AppName, Timestamp, UserName};

/// A user as kept, without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUser {
    /// Stays, whatever the name becomes.
    pub id: i64,
    /// The name.
    pub name: UserName,
    /// The role on the platform.
    pub role: Option<Role>,
    /// Whether they are kept out.
    pub disabled: bool,
    /// Whether they have a password.
    pub has_password: bool,
    /// Since when.
    pub created_at: Timestamp,
}

/// A role that somebody holds somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// Who.
    pub user: UserName,
    /// On which app; none means on the platform.
    pub app: Option<AppName>,
    /// Which.
    pub role: Role,
}

const SELECT: &str = "select id, name, role, disabled, password is not null, created_at from users";

impl Store {
    /// Keeps a new user.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the name is taken.
    pub fn add_user(&self, name: &UserName, role: Option<Role>, at: Timestamp) -> Result<()> {
        self.lock()
            .execute(
                "insert into users (name, role, created_at) values (?, ?, ?)",
                params![name.as_str(), role.map(Role::as_str), at.0],
            )
            .map_err(taken("user", name.as_str(), "insert user"))?;
        Ok(())
    }

    /// The user of that name.
    pub fn user(&self, name: &UserName) -> Result<Option<StoredUser>> {
        let columns = self
            .lock()
            .query_row(&format!("{SELECT} where name = ?"), [name.as_str()], columns)
            .optional()
            .map_err(failed("read user"))?;
        columns.map(user_from).transpose()
    }

    /// All users by name.
    pub fn users(&self) -> Result<Vec<StoredUser>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(&format!("{SELECT} order by name"))
            .map_err(failed("list users"))?;
        let rows = statement.query_map([], columns).map_err(failed("list users"))?;
        rows.map(|row| user_from(row.map_err(failed("list users"))?)).collect()
    }

    /// Sets the role on the platform.
    pub fn set_user_role(&self, name: &UserName, role: Option<Role>) -> Result<()> {
        let role = role.map(Role::as_str);
        self.change_user("update users set role = ?2 where name = ?1", name, role)
    }

    /// Lets a user in, or keeps them out.
    pub fn set_user_disabled(&self, name: &UserName, disabled: bool) -> Result<()> {
        let query = match disabled {
            true => "update users set disabled = 1 where name = ?1 and ?2 is null",
            false => "update users set disabled = 0 where name = ?1 and ?2 is null",
        };
        self.change_user(query, name, None)
    }

    /// Keeps the hash of a user's password, or none.
    pub fn set_password_hash(&self, name: &UserName, hash: Option<&str>) -> Result<()> {
        self.change_user("update users set password = ?2 where name = ?1", name, hash)
    }

    fn change_user(&self, query: &str, name: &UserName, value: Option<&str>) -> Result<()> {
        self.lock()
            .execute(query, params![name.as_str(), value])
            .map(drop)
            .map_err(failed("update user"))
    }

    /// The hash of a user's password; none if they have none or are kept out.
    pub fn password_hash(&self, name: &UserName) -> Result<Option<String>> {
        self.lock()
            .query_row(
                "select password from users where name = ? and not disabled",
                [name.as_str()],
                |row| row.get(0),
            )
            .optional()
            .map(Option::flatten)
            .map_err(failed("read password hash"))
    }

    /// Gives a user another name.
    ///
    /// # Errors
    /// [`super::Error::Exists`] if the name is taken.
    pub fn rename_user(&self, from: &UserName, to: &UserName) -> Result<()> {
        self.lock()
            .execute("update users set name = ? where name = ?", [to.as_str(), from.as_str()])
            .map(drop)
            .map_err(taken("user", to.as_str(), "rename user"))
    }

    /// Removes a user with their keys, tokens and grants; says whether there was one.
    pub fn remove_user(&self, name: &UserName) -> Result<bool> {
        self.lock()
            .execute("delete from users where name = ?", [name.as_str()])
            .map(|count| count > 0)
            .map_err(failed("remove user"))
    }

    /// What the user of that name may do; none if there is no such user, or they are kept out.
    pub fn grants(&self, user: &str) -> Result<Option<Grants>> {
        let connection = self.lock();
        let found = connection
            .query_row(
                "select id, role from users where name = ? and not disabled",
                [user],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)),
            )
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

    /// Takes the role of a user on an app away; says whether they had one.
    pub fn revoke(&self, user: &UserName, app: AppId) -> Result<bool> {
        self.lock()
            .execute(
                "delete from grants where app = ?2
                 and user = (select id from users where name = ?1)",
                params![user.as_str(), app.0],
            )
            .map(|count| count > 0)
            .map_err(failed("remove grant"))
    }

    /// All roles that are held on the platform and on apps, by user and app.
    pub fn all_grants(&self) -> Result<Vec<StoredGrant>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "select name, null as app, role from users where role is not null
                 union all
                 select users.name, apps.name, grants.role from grants
                 join users on users.id = grants.user join apps on apps.id = grants.app
                 order by 1, 2",
            )
            .map_err(failed("list grants"))?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?))
            })
            .map_err(failed("list grants"))?;
        rows.map(|row| {
            let (user, app, role) = row.map_err(failed("list grants"))?;
            Ok(StoredGrant {
                user: from_text("user name", user)?,
                app: app.map(|app| from_text("app name", app)).transpose()?,
                role: from_text("role", role)?,
            })
        })
        .collect()
    }
}

type Columns = (i64, String, Option<String>, bool, bool, i64);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn user_from((id, name, role, disabled, has_password, at): Columns) -> Result<StoredUser> {
    Ok(StoredUser {
        id,
        name: from_text("user name", name)?,
        role: role.map(|role| from_text("role", role)).transpose()?,
        disabled,
        has_password,
        created_at: Timestamp(at),
    })
}
