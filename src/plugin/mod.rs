//! Plugins: folders with a `plugin.toml` and programs that Staithe runs at certain moments.
//!
//! ```text
//!  folder, archive, bundle ─► Manifest (what it offers, asks for and wants to hear of)
//!  event of the platform ─► Request (JSON) ─► program in a sandbox ─► bytes ─► Answer
//! ```
//!
//! This module reads manifests, keeps the bundled plugins' files, takes hostile archives apart and
//! judges answers. Who starts the programs, and in what cage, is `platform`'s business.
//! `docs/PLUGINS.md` is the protocol as authors of plugins read it.
//!
//! **Invariant.** Nothing of a plugin's is trusted: each manifest, path, archive and answer is
//! bounded and checked here, and a plugin that breaks a rule is refused with a sentence.

mod answer;
mod bundle;
mod error;
mod folders;
mod hook;
mod manifest;
mod request;
mod unpack;

pub use answer::{Answer, Change, Ended, MAX_ANSWER, MAX_ERRORS, last_line};
pub use bundle::{bundled, install_bundle};
pub use error::Error;
pub use folders::{Folder, Folders, Incoming, check_data};
pub use hook::Hook;
pub use manifest::{
    Command, HookEntry, MANIFEST, Manifest, OnFailure, Permissions, PortNumber, Runtime, Scope,
    Service, Setting,
};
pub use request::{Request, settings_environment};

type Result<T> = std::result::Result<T, Error>;
