//! What the hook and the control plane say to each other, in JSON.
//!
//! The shapes are those of `wire`; a mechanism may not import it, so they are stated here in the
//! hook's own words.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::AppName;
use crate::git::{Change, RefUpdate};

/// The body of `POST /api/v1/apps/{app}/pushes`.
#[derive(Debug, Serialize)]
pub(super) struct Push {
    pub(super) id: String,
    pub(super) app: AppName,
    pub(super) updates: Vec<Update>,
    pub(super) quarantine: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
pub(super) struct Update {
    old: String,
    new: String,
    name: String,
}

/// One line of the answer. A line with none of the three says that work goes on.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    pub(super) line: Option<String>,
    pub(super) result: Option<Outcome>,
    pub(super) error: Option<Problem>,
}

/// What became of a push; also the answer to `GET /api/v1/apps/{app}/pushes/{id}`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(super) enum Outcome {
    Accepted {},
    Rejected {
        #[serde(default)]
        reason: String,
    },
    Pending,
}

/// A refusal (RFC 9457).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<&RefUpdate> for Update {
    fn from(update: &RefUpdate) -> Self {
        let zeros = || "0".repeat(40);
        let (old, new) = match &update.change {
            Change::Create(new) => (zeros(), new.to_string()),
            Change::Update(old, new) => (old.to_string(), new.to_string()),
            Change::Delete(old) => (old.to_string(), zeros()),
        };
        Self { old, new, name: update.name.clone() }
    }
}

impl Problem {
    /// What to show: the sentence, and the next step on a line of its own.
    pub(super) fn text(&self) -> String {
        let sentence = self.detail.as_deref().unwrap_or(&self.title);
        let sentence = if sentence.is_empty() { "the push was refused" } else { sentence };
        match &self.hint {
            Some(hint) => format!("{sentence}\n{hint}"),
            None => sentence.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Answer) {
        assert_eq!(serde_json::from_str::<Answer>(json).unwrap(), expected);
    }

    #[test]
    fn answers_are_read_and_later_additions_are_ignored() {
        let line = Some("-----> Building".to_owned());
        check(r#"{"line":"-----> Building"}"#, Answer { line, ..Answer::default() });
        let result = Some(Outcome::Accepted {});
        check(
            r#"{"result":{"outcome":"accepted","release":3}}"#,
            Answer { result, ..Answer::default() },
        );
        let result = Some(Outcome::Rejected { reason: "no".to_owned() });
        check(
            r#"{"result":{"outcome":"rejected","reason":"no"}}"#,
            Answer { result, ..Answer::default() },
        );
        check("{}", Answer::default());
    }

    #[test]
    fn a_problem_shows_its_sentence_and_the_next_step() {
        let json = r#"{"error":{"title":"Conflict","detail":"busy","hint":"wait","status":409}}"#;
        let answer: Answer = serde_json::from_str(json).unwrap();
        assert_eq!(answer.error.unwrap().text(), "busy\nwait");
        assert_eq!(Problem::default().text(), "the push was refused");
    }

    #[test]
    fn updates_are_sent_as_git_gave_them() {
        let zero = "0".repeat(40);
        let one = "1".repeat(40);
        let update = RefUpdate::parse(&zero, &one, "refs/heads/main").unwrap();
        let json = serde_json::to_string(&Update::from(&update)).unwrap();
        let expected = format!(r#"{{"old":"{zero}","new":"{one}","name":"refs/heads/main"}}"#);
        assert_eq!(json, expected);
    }
}
