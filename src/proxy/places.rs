//! Directories and sockets of the process, and who may use them.
//!
//! ```text
//!   <run_dir>   root's           proxy-<pid>.sock   the control plane, one for each generation
//!                                handover-<pid>.sock  a successor
//!   <data_dir>/proxy             the proxy's user's: routes.json, access.log
//!   <data_dir>/certificates      root's, the proxy's group may read: what is in it may be shown to
//!   <data_dir>/pages             clients, and a proxy that was taken over cannot change it
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::Socket;

use crate::sys;

use super::{Error, User, access_log, handover};

/// The proxy's directory in the data directory. The process works in it, so that it needs no right
/// to the directories above once it has dropped its privileges.
const DIRECTORY: &str = "proxy";

/// What the control plane writes for the proxy to read, in the data directory.
const CERTIFICATES: &str = "certificates";
const PAGES: &str = "pages";

/// Files of a former user that are taken over; more than there are apps.
const MAX_FILES: usize = 100_000;

const SEAM: &str = "proxy-";
const HANDOVER: &str = "handover-";
const SOCKET: &str = ".sock";

/// The directories that the process works with, opened while it has a right to their parents.
#[derive(Debug)]
pub(super) struct Directories {
    /// Its own.
    pub(super) own: Directory,
    /// `<id>.pem` in it: chain and key.
    pub(super) certificates: Directory,
    /// `<id>.html` in it.
    pub(super) pages: Directory,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) descriptor: OwnedFd,
}

/// Makes the proxy's directories in `data_dir`, or mends their owners.
///
/// # Errors
/// `Prepare`.
pub fn prepare_directories(data_dir: &Path, user: User) -> Result<(), Error> {
    make_directories(data_dir, user).map(|_| ())
}

pub(super) fn make_directories(data_dir: &Path, user: User) -> Result<Directories, Error> {
    let data_dir = absolute(data_dir)?;
    let open = |name, prepare: fn(&Path, User) -> io::Result<()>| {
        let path = data_dir.join(name);
        let open = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
            if is_root()? {
                prepare(&path, user)?;
            }
            sys::fs::open_directory(&path)
        };
        match open() {
            Ok(descriptor) => Ok(Directory { path, descriptor }),
            Err(source) => Err(Error::Prepare { path, source }),
        }
    };
    Ok(Directories {
        own: open(DIRECTORY, take_over)?,
        certificates: open(CERTIFICATES, let_read)?,
        pages: open(PAGES, let_read)?,
    })
}

/// Lets the proxy's group in.
fn let_read(directory: &Path, user: User) -> io::Result<()> {
    std::os::unix::fs::lchown(directory, Some(0), Some(user.gid))
}

/// Hands the directory and its files to `user`: it is new, or the operator has changed the user.
/// Only plain files with one name: a former user may have left a link to a file that is not ours.
fn take_over(path: &Path, user: User) -> io::Result<()> {
    if owner_of(path)? == user.uid {
        return Ok(());
    }
    let directory = sys::fs::open_directory(path)?;
    take_over_files(&directory, user)?;
    match sys::fs::open_directory_beneath(directory.as_fd(), access_log::DIRECTORY) {
        Ok(logs) => take_over_files(&logs, user),
        // None yet, or something that is none of ours.
        Err(_) => Ok(()),
    }
}

fn take_over_files(directory: &OwnedFd, user: User) -> io::Result<()> {
    let User { uid, gid } = user;
    sys::fs::chown(directory.as_fd(), uid, gid)?;
    for name in sys::fs::names(directory.as_fd(), MAX_FILES)? {
        let stat = sys::fs::stat_at(directory.as_fd(), &name)?;
        if stat.kind == sys::fs::FileKind::Regular && stat.links == 1 {
            sys::fs::chown_at(directory.as_fd(), &name, uid, gid)?;
        }
    }
    Ok(())
}

/// The process's sockets.
#[derive(Debug)]
pub(super) struct Doors {
    /// For the control plane.
    pub(super) seam: UnixListener,
    /// For a successor.
    pub(super) handover: Socket,
    /// The user who may use them beside root.
    pub(super) owner: u32,
}

impl Doors {
    /// Binds both for this process, for their user alone from the first moment.
    ///
    /// # Errors
    /// `Prepare`.
    pub(super) fn bind(run_dir: &Path) -> Result<Self, Error> {
        let pid = std::process::id();
        let seam = bind_at(&seam_socket(run_dir, pid), |path| {
            let listener = UnixListener::bind(path)?;
            for_owner_alone(path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let handover = bind_at(&handover_socket(run_dir, pid), handover::bind)?;
        let owner = owner_of(run_dir)
            .map_err(|source| Error::Prepare { path: run_dir.to_owned(), source })?;
        Ok(Self { seam, handover, owner })
    }
}

/// Binds elsewhere and renames, over what a process with our number may have left.
fn bind_at<T>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, Error> {
    let mut temporary = path.to_owned();
    temporary.set_extension("new");
    let bind = || {
        let bound = bind(&temporary)?;
        std::fs::rename(&temporary, path)?;
        Ok(bound)
    };
    bind().map_err(|source| Error::Prepare { path: path.to_owned(), source })
}

/// Takes a socket from all but its owner.
pub(super) fn for_owner_alone(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// Where the process `pid` answers the control plane.
pub(super) fn seam_socket(run_dir: &Path, pid: u32) -> PathBuf {
    run_dir.join(format!("{SEAM}{pid}{SOCKET}"))
}

/// Where the process `pid` answers a successor.
pub(super) fn handover_socket(run_dir: &Path, pid: u32) -> PathBuf {
    run_dir.join(format!("{HANDOVER}{pid}{SOCKET}"))
}

/// The processes that have, or had, a socket in `run_dir`.
pub(super) fn generations(run_dir: &Path) -> Vec<u32> {
    // A directory that cannot be read has no proxies.
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    let pid = |name: &str| name.strip_prefix(SEAM)?.strip_suffix(SOCKET)?.parse().ok();
    entries.filter_map(|entry| pid(entry.file_name().to_str()?)).collect()
}

/// Removes what a process that has ended left. In the process itself this works only where the run
/// directory is its user's.
pub(super) fn remove_sockets(run_dir: &Path, pid: u32) {
    for path in [seam_socket(run_dir, pid), handover_socket(run_dir, pid)] {
        let _ = std::fs::remove_file(path);
    }
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Prepare { path: path.to_owned(), source })
}

/// Whether this process is root: by the owner of its own entry in /proc, proc(5).
pub(super) fn is_root() -> io::Result<bool> {
    Ok(owner_of(Path::new("/proc/self"))? == 0)
}

fn owner_of(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_found_by_their_sockets_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = directory.path();
        for name in ["proxy-7.sock", "proxy-12.sock", "proxy.json", "proxy-x.sock", "control.sock"]
        {
            std::fs::File::create(run_dir.join(name)).unwrap();
        }
        let mut found = generations(run_dir);
        found.sort_unstable();
        assert_eq!(found, [7, 12]);
        remove_sockets(run_dir, 7);
        assert_eq!(generations(run_dir), [12]);
        assert!(generations(&run_dir.join("nowhere")).is_empty());
    }
}
