//! The machine: what it has, what it uses, what its kernel can do. Read from /proc and /sys, which
//! are text; nothing here changes anything.
//!
//! **Invariant.** What cannot be read is absent or said to be, and never stops the rest.

mod features;
mod proc;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub use features::{Feature, Weight, features};
pub use proc::{Cpu, Memory, Traffic};

/// The text of a file of the kernel's; empty if there is none.
fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Processor time of the machine since it started.
pub fn cpu() -> Option<Cpu> {
    proc::cpu(&text("/proc/stat"))
}

/// How many processors it has.
pub fn cpus() -> u32 {
    proc::cpus(&text("/proc/stat")).max(1)
}

/// Its memory.
pub fn memory() -> Memory {
    proc::memory(&text("/proc/meminfo"))
}

/// Means of 1, 5 and 15 minutes of the processes that run or want to.
pub fn load() -> [f64; 3] {
    proc::load(&text("/proc/loadavg"))
}

/// Seconds since it started.
pub fn uptime_s() -> u64 {
    proc::first_number(&text("/proc/uptime"))
}

/// Bytes that each link has received and sent since it was made.
pub fn traffic() -> Vec<(String, Traffic)> {
    proc::traffic(&text("/proc/net/dev"))
}

/// Its name.
pub fn name() -> String {
    text("/proc/sys/kernel/hostname").trim().to_owned()
}

/// The kernel's release.
pub fn kernel() -> String {
    text("/proc/sys/kernel/osrelease").trim().to_owned()
}

/// The distribution, os-release(5).
pub fn system() -> String {
    let found = ["/etc/os-release", "/usr/lib/os-release"].map(text);
    found.iter().find_map(|text| proc::pretty_name(text)).unwrap_or_else(|| "Linux".to_owned())
}

/// A file system's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Which one: the same for all paths on it.
    pub device: u64,
    /// All of it, bytes.
    pub total: u64,
    /// What is free, bytes.
    pub free: u64,
    /// Files it can have; 0 where the number is not fixed.
    pub inodes: u64,
    /// How many more it can have.
    pub inodes_free: u64,
}

/// The file system that `path` is on.
///
/// # Errors
/// Those of open(2) and fstatfs(2).
pub fn disk(path: &Path) -> io::Result<Disk> {
    use std::os::unix::fs::MetadataExt;
    let directory = fs::File::open(path)?;
    let space = crate::sys::fs::space(directory.as_fd())?;
    Ok(Disk {
        device: directory.metadata()?.dev(),
        total: space.size,
        free: space.free,
        inodes: space.inodes,
        inodes_free: space.inodes_free,
    })
}

/// Memory of the process `pid`, its share of what it shares included, in bytes; none if it has
/// ended. `/proc/<pid>/smaps_rollup`, Linux 4.14.
pub fn proportional_memory(pid: u32) -> Option<u64> {
    proc::proportional(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let cpu = cpu().expect("/proc/stat has a line `cpu`");
        assert!(cpu.total_us > cpu.idle_us && cpus() > 0);
        assert!(memory().total > memory().available && memory().available > 0);
        assert!(traffic().iter().any(|(link, _)| link == "lo"));
        assert!(!name().is_empty() && !kernel().is_empty() && uptime_s() > 0);
        let disk = disk(Path::new("/proc/self/cwd")).unwrap();
        assert!(disk.total >= disk.free && disk.total > 0);
        assert!(proportional_memory(std::process::id()).unwrap() > 100_000);
        assert_eq!(proportional_memory(u32::MAX), None);
    }
}
