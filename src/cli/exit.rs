//! How a command ends: exit codes, and what is said about a failure.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::wire::{Kind, Problem};

/// Exit codes beside 0. 20 is Dokku's for an app that does not exist; scripts test for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was tried and failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The platform refused: a rule, a conflict, a missing permission.
    Refused = 4,
    /// The server cannot be reached, or went away; the outcome is unknown.
    Unreachable = 5,
    /// What was named does not exist.
    NotFound = 20,
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::NotFound => Self::NotFound,
            Kind::Conflict | Kind::Invalid | Kind::Denied => Self::Refused,
            Kind::Failed | Kind::Unavailable | Kind::Internal => Self::Failed,
        }
    }
}

/// Why a command does not end with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Something to tell.
    Told {
        /// How the command ends.
        exit: Exit,
        /// What happened, one sentence without a full stop; may have several lines.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// All has been said: a remote process's exit code, or a reader that went away.
    Silent(u8),
}

impl Failure {
    /// A failure to tell about.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), hint: None }
    }

    /// The command line is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub(super) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Tells the user and gives the exit code.
    pub(super) fn report(&self, colors: bool) -> ExitCode {
        match self {
            Self::Silent(code) => ExitCode::from(*code),
            Self::Told { exit, .. } => {
                let mut stderr = io::stderr().lock();
                let red = colors && stderr.is_terminal();
                // If standard error is closed there is nobody left to tell.
                let _ = stderr.write_all(self.text(red).as_bytes());
                ExitCode::from(*exit as u8)
            }
        }
    }

    fn text(&self, red: bool) -> String {
        let Self::Told { message, hint, .. } = self else { return String::new() };
        let (on, off) = if red { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let mut text = String::new();
        for line in message.lines() {
            text.push_str(format!("{on} !     {line}{off}").trim_end());
            text.push('\n');
        }
        for line in hint.iter().flat_map(|hint| hint.lines()) {
            text.push_str(format!("       {line}").trim_end());
            text.push('\n');
        }
        text
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Told { exit: problem.kind.into(), message: problem.detail, hint: problem.hint }
    }
}

impl From<crate::domain::Invalid> for Failure {
    fn from(invalid: crate::domain::Invalid) -> Self {
        Self::usage(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_an_exit_code() {
        let table = Kind::ALL.map(|kind| (kind.as_str(), Exit::from(kind) as u8));
        let expected = [
            ("not_found", 20),
            ("conflict", 4),
            ("invalid", 4),
            ("denied", 4),
            ("failed", 1),
            ("unavailable", 1),
            ("internal", 1),
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn a_failure_is_a_marked_line_and_a_hint() {
        let failure = Failure::new(Exit::NotFound, "app `blog` does not exist")
            .hint("`staithe apps:list` shows them");
        let expected = " !     app `blog` does not exist\n       `staithe apps:list` shows them\n";
        assert_eq!(failure.text(false), expected);
    }
}
