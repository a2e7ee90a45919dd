//! Whether a request may go where it wants to: one decision for every protocol.
//!
//! The caller reads a request, asks [`admit`], and then either forwards it as [`Admitted`] says or
//! sends the [`Answer`].

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::Scheme;

use super::ListenerName;
use super::core::Core;
use super::http::host::FoldedHost;
use super::http::request::{Claims, Forwarding, Method};
use super::page::Page;
use super::router::Target;

/// What is known of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) peer: IpAddr,
    /// The same as text.
    pub(super) peer_text: &'a str,
    pub(super) listener: ListenerName,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    pub(super) host: &'a FoldedHost,
    /// The same as the client wrote it, with its port.
    pub(super) authority: &'a str,
    /// Path and query, origin form.
    pub(super) target: &'a str,
    /// Bytes of its head.
    pub(super) head_length: usize,
    pub(super) content_length: Option<u64>,
    /// Its `X-Forwarded-*`.
    pub(super) claims: &'a Claims<'a>,
}

/// What was found out about a request.
#[derive(Debug)]
pub(super) struct Admission {
    /// The client's address, where a trusted proxy knows it better than the connection.
    pub(super) client: Option<String>,
    /// Whether the peer may say `X-Forwarded-*`.
    pub(super) peer_trusted: bool,
    pub(super) decision: Decision,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Decision {
    /// An instance.
    Forward(Admitted),
    /// We do.
    Answer {
        answer: Answer,
        /// Whose request it was.
        target: Option<Arc<Target>>,
    },
}

/// A request that goes to an instance. To be kept until it has ended.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) target: Arc<Target>,
    /// Path and query for the instance, where they are not the client's.
    pub(super) rewritten: Option<Rewritten>,
}

/// A request target that was normalized, or stripped of its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// What the client sent.
    pub(super) asked: String,
    /// What the instance gets.
    pub(super) target: String,
    /// What was taken away: `X-Forwarded-Prefix`.
    pub(super) prefix: Option<String>,
}

impl Admission {
    /// Of a request on a connection that was made for another name.
    pub(super) fn misdirected() -> Self {
        let answer = Answer::Page(Page::Misdirected);
        let decision = Decision::Answer { answer, target: None };
        Self { client: None, peer_trusted: false, decision }
    }

    /// What the instance is told of the request's way; without the request's id and start.
    pub(super) fn forwarding<'a>(
        &'a self,
        arrival: &Arrival<'a>,
        asked: &Asked<'a>,
    ) -> Forwarding<'a> {
        let rewritten = self.rewritten();
        Forwarding {
            peer: arrival.peer_text,
            proto: arrival.scheme.as_str(),
            port: arrival.port,
            trusted: self.peer_trusted.then_some(asked.claims),
            prefix: rewritten.and_then(|rewritten| rewritten.prefix.as_deref()),
            target: rewritten.map(|rewritten| rewritten.target.as_str()),
            request_id: "",
            start_ms: 0,
        }
    }

    /// Path and query as the client sent them, where the instance gets others.
    pub(super) fn asked_target(&self) -> Option<&str> {
        self.rewritten().map(|rewritten| rewritten.asked.as_str())
    }

    fn rewritten(&self) -> Option<&Rewritten> {
        match &self.decision {
            Decision::Forward(admitted) => admitted.rewritten.as_ref(),
            Decision::Answer { .. } => None,
        }
    }
}

/// What we answer ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Page(Page),
    /// To another URL.
    Redirect {
        status: u16,
        location: String,
    },
    /// The key authorization of RFC 8555 §8.3.
    Challenge(String),
}

/// Decides about a request.
pub(super) fn admit(core: &Core, arrival: &Arrival<'_>, asked: &Asked<'_>) -> Admission {
    let _ = arrival;
    let router = core.shared.routes.load();
    let decision = match router.find(asked.host.as_str()) {
        None => Decision::Answer { answer: Answer::Page(Page::UnknownHost), target: None },
        Some(target) => {
            let target = Arc::clone(target);
            match target.page() {
                Some(page) => Decision::Answer { answer: Answer::Page(page), target: Some(target) },
                None => Decision::Forward(Admitted { target, rewritten: None }),
            }
        }
    };
    Admission { client: None, peer_trusted: false, decision }
}
