//! Users: added, given roles, kept out, removed.

use serde_json::json;

use super::events::Change;
use super::{Error, Kind, Platform, Result, clock};
use crate::domain::access::{Grants, Role};
use crate::domain::{Actor, AppName, Secret, UserName};
use crate::store::{StoredGrant, StoredUser};
use crate::wire::{AccessChanged, AccessReport, AppRole, Me, UserReport};

impl Platform {
    /// The user of that name.
    pub(super) fn find_user(&self, name: &UserName) -> Result<StoredUser> {
        self.store.user(name)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no user `{name}`"))
                .hint("an admin adds users: `staithe users:add <name>`")
        })
    }

    /// All users by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn users(&self) -> Result<Vec<UserReport>> {
        let (keys, tokens) = (self.store.ssh_keys()?, self.store.tokens(None)?);
        let grants = self.store.all_grants()?;
        let reports = self.store.users()?.into_iter().map(|user| UserReport {
            ssh_keys: keys
                .iter()
                .filter(|key| key.user == user.name.as_str())
                .map(|key| key.name.clone())
                .collect(),
            tokens: tokens.iter().filter(|token| token.user == user.name).count(),
            access: grants.iter().filter(|g| g.user == user.name).cloned().map(shown).collect(),
            name: user.name,
            role: user.role,
            disabled: user.disabled,
            has_password: user.has_password,
            created_at: user.created_at,
        });
        Ok(reports.collect())
    }

    /// One user.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn user(&self, name: &UserName) -> Result<UserReport> {
        self.find_user(name)?;
        let found = self.users().await?.into_iter().find(|user| user.name == *name);
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no user `{name}`")))
    }

    /// Who asks, and what they may.
    pub fn me(&self, actor: &Actor, grants: &Grants) -> Me {
        let access = grants.apps.iter().filter(|(app, _)| grants.sees(app));
        Me {
            name: actor.name.clone(),
            via: actor.via.clone(),
            role: grants.platform,
            access: access.map(|(app, role)| AppRole { app: app.clone(), role: *role }).collect(),
        }
    }

    /// Adds a user, who may do nothing until they have a key, a token or a password.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    pub async fn add_user(
        &self,
        actor: &Actor,
        name: &UserName,
        role: Option<Role>,
    ) -> Result<UserReport> {
        if name.as_str() == Actor::platform().name {
            let message = format!("`{name}` is what events call the platform itself");
            return Err(Error::new(Kind::Invalid, message).hint("choose another name"));
        }
        self.store.add_user(name, role, clock::now())?;
        let held = role.map_or("no role".to_owned(), |role| format!("the role `{role}`"));
        let message = format!("user `{name}` added with {held} on the platform");
        let change = Change::new((), json!({ "name": name, "role": role }));
        self.note_named_change(None, "user.added", &message, actor, change);
        self.user(name).await
    }

    /// Sets or takes away a user's role on the platform.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_user_role(
        &self,
        actor: &Actor,
        name: &UserName,
        role: Option<Role>,
    ) -> Result<AccessChanged> {
        let user = self.find_user(name)?;
        self.store.set_user_role(name, role)?;
        let shown = role.map_or("none".to_owned(), |role| format!("`{role}`"));
        let message = format!("role of user `{name}` on the platform set to {shown}");
        let change = Change::new(json!({ "role": user.role }), json!({ "role": role }));
        self.note_named_change(None, "access.platform", &message, actor, change);
        self.warned()
    }

    /// Gives a user another name; keys, tokens and roles stay theirs, and what is told of the past
    /// keeps the old name.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name is taken.
    pub async fn rename_user(
        &self,
        actor: &Actor,
        name: &UserName,
        to: &UserName,
    ) -> Result<UserReport> {
        self.find_user(name)?;
        if to.as_str() == Actor::platform().name {
            let message = format!("`{to}` is what events call the platform itself");
            return Err(Error::new(Kind::Invalid, message).hint("choose another name"));
        }
        self.store.rename_user(name, to)?;
        let message = format!("user `{name}` renamed to `{to}`");
        let change = Change::new(json!({ "name": name }), json!({ "name": to }));
        self.note_named_change(None, "user.renamed", &message, actor, change);
        self.user(to).await
    }

    /// Removes a user with their keys, tokens and roles.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_user(&self, actor: &Actor, name: &UserName) -> Result<AccessChanged> {
        let user = self.user(name).await?;
        self.store.remove_user(name)?;
        let change = Change::new(&user, ());
        let message = format!("user `{name}` removed");
        self.note_named_change(None, "user.removed", &message, actor, change);
        self.warned()
    }

    /// Keeps a user out, by whatever door, or lets them in again.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn switch_user(
        &self,
        actor: &Actor,
        name: &UserName,
        access: UserSwitch,
    ) -> Result<AccessChanged> {
        let user = self.find_user(name)?;
        let disabled = access == UserSwitch::Disabled;
        self.store.set_user_disabled(name, disabled)?;
        let (kind, word) = match access {
            UserSwitch::Disabled => ("user.disabled", "disabled"),
            UserSwitch::Enabled => ("user.enabled", "enabled"),
        };
        let change =
            Change::new(json!({ "disabled": user.disabled }), json!({ "disabled": disabled }));
        self.note_named_change(None, kind, &format!("user `{name}` {word}"), actor, change);
        self.warned()
    }

    /// Sets a user's password, or takes it away.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for one that is easily guessed.
    pub async fn set_password(
        &self,
        actor: &Actor,
        name: &UserName,
        password: Option<Secret>,
    ) -> Result<()> {
        let user = self.find_user(name)?;
        let has_password = password.is_some();
        let hash = match password {
            Some(password) => Some(self.hash_password(password).await?),
            None => None,
        };
        self.store.set_password_hash(name, hash.as_deref())?;
        let word = if has_password { "set" } else { "taken away" };
        let change = Change::new(
            json!({ "password": user.has_password }),
            json!({ "password": has_password }),
        );
        let message = format!("password of user `{name}` {word}");
        self.note_named_change(None, "user.password", &message, actor, change);
        Ok(())
    }

    /// Who may do what on `app`, also by a role on the platform; without one, everywhere.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn access(&self, app: Option<&AppName>) -> Result<Vec<AccessReport>> {
        if let Some(app) = app {
            self.find_app(app)?;
        }
        let all = self.store.all_grants()?.into_iter();
        let on_app =
            |grant: &StoredGrant| app.is_none() || grant.app.is_none() || grant.app.as_ref() == app;
        Ok(all.filter(on_app).map(shown).collect())
    }

    /// Gives a user a role on an app, instead of the one they had there.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn add_access(
        &self,
        actor: &Actor,
        app: &AppName,
        user: &UserName,
        role: Role,
    ) -> Result<AccessChanged> {
        let found = self.find_app(app)?;
        self.find_user(user)?;
        let before = self.role_on(app, user)?;
        self.store.grant(user.as_str(), found.id, role)?;
        let message = format!("user `{user}` has the role `{role}` on `{app}`");
        let change = Change::new(
            json!({ "user": user, "role": before }),
            json!({ "user": user, "role": role }),
        );
        self.note_change(found.id, "access.added", &message, actor, change);
        Ok(AccessChanged::default())
    }

    /// Takes the role of a user on an app away.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_access(
        &self,
        actor: &Actor,
        app: &AppName,
        user: &UserName,
    ) -> Result<AccessChanged> {
        let found = self.find_app(app)?;
        self.find_user(user)?;
        let before = self.role_on(app, user)?;
        if !self.store.revoke(user, found.id)? {
            let message = format!("user `{user}` has no role on `{app}` itself");
            return Err(Error::new(Kind::NotFound, message)
                .hint(format!("run `staithe access:list {app}` to see who has")));
        }
        let message = format!("user `{user}` has no role on `{app}` any more");
        let change = Change::new(json!({ "user": user, "role": before }), ());
        self.note_change(found.id, "access.removed", &message, actor, change);
        let left = self.store.grants(user.as_str())?.and_then(|grants| grants.on_app(app));
        let warnings = left.map(|role| {
            format!("`{user}` still has the role `{role}` on the platform, and so on `{app}`")
        });
        Ok(AccessChanged { warnings: warnings.into_iter().collect() })
    }

    fn role_on(&self, app: &AppName, user: &UserName) -> Result<Option<Role>> {
        let grants = self.store.grants(user.as_str())?.unwrap_or_default();
        Ok(grants.apps.get(app).copied())
    }

    /// Root on the machine may always, so that a platform without an admin is not lost; but whoever
    /// makes it so may not mean to.
    fn warned(&self) -> Result<AccessChanged> {
        let admin = |user: &StoredUser| user.role == Some(Role::Admin) && !user.disabled;
        let warning = "no admin is left: only root on the machine can give access now";
        let warnings = match self.store.users()?.iter().any(admin) {
            true => Vec::new(),
            false => vec![warning.to_owned()],
        };
        Ok(AccessChanged { warnings })
    }
}

/// Whether a user may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserSwitch {
    /// They may.
    Enabled,
    /// They may not.
    Disabled,
}

fn shown(grant: StoredGrant) -> AccessReport {
    AccessReport { user: grant.user, app: grant.app, role: grant.role }
}
