//! The HTTP API: `/api/v1/…`, on the control socket.
//!
//! ```text
//! accept ─ peer credentials ─ edge (id, actor, log, problems) ─ router ─ one handler ─ one verb
//! ```
//!
//! Nouns are paths and verbs are methods; each handler translates one request into one method of
//! `platform` and back. Verbs that take a while answer with a stream of lines (`stream`), processes
//! with a terminal take over the connection (`session`).
//!
//! **Invariant.** Decides nothing but who may speak: a rule found here is in the wrong place.

mod access;
mod apps;
mod backups;
mod builds;
mod certificates;
mod checks;
mod config;
mod cron;
mod dashboard;
mod domains;
mod events;
mod front;
mod git;
mod logs;
mod metrics;
mod openapi;
mod peer;
mod plugins;
mod processes;
mod pushes;
mod releases;
mod resources;
mod router;
mod server;
mod services;
mod session;
mod ssh;
mod stacks;
mod storage;
mod stream;
mod system;

pub use git::{GitCommand, GitHttpRequest, GitOverHttp};
pub use metrics::{bind_metrics, serve_metrics};
pub use openapi::openapi;
pub use server::{Config, for_web, serve};
pub use session::{Process, Remote};
pub use ssh::Shell;

#[cfg(test)]
mod tests;
