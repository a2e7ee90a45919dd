//! Landlock, landlock(7), Linux 5.13: a thread gives up the file system but for what it names.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What a hierarchy is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Reading files and listing.
    Read,
    /// Reading, and writing, making, renaming and removing plain files; making directories.
    Files,
}

/// Execute, write, read, list, remove (2), make (7): all that the first version knows.
const FIRST: u64 = (1 << 13) - 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
/// Moving into another directory; version 2.
const REFER: u64 = 1 << 13;
/// Version 3.
const TRUNCATE: u64 = 1 << 14;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const ASK_VERSION: u32 = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: u32 = 1;

/// `struct landlock_ruleset_attr` of the first version.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// Rules that are being gathered.
#[derive(Debug)]
pub struct Ruleset {
    descriptor: OwnedFd,
    handled: u64,
}

/// The version that the kernel speaks: landlock_create_ruleset(2).
///
/// # Errors
/// ENOSYS or EOPNOTSUPP where it has none.
pub fn version() -> io::Result<u32> {
    // SAFETY: this form of the call takes no attributes.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            ASK_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

impl Ruleset {
    /// Everything that `version` knows is forbidden, but for what is added.
    /// landlock_create_ruleset(2).
    ///
    /// # Errors
    /// Of the system call.
    pub fn new(version: u32) -> io::Result<Self> {
        let refer = if version >= 2 { REFER } else { 0 };
        let truncate = if version >= 3 { TRUNCATE } else { 0 };
        let handled = FIRST | refer | truncate;
        let attributes = RulesetAttr { handled_access_fs: handled };
        // SAFETY: the attributes live across the call, which is told their size.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size_of::<RulesetAttr>(),
                0_u32,
            )
        };
        let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just made this descriptor for us, close-on-exec.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) }, handled })
    }

    /// Allows `usage` of everything below `directory`. landlock_add_rule(2).
    ///
    /// # Errors
    /// Of the system call.
    pub fn allow(&self, directory: BorrowedFd<'_>, usage: Use) -> io::Result<()> {
        let read = READ_FILE | READ_DIR;
        let access = match usage {
            Use::Read => read,
            Use::Files => read | WRITE_FILE | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE,
        };
        let rule = PathBeneathAttr {
            allowed_access: access & self.handled,
            parent_fd: directory.as_raw_fd(),
        };
        // SAFETY: the rule lives across the call, and its descriptor is open.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.descriptor.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0_u32,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts the rules in force for the calling thread and those it starts, for good. Needs
    /// `no_new_privileges`. landlock_restrict_self(2).
    ///
    /// # Errors
    /// Of the system call.
    pub fn restrict(self) -> io::Result<()> {
        // SAFETY: takes a descriptor, which is open, and no memory.
        let result = unsafe {
            libc::syscall(libc::SYS_landlock_restrict_self, self.descriptor.as_raw_fd(), 0_u32)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
