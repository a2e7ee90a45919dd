//! Bare repositories, receiving pushes, and reading sources out of them.
//!
//! For the platform: one bare repository for each name, served by the system's `git` as an
//! unprivileged owner, and read with libgit2.
//!
//! ```text
//!  ssh ── Repositories::serve ──> git receive-pack (owner's ids, own process group)
//!                                   │ objects wait in quarantine
//!                                   └─ pre-receive ── hook::main ── control socket ──> platform
//!  platform ── plan_push ─> what to deploy, what to refuse
//!           ── Repositories::export_tree ─> a directory with the pushed sources
//! ```
//!
//! **Invariants.**
//! - Nothing a pusher or the repository's owner can write decides what runs: hooks live in a
//!   directory of root's, and all policy is given on git's command line, which outranks the
//!   repository's own configuration.
//! - A tree is exported by names that were checked, into a directory nobody else can reach until
//!   it is whole. Symbolic links are created, never followed.

mod commit;
mod config;
mod error;
mod export;
pub mod hook;
mod quarantine;
mod repositories;
mod serve;
mod snapshot;
mod submodule;
mod update;

pub use commit::{CommitId, CommitInfo, InvalidCommitId};
pub use config::{Config, Places, PushOutput};
pub use error::Error;
pub use export::{ExportOptions, Exported};
pub use quarantine::Quarantine;
pub use repositories::Repositories;
pub use serve::{HttpHalf, Service, Session};
pub use update::{
    Change, DeployRef, InvalidUpdate, Note, PushPlan, RefKind, RefUpdate, Refusal, plan_push,
};
