//! `Procfile`: which process types an app has, and the command of each.

use std::fmt;

use crate::domain::ProcessType;

/// What is wrong with a file of the source, for the one who pushed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    /// Path in the source.
    pub file: String,
    /// Line, from 1, where known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// The processes in the order of the file.
///
/// # Errors
/// The first line that breaks a rule.
pub fn parse(text: &[u8]) -> Result<Vec<(ProcessType, String)>, SourceProblem> {
    let _ = text;
    unimplemented!()
}
