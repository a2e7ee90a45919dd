//! Drains: an app's log, sent to another machine as it grows.
//!
//! ```text
//!  files ─► tail ─► batch ─► connection: syslog over TLS, TCP or UDP, or requests
//!             ▲        │ taken: the position is kept in a file
//!             │        └ not taken: the same batch again, after a wait that doubles
//!             └ what waits is in the files; beyond a limit the oldest is left out, counted and told
//! ```
//!
//! **Invariant.** Every line is sent at least once, or a line is sent that says how many were not.
//! A drain never leads to a private address unless its owner may have that.

mod address;
mod connection;
mod format;
mod worker;

pub use address::resolve;
pub use worker::{Drain, DrainStatus, run};
