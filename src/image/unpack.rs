//! Unpacking a tar from a stranger into an empty directory.
//!
//! No name leaves the directory: components are cleaned first, and parents are then looked up with
//! `RESOLVE_IN_ROOT`, which the kernel keeps inside whatever symbolic links the tar has made.

use std::ffi::{CString, NulError};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tar::Archive;

use crate::sys::fs::{self, FileKind};

use super::members::{self, Member, MemberKind};
use super::overlay::{self, AUFS_PREFIX, OPAQUE_MARK, WHITEOUT_PREFIX};
use super::stream::Metered;
use super::tree::{Tree, entry_error, printable, split};
use super::{Config, Digest, Error, Result};

/// Ids of one user namespace.
const ID_RANGE: u64 = 65_536;

/// What unpacking found.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Digest of the stream.
    pub(super) digest: Digest,
    pub(super) dropped: u64,
}

/// Failure inside a visit: the stream's errors are told apart from those of the entries.
#[derive(Debug)]
enum Failure {
    Stream(io::Error),
    Entry(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// Unpacks the tar that `reader` gives into `tree`, which is empty.
pub(super) fn unpack(tree: &Tree, reader: impl Read, config: &Config) -> Result<Unpacked> {
    let mut metered = Metered::new(reader, config.max_layer_bytes);
    let mut unpacker = Unpacker { tree, parent: None, entries: 0, dropped: 0 };
    let result = members::for_each(&mut Archive::new(&mut metered), |member, data| {
        unpacker.entries += 1;
        if unpacker.entries > config.max_layer_entries {
            let limit = config.max_layer_entries;
            return Err(Failure::Entry(Error::TooLarge { what: "entries", limit }));
        }
        unpacker.member(member, data)
    });
    match result {
        Ok(()) => Ok(Unpacked { digest: metered.finish("layer")?, dropped: unpacker.dropped }),
        Err(Failure::Stream(source)) => Err(metered.error("layer", source)),
        Err(Failure::Entry(error)) => Err(error),
    }
}

#[derive(Debug)]
struct Unpacker<'a> {
    tree: &'a Tree,
    /// The directory of the previous member: archives list directory by directory.
    parent: Option<(Vec<u8>, OwnedFd)>,
    entries: u64,
    dropped: u64,
}

impl Unpacker<'_> {
    fn member(&mut self, member: &Member, data: &mut dyn Read) -> std::result::Result<(), Failure> {
        let path = clean(&member.path).map_err(Failure::Entry)?;
        if path.is_empty() {
            // The root's owner and mode are ours.
            return Ok(());
        }
        check_ids(member).map_err(Failure::Entry)?;
        let (directory, name) = split(&path);
        let parent = self.parent(directory).map_err(Failure::Entry)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.whiteout(parent, directory, name, hidden).map_err(Failure::Entry);
        }
        let name = c_string(name, &path).map_err(Failure::Entry)?;
        let place = Place { directory: parent.as_fd(), name: &name, path: &path };
        match member.kind {
            MemberKind::File => place.file(member, data)?,
            MemberKind::Directory => place.make_directory(member).map_err(Failure::Entry)?,
            MemberKind::Symlink => place.symlink(member).map_err(Failure::Entry)?,
            MemberKind::HardLink => self.hard_link(&place, member).map_err(Failure::Entry)?,
            MemberKind::Special => self.dropped += 1,
        }
        self.parent = Some((directory.to_vec(), parent));
        Ok(())
    }

    /// Opens the directory at the clean path, making what is missing of it.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((previous, fd)) = self.parent.take()
            && previous == path
        {
            return Ok(fd);
        }
        let mut directory = fs::open_directory_in_root(self.tree.root(), c".")
            .map_err(entry_error("open the parent of", path))?;
        if path.is_empty() {
            return Ok(directory);
        }
        let whole = c_string(path, path)?;
        match fs::open_directory_in_root(self.tree.root(), &whole) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(entry_error("open the parent", path)(error)),
        }
        let mut ends: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        ends.push(path.len());
        for end in ends {
            directory = self.ensure_directory(directory, &path[..end])?;
        }
        Ok(directory)
    }

    /// Opens the directory at `path`, whose parent is `parent`, or makes it.
    fn ensure_directory(&self, parent: OwnedFd, path: &[u8]) -> Result<OwnedFd> {
        let whole = c_string(path, path)?;
        match fs::open_directory_in_root(self.tree.root(), &whole) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(entry_error("open the parent", path)),
        }
        let name = c_string(split(path).1, path)?;
        fs::make_directory_at(parent.as_fd(), &name)
            .and_then(|()| fs::chmod_at(parent.as_fd(), &name, 0o755))
            .and_then(|()| fs::open_directory_in_root(self.tree.root(), &whole))
            .map_err(entry_error("make the parent", path))
    }

    fn whiteout(
        &mut self,
        parent: OwnedFd,
        directory: &[u8],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<()> {
        let refuse = |why| Error::Refused { entry: printable(name), why };
        if name == OPAQUE_MARK {
            if directory.is_empty() {
                return Err(refuse("would hide everything below the root"));
            }
            // "." is the directory itself: xattr calls resolve it from the descriptor.
            return overlay::set_opaque(parent.as_fd(), c".")
                .map_err(entry_error("mark as opaque", directory));
        }
        if name.starts_with(AUFS_PREFIX) {
            self.dropped += 1;
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(refuse("is a whiteout of nothing"));
        }
        let hidden_name = c_string(hidden, hidden)?;
        // A whiteout speaks of the layers below only: what this layer has there itself stays, and
        // hides them already, unless it is a directory, with which theirs would be merged.
        match fs::stat_at(parent.as_fd(), &hidden_name) {
            Ok(stat) if stat.kind == FileKind::Directory => {
                overlay::set_opaque(parent.as_fd(), &hidden_name)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::make_whiteout_at(parent.as_fd(), &hidden_name)
            }
            Err(error) => Err(error),
        }
        .map_err(entry_error("make the whiteout of", hidden))
    }

    fn hard_link(&self, place: &Place<'_>, member: &Member) -> Result<()> {
        let target = clean(&member.link)?;
        let (directory, name) = split(&target);
        let name = c_string(name, &target)?;
        let look_up = if directory.is_empty() { &b"."[..] } else { directory };
        let parent = c_string(look_up, &target)
            .map(|path| fs::open_directory_in_root(self.tree.root(), &path))?
            .map_err(entry_error("find the link target", &target))?;
        let stat = fs::stat_at(parent.as_fd(), &name)
            .map_err(entry_error("find the link target", &target))?;
        if !matches!(stat.kind, FileKind::Regular | FileKind::Symlink) {
            let why = "is a hard link to something other than a file";
            return Err(Error::Refused { entry: printable(place.path), why });
        }
        let own = fs::stat_at(place.directory, place.name);
        if own.is_ok_and(|own| (own.device, own.inode) == (stat.device, stat.inode)) {
            return Ok(());
        }
        place.clear()?;
        fs::link_at((parent.as_fd(), &name), (place.directory, place.name))
            .map_err(entry_error("link", place.path))
    }
}

/// Where a member goes.
#[derive(Debug)]
struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CString,
    path: &'a [u8],
}

impl Place<'_> {
    /// Removes what an earlier member of the same name left; the last one counts.
    fn clear(&self) -> Result<()> {
        match fs::unlink_at(self.directory, self.name) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let why = "is in the tar twice, once as a directory and once as something else";
                Err(Error::Refused { entry: printable(self.path), why })
            }
            Err(error) => Err(entry_error("replace", self.path)(error)),
        }
    }

    fn file(&self, member: &Member, data: &mut dyn Read) -> std::result::Result<(), Failure> {
        let on_entry = |operation| {
            let make = entry_error(operation, self.path);
            move |error| Failure::Entry(make(error))
        };
        let mut file = match fs::create_file_at(self.directory, self.name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.clear().map_err(Failure::Entry)?;
                fs::create_file_at(self.directory, self.name)
            }
            result => result,
        }
        .map_err(on_entry("create"))?;
        copy(data, &mut file, member.size, || on_entry("write"))?;
        fs::chown(file.as_fd(), id(member.uid), id(member.gid))
            .and_then(|()| fs::chmod(file.as_fd(), member.permissions))
            .and_then(|()| fs::set_times(file.as_fd(), member.mtime))
            .map_err(on_entry("set the attributes of"))
    }

    fn make_directory(&self, member: &Member) -> Result<()> {
        match fs::make_directory_at(self.directory, self.name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.reuse_directory()?,
            result => result.map_err(entry_error("make the directory", self.path))?,
        }
        fs::chown_at(self.directory, self.name, id(member.uid), id(member.gid))
            .and_then(|()| fs::chmod_at(self.directory, self.name, member.permissions))
            .map_err(entry_error("set the attributes of", self.path))
    }

    /// Accepts a directory that exists, and puts one in the place of a whiteout.
    fn reuse_directory(&self) -> Result<()> {
        let stat = fs::stat_at(self.directory, self.name)
            .map_err(entry_error("read the attributes of", self.path))?;
        if overlay::is_whiteout(&stat) {
            return fs::unlink_at(self.directory, self.name)
                .and_then(|()| fs::make_directory_at(self.directory, self.name))
                .and_then(|()| overlay::set_opaque(self.directory, self.name))
                .map_err(entry_error("make the directory", self.path));
        }
        if stat.kind == FileKind::Directory {
            return Ok(());
        }
        let why = "is in the tar twice, once as a directory and once as something else";
        Err(Error::Refused { entry: printable(self.path), why })
    }

    fn symlink(&self, member: &Member) -> Result<()> {
        let target = c_string(&member.link, self.path)?;
        match fs::symlink_at(&target, self.directory, self.name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.clear()?;
                fs::symlink_at(&target, self.directory, self.name)
            }
            result => result,
        }
        .and_then(|()| fs::chown_at(self.directory, self.name, id(member.uid), id(member.gid)))
        .map_err(entry_error("make the symbolic link", self.path))
    }
}

/// Copies exactly `size` bytes; failures of the two sides are told apart.
fn copy<F: FnOnce(io::Error) -> Failure>(
    data: &mut dyn Read,
    file: &mut impl io::Write,
    size: u64,
    on_write: impl Fn() -> F,
) -> std::result::Result<(), Failure> {
    let mut buffer = [0; 32 * 1024];
    let mut left = size;
    while left > 0 {
        let read = data.read(&mut buffer)?;
        if read == 0 {
            return Err(Failure::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        file.write_all(&buffer[..read]).map_err(on_write())?;
        left = left.saturating_sub(read as u64);
    }
    Ok(())
}

/// Within the range, see [`check_ids`].
fn id(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

fn check_ids(member: &Member) -> Result<()> {
    if member.uid < ID_RANGE && member.gid < ID_RANGE {
        return Ok(());
    }
    let why = "belongs to an id above 65535";
    Err(Error::Refused { entry: printable(&member.path), why })
}

/// The path without empty and `.` components: absolute paths become relative, `..` is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                let why = "contains `..`";
                return Err(Error::Refused { entry: printable(path), why });
            }
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Ok(clean)
}

fn c_string(bytes: &[u8], path: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|error: NulError| entry_error("name", path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let clean = clean(path.as_bytes()).ok();
        assert_eq!(clean.as_deref(), expected.map(str::as_bytes), "{path}");
    }

    #[test]
    fn paths_are_relative_and_never_climb() {
        check("a/b", Some("a/b"));
        check("./a//./b/", Some("a/b"));
        check("/etc/passwd", Some("etc/passwd"));
        check("./", Some(""));
        check("a/../b", None);
        check("..", None);
        check("...", Some("..."));
    }
}
