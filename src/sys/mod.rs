//! The kernel seam: the only module that uses `nix` and `libc`, and the only one with `unsafe`.
//!
//! Functions here are safe to call, take typed arguments, return `io::Result` and make one system
//! call each. Policy lives in the callers. Each file is one subject of the kernel's interface.

pub mod credentials;
pub mod fd;
pub mod fs;
pub mod handover;
pub mod landlock;
pub mod loop_device;
pub mod mount;
pub mod namespace;
pub mod netns;
pub mod path;
pub mod process;
pub mod pty;
pub mod session;
pub mod tty;
