//! Builds: the Cloud Native Buildpacks lifecycle over a sandbox that `platform` supplies.
//!
//! One container per build; its root is an overlay of the build stack, the app's cached layers and
//! an upper directory that holds the source at `/app`:
//!
//! ```text
//! prepare (host)      reads the cache record, writes layer metadata and config vars into `upper`,
//!    |                says which snapshots to mount: restoring a layer copies nothing
//!    v  container starts
//! detect  (sandbox)   which buildpacks take the app
//! build   (sandbox)   each buildpack of the group, in order
//!    |  container is killed
//!    v
//! export  (host)      turns `upper/layers/…` and `upper/app` into image layers, launch environment
//!                     and processes, and writes the new cache record
//! ```
//!
//! Detection runs with all cached layers already mounted: a buildpack's detect must not read
//! `/layers` (CNB spec), and a layer whose buildpack drops out of the group is simply not exported.
//!
//! **Invariant.** While the container lives, nothing inside `upper` is read from the host: what the
//! lifecycle must know meanwhile it asks through the sandbox. After its death nothing there can
//! change any more, and symbolic links are still never followed.

pub mod appjson;
mod bundled;
mod cache;
mod config;
mod descriptor;
mod environment;
mod error;
mod hujson;
mod ignore;
mod layer;
mod lifecycle;
mod output;
mod plan;
pub mod procfile;
mod sandbox;
pub mod stack;
mod tree;

pub use cache::CacheRecord;
pub use config::{CA_BUNDLE, Config, ca_environment};
pub use descriptor::{Buildpack, Catalog};
pub use error::{Error, Party};
pub use lifecycle::{Built, Group, Job, Lifecycle, Mount, Owner, Prepared, StackFacts};
pub use output::{Output, neutralized};
pub use procfile::SourceProblem;
pub use sandbox::{LayerRef, LayerSink, Sandbox, SandboxError, Step, StepExit, Stream};
