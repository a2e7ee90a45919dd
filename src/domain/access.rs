//! Who may do what: roles, verbs, and the one function that decides.
//!
//! A **role** is held on the whole platform or on one app; the higher of the two counts on an app.
//! A **verb** says the role it needs and on what. A **scope** narrows what a token may do of what its
//! user may. Nothing is allowed that no rule here allows.

mod verbs;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AppName, Invalid};

pub use verbs::*;

/// How much a user may do, each including those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look: state, logs, metrics, names of config vars but not their values.
    View,
    /// Bring new code and go back: push, rebuild, restart, roll back.
    Deploy,
    /// Change how an app runs: config, scale, domains, services, volumes, a shell in it.
    Operate,
    /// Everything: give access, rename, destroy; on the platform also users, plugins and settings.
    Admin,
}

impl Role {
    /// From the least to the most.
    pub const ALL: [Self; 4] = [Self::View, Self::Deploy, Self::Operate, Self::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Deploy => "deploy",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| Invalid::new("role", text, "must be view, deploy, operate or admin"))
    }
}

/// On what a verb acts, which says where its role must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// One app: the role may be held on it or on the platform.
    App,
    /// The machine: the role must be held on the platform.
    Platform,
    /// What everybody who was let in may ask; the answer holds only what they may see.
    Anybody,
}

/// One thing that can be asked of the platform, by whichever door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// As on the command line: `ps:scale`.
    pub name: &'static str,
    /// The least role that may.
    pub needs: Role,
    /// Where it must be held.
    pub on: On,
}

/// What a token may do of what its user may: on which apps, and which verbs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Scope {
    /// Only on these apps, and nothing on the platform; none means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<AppName>>,
    /// Only these verbs, by name or by noun (`ps:*`); none means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbs: Option<Vec<String>>,
}

impl Scope {
    fn holds(&self, verb: Verb, app: Option<&AppName>) -> bool {
        let on_app = match (&self.apps, app) {
            (None, _) => true,
            (Some(apps), Some(app)) => apps.contains(app),
            (Some(_), None) => verb.on == On::Anybody,
        };
        let of_noun = |pattern: &str| {
            let noun = verb.name.split(':').next();
            pattern == verb.name
                || (pattern.strip_suffix(":*").is_some() && pattern.strip_suffix(":*") == noun)
        };
        let named = self.verbs.as_ref().is_none_or(|verbs| verbs.iter().any(|v| of_noun(v)));
        on_app && named
    }
}

/// All that somebody may do, as known at the moment of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Held on the platform.
    pub platform: Option<Role>,
    /// Held on single apps.
    pub apps: BTreeMap<AppName, Role>,
    /// What a token narrows it to.
    pub scope: Scope,
}

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// The app must look as if it did not exist.
    Hidden(AppName),
    /// The role is too low.
    Role {
        /// What was asked.
        verb: Verb,
        /// On which app, if on one.
        app: Option<AppName>,
        /// The role that is held there.
        held: Option<Role>,
    },
    /// The token is not for this.
    Scope {
        /// What was asked.
        verb: Verb,
    },
}

impl Grants {
    /// Of root on the machine, and of the platform itself.
    pub fn everything() -> Self {
        Self { platform: Some(Role::Admin), ..Self::default() }
    }

    /// The role on `app`.
    pub fn on_app(&self, app: &AppName) -> Option<Role> {
        let in_scope = self.scope.apps.as_ref().is_none_or(|apps| apps.contains(app));
        self.platform.max(self.apps.get(app).copied()).filter(|_| in_scope)
    }

    /// Whether `app` may be seen at all.
    pub fn sees(&self, app: &AppName) -> bool {
        self.on_app(app).is_some()
    }

    /// Decides. Every door asks this function, and nothing else decides.
    ///
    /// # Errors
    /// Why not. A verb on an app without naming one is refused.
    pub fn allow(&self, verb: Verb, app: Option<&AppName>) -> Result<(), Forbidden> {
        let held = match (verb.on, app) {
            (On::Anybody, _) => Some(Role::Admin),
            (On::App, Some(app)) if !self.sees(app) => return Err(Forbidden::Hidden(app.clone())),
            (On::App, Some(app)) => self.on_app(app),
            (On::App, None) => None,
            (On::Platform, _) => self.platform,
        };
        if held < Some(verb.needs) {
            return Err(Forbidden::Role { verb, app: app.cloned(), held });
        }
        match self.scope.holds(verb, app) {
            true => Ok(()),
            false => Err(Forbidden::Scope { verb }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    /// Every verb and every role, held on the platform, on the app, on another app and nowhere.
    #[test]
    fn each_verb_needs_its_role_where_it_acts() {
        let (shop, blog) = (app("shop"), app("blog"));
        for verb in ALL {
            for role in Role::ALL {
                let platform = Grants { platform: Some(role), ..Grants::default() };
                let named = (verb.on == On::App).then_some(&shop);
                let enough = role >= verb.needs || verb.on == On::Anybody;
                assert_eq!(platform.allow(*verb, named).is_ok(), enough, "{} {role}", verb.name);
                let on = |name: &AppName| Grants {
                    apps: [(name.clone(), role)].into(),
                    ..Grants::default()
                };
                let expected = match verb.on {
                    On::App => role >= verb.needs,
                    On::Platform => false,
                    On::Anybody => true,
                };
                assert_eq!(on(&shop).allow(*verb, named).is_ok(), expected, "{} {role}", verb.name);
                let other = on(&blog).allow(*verb, named);
                match verb.on {
                    On::App => assert_eq!(other, Err(Forbidden::Hidden(shop.clone()))),
                    On::Platform => assert!(other.is_err(), "{}", verb.name),
                    On::Anybody => assert!(other.is_ok(), "{}", verb.name),
                }
            }
            let nobody = Grants::default().allow(*verb, (verb.on == On::App).then_some(&shop));
            assert_eq!(nobody.is_ok(), verb.on == On::Anybody, "{}", verb.name);
            if verb.on == On::App {
                assert!(Grants::everything().allow(*verb, None).is_err(), "{}", verb.name);
            }
        }
    }

    #[test]
    fn a_scope_takes_away_and_never_gives() {
        let shop = app("shop");
        let scoped = |apps: Option<&[&str]>, verbs: Option<&[&str]>| Grants {
            platform: Some(Role::Operate),
            scope: Scope {
                apps: apps.map(|apps| apps.iter().map(|name| app(name)).collect()),
                verbs: verbs.map(|verbs| verbs.iter().map(|&verb| verb.into()).collect()),
            },
            ..Grants::default()
        };
        let only_shop = scoped(Some(&["shop"]), None);
        assert!(only_shop.allow(PS_SCALE, Some(&shop)).is_ok());
        assert!(matches!(only_shop.allow(PS_SCALE, Some(&app("blog"))), Err(Forbidden::Hidden(_))));
        assert!(only_shop.allow(STACKS_LIST, None).is_err());
        assert!(only_shop.allow(APPS_DESTROY, Some(&shop)).is_err());
        let processes = scoped(None, Some(&["ps:*"]));
        assert!(processes.allow(PS_SCALE, Some(&shop)).is_ok());
        assert_eq!(
            processes.allow(CONFIG_SET, Some(&shop)),
            Err(Forbidden::Scope { verb: CONFIG_SET })
        );
        assert!(scoped(None, Some(&[":*", "ps", "*"])).allow(PS_SCALE, Some(&shop)).is_err());
    }

    #[test]
    fn no_two_verbs_share_a_name() {
        let mut names: Vec<_> = ALL.iter().map(|verb| verb.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
