//! Tokens: what programs show in place of a person, narrowed to what they are for.
//!
//! **Invariant.** A token never makes a token that may more than itself, lasts longer, or is another
//! user's; and it goes with the one that made it.

use std::time::Duration;

use serde_json::json;

use super::events::Change;
use super::{Error, Kind, Platform, Result, clock};
use crate::domain::access::{Grants, Scope};
use crate::domain::{Actor, Secret, Timestamp, Token, TokenId, UserName};
use crate::store::StoredToken;
use crate::support::report;
use crate::wire::{CreatedToken, NewToken, TokenReport};

/// The most tokens of one user: more are a program that makes one at each run.
const MAX_TOKENS: usize = 200;
/// The longest word for what a token is for.
const MAX_NAME: usize = 100;
/// The most apps and verbs of one scope.
const MAX_SCOPE: usize = 200;
/// How long a token may last at most: ten years.
const MAX_AGE: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How exactly its last use is known; each time it is written is a write to disk.
const USED: Duration = Duration::from_secs(60);

impl Platform {
    /// Whose token it is and what it may, from the address `from`; none for one that is unknown,
    /// ended or revoked, or whose user is kept out.
    ///
    /// # Errors
    /// `Internal`.
    pub fn caller_of_token(
        &self,
        token: &str,
        from: Option<&str>,
    ) -> Result<Option<(Actor, Grants)>> {
        let Ok(token) = token.parse::<Token>() else { return Ok(None) };
        let now = clock::now();
        let known = self.store.token(token.id())?;
        let Some(stored) = known.filter(|stored| token.is_of(&stored.hash)) else {
            return Ok(None);
        };
        if stored.expires_at.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        let Some(grants) = self.store.grants(stored.user.as_str())? else { return Ok(None) };
        let seen = stored.used_at.is_some_and(|used| now.since(used) < USED);
        if !(seen && stored.used_from.as_deref() == from)
            && let Err(error) = self.store.use_token(&stored.id, now, from)
        {
            // A full disk keeps nobody out.
            tracing::warn!(error = report(&error), "cannot remember that a token was used");
        }
        let actor = Actor::new(stored.user.as_str(), "token").at(from.map(str::to_owned));
        Ok(Some((actor, Grants { scope: stored.scope, ..grants })))
    }

    /// The tokens of `user`, or of everybody.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn tokens(&self, user: Option<&UserName>) -> Result<Vec<TokenReport>> {
        if let Some(user) = user {
            self.find_user(user)?;
        }
        Ok(self.store.tokens(user)?.into_iter().map(shown).collect())
    }

    /// Makes a token of `user`'s. `maker` is what the one who asks may do: a token makes none with
    /// more than itself.
    ///
    /// # Errors
    /// `Invalid`, `Denied`, `Conflict`.
    pub async fn create_token(
        &self,
        actor: &Actor,
        maker: &Grants,
        user: &UserName,
        new: NewToken,
    ) -> Result<CreatedToken> {
        self.find_user(user)?;
        let now = clock::now();
        check_name(&new.name)?;
        let id = TokenBits::random()?;
        let token = id.token();
        let scope = Scope { apps: new.apps, verbs: new.verbs, token: Some(token.id().clone()) };
        let scope = self.check_scope(user, scope, maker)?;
        let expires_at = new.expires_in_s.map(|span| end_of(now, span)).transpose()?;
        let parent = maker.scope.token.clone();
        if let Some(parent) = &parent {
            self.check_parent(parent, user, expires_at)?;
        }
        self.store.remove_expired_tokens(now)?;
        if self.store.tokens(Some(user))?.len() >= MAX_TOKENS {
            let message = format!("user `{user}` has {MAX_TOKENS} tokens, the most there may be");
            return Err(Error::new(Kind::Conflict, message)
                .hint("revoke those that are not needed: `staithe tokens:revoke <id>`"));
        }
        let stored = StoredToken {
            id: token.id().clone(),
            user: user.clone(),
            parent,
            name: new.name,
            hash: token.hash().to_vec(),
            scope,
            created_at: now,
            expires_at,
            used_at: None,
            used_from: None,
        };
        self.store.add_token(&stored)?;
        let report = shown(stored);
        let message = format!("token `{}` ({}) of `{user}` created", report.name, report.id);
        let change = Change::new((), facts(&report));
        self.note_named_change(None, "token.created", &message, actor, change);
        Ok(CreatedToken { token: Secret::new(token.expose()), report })
    }

    /// The scope of a new token, if it names what there is and is within the maker's.
    fn check_scope(&self, user: &UserName, scope: Scope, maker: &Grants) -> Result<Scope> {
        let words = scope.apps.iter().flatten().count() + scope.verbs.iter().flatten().count();
        if words > MAX_SCOPE || scope.apps.as_ref().is_some_and(Vec::is_empty) {
            let message = format!("a scope has 1 to {MAX_SCOPE} apps and verbs");
            return Err(Error::new(Kind::Invalid, message));
        }
        let scope = scope.checked()?;
        // What its user may not see must look as if it were not there.
        let held = self.store.grants(user.as_str())?.unwrap_or_default();
        for app in scope.apps.iter().flatten() {
            if self.store.app(app)?.is_none() || !held.sees(app) || !maker.sees(app) {
                return Err(Error::no_app(app));
            }
        }
        match maker.scope.token.is_none() || scope.is_within(&maker.scope) {
            true => Ok(scope),
            false => {
                Err(Error::new(Kind::Denied, "a token cannot make one that may more than itself")
                    .hint("name apps and verbs that this token is for: `--app`, `--verb`"))
            }
        }
    }

    fn check_parent(
        &self,
        parent: &TokenId,
        user: &UserName,
        expires_at: Option<Timestamp>,
    ) -> Result<()> {
        let known = self.store.token(parent)?.filter(|parent| parent.user == *user);
        let Some(parent) = known else {
            let message = "a token makes tokens of its own user only";
            return Err(Error::new(Kind::Denied, message));
        };
        match (parent.expires_at, expires_at) {
            (None, _) => Ok(()),
            (Some(end), Some(wanted)) if wanted <= end => Ok(()),
            _ => Err(Error::new(Kind::Denied, "a token cannot make one that outlasts itself")
                .hint("give a shorter `--expires`")),
        }
    }

    /// Ends a token, and those that were made with it. `owner` limits it to that user's.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_token(
        &self,
        actor: &Actor,
        id: &TokenId,
        owner: Option<&UserName>,
    ) -> Result<()> {
        let all = self.store.tokens(owner)?;
        let Some(token) = all.into_iter().find(|token| token.id == *id) else {
            return Err(Error::new(Kind::NotFound, format!("there is no token `{id}`"))
                .hint("run `staithe tokens:list` to see them"));
        };
        self.store.remove_token(id)?;
        let report = shown(token);
        let message = format!("token `{}` ({id}) of `{}` revoked", report.name, report.user);
        let change = Change::new(facts(&report), ());
        self.note_named_change(None, "token.revoked", &message, actor, change);
        Ok(())
    }
}

/// The random bits of a new token.
struct TokenBits([u8; 6], [u8; 32]);

impl TokenBits {
    fn random() -> Result<Self> {
        let failed = |error: getrandom::Error| {
            Error::internal("the kernel has no randomness", error.to_string())
        };
        let (mut id, mut secret) = ([0; 6], [0; 32]);
        getrandom::fill(&mut id).map_err(failed)?;
        getrandom::fill(&mut secret).map_err(failed)?;
        Ok(Self(id, secret))
    }

    fn token(&self) -> Token {
        Token::of(self.0, self.1)
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count());
    match fits && !name.chars().any(char::is_control) && name.trim() == name {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Invalid,
            "a token's name must have 1 to 100 printable characters and not begin or end with space",
        )),
    }
}

fn end_of(now: Timestamp, seconds: u64) -> Result<Timestamp> {
    let span = Duration::from_secs(seconds);
    match !span.is_zero() && span <= MAX_AGE {
        true => Ok(now.after(span)),
        false => Err(Error::new(Kind::Invalid, "a token lasts from 1 second to 10 years")),
    }
}

fn shown(token: StoredToken) -> TokenReport {
    TokenReport {
        id: token.id,
        user: token.user,
        name: token.name,
        apps: token.scope.apps,
        verbs: token.scope.verbs,
        created_at: token.created_at,
        expires_at: token.expires_at,
        used_at: token.used_at,
        used_from: token.used_from,
    }
}

/// What an event tells of a token.
fn facts(token: &TokenReport) -> serde_json::Value {
    json!({
        "id": token.id, "user": token.user, "name": token.name, "apps": token.apps,
        "verbs": token.verbs, "expires_at": token.expires_at,
    })
}
