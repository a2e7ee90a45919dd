//! Processes by number and birth, so that a number used again is never taken for its first owner.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::sys::process;

/// A process, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    /// Clock ticks after boot, field 22 of proc_pid_stat(5).
    start_time: u64,
}

impl ProcessId {
    /// A process that cannot vanish meanwhile: this one or an unreaped child.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed stat file"))?;
        Ok(Self { pid, start_time })
    }

    /// A descriptor of it; `None` if it has ended.
    pub(super) fn open(self) -> io::Result<Option<OwnedFd>> {
        let opened = match process::open(self.pid) {
            // ESRCH; EINVAL is for a number that now belongs to a thread.
            Err(error) if matches!(error.raw_os_error(), Some(3 | 22)) => return Ok(None),
            other => other?,
        };
        // Compared after opening: the descriptor keeps the number from being reused unnoticed.
        match Self::of(self.pid) {
            Ok(now) if now == self => Ok(Some(opened)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It ended between opening and reading its file.
            Err(error) if error.raw_os_error() == Some(3) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The command, field 2, is in parentheses and may hold anything, parentheses too.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_cannot_forge_the_start_time() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 999 9";
        assert_eq!(start_time(stat), Some(4711));
    }

    #[test]
    fn this_process_is_found_and_its_number_with_another_birth_is_not() {
        let this = ProcessId::of(std::process::id()).unwrap();
        assert!(this.open().unwrap().is_some());
        assert!(ProcessId { start_time: 0, ..this }.open().unwrap().is_none());
    }
}
