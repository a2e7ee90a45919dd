//! Printing an error with everything below it.

use std::error::Error;
use std::fmt::Write;

/// The error and its sources in one line, outermost first: `a: b: c`.
pub fn report(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
}
