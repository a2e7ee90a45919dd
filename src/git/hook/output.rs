//! Lines on their way to the user's terminal.

use std::io::{self, Write};

use crate::git::PushOutput;

/// What git puts before each line of the side band: `remote: `, so many columns.
const PREFIX_COLUMNS: usize = 8;
/// Moves the cursor to the first column (ECMA-48, CHA).
const FIRST_COLUMN: &str = "\u{1b}[1G";

/// Writes whole lines and passes each on at once.
#[derive(Debug)]
pub(super) struct Output<W> {
    mode: PushOutput,
    to: W,
}

impl<W: Write> Output<W> {
    pub(super) fn new(mode: PushOutput, to: W) -> Self {
        Self { mode, to }
    }

    /// Shows one line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let line = match self.mode {
            PushOutput::Direct | PushOutput::Sideband => format!("{text}\n"),
            // A shorter line would leave the end of the prefix standing.
            PushOutput::Overwrite => format!("{FIRST_COLUMN}{text:<PREFIX_COLUMNS$}\n"),
        };
        // One write for each line: git cuts its packets by writes.
        self.to.write_all(line.as_bytes())?;
        self.to.flush()
    }

    /// Shows an error in Heroku's grammar.
    pub(super) fn failure(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(&format!(" !     {line}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: PushOutput, text: &str, expected: &str) {
        let mut written = Vec::new();
        Output::new(mode, &mut written).line(text).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn lines_are_shown_as_they_are_unless_the_prefix_is_overwritten() {
        check(PushOutput::Direct, "-----> Building", "-----> Building\n");
        check(PushOutput::Sideband, "", "\n");
        check(PushOutput::Overwrite, "ok", "\u{1b}[1Gok      \n");
        check(PushOutput::Overwrite, "-----> Building", "\u{1b}[1G-----> Building\n");
    }

    #[test]
    fn failures_have_the_mark_on_every_line() {
        let mut written = Vec::new();
        Output::new(PushOutput::Direct, &mut written).failure("no\nway").unwrap();
        assert_eq!(written, b" !     no\n !     way\n");
    }
}
