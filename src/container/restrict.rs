//! Who a process in a container is and what it can never do: the same for PID 1 and for exec.

use std::fs;
use std::path::Path;

use super::protocol::{Failure, Step};
use super::seccomp;
use super::spec::ProcessSpec;
use crate::sys::credentials::{self, Capabilities};

/// Everything that must be read before the host's files are out of sight.
#[derive(Debug)]
pub(super) struct Restrictions {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: Capabilities,
    filter: Vec<u8>,
}

impl Restrictions {
    /// For `process`, or for a PID 1 that only waits, which runs as nobody.
    pub(super) fn prepare(
        process: Option<&ProcessSpec>,
        capabilities: &[String],
        filter: &Path,
    ) -> Result<Self, Failure> {
        const NOBODY: u32 = 65_534;
        let capabilities = Capabilities::parse(capabilities)
            .map_err(|name| std::io::Error::other(format!("unknown capability `{name}`")))
            .step("read capabilities")?;
        let filter = fs::read(filter).step("read the system call filter")?;
        let (uid, gid) = process.map_or((NOBODY, NOBODY), |process| (process.uid, process.gid));
        let groups = process.map(|process| process.groups.clone()).unwrap_or_default();
        Ok(Self { uid, gid, groups, capabilities, filter })
    }

    /// Irrevocably becomes that user and nothing more. The caller is user 0 of the container with
    /// all capabilities inside.
    pub(super) fn apply(&self) -> Result<(), Failure> {
        // First, while CAP_SETPCAP is there; uid 0 regains at execve(2) what is not bounded.
        credentials::bound_capabilities(self.capabilities).step("drop capabilities")?;
        // Groups before the user: afterwards CAP_SETGID has gone.
        credentials::set_groups(&self.groups).step("set supplementary groups")?;
        credentials::set_group(self.gid).step("set the group")?;
        credentials::keep_capabilities().step("keep capabilities")?;
        credentials::set_user(self.uid).step("set the user")?;
        credentials::set_capabilities(self.capabilities).step("set capabilities")?;
        credentials::raise_ambient(self.capabilities).step("raise ambient capabilities")?;
        // Without this a filter needs CAP_SYS_ADMIN, and set-user-id programs would gain.
        credentials::no_new_privileges().step("set no_new_privs")?;
        // Last: the filter refuses some of the calls above.
        for program in seccomp::parse(&self.filter).step("parse the system call filter")? {
            credentials::filter_system_calls(program).step("load the system call filter")?;
        }
        Ok(())
    }
}
