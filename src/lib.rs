//! Staithe: one program that turns a Linux machine into a place you `git push` to.
//!
//! The layers, lowest first; an arrow in `tests/it/architecture.rs` is the only way up:
//!
//! ```text
//! interfaces   cli     api     ssh              translate; decide nothing
//!                      web                       what HTTP doors share: caller, guard, errors
//! rules                platform                 one method per user verb; composes mechanisms
//! mechanisms   container image network build git proxy certificate archive plugin store series host
//! mechanisms   container image network build git proxy certificate archive plugin logs store
//! ground       sys  support
//! words        domain                           wire = JSON shapes of domain
//! ```

// Words.
pub mod domain;
pub mod wire;
// Ground.
pub mod support;
#[allow(unsafe_code, reason = "the kernel seam; every block states its SAFETY argument")]
pub mod sys;
// Mechanisms.
pub mod archive;
pub mod build;
pub mod certificate;
pub mod container;
pub mod git;
pub mod host;
pub mod image;
pub mod logs;
pub mod network;
pub mod plugin;
pub mod proxy;
pub mod series;
pub mod store;
// Rules.
pub mod platform;
// Interfaces.
pub mod api;
pub mod cli;
pub mod dashboard;
pub mod ssh;
pub mod web;
// Wiring: the only code that sees all of it.
pub mod config;
pub mod daemon;
