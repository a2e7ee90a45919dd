//! Logs of apps: read backwards, followed, filtered, bounded, and sent elsewhere.
//!
//! ```text
//!  monitors ──► <app>/<instance>/*.log ─┐                  ┌─► history: the newest first
//!  proxy ─────► access/<app>.log ───────┼─► files, record ─┤
//!  platform ──► <app>/platform/*.log ───┘                  └─► tail: what is appended ─► followers
//! ```
//!
//! The files are written by others, in pieces that are whole lines, and are the only state: an index
//! would have to survive what they survive. A line's cursor is its time, its file and its place in
//! the file, which rotation leaves as they are.
//!
//! **Invariant.** Nothing here is waited for by whoever writes a line. A reader that cannot keep up is
//! told so in a line of its own; memory is bounded whatever the files hold.

mod drain;
mod files;
mod filter;
mod history;
mod level;
mod platform_log;
mod prune;
mod record;
mod router;
mod tail;

pub use drain::{Drain, DrainStatus, resolve, run as run_drain};
pub use files::Places;
pub use filter::{Filter, Selection};
pub use history::{History, Span};
pub use platform_log::PlatformLog;
pub use prune::{Bounds, prune};
pub use router::RouterLog;
pub use tail::{Entry, FileId, Positions, Tail, say};

/// The directory below an app's with what the platform says. No instance has such a name: theirs
/// have a dot.
const PLATFORM: &str = "platform";

/// The process of lines that say something about the log itself.
const NOTICES: &str = "logs";
