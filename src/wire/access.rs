//! Users, roles and tokens, as asked for and as shown.

use serde::{Deserialize, Serialize};

use crate::domain::access::Role;
use crate::domain::{AppName, Secret, Timestamp, TokenId, UserName};

/// A user as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UserReport {
    /// The name.
    pub name: UserName,
    /// The role on the platform; none means on single apps only.
    pub role: Option<Role>,
    /// Whether they are kept out.
    pub disabled: bool,
    /// Whether they can sign in with a password.
    pub has_password: bool,
    /// Since when they are known.
    pub created_at: Timestamp,
    /// The names of their SSH keys.
    pub ssh_keys: Vec<String>,
    /// How many tokens they have.
    pub tokens: usize,
    /// Their roles, on the platform and on single apps.
    pub access: Vec<AccessReport>,
}

/// A role that somebody holds somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessReport {
    /// Who.
    pub user: UserName,
    /// On which app; none means on the platform, and so on all apps.
    pub app: Option<AppName>,
    /// Which.
    pub role: Role,
}

/// What a change of users or access answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessChanged {
    /// What the one who did it should know, such as that no admin is left.
    pub warnings: Vec<String>,
}

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Me {
    /// The name: of a user, or `root` on the machine.
    pub name: String,
    /// How they came.
    pub via: String,
    /// The role on the platform.
    pub role: Option<Role>,
    /// Roles on single apps.
    pub access: Vec<AppRole>,
}

/// A role on an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AppRole {
    /// Which app.
    pub app: AppName,
    /// Which role.
    pub role: Role,
}

/// `POST /users`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name.
    pub name: UserName,
    /// The role on the platform; none leaves it to `access:add` on single apps.
    #[serde(default)]
    pub role: Option<Role>,
}

/// `PUT /users/{id}/role`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChange {
    /// The role on the platform; none takes it away.
    pub role: Option<Role>,
}

/// `POST /users/{id}/rename`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRename {
    /// The new name.
    pub name: UserName,
}

/// `PUT /users/{id}/password`, `PUT /me/password`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password; none takes it away.
    pub password: Option<Secret>,
}

/// `POST /access`, `POST /apps/{app}/access`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccess {
    /// Who.
    pub user: UserName,
    /// Which role.
    pub role: Role,
}

/// A token as shown: all but its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenReport {
    /// What it is called where it must not be shown; part of the token itself.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserName,
    /// What it is for.
    pub name: String,
    /// The only apps it is for; none means all that its user may.
    pub apps: Option<Vec<AppName>>,
    /// The only verbs it is for; none means all but those that give access.
    pub verbs: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub used_at: Option<Timestamp>,
    /// From where it was last used.
    pub used_from: Option<String>,
}

/// `POST /tokens`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for; unique among its user's.
    pub name: String,
    /// Whose it is; the one who asks if none.
    #[serde(default)]
    pub user: Option<UserName>,
    /// The only apps it is for.
    #[serde(default)]
    pub apps: Option<Vec<AppName>>,
    /// The only verbs it is for, as `logs:show` or `ps:*`.
    #[serde(default)]
    pub verbs: Option<Vec<String>>,
    /// For how many seconds; for ever if none.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// A new token, with the secret that is shown once.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CreatedToken {
    /// What goes into `Authorization: Bearer …`.
    pub token: Secret,
    /// The rest of it.
    #[serde(flatten)]
    pub report: TokenReport,
}

/// The query of `GET /tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenQuery {
    /// Only this user's; another's need the right to manage them.
    pub user: Option<UserName>,
    /// Those of all users.
    pub all: bool,
}
