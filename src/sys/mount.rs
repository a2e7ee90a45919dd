//! Mounts through the descriptor-based interface: a mount is made detached, given its attributes,
//! and attached to a directory that is held open, so that no path is looked up twice.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

// <linux/mount.h>; the `libc` crate does not have these.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Attributes of a mount, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// No attribute.
    pub const NONE: Self = Self(0);
    /// Writing is refused.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `struct mount_attr` of <linux/mount.h>.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// open_tree(2) with OPEN_TREE_CLONE (5.2): a detached copy of the mount at `path`, without the
/// mounts below it. An empty path is `dir` itself.
///
/// # Errors
/// Of the system call.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | flag(libc::O_CLOEXEC) | flag(libc::AT_EMPTY_PATH);
    // SAFETY: `path` is a NUL-terminated string that lives across the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    owned(fd)
}

/// mount_setattr(2) (5.12): adds `attributes` to the mount that `tree` is the root of.
///
/// # Errors
/// Of the system call.
pub fn add_attributes(tree: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    set(tree, MountAttr { attr_set: attributes.0, attr_clr: 0, propagation: 0, userns_fd: 0 })
}

/// mount_setattr(2) with MOUNT_ATTR_IDMAP (5.12): owners on disk are shown mapped through the user
/// namespace. `tree` must be detached.
///
/// # Errors
/// Of the system call; EINVAL if the file system cannot do this.
pub fn map_ids(
    tree: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    attributes: Attributes,
) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    let attr_set = attributes.0 | MOUNT_ATTR_IDMAP;
    set(tree, MountAttr { attr_set, attr_clr: 0, propagation: 0, userns_fd })
}

/// mount_setattr(2): no mount event passes between this mount (and all below) and any other.
///
/// # Errors
/// Of the system call.
pub fn make_private(path: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(none(), path, none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none())?)
}

/// mount(2): mount events come in from the outside, so that an unmount there is not held up by
/// this namespace, but none go out.
///
/// # Errors
/// Of the system call.
pub fn make_slave(path: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(none(), path, none(), MsFlags::MS_REC | MsFlags::MS_SLAVE, none())?)
}

/// mount(2): the directory `path` becomes a mount of its own, which shows what it holds.
///
/// # Errors
/// Of the system call.
pub fn bind_to_itself(path: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(Some(path), path, none(), MsFlags::MS_BIND, none())?)
}

/// mount(2): what is mounted and unmounted below this mount happens in its copies too.
///
/// # Errors
/// Of the system call.
pub fn make_shared(path: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(none(), path, none(), MsFlags::MS_SHARED, none())?)
}

/// mount(2) of a file system by its type, for those whose options do not fit the 256 bytes that
/// fsconfig(2) takes.
///
/// # Errors
/// Of the system call.
pub fn mount(file_system: &str, target: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(nix::mount::mount(Some(file_system), target, Some(file_system), flags, Some(options))?)
}

/// move_mount(2) (5.2): attaches a detached mount on top of `target`, a descriptor of a file or
/// directory in this mount namespace. `tree` stays usable as its root.
///
/// # Errors
/// Of the system call.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    // SAFETY: both strings are NUL-terminated literals; the descriptors are borrowed, so open.
    let result =
        unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    check(result)
}

/// fsopen(2), fsconfig(2) and fsmount(2) (5.2) as one: a detached mount of a new file system.
/// Options are `key=value` or bare flags.
///
/// # Errors
/// Of the first call that failed.
pub fn new_file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let kind = CString::new(kind)?;
    // SAFETY: `kind` is a NUL-terminated string that lives across the call.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(context)?;
    for (key, value) in options {
        configure(context.as_fd(), key, value)?;
    }
    command(context.as_fd(), FSCONFIG_CMD_CREATE, None, None)?;
    let fd = context.as_raw_fd();
    // SAFETY: takes integers only; `context` is open.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes.0) };
    owned(mount)
}

/// pivot_root(2) with the current directory as both arguments: it becomes `/`, and the old root
/// lies on top of it, ready for [`detach`].
///
/// # Errors
/// Of the system call.
pub fn pivot_to_current_directory() -> io::Result<()> {
    Ok(nix::unistd::pivot_root(".", ".")?)
}

/// umount2(2) with MNT_DETACH: the topmost mount at `path` and all below it vanish from view.
///
/// # Errors
/// Of the system call.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(nix::mount::umount2(path, MntFlags::MNT_DETACH)?)
}

/// umount2(2): the topmost mount at `path` ends, if nothing uses it.
///
/// # Errors
/// Of the system call; `EBUSY` while something has a file or directory of it open.
pub fn unmount(path: &Path) -> io::Result<()> {
    Ok(nix::mount::umount2(path, MntFlags::UMOUNT_NOFOLLOW)?)
}

fn configure(context: BorrowedFd<'_>, key: &str, value: &str) -> io::Result<()> {
    let key = CString::new(key)?;
    if value.is_empty() {
        return command(context, FSCONFIG_SET_FLAG, Some(&key), None);
    }
    command(context, FSCONFIG_SET_STRING, Some(&key), Some(&CString::new(value)?))
}

fn command(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CString>,
    value: Option<&CString>,
) -> io::Result<()> {
    let key = key.map_or(std::ptr::null(), |text| text.as_ptr());
    let value = value.map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: key and value are NULL, where the command takes none, or NUL-terminated strings
    // borrowed across the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    check(result)
}

fn set(tree: BorrowedFd<'_>, attributes: MountAttr) -> io::Result<()> {
    let empty = c"".as_ptr();
    let size = size_of::<MountAttr>();
    let flags = flag(libc::AT_EMPTY_PATH);
    // SAFETY: the struct is laid out as in <linux/mount.h>, lives across the call, and its size
    // is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty,
            flags,
            &raw const attributes,
            size,
        )
    };
    check(result)
}

fn none() -> Option<&'static str> {
    None
}

/// Flags are declared as signed in C and taken as unsigned by the kernel.
fn flag(value: libc::c_int) -> libc::c_uint {
    value.cast_unsigned()
}

pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

pub(super) fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    check(result)?;
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor to us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
