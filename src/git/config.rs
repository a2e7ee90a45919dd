//! The operator's settings for repositories, and where the daemon has put things.

use std::path::PathBuf;

use serde::Deserialize;

/// What the operator may set about repositories and pushes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Numeric user id that owns the repositories and runs `git`. Needs no entry in
    /// `/etc/passwd`. Default 65010: reserved by Debian's policy, so that no account has it.
    pub owner_uid: u32,
    /// Numeric group id beside `owner_uid`. Default 65010.
    pub owner_gid: u32,
    /// The largest pack one push may carry, in bytes. Default 2 GiB.
    pub max_push_bytes: u64,
    /// The most files, directories and links one source tree may hold. Default 500,000.
    pub max_export_entries: u64,
    /// The most bytes one source tree may hold when written out. Default 4 GiB.
    pub max_export_bytes: u64,
    /// The largest single file of a source tree, in bytes; it is held in memory while it is
    /// written. Default 512 MiB.
    pub max_file_bytes: u64,
    /// Seconds that writing out a source tree may take, submodules included. Default 600.
    pub export_timeout_secs: u64,
    /// URL schemes from which submodules are fetched; empty switches fetching off. Default
    /// `["https"]`. `file` would let a pusher read the machine's repositories.
    pub submodule_protocols: Vec<String>,
    /// Seconds that fetching one submodule may take. Default 120.
    pub submodule_timeout_secs: u64,
    /// How a push's output reaches the user. Default `direct`.
    pub push_output: PushOutput,
}

/// The way the output of a push takes to the user's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushOutput {
    /// By the error stream of the SSH session, without git's `remote: ` before each line.
    Direct,
    /// By git's side band: every client shows it, each line begins with `remote: `.
    Sideband,
    /// By the side band, with a cursor movement that overwrites `remote: `. Clients from git 2.54
    /// on show the movement as text, because they mask control characters (CVE-2024-52005).
    Overwrite,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            owner_uid: 65010,
            owner_gid: 65010,
            max_push_bytes: 2 << 30,
            max_export_entries: 500_000,
            max_export_bytes: 4 << 30,
            max_file_bytes: 512 << 20,
            export_timeout_secs: 600,
            submodule_protocols: vec!["https".to_owned()],
            submodule_timeout_secs: 120,
            push_output: PushOutput::Direct,
        }
    }
}

/// Where the daemon has put things; not for the operator to set one by one.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directory of the repositories, for example `/var/lib/staithe/repos`.
    pub root: PathBuf,
    /// The program that the `pre-receive` hook runs with the arguments `git-hook pre-receive`.
    pub hook_executable: PathBuf,
    /// The control socket, which the repositories' owner must be allowed to connect to.
    pub control_socket: PathBuf,
}
