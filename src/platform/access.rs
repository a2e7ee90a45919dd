//! Who may do what.

use super::{Error, Kind, Platform, Result};
use crate::domain::access::{
    APPS_CREATE, Forbidden, GIT_FETCH, GIT_PUSH, Grants, SSH_KEYS_LIST, Scope,
};
use crate::domain::{Actor, AppName};
use crate::git::Service;

impl Platform {
    /// What `actor` may do, as of now.
    ///
    /// # Errors
    /// `Denied` for a user that does not exist (any more).
    pub async fn grants(&self, actor: &Actor) -> Result<Grants> {
        // The kernel vouches for root, and nobody else comes in as `local` or `platform`.
        if matches!(actor.via.as_str(), "local" | "platform") {
            return Ok(Grants::everything());
        }
        // The system's sshd asks whose a key is before anybody is known.
        if actor.via == "sshd" {
            let verbs = Some(vec![SSH_KEYS_LIST.name.to_owned()]);
            let scope = Scope { verbs, ..Scope::default() };
            return Ok(Grants { scope, ..Grants::everything() });
        }
        self.store.grants(&actor.name)?.ok_or_else(|| {
            Error::new(Kind::Denied, format!("there is no user `{}`", actor.name))
                .hint("an admin adds users: `staithe users:add <name>`")
        })
    }

    /// Whether who has `grants` may use git's `service` on `app`, and what it takes: who pushes an
    /// app that is not there makes it, if they may.
    ///
    /// # Errors
    /// `Denied`, or `NotFound` for an app that is not there or that they may not see: which of the
    /// two is told to nobody who does not see all apps.
    pub fn may_use_git(&self, grants: &Grants, app: &AppName, service: Service) -> Result<Opening> {
        let exists = self.store.app(app)?.is_some();
        let allowed = match (service, exists) {
            (Service::ReceivePack, true) => grants.allow(GIT_PUSH, Some(app)),
            (Service::ReceivePack, false) => grants.allow(APPS_CREATE, None),
            (_, true) => grants.allow(GIT_FETCH, Some(app)),
            (_, false) => Err(Forbidden::Hidden(app.clone())),
        };
        let sees_all = grants.platform.is_some() && grants.scope.apps.is_none();
        match allowed {
            Ok(()) if exists => Ok(Opening::Known),
            Ok(()) => Ok(Opening::ToBeMade),
            Err(_) if !exists && !sees_all => Err(Error::no_app(app)),
            Err(forbidden) => Err(forbidden.into()),
        }
    }
}

/// How an app stands that git is to be used on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is there.
    Known,
    /// The push makes it.
    ToBeMade,
}
