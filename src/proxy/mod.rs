//! The proxy: the data plane, a process of its own that puts apps on the web.
//!
//! ```text
//!   control plane                    │ staithe proxy
//!                                    │
//!   Supervisor ── ProxyHandle ─ proxy-<pid>.sock ► seam ──► RouteTable ──► routes.json
//!   (spawns, adopts, respawns)       │                        │ one ArcSwap
//!                                    │        ┌───────────────┴──────────────┐
//!                                    │      core 0                         core n
//!                                    │      listener ► connection ► exchange ► upstream pool
//! ```
//!
//! One single-threaded runtime for each processor, with its own listening socket (`SO_REUSEPORT`),
//! its own upstream connections and nothing shared but the route table and counters: a request
//! never leaves the core that accepted it. A request looks its route up once for each attempt, so
//! a switch is one pointer store, and requests in flight finish where they are.
//!
//! **Invariants.** The proxy never asks the control plane anything: it serves its last table while
//! the control plane is away, and reads it back from disk when it was killed itself. What it
//! forwards it has parsed strictly (RFC 9112) and framed anew, so that no byte of one request can
//! be taken for another. An answer cut short by an app is never made to look complete.

mod config;
mod error;
mod protocol;
mod routes;

mod http;

mod access_log;
mod admission;
mod attempts;
mod buffer;
mod client;
mod clock;
mod gate;
mod health;
mod metrics;
pub mod openmetrics;
mod page;
mod page_files;
mod path;
mod progress;
mod record;
mod router;
mod settings;
mod splice;
mod stream;
mod timer;
mod tls;
mod upstream;

mod connection;
mod core;
mod exchange;
mod h2;
mod tunnel;

mod confine;
mod handover;
mod listen;
mod places;
mod process;
mod routes_file;
mod seam;

mod control;
mod generations;
mod launch;
mod supervisor;

pub use config::{ArgsError, Config, LogSettings, ProxyArgs, Start, User};
pub use control::ProxyHandle;
pub use error::Error;
pub use launch::SupervisorSpec;
pub use metrics::{BUCKETS_US as LATENCY_BUCKETS_US, CountedRelease, ReleaseMetrics};
pub use places::prepare_directories;
pub use process::main;
pub use protocol::{AppStatus, Drained, Generation, ListenerFile, Metrics, Status, UpstreamStatus};
pub use routes::{
    AccessLogFormat, Binding, Challenge, CustomPage, ExtraListener, Hsts, ListenerName,
    PageOccasion, Route, RouteSettings, RouteState, RouteTable,
};
pub use supervisor::{Supervisor, Upgraded};
