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

use super::{AppName, Event, Invalid, TokenId};

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
    /// The token whose scope it is; none for somebody who is there in person.
    #[serde(skip)]
    pub token: Option<TokenId>,
}

/// The nouns that give access: a token needs a scope that names them.
const OF_ACCESS: [&str; 4] = ["access", "ssh-keys", "tokens", "users"];

impl Verb {
    /// What it is about: `ps` of `ps:scale`.
    pub fn noun(&self) -> &'static str {
        self.name.split(':').next().unwrap_or(self.name)
    }
}

impl Scope {
    /// Checks what somebody wrote: each verb must be one, or a noun with `:*`.
    ///
    /// # Errors
    /// Which is none.
    pub fn checked(self) -> Result<Self, Invalid> {
        for pattern in self.verbs.iter().flatten() {
            let noun = pattern.strip_suffix(":*");
            if !ALL.iter().any(|verb| verb.name == pattern || noun == Some(verb.noun())) {
                let why = "is no verb; give one such as `ps:scale`, or a noun such as `ps:*`";
                return Err(Invalid::new("scope", pattern, why));
            }
        }
        Ok(self)
    }

    /// Whether all that this scope allows is allowed by `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        let apps = match (&self.apps, &other.apps) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(theirs)) => own.iter().all(|app| theirs.contains(app)),
        };
        apps && ALL.iter().all(|&verb| !self.names(verb) || other.names(verb))
    }

    /// Whether `verb` is among the verbs.
    fn names(&self, verb: Verb) -> bool {
        let of = |pattern: &String| {
            pattern == verb.name || pattern.strip_suffix(":*") == Some(verb.noun())
        };
        match &self.verbs {
            Some(verbs) => verbs.iter().any(of),
            None => self.token.is_none() || !OF_ACCESS.contains(&verb.noun()),
        }
    }

    fn holds(&self, verb: Verb, app: Option<&AppName>) -> bool {
        let on_app = match (&self.apps, verb.on) {
            (None, _) | (Some(_), On::Anybody) => true,
            (Some(apps), On::App) => app.is_some_and(|app| apps.contains(app)),
            // Also where the path names one of them: what is changed is the platform's.
            (Some(_), On::Platform) => false,
        };
        on_app && self.names(verb)
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

/// Which events somebody may see; none by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSight {
    /// Of these apps; none means of all.
    pub apps: Option<Vec<AppName>>,
    /// Of no app.
    pub platform: bool,
    /// Also about users, keys and tokens.
    pub access: bool,
}

impl Default for EventSight {
    fn default() -> Self {
        Self { apps: Some(Vec::new()), platform: false, access: false }
    }
}

impl EventSight {
    /// All events.
    pub fn everything() -> Self {
        Self { apps: None, platform: true, access: true }
    }

    /// Whether `event` may be seen.
    pub fn shows(&self, event: &Event) -> bool {
        match (&event.app, &self.apps) {
            (Some(_), None) => true,
            (Some(app), Some(apps)) => apps.contains(app),
            (None, _) => self.platform && (self.access || !event.is_of_access()),
        }
    }
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

    /// Which events may be seen.
    pub fn event_sight(&self) -> EventSight {
        let everywhere = self.scope.apps.is_none();
        let held = || self.apps.keys().filter(|app| self.sees(app)).cloned().collect();
        EventSight {
            apps: match self.platform {
                Some(_) => self.scope.apps.clone(),
                None => Some(held()),
            },
            platform: self.platform.is_some() && everywhere,
            access: self.allow(USERS_LIST, None).is_ok(),
        }
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
                token: Some("0123456789ab".parse().unwrap()),
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
    fn a_token_gives_access_to_others_only_if_it_says_so() {
        let token = |verbs: Option<&[&str]>| Grants {
            platform: Some(Role::Admin),
            scope: Scope {
                verbs: verbs.map(|verbs| verbs.iter().map(|&verb| verb.into()).collect()),
                token: Some("0123456789ab".parse().unwrap()),
                ..Scope::default()
            },
            ..Grants::default()
        };
        for verb in [TOKENS_CREATE, USERS_ADD, SSH_KEYS_ADD, ACCESS_ADD_GLOBAL] {
            assert!(Grants::everything().allow(verb, None).is_ok(), "{}", verb.name);
            assert!(token(None).allow(verb, None).is_err(), "{}", verb.name);
            assert!(token(Some(&[verb.name])).allow(verb, None).is_ok(), "{}", verb.name);
        }
        assert!(token(None).allow(GC_RUN, None).is_ok());
    }

    #[test]
    fn a_scope_is_within_one_that_allows_all_of_it() {
        let scope = |apps: Option<&[&str]>, verbs: Option<&[&str]>, token: bool| Scope {
            apps: apps.map(|apps| apps.iter().map(|name| app(name)).collect()),
            verbs: verbs.map(|verbs| verbs.iter().map(|&verb| verb.into()).collect()),
            token: token.then(|| "0123456789ab".parse().unwrap()),
        };
        let person = scope(None, None, false);
        let token = scope(None, None, true);
        let shop = scope(Some(&["shop"]), Some(&["ps:*"]), true);
        for (inner, outer, within) in [
            (&shop, &person, true),
            (&token, &person, true),
            (&shop, &token, true),
            (&person, &token, false),
            (&token, &shop, false),
            (&scope(Some(&["shop"]), Some(&["ps:scale"]), true), &shop, true),
            (&scope(Some(&["shop", "blog"]), Some(&["ps:scale"]), true), &shop, false),
            (&scope(Some(&["shop"]), Some(&["config:set"]), true), &shop, false),
            (&scope(Some(&["shop"]), None, true), &shop, false),
            (&scope(None, Some(&["tokens:create"]), true), &token, false),
        ] {
            assert_eq!(inner.is_within(outer), within, "{inner:?} in {outer:?}");
        }
        assert!(shop.clone().checked().is_ok());
        for wrong in ["*", "ps", ":*", "ps:nothing", "nothing:*"] {
            assert!(scope(None, Some(&[wrong]), true).checked().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_verbs_share_a_name() {
        let mut names: Vec<_> = ALL.iter().map(|verb| verb.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
