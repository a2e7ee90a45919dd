//! Who is at the other end of the control socket, and for whom they act.
//!
//! The kernel vouches for the peer's user id (`SO_PEERCRED`, unix(7)); nothing a client sends can
//! change it. Root and the trusted ids may name the person they act for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::error::Refusal;
use crate::domain::{Actor, Invalid};
use crate::platform::{Error, Kind};
use crate::wire::ACTOR_HEADER;

/// The longest actor name; a key's name has no reason to be longer.
const MAX_ACTOR_CHARS: usize = 128;

/// The peer's standing, known from the moment of `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// User id 0.
    Root,
    /// The owner of the repositories: git hooks, and commands that came over SSH.
    Trusted,
    /// Anybody else on the machine.
    Stranger(u32),
}

impl Peer {
    /// The standing of user `uid`.
    pub(super) fn of(uid: u32, trusted: &[u32]) -> Self {
        match uid {
            0 => Self::Root,
            uid if trusted.contains(&uid) => Self::Trusted,
            uid => Self::Stranger(uid),
        }
    }

    /// For whom the peer acts in a request with these headers.
    pub(super) fn actor(self, headers: &HeaderMap) -> Result<Actor, Error> {
        let named = headers.get(ACTOR_HEADER).map(actor_name).transpose()?;
        match (self, named) {
            (Self::Stranger(uid), _) => Err(Error::new(
                Kind::Denied,
                format!("user id {uid} may not use the control socket"),
            )
            .hint("run the command as root, or over SSH with a key that was added")),
            (_, Some(name)) => Ok(Actor { name, via: "ssh".into() }),
            (Self::Root, None) => Ok(Actor { name: "root".into(), via: "local".into() }),
            (Self::Trusted, None) => Err(Error::new(
                Kind::Denied,
                format!("the request does not say for whom it is made: no {ACTOR_HEADER} header"),
            )),
        }
    }
}

fn actor_name(header: &HeaderValue) -> Result<String, Invalid> {
    let text = String::from_utf8_lossy(header.as_bytes());
    let length = text.chars().count();
    if !(1..=MAX_ACTOR_CHARS).contains(&length) || text.chars().any(char::is_control) {
        return Err(Invalid::new("actor", &text, "must be 1 to 128 printable characters"));
    }
    Ok(text.into_owned())
}

/// The person a request is made for, and the request's id. Put in place by `edge`.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) actor: Actor,
    pub(super) request_id: String,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let missing = || Error::new(Kind::Internal, "the request has no caller").into();
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uid: u32, name: Option<&str>, expected: &str) {
        let mut headers = HeaderMap::new();
        if let Some(name) = name {
            headers.insert(ACTOR_HEADER, HeaderValue::from_bytes(name.as_bytes()).unwrap());
        }
        let shown = match Peer::of(uid, &[990]).actor(&headers) {
            Ok(actor) => format!("{} via {}", actor.name, actor.via),
            Err(error) => format!("{}: {error}", error.kind().as_str()),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_root_and_the_repository_owner_act_and_may_name_others() {
        check(0, None, "root via local");
        check(0, Some("alice"), "alice via ssh");
        check(990, Some("zoë"), "zoë via ssh");
        check(
            990,
            None,
            "denied: the request does not say for whom it is made: no x-staithe-actor header",
        );
        check(1000, None, "denied: user id 1000 may not use the control socket");
        check(1000, Some("root"), "denied: user id 1000 may not use the control socket");
        check(0, Some(""), "invalid: actor `` must be 1 to 128 printable characters");
    }
}
