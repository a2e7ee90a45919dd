//! Walking and reshaping directory trees on the host.
//!
//! These trees were written by strangers, but nobody writes to them any more: symbolic links are
//! recognized with lstat(2) and never followed, and there is no race to lose.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// The most entries of one directory: it bounds what is held in memory.
const MAX_ENTRIES: usize = 1_000_000;

/// The names in a directory, sorted; names that are not UTF-8 are left out.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
        if names.len() > MAX_ENTRIES {
            return Err(io::Error::other("directory has too many entries"));
        }
    }
    names.sort();
    Ok(names)
}

/// What is at `path` itself; none if nothing is.
pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a directory, not a link to one, is at `path`.
pub(super) fn is_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// A regular file's contents; none if nothing is there.
///
/// # Errors
/// If it is something else than a regular file, or larger than `limit` bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(metadata) = metadata(path)? else { return Ok(None) };
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    std::fs::read(path).map(Some)
}

/// Whether this is overlayfs's mark of a removed name: a character device 0:0.
pub(super) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Makes a directory with exactly this mode and owner; one that is there already gets them too.
pub(super) fn make_dir(path: &Path, mode: u32, owner: u32) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_dir(path) => {}
        result => result?,
    }
    own(path, owner, owner)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// chown(2) without following links; quiet when it is so already, so that unprivileged tests work.
pub(super) fn own(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (user, group) {
        return Ok(());
    }
    lchown(path, Some(user), Some(group))?;
    // chown(2) clears the set-id bits of files; they are part of the layer's content.
    if metadata.is_file() && metadata.mode() & 0o6000 != 0 {
        std::fs::set_permissions(path, metadata.permissions())?;
    }
    Ok(())
}

/// Removes whatever is at `path`; nothing there is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match metadata(path)? {
        None => Ok(()),
        Some(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Some(_) => std::fs::remove_file(path),
    }
}

/// Copies the tree at `from` to `to` (which must not exist), as hard links where possible: the
/// inodes are shared with the store's snapshot, so nothing may change them afterwards.
pub(super) fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(from)?;
    if !metadata.is_dir() {
        return link_file(from, to, &metadata);
    }
    make_dir(to, 0o700, metadata.uid())?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        link_tree(&from.join(&name), &to.join(&name))?;
    }
    own(to, metadata.uid(), metadata.gid())?;
    std::fs::set_permissions(to, metadata.permissions())
}

fn link_file(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        // Another file system, or the file has as many names as it can (65,000 on ext4).
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks
            ) && metadata.is_file() =>
        {
            std::fs::copy(from, to)?;
            own(to, metadata.uid(), metadata.gid())
        }
        result => result,
    }
}

/// Applies an overlay's upper tree to the complete tree at `target`, by renames: `upper` is used
/// up. Owners in `upper` are host ids; `id_base` is subtracted, so that the result has the
/// container's ids throughout, like `target`.
pub(super) fn apply_upper(
    upper: &Path,
    target: &Path,
    id_base: u32,
    is_opaque: &dyn Fn(&Path) -> io::Result<bool>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(upper)? {
        let name = entry?.file_name();
        let (source, goal) = (upper.join(&name), target.join(&name));
        let metadata = std::fs::symlink_metadata(&source)?;
        if is_whiteout(&metadata) {
            remove(&goal)?;
        } else if metadata.is_dir() && is_dir(&goal) && !is_opaque(&source)? {
            apply_upper(&source, &goal, id_base, is_opaque)?;
        } else {
            remove(&goal)?;
            unshift(&source, id_base)?;
            std::fs::rename(&source, &goal)?;
        }
    }
    let metadata = std::fs::symlink_metadata(upper)?;
    own(target, unshifted(metadata.uid(), id_base)?, unshifted(metadata.gid(), id_base)?)?;
    std::fs::set_permissions(target, metadata.permissions())
}

/// Subtracts `id_base` from the owners of a whole tree.
fn unshift(path: &Path, id_base: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    // A file with several names comes by several times; its owner is already right then.
    let done = metadata.is_file() && metadata.nlink() > 1 && metadata.uid() < id_base;
    if !done {
        let (user, group) =
            (unshifted(metadata.uid(), id_base)?, unshifted(metadata.gid(), id_base)?);
        own(path, user, group)?;
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            unshift(&entry?.path(), id_base)?;
        }
    }
    Ok(())
}

fn unshifted(id: u32, id_base: u32) -> io::Result<u32> {
    id.checked_sub(id_base)
        .ok_or_else(|| io::Error::other(format!("owner {id} is outside the container's range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::support::atomic_file::write_volatile(path, text.as_bytes(), 0o644).unwrap();
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for name in names(dir).unwrap() {
            let path = dir.join(&name);
            if is_dir(&path) {
                found.extend(listing(&path).into_iter().map(|below| format!("{name}/{below}")));
            } else {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                found.push(format!("{name}={text}"));
            }
        }
        found
    }

    #[test]
    fn an_upper_is_merged_and_the_shared_files_stay_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["same", "changed", "below/kept", "replaced/old"] {
            write(&path("lower").join(name), name);
        }
        for (name, text) in [("changed", "new"), ("below/added", "x"), ("replaced/new", "y")] {
            write(&path("upper").join(name), text);
        }
        link_tree(&path("lower"), &path("merged")).unwrap();
        let opaque = |dir: &Path| Ok(dir.ends_with("replaced"));
        apply_upper(&path("upper"), &path("merged"), 0, &opaque).unwrap();
        let expected = ["below/added=x", "below/kept=below/kept", "changed=new", "replaced/new=y"];
        assert_eq!(listing(&path("merged")), [&expected[..], &["same=same"]].concat());
        assert_eq!(std::fs::read_to_string(path("lower/changed")).unwrap(), "changed");
        let inode = |name: &str| std::fs::metadata(path(name)).unwrap().ino();
        assert_eq!(inode("lower/same"), inode("merged/same"));
    }

    #[test]
    fn links_are_never_followed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        write(&path("outside/secret"), "s");
        std::fs::create_dir(path("upper")).unwrap();
        std::fs::create_dir(path("target")).unwrap();
        std::os::unix::fs::symlink(path("outside"), path("upper/link")).unwrap();
        std::os::unix::fs::symlink(path("outside"), path("target/link")).unwrap();
        apply_upper(&path("upper"), &path("target"), 0, &|_| Ok(false)).unwrap();
        assert!(metadata(&path("target/link")).unwrap().unwrap().is_symlink());
        assert!(read_file(&path("target/link"), 10).is_err());
        remove(&path("target/link")).unwrap();
        assert_eq!(listing(&path("outside")), ["secret=s"]);
    }

    #[test]
    fn owners_outside_the_containers_range_are_refused() {
        assert_eq!(unshifted(101_000, 100_000).unwrap(), 1000);
        assert!(unshifted(0, 100_000).is_err());
    }

    #[test]
    fn files_are_read_up_to_a_limit() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("a"), "12345");
        assert_eq!(read_file(&root.path().join("a"), 5).unwrap().unwrap(), b"12345");
        assert!(read_file(&root.path().join("a"), 4).is_err());
        assert!(read_file(root.path(), 9).is_err());
        assert_eq!(read_file(&root.path().join("b"), 4).unwrap(), None);
    }
}
