//! The JSON shapes that the API, the command line and the git hook agree on.
//!
//! **Invariant.** Plain data over `domain`: no I/O and no rules, so that a client needs nothing else of
//! Staithe. Verbs of `platform` take and give these same shapes.

mod kind;
mod reports;
mod requests;

pub use kind::Kind;
pub use reports::*;
pub use requests::*;
