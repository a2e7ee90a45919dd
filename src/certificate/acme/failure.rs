//! Why an authority did not issue, in one sentence, and how soon it makes sense to ask again.

use instant_acme::Problem;

use super::https::Limits;
use crate::domain::AcmeFailure;

/// The most characters of an authority's words that are kept.
const MAX_CHARS: usize = 600;

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// In what way.
    pub kind: AcmeFailure,
    sentence: String,
}

impl Failure {
    /// The authority was not asked.
    pub(super) fn ours(sentence: impl Into<String>) -> Self {
        Self { kind: AcmeFailure::Ours, sentence: sentence.into() }
    }

    /// The authority cannot be reached.
    pub(super) fn unreachable(sentence: impl Into<String>) -> Self {
        Self { kind: AcmeFailure::Unreachable, sentence: shown(&sentence.into()) }
    }

    /// The authority refuses.
    pub(super) fn refused(sentence: impl Into<String>) -> Self {
        Self { kind: AcmeFailure::Refused, sentence: shown(&sentence.into()) }
    }

    /// What the protocol's library says; `limits` knows whether the authority asked for patience.
    pub(super) fn from_acme(error: &instant_acme::Error, limits: &Limits) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::from_problem(problem, limits),
            instant_acme::Error::Timeout(_) => {
                Self::unreachable("the certificate authority did not come to an end in time")
            }
            // The library nests the transport's error; its text names host and reason.
            instant_acme::Error::Other(source) => {
                Self::unreachable(format!("the certificate authority cannot be reached: {source}"))
            }
            other => Self::unreachable(format!(
                "the certificate authority's answer is not understood: {other}"
            )),
        }
    }

    /// What the authority says (RFC 8555 §6.7).
    pub(super) fn from_problem(problem: &Problem, limits: &Limits) -> Self {
        let words = words(problem);
        if is(problem, "rateLimited") {
            let sentence = format!("the certificate authority limits its rate: {words}");
            let kind = AcmeFailure::Limited { after_s: limits.retry_after_s() };
            return Self { kind, sentence: shown(&sentence) };
        }
        if is(problem, "badNonce") {
            // Refused several times in a row, each with a fresh one.
            return Self::unreachable(format!("the certificate authority is confused: {words}"));
        }
        match problem.status {
            Some(500..) => {
                let sentence = format!("the certificate authority failed: {words}");
                match limits.retry_after_s() {
                    None => Self::unreachable(sentence),
                    after_s => {
                        Self { kind: AcmeFailure::Limited { after_s }, sentence: shown(&sentence) }
                    }
                }
            }
            _ => Self::refused(format!("the certificate authority refuses: {words}")),
        }
    }
}

/// Whether a problem is of the ACME type `name`.
pub(super) fn is(problem: &Problem, name: &str) -> bool {
    let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next());
    kind == Some(name)
}

/// A problem's detail and that of its parts.
fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next());
    let mut words = problem.detail.clone().or(kind.map(str::to_owned)).unwrap_or_default();
    for part in problem.subproblems.iter().take(3) {
        if let Some(detail) = &part.detail {
            words.push_str("; ");
            words.push_str(detail);
        }
    }
    words
}

/// Strangers' words on one line, bounded, without what terminals obey.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str, status: u16) -> Problem {
        let json = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"),
            "detail": detail,
            "status": status,
        });
        serde_json::from_value(json).unwrap()
    }

    fn check(problem: &Problem, retry_after: Option<u64>, kind: AcmeFailure, sentence: &str) {
        let limits = Limits::default();
        limits.set(retry_after);
        let failure = Failure::from_problem(problem, &limits);
        assert_eq!((failure.kind, failure.to_string().as_str()), (kind, sentence));
    }

    #[test]
    fn an_authoritys_answers_are_told_apart() {
        check(
            &problem("rateLimited", "too many certificates", 429),
            Some(7200),
            AcmeFailure::Limited { after_s: Some(7200) },
            "the certificate authority limits its rate: too many certificates",
        );
        check(
            &problem("rejectedIdentifier", "forbidden\x1b[31m", 400),
            None,
            AcmeFailure::Refused,
            "the certificate authority refuses: forbidden [31m",
        );
        check(
            &problem("serverInternal", "out of order", 500),
            None,
            AcmeFailure::Unreachable,
            "the certificate authority failed: out of order",
        );
        check(
            &problem("serverInternal", "maintenance", 503),
            Some(60),
            AcmeFailure::Limited { after_s: Some(60) },
            "the certificate authority failed: maintenance",
        );
    }
}
