//! Paths inside a directory that is somebody else's: no lookup leaves it, whatever links it holds.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::mount::{c_path, owned};

/// How symbolic links on the way are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed as if the directory were `/`; the kernel's own (magic) links are refused.
    InRoot,
    /// Refused with ELOOP, and so is crossing into another mount, with EXDEV.
    Refuse,
}

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only its place: O_PATH.
    Place,
    /// Its place, and it must be a directory.
    Directory,
    /// Reading and writing, without becoming its terminal.
    ReadWrite,
}

/// openat2(2) (5.6) of something that exists.
///
/// # Errors
/// Of the system call.
pub fn open_in(
    dir: BorrowedFd<'_>,
    path: &Path,
    links: Links,
    access: Access,
) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = match access {
        Access::Place => OFlag::O_PATH,
        Access::Directory => OFlag::O_PATH | OFlag::O_DIRECTORY,
        Access::ReadWrite => OFlag::O_RDWR | OFlag::O_NOCTTY,
    } | OFlag::O_CLOEXEC;
    let resolve = match links {
        Links::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
        Links::Refuse => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV,
    };
    let flags = u64::from(flags.bits().cast_unsigned());
    // SAFETY: `open_how` is plain integers, for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags;
    how.resolve = resolve;
    let size = size_of::<libc::open_how>();
    // SAFETY: the path is NUL-terminated and the struct lives across the call, with its size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &raw const how, size)
    };
    owned(fd)
}

/// open(2) of `/` as a place.
///
/// # Errors
/// Of the system call.
pub fn root() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/", flags, Mode::empty())?)
}

/// mkdirat(2) of one name directly in `dir`.
///
/// # Errors
/// Of the system call; EEXIST also for a dangling link.
pub fn make_directory(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    Ok(nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(mode))?)
}

/// openat(2) with O_CREAT and O_EXCL of one name directly in `dir`: a new, empty file.
///
/// # Errors
/// Of the system call; EEXIST also for a dangling link.
pub fn make_file(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlag::O_CREAT
        | OFlag::O_EXCL
        | OFlag::O_WRONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode))?)
}

/// symlinkat(2) of one name directly in `dir`.
///
/// # Errors
/// Of the system call.
pub fn make_link(dir: BorrowedFd<'_>, name: &Path, target: &Path) -> io::Result<()> {
    Ok(nix::unistd::symlinkat(target, dir, name)?)
}

/// What an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Number of the file system it is on.
    pub device: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Major and minor number, if it is a character device.
    pub character_device: Option<(u64, u64)>,
}

/// fstat(2).
///
/// # Errors
/// Of the system call.
pub fn facts(file: BorrowedFd<'_>) -> io::Result<Facts> {
    let stat = nix::sys::stat::fstat(file)?;
    let kind = stat.st_mode & libc::S_IFMT;
    let rdev = stat.st_rdev;
    Ok(Facts {
        device: stat.st_dev,
        is_directory: kind == libc::S_IFDIR,
        character_device: (kind == libc::S_IFCHR)
            .then(|| (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev))),
    })
}

/// fchdir(2).
///
/// # Errors
/// Of the system call.
pub fn change_directory(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::unistd::fchdir(dir)?)
}

/// getcwd(2) by the bare system call: the C library hides what is looked for here, the kernel's
/// `(unreachable)` before a directory outside of the root.
///
/// # Errors
/// Of the system call, or ENOENT for an unreachable directory.
pub fn reachable_current_directory() -> io::Result<()> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is writable and its true length is passed.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    super::mount::check(length)?;
    if buffer[0] == b'/' { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOENT)) }
}

/// The magic number of the file system that `file` is on is devpts's, fstatfs(2).
///
/// # Errors
/// Of the system call.
pub fn is_on_devpts(file: BorrowedFd<'_>) -> io::Result<bool> {
    let magic = nix::sys::statfs::fstatfs(file)?.filesystem_type();
    Ok(magic == nix::sys::statfs::DEVPTS_SUPER_MAGIC)
}
