//! Signing in to the dashboard: codes, sessions, and how often a person may be wrong.
//!
//! ```text
//!  dashboard:login ─► code (10 min, once) ─┐
//!  password ───────────────────────────────┼─► lock-out ─► session (idle and absolute limits)
//!  token ──────────────────────────────────┘
//! ```
//!
//! Secrets have 256 random bits and are kept as SHA-256 only: what cannot be guessed needs no slow
//! hash. A session is made anew at each sign-in, so that nobody can be given one beforehand.

mod lockout;

use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use super::{Error, Kind, Platform, Result, clock};
use crate::domain::access::{Grants, Role, Scope};
use crate::domain::{Actor, UserName};
use crate::store::{NewSession, StoredSession};
use crate::wire::{LoginCode, SessionReport};

pub(super) use lockout::LockOut;

/// How long a code is good for.
const CODE_LIFE: Duration = Duration::from_secs(600);
/// What codes begin with, so that people and scanners know them.
const CODE_PREFIX: &str = "stl_";
/// The user that root signs in as without naming one.
const ROOT_USER: &str = "admin";
/// How exact "last used" is: a write for each request would be one `fsync` for each.
const TOUCH: Duration = Duration::from_secs(60);
/// The most sessions of one user; the oldest end.
const MAX_SESSIONS: u32 = 50;
/// The longest kept of how a browser calls itself, in characters.
const MAX_AGENT: usize = 200;

/// Where a sign-in comes from.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// The address.
    pub address: Option<String>,
    /// The browser, in its own words.
    pub agent: String,
}

/// A session as the dashboard needs it at each request.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Its number.
    pub id: i64,
    /// Who.
    pub actor: Actor,
    /// What they may do now.
    pub grants: Grants,
}

impl Platform {
    /// Makes a code with which `user` may sign in once; the caller's own user if none. Root has none
    /// and becomes `admin`.
    ///
    /// # Errors
    /// `Denied` for a token, which must not turn into more than it is; `NotFound`.
    pub async fn make_login_code(&self, actor: &Actor, user: Option<&str>) -> Result<LoginCode> {
        if actor.via == "token" {
            return Err(Error::new(Kind::Denied, "a token cannot make a sign-in code")
                .hint("run `staithe dashboard:login` on the machine or over SSH"));
        }
        let user = match user {
            Some(user) => user.to_owned(),
            None if actor.via == "local" => self.root_user(actor).await?,
            None => actor.name.clone(),
        };
        self.known_user(&user)?;
        let code = format!("{CODE_PREFIX}{}", random_secret()?);
        let expires_at = clock::now().after(CODE_LIFE);
        self.store.add_login_code(&hash(&code), &user, expires_at)?;
        let message = format!("a code to sign in as `{user}` was made");
        self.note_named(None, "session.code-made", &message, actor);
        let link = format!("{}/sign-in#{code}", self.dashboard_url());
        Ok(LoginCode { user, code, link, expires_at })
    }

    /// Where people reach the dashboard.
    pub fn dashboard_url(&self) -> String {
        // A store that cannot be read has worse to say elsewhere.
        let app = self.dashboard_app().ok().flatten();
        if let Some(url) = app.and_then(|app| self.urls(&app).ok()?.into_iter().next()) {
            return url;
        }
        match self.settings().web_address {
            Some(address) => format!("http://{address}"),
            None => "http://<this machine>".to_owned(),
        }
    }

    /// `admin`, made if it does not exist: who is root may do everything anyway.
    async fn root_user(&self, actor: &Actor) -> Result<String> {
        let name: UserName = ROOT_USER.parse()?;
        if self.store.user(&name)?.is_none() {
            self.add_user(actor, &name, Some(Role::Admin)).await?;
        }
        Ok(ROOT_USER.to_owned())
    }

    fn known_user(&self, user: &str) -> Result<()> {
        let known = self.store.grants(user)?.is_some();
        let missing = || {
            Error::new(Kind::NotFound, format!("there is no user `{user}`"))
                .hint("an admin adds users: `staithe users:add <name>`")
        };
        known.then_some(()).ok_or_else(missing)
    }

    /// Signs in with a code of [`Platform::make_login_code`]; the session's secret is for the
    /// browser's cookie and nowhere else.
    ///
    /// # Errors
    /// `Denied` for a code that is not, or not any more; `Unavailable` while locked out.
    pub async fn sign_in_with_code(&self, code: &str, visitor: &Visitor) -> Result<String> {
        self.may_try(None, visitor)?;
        match self.store.take_login_code(&hash(code.trim()), clock::now())? {
            Some(user) => self.begin_session(&user, None, "a code", visitor),
            None => Err(self.wrong(
                None,
                visitor,
                "this code is not valid: it was used, is older than 10 minutes, or was cut short",
                "make a new one: `staithe dashboard:login`",
            )),
        }
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// `Denied` for a wrong name or password, which of the two is not said; `Unavailable` while
    /// locked out.
    pub async fn sign_in_with_password(
        &self,
        name: &str,
        password: &str,
        visitor: &Visitor,
    ) -> Result<String> {
        self.may_try(Some(name), visitor)?;
        match self.check_password(name, password).await? {
            Some(user) => self.begin_session(user.as_str(), None, "a password", visitor),
            None => Err(self.wrong(
                Some(name),
                visitor,
                "the name or the password is wrong",
                "`staithe dashboard:login` gives a link that needs no password",
            )),
        }
    }

    /// Signs in with a token: the session may do what the token may, and ends with it.
    ///
    /// # Errors
    /// `Denied` for a token that is not, or not any more; `Unavailable` while locked out.
    pub async fn sign_in_with_token(&self, token: &str, visitor: &Visitor) -> Result<String> {
        self.may_try(None, visitor)?;
        let known = self.caller_of_token(token.trim(), visitor.address.as_deref())?;
        let found = known.and_then(|(actor, grants)| Some((actor, grants.scope.token?)));
        match found {
            Some((actor, id)) => {
                self.begin_session(&actor.name, Some(id.as_str()), "a token", visitor)
            }
            None => Err(self.wrong(
                None,
                visitor,
                "this token is not valid (any more)",
                "make another: `staithe tokens:create <name>`",
            )),
        }
    }

    fn begin_session(
        &self,
        user: &str,
        token: Option<&str>,
        how: &str,
        visitor: &Visitor,
    ) -> Result<String> {
        self.0.lockout.forget(user, visitor.address.as_deref());
        let secret = random_secret()?;
        let agent: String = visitor.agent.chars().take(MAX_AGENT).collect();
        let now = clock::now();
        let new = NewSession {
            hash: hash(&secret),
            user,
            token,
            at: now,
            address: visitor.address.as_deref(),
            agent: &agent,
        };
        self.store.add_session(&new, MAX_SESSIONS)?;
        let (began, seen) = self.session_limits();
        self.store.prune_sessions(began, seen, now)?;
        let actor = session_actor(user, visitor.address.as_deref());
        let from = visitor.address.as_deref().unwrap_or("an unknown address");
        let message = format!("`{user}` signed in with {how} from {from}");
        self.note_named(None, "session.began", &message, &actor);
        Ok(secret)
    }

    /// The earliest beginning and the earliest last use of sessions that still count.
    fn session_limits(&self) -> (crate::domain::Timestamp, crate::domain::Timestamp) {
        let now = clock::now();
        let settings = self.settings();
        (
            now.before(Duration::from_secs(settings.session_max_s)),
            now.before(Duration::from_secs(settings.session_idle_s)),
        )
    }

    /// The session with that secret, used from the address `from`; none if there is none (any more).
    ///
    /// # Errors
    /// `Internal`.
    pub fn session(&self, secret: &str, from: Option<&str>) -> Result<Option<SignedIn>> {
        let Some(session) = self.store.session(&hash(secret))? else { return Ok(None) };
        if !self.counts(&session) {
            return Ok(None);
        }
        let Some(mut grants) = self.store.grants(&session.user)? else { return Ok(None) };
        if let Some(token) = &session.token {
            let Some(scope) = self.scope_of_session(token)? else { return Ok(None) };
            grants.scope = scope;
        }
        let now = clock::now();
        if now.since(session.seen_at) >= TOUCH {
            self.store.touch_session(session.id, now)?;
        }
        Ok(Some(SignedIn { id: session.id, actor: session_actor(&session.user, from), grants }))
    }

    /// What the token that a session began with is narrowed to; none if it has ended.
    fn scope_of_session(&self, token: &str) -> Result<Option<Scope>> {
        let Ok(id) = token.parse() else { return Ok(None) };
        let known = self.store.token(&id)?;
        let valid = known.filter(|token| token.expires_at.is_none_or(|end| end > clock::now()));
        Ok(valid.map(|token| token.scope))
    }

    fn counts(&self, session: &StoredSession) -> bool {
        let (began, seen) = self.session_limits();
        session.created_at >= began && session.seen_at >= seen
    }

    /// Who speaks with the cookie `secret` from the address `from`.
    ///
    /// # Errors
    /// `Internal`.
    pub fn caller_of_session(
        &self,
        secret: &str,
        from: Option<&str>,
    ) -> Result<Option<(Actor, Grants)>> {
        let session = self.session(secret, from)?;
        Ok(session.map(|session| (session.actor, session.grants)))
    }

    /// A user's sessions that still count, the newest first.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn sessions(&self, user: &str) -> Result<Vec<SessionReport>> {
        let sessions = self.store.sessions(user)?;
        Ok(sessions.into_iter().filter(|session| self.counts(session)).map(shown).collect())
    }

    /// Ends a session of the actor's own.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn end_session(&self, actor: &Actor, id: i64) -> Result<()> {
        if self.store.end_sessions(&actor.name, Some(id), None)? == 0 {
            return Err(Error::new(Kind::NotFound, format!("there is no session {id} of yours")));
        }
        self.note_named(None, "session.ended", "a session was ended", actor);
        Ok(())
    }

    /// Ends the actor's sessions, all but `except`; says how many.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn end_sessions(&self, actor: &Actor, except: Option<i64>) -> Result<usize> {
        let count = self.store.end_sessions(&actor.name, None, except)?;
        let message = format!("{count} session(s) of `{}` were ended", actor.name);
        self.note_named(None, "session.ended", &message, actor);
        Ok(count)
    }

    /// Whether a sign-in may be tried now.
    fn may_try(&self, user: Option<&str>, visitor: &Visitor) -> Result<()> {
        match self.0.lockout.wait(user, visitor.address.as_deref(), clock::now()) {
            None => Ok(()),
            Some(wait) => {
                let seconds = wait.as_secs() + 1;
                let message = format!(
                    "too many failed sign-ins; sign-in is locked for another {seconds} seconds"
                );
                Err(Error::new(Kind::Unavailable, message)
                    .hint("wait, or make a code on the machine: `staithe dashboard:login`"))
            }
        }
    }

    /// Counts a failed sign-in, and says so to the person and in the events.
    fn wrong(
        &self,
        user: Option<&str>,
        visitor: &Visitor,
        message: &'static str,
        hint: &'static str,
    ) -> Error {
        let address = visitor.address.as_deref();
        let locked = self.0.lockout.fail(user, address, clock::now());
        if let Some(wait) = locked {
            let from = address.unwrap_or("an unknown address");
            let text =
                format!("sign-in from {from} locked for {} s: too many wrong", wait.as_secs());
            self.note_named(None, "session.locked", &text, &Actor::platform());
        }
        Error::new(Kind::Denied, message).hint(hint)
    }
}

fn session_actor(user: &str, from: Option<&str>) -> Actor {
    Actor::new(user, "dashboard").at(from.map(str::to_owned))
}

fn shown(session: StoredSession) -> SessionReport {
    SessionReport {
        id: session.id,
        created_at: session.created_at,
        seen_at: session.seen_at,
        address: session.address,
        agent: session.agent,
        token: session.token,
    }
}

/// 256 random bits as base64url.
fn random_secret() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::internal("make a secret", std::io::Error::other(error.to_string()))
    })?;
    Ok(Base64UrlUnpadded::encode_string(&bytes))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
