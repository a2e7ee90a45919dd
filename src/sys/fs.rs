//! Files and directories below a descriptor, without ever following a hostile symbolic link.
//!
//! Names are looked up relative to an open directory. Functions that take a *name* want a single
//! path component; functions that take a *path* say how its components are resolved.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{self, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, Gid, Uid, UnlinkatFlags};

/// Kernel's limit of a list of attribute names, xattr(7).
const XATTR_LIST_MAX: usize = 65_536;

/// What kind of thing a directory entry is, inode(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device, FIFO or socket.
    Other,
}

/// The attributes of an inode that [`stat_at`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Device that holds the inode.
    pub device: u64,
    /// Number of the inode on its device.
    pub inode: u64,
    /// Number of hard links.
    pub links: u64,
    /// Permission bits with set-id and sticky bits: `mode & 0o7777`.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Apparent size in bytes.
    pub size: u64,
    /// Device number of a device node.
    pub node: u64,
}

impl From<stat::FileStat> for Stat {
    fn from(raw: stat::FileStat) -> Self {
        let kind = match raw.st_mode & libc::S_IFMT {
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFLNK => FileKind::Symlink,
            libc::S_IFCHR => FileKind::CharDevice,
            _ => FileKind::Other,
        };
        Self {
            kind,
            device: raw.st_dev,
            inode: raw.st_ino,
            links: raw.st_nlink,
            permissions: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: u64::try_from(raw.st_size).unwrap_or(0),
            node: raw.st_rdev,
        }
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens the directory at `path`, whose last component must not be a symbolic link. open(2).
///
/// # Errors
/// Those of open(2); `ENOTDIR` or `ELOOP` for anything but a directory.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(fcntl::open(path, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?)
}

/// Opens the directory at `path` below `root`, refusing symbolic links, mount points and every
/// way out. openat2(2), Linux 5.6.
///
/// # Errors
/// Those of openat2(2); `ELOOP` for a symbolic link, `EXDEV` for a mount point or an escape.
pub fn open_directory_beneath(root: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    Ok(fcntl::openat2(root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve))?)
}

/// Opens the directory at `path` as a process with the root directory `root` would: symbolic links
/// are followed, but never out of it. openat2(2) with `RESOLVE_IN_ROOT`, Linux 5.6.
///
/// # Errors
/// Those of openat2(2).
pub fn open_directory_in_root(root: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    Ok(fcntl::openat2(root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve))?)
}

/// Opens the file `name` for reading; not through a symbolic link, and without waiting for a
/// FIFO's writer. openat(2).
///
/// # Errors
/// Those of openat(2).
pub fn open_file_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(File::from(fcntl::openat(directory, name, flags, Mode::empty())?))
}

/// Creates the file `name`, readable and writable by root alone, and opens it for writing.
/// openat(2) with `O_EXCL`.
///
/// # Errors
/// Those of openat(2); `EEXIST` if there is anything of that name.
pub fn create_file_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(fcntl::openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
}

/// The names in a directory without `.` and `..`, unsorted, at most `limit` of them. readdir(3).
///
/// # Errors
/// Those of open(2) and getdents(2).
pub fn names(directory: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<CString>> {
    // A descriptor of its own, so that the position of the caller's does not matter.
    let mut stream = Dir::openat(directory, c".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in stream.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if names.len() == limit {
            break;
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Attributes of the entry `name` itself; a symbolic link is not followed. fstatat(2).
///
/// # Errors
/// Those of fstatat(2).
pub fn stat_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
    Ok(stat::fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.into())
}

/// Attributes of an open file. fstat(2).
///
/// # Errors
/// Those of fstat(2).
pub fn stat(file: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(stat::fstat(file)?.into())
}

/// Changes owner and group of the entry `name` itself; a symbolic link is not followed. The kernel
/// clears set-id bits of files. fchownat(2).
///
/// # Errors
/// Those of fchownat(2).
pub fn chown_at(directory: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(unistd::fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Changes the permission bits of the entry `name`, which must not be a symbolic link: fchmodat(2)
/// follows those (`AT_SYMLINK_NOFOLLOW` needs fchmodat2(2), Linux 6.6).
///
/// # Errors
/// Those of fchmodat(2).
pub fn chmod_at(directory: BorrowedFd<'_>, name: &CStr, permissions: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(permissions);
    Ok(stat::fchmodat(directory, name, mode, stat::FchmodatFlags::FollowSymlink)?)
}

/// Changes owner and group of an open file. fchown(2).
///
/// # Errors
/// Those of fchown(2).
pub fn chown(file: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    Ok(unistd::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Changes the permission bits of an open file. fchmod(2).
///
/// # Errors
/// Those of fchmod(2).
pub fn chmod(file: BorrowedFd<'_>, permissions: u32) -> io::Result<()> {
    Ok(stat::fchmod(file, Mode::from_bits_truncate(permissions))?)
}

/// Sets access and modification time of an open file, in seconds since the epoch. futimens(3).
///
/// # Errors
/// Those of utimensat(2).
pub fn set_times(file: BorrowedFd<'_>, seconds: i64) -> io::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    Ok(stat::futimens(file, &time, &time)?)
}

/// Creates the directory `name`, accessible to root alone. mkdirat(2).
///
/// # Errors
/// Those of mkdirat(2).
pub fn make_directory_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(stat::mkdirat(directory, name, Mode::S_IRWXU)?)
}

/// Creates the symbolic link `name` that points to `target`. symlinkat(2).
///
/// # Errors
/// Those of symlinkat(2).
pub fn symlink_at(target: &CStr, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(unistd::symlinkat(target, directory, name)?)
}

/// The target of the symbolic link `name`. readlinkat(2).
///
/// # Errors
/// Those of readlinkat(2); `EINVAL` if it is no symbolic link.
pub fn read_link_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    Ok(OsString::into_vec(fcntl::readlinkat(directory, name)?))
}

/// Gives the file `old` (itself, if it is a symbolic link) the additional name `new`. linkat(2).
///
/// # Errors
/// Those of linkat(2).
pub fn link_at(old: (BorrowedFd<'_>, &CStr), new: (BorrowedFd<'_>, &CStr)) -> io::Result<()> {
    Ok(unistd::linkat(old.0, old.1, new.0, new.1, AtFlags::empty())?)
}

/// Moves the entry `old` to `new`, replacing a file of that name. renameat(2).
///
/// # Errors
/// Those of renameat(2).
pub fn rename_at(old: (BorrowedFd<'_>, &CStr), new: (BorrowedFd<'_>, &CStr)) -> io::Result<()> {
    Ok(fcntl::renameat(old.0, old.1, new.0, new.1)?)
}

/// Removes the entry `name`, which is not a directory. unlinkat(2).
///
/// # Errors
/// Those of unlinkat(2); `EISDIR` for a directory.
pub fn unlink_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(unistd::unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?)
}

/// Removes the empty directory `name`. unlinkat(2) with `AT_REMOVEDIR`.
///
/// # Errors
/// Those of unlinkat(2); `ENOTEMPTY` if it is not empty.
pub fn remove_directory_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(unistd::unlinkat(directory, name, UnlinkatFlags::RemoveDir)?)
}

/// Creates an overlayfs whiteout: a character device 0:0, which opens nothing and may therefore be
/// made without privileges. mknodat(2); overlayfs.rst, "whiteouts and opaque directories".
///
/// # Errors
/// Those of mknodat(2).
pub fn make_whiteout_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(stat::mknodat(directory, name, SFlag::S_IFCHR, Mode::empty(), 0)?)
}

/// Writes everything dirty on the file system of `file` to its device. syncfs(2).
///
/// # Errors
/// Those of syncfs(2); since Linux 5.8 that includes earlier write-back errors.
pub fn sync_file_system(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(unistd::syncfs(file)?)
}

/// How much room a file system has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, without the file system's own records.
    pub size: u64,
    /// What nobody uses.
    pub free: u64,
    /// Files and directories it can have; 0 where that is not fixed.
    pub inodes: u64,
    /// How many more it can have.
    pub inodes_free: u64,
}

/// The room on the file system of `file`. fstatvfs(3).
///
/// # Errors
/// Those of fstatfs(2).
pub fn space(file: BorrowedFd<'_>) -> io::Result<Space> {
    let facts = nix::sys::statvfs::fstatvfs(file)?;
    let block = facts.fragment_size();
    Ok(Space {
        size: facts.blocks() * block,
        free: facts.blocks_free() * block,
        inodes: facts.files(),
        inodes_free: facts.files_free(),
    })
}

/// `directory/name` as a path that resolves nothing but `name`. The xattr family has no `*at`
/// variant before Linux 6.13; its `l*` functions do not follow the last component.
fn entry_path(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    Ok(CString::new(path)?)
}

fn length_or_error(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The names of the extended attributes of the entry `name`; empty where the file system has none.
/// llistxattr(2).
///
/// # Errors
/// Those of llistxattr(2).
pub fn xattr_names_at(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<CString>> {
    let path = entry_path(directory, name)?;
    // Nearly every file has none; the second, exact size is for those that do.
    let mut length = llistxattr(&path, &mut [])?;
    let mut list = vec![0; length.min(XATTR_LIST_MAX)];
    if length > 0 {
        length = llistxattr(&path, &mut list)?;
    }
    list.truncate(length);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// The size of the list if `list` is empty, else the number of bytes filled in.
fn llistxattr(path: &CStr, list: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `path` is a NUL-terminated string, and the kernel writes at most `list.len()` bytes
    // to `list`, which is borrowed mutably for the call; with length 0 it writes nothing.
    let result = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    match length_or_error(result) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(0),
        result => result,
    }
}

/// Whether the extended attribute `key` of the entry `name` has exactly the value `value`.
/// lgetxattr(2).
///
/// # Errors
/// Those of lgetxattr(2).
pub fn xattr_is_at(
    directory: BorrowedFd<'_>,
    name: &CStr,
    key: &CStr,
    value: &[u8],
) -> io::Result<bool> {
    let path = entry_path(directory, name)?;
    let mut actual = [0_u8; 64];
    // SAFETY: both strings are NUL-terminated, and the kernel writes at most `actual.len()` bytes
    // to the array, which lives until after the call.
    let result = unsafe {
        libc::lgetxattr(path.as_ptr(), key.as_ptr(), actual.as_mut_ptr().cast(), actual.len())
    };
    match length_or_error(result) {
        Ok(length) => Ok(&actual[..length] == value),
        Err(error) => match error.raw_os_error() {
            // Absent, unsupported, or longer than any value that is asked for.
            Some(libc::ENODATA | libc::ENOTSUP | libc::ERANGE) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Sets the extended attribute `key` of the entry `name`. lsetxattr(2).
///
/// # Errors
/// Those of lsetxattr(2).
pub fn set_xattr_at(
    directory: BorrowedFd<'_>,
    name: &CStr,
    key: &CStr,
    value: &[u8],
) -> io::Result<()> {
    let path = entry_path(directory, name)?;
    // SAFETY: both strings are NUL-terminated, and the kernel reads exactly `value.len()` bytes of
    // `value`, which is borrowed for the call.
    let result = unsafe {
        libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes the extended attribute `key` of the entry `name`. lremovexattr(2).
///
/// # Errors
/// Those of lremovexattr(2).
pub fn remove_xattr_at(directory: BorrowedFd<'_>, name: &CStr, key: &CStr) -> io::Result<()> {
    let path = entry_path(directory, name)?;
    // SAFETY: both strings are NUL-terminated and live until after the call.
    let result = unsafe { libc::lremovexattr(path.as_ptr(), key.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
