//! Containers: turns a [`ContainerSpec`] into isolated, limited, supervised processes.
//!
//! Knows no app and no image: a root file system is a list of directories, a network is an empty
//! namespace that the caller furnishes between [`Runtime::create`] and [`Runtime::start`].
//!
//! ```text
//!  daemon (tokio)            container-monitor (root, std only)      init = PID 1 in the container
//!  Runtime::create ──spawn──► own session, private mount namespace
//!                 ──spec────► clone3(user mnt pid net ipc uts time) ─► mounts, pivot_root, /dev,
//!                            uid maps, rlimits, cgroups, overlay       capabilities, seccomp
//!        Created ◄────────────────────────────────────────────────── ready, waits
//!  Runtime::start ──start──►────────────────────────────────────────► exec (or fork + reap)
//!  pidfd readable ◄───exit── log, reap, exit.json
//! ```
//!
//! **Invariants.** A container never outlives its monitor, and always outlives the daemon once it
//! was started. All state is on disk under `run_dir/containers/<id>`; a new [`Runtime`] adopts it.
//! Nothing made for a container (process, cgroup, mount, directory) remains after
//! [`Runtime::delete`], except the caller's `rootfs.upper`.

mod cgroup;
mod channel;
mod config;
mod devices;
mod error;
pub mod exec;
mod exec_handle;
mod init;
mod io;
mod launch;
mod log;
pub mod monitor;
mod mounts;
mod pid;
mod protocol;
mod reaper;
mod restrict;
mod rootfs;
mod runtime;
mod seccomp;
mod spec;
mod state;
mod validate;

pub use config::Config;
pub use error::Error;
pub use exec_handle::ExecHandle;
pub use io::{Io, Stdio, Terminal, TerminalStream};
pub use runtime::{Created, Runtime};
pub use spec::{
    CgroupSpec, ContainerSpec, IdMap, IoLimit, Limits, LogSpec, Mount, NetworkMode, ProcessSpec,
    Rlimit, Rootfs, Signal, WindowSize,
};
pub use state::{ContainerState, ExitRecord, Stats, Status};
