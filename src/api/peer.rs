//! Who is at the other end of the control socket, and for whom they act.
//!
//! The kernel vouches for the peer's user id (`SO_PEERCRED`, unix(7)); nothing a client sends can
//! change it. Root and the trusted ids may name the person they act for.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::domain::{Actor, Invalid};
use crate::platform::{Error, Kind, Platform};
use crate::web::{Caller, Refusal, RequestId};
use crate::wire::{ACTOR_FROM_HEADER, ACTOR_HEADER, ACTOR_VIA_HEADER};

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
            (_, Some(name)) => Ok(Actor::new(name, door(headers)?).at(address(headers)?)),
            (Self::Root, None) => Ok(Actor::new("root", "local")),
            (Self::Trusted, None) => Err(Error::new(
                Kind::Denied,
                format!("the request does not say for whom it is made: no {ACTOR_HEADER} header"),
            )),
        }
    }
}

/// Lets only known peers pass, each with what they may do.
pub(super) async fn identify(
    State(platform): State<Platform>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let actor = actor_of(&request)?;
    let grants = platform.grants(&actor).await?;
    let request_id =
        request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
    request.extensions_mut().insert(Caller { actor, grants, request_id });
    Ok(next.run(request).await)
}

/// For whom the peer of this request's connection acts.
pub(super) fn actor_of(request: &Request) -> Result<Actor, Error> {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Stranger(u32::MAX));
    peer.actor(request.headers())
}

/// By which door the person came to the trusted caller; never one that stands for root.
fn door(headers: &HeaderMap) -> Result<&'static str, Invalid> {
    let Some(named) = headers.get(ACTOR_VIA_HEADER) else { return Ok("ssh") };
    let doors = ["ssh", "sshd", "token", "dashboard"];
    doors.into_iter().find(|door| named == door).ok_or_else(|| {
        let text = String::from_utf8_lossy(named.as_bytes());
        Invalid::new("door", &text, "must be ssh, sshd, token or dashboard")
    })
}

/// From where the person came.
fn address(headers: &HeaderMap) -> Result<Option<String>, Invalid> {
    let Some(named) = headers.get(ACTOR_FROM_HEADER) else { return Ok(None) };
    let text = String::from_utf8_lossy(named.as_bytes());
    let wrong = |_| Invalid::new("address", &text, "must be an IP address");
    text.parse::<IpAddr>().map(|address| Some(address.to_string())).map_err(wrong)
}

fn actor_name(header: &HeaderValue) -> Result<String, Invalid> {
    let text = String::from_utf8_lossy(header.as_bytes());
    let length = text.chars().count();
    if !(1..=MAX_ACTOR_CHARS).contains(&length) || text.chars().any(char::is_control) {
        return Err(Invalid::new("actor", &text, "must be 1 to 128 printable characters"));
    }
    Ok(text.into_owned())
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
    fn the_door_and_the_address_are_told_by_who_is_trusted() {
        let check = |via: &'static str, from: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACTOR_HEADER, HeaderValue::from_static("alice"));
            headers.insert(ACTOR_VIA_HEADER, HeaderValue::from_static(via));
            headers.insert(ACTOR_FROM_HEADER, HeaderValue::from_static(from));
            Peer::Trusted.actor(&headers).map_err(|error| error.kind().as_str())
        };
        let expected = Actor::new("alice", "token").at(Some("2001:db8::1".into()));
        assert_eq!(check("token", "2001:db8:0::1"), Ok(expected));
        for (via, from) in [("local", "::1"), ("platform", "::1"), ("ssh", "<b>"), ("", "::1")] {
            assert_eq!(check(via, from), Err("invalid"), "{via} {from}");
        }
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
