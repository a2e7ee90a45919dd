//! The JSON shapes that the API, the command line and the git hook agree on.
//!
//! **Invariant.** Plain data over `domain`: no I/O and no rules, so that a client needs nothing else of
//! Staithe. Verbs of `platform` take and give these same shapes.

mod access;
mod backups;
mod builds;
mod certificates;
mod cron;
mod dashboard;
mod dns;
pub mod frames;
mod front;
mod kind;
mod logs;
mod metrics;
mod plugins;
mod problem;
mod protocol;
mod reports;
mod requests;
mod services;
mod storage;
mod stream;

pub use crate::domain::LogLine;
pub use access::*;
pub use backups::*;
pub use builds::*;
pub use certificates::*;
pub use cron::*;
pub use dashboard::*;
pub use dns::*;
pub use front::*;
pub use kind::Kind;
pub use logs::*;
pub use metrics::*;
pub use plugins::*;
pub use problem::Problem;
pub use protocol::{
    ACTOR_FROM_HEADER, ACTOR_HEADER, ACTOR_VIA_HEADER, API_PREFIX, NDJSON, PROBLEM_JSON,
    REQUEST_ID_HEADER, SESSION_PROTOCOL, SSE,
};
pub use reports::*;
pub use requests::*;
pub use services::*;
pub use storage::*;
pub use stream::StreamItem;
