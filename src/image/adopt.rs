//! Turning a directory that a container filled into the content of a layer: owners shifted back,
//! everything removed that has no place in an image.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::fs::{self, FileKind, Stat};

use super::overlay::{self, Attribute, WHITEOUT_PREFIX};
use super::tree::{Entry, Tree, entry_error, split};
use super::{Config, Error, Result};

/// Ids of one user namespace, user_namespaces(7): 0 to 65535.
const ID_RANGE: u32 = 65_536;

/// What adopting left out.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) dropped: u64,
}

/// Names of one inode that has several.
#[derive(Debug)]
struct Links {
    stat: Stat,
    paths: Vec<Vec<u8>>,
}

/// Prepares `tree` in place. It must not be reachable for anybody else any more.
pub(super) fn adopt(tree: &Tree, id_base: u32, config: &Config) -> Result<Adopted> {
    prepare_root(tree)?;
    let mut adopted = Adopted::default();
    let mut bytes = 0_u64;
    let mut linked: HashMap<u64, Links> = HashMap::new();
    tree.walk(config.max_layer_entries, |entry| {
        if drop_special(entry)? {
            adopted.dropped += 1;
            return Ok(());
        }
        check_name(entry)?;
        if entry.stat.kind == FileKind::Regular && entry.stat.links > 1 {
            let links = linked
                .entry(entry.stat.inode)
                .or_insert_with(|| Links { stat: entry.stat, paths: Vec::new() });
            links.paths.push(entry.path.to_vec());
            if links.paths.len() > 1 {
                return Ok(());
            }
        } else {
            own(entry, id_base)?;
        }
        if entry.stat.kind == FileKind::Regular {
            bytes = bytes.saturating_add(entry.stat.size);
        }
        if bytes > config.max_layer_bytes {
            return Err(Error::TooLarge { what: "bytes", limit: config.max_layer_bytes });
        }
        Ok(())
    })?;
    for links in linked.values() {
        own_linked(tree, links, id_base)?;
    }
    Ok(adopted)
}

/// The topmost layer's root gives the container's `/` its owner and mode; content must not choose.
pub(super) fn prepare_root(tree: &Tree) -> Result<()> {
    fs::chown(tree.root(), 0, 0)
        .and_then(|()| fs::chmod(tree.root(), 0o755))
        .map_err(entry_error("set the owner of", b"/"))?;
    let root = Entry {
        directory: tree.root(),
        name: c".",
        path: b"/",
        stat: fs::stat(tree.root()).map_err(entry_error("read the attributes of", b"/"))?,
    };
    strip_attributes(&root)
}

/// Removes what exists only while processes run, or reaches outside of the image.
fn drop_special(entry: &Entry<'_>) -> Result<bool> {
    let special = match entry.stat.kind {
        FileKind::CharDevice => !overlay::is_whiteout(&entry.stat),
        FileKind::Other => true,
        FileKind::Directory | FileKind::Regular | FileKind::Symlink => false,
    };
    if special {
        fs::unlink_at(entry.directory, entry.name).map_err(entry.error("remove"))?;
    }
    Ok(special)
}

/// In a tar, such a name would delete a file of a lower layer.
fn check_name(entry: &Entry<'_>) -> Result<()> {
    if entry.name.to_bytes().starts_with(WHITEOUT_PREFIX) {
        return Err(entry.refuse("has a name reserved for OCI whiteouts (.wh.*)"));
    }
    Ok(())
}

fn own(entry: &Entry<'_>, id_base: u32) -> Result<()> {
    strip_attributes(entry)?;
    // The kernel makes whiteouts on behalf of whoever mounted the overlay: root of the host.
    let (uid, gid) = if overlay::is_whiteout(&entry.stat) {
        (0, 0)
    } else {
        (shift(entry, entry.stat.uid, id_base)?, shift(entry, entry.stat.gid, id_base)?)
    };
    if (uid, gid) == (entry.stat.uid, entry.stat.gid) {
        return Ok(());
    }
    fs::chown_at(entry.directory, entry.name, uid, gid).map_err(entry.error("set the owner of"))?;
    // chown(2) clears set-id bits, chmod(2) of a symbolic link is of its target.
    if entry.stat.permissions & 0o6000 != 0 && entry.stat.kind != FileKind::Symlink {
        fs::chmod_at(entry.directory, entry.name, entry.stat.permissions)
            .map_err(entry.error("set the mode of"))?;
    }
    Ok(())
}

fn shift(entry: &Entry<'_>, id: u32, id_base: u32) -> Result<u32> {
    id.checked_sub(id_base)
        .filter(|id| *id < ID_RANGE)
        .ok_or_else(|| entry.refuse("belongs to an id outside of the container's range"))
}

fn strip_attributes(entry: &Entry<'_>) -> Result<()> {
    let keys = fs::xattr_names_at(entry.directory, entry.name)
        .map_err(entry.error("list the extended attributes of"))?;
    for key in keys {
        match overlay::attribute(&key) {
            Attribute::Keep => {}
            Attribute::Refuse => {
                return Err(entry.refuse("is an overlay with redirect_dir or metacopy"));
            }
            Attribute::Strip => fs::remove_xattr_at(entry.directory, entry.name, &key)
                .map_err(entry.error("remove an extended attribute of"))?,
        }
    }
    Ok(())
}

/// A file with several names is owned once all of its names are known: if one is outside of the
/// tree (a package manager's cache, say), the inode is shared with something that may change it,
/// and the layer gets a copy of its own.
fn own_linked(tree: &Tree, links: &Links, id_base: u32) -> Result<()> {
    let Some((first, rest)) = links.paths.split_first() else { return Ok(()) };
    let (directory, name) = locate(tree, first)?;
    let directory = directory.as_fd();
    let mut stat = links.stat;
    if stat.links > links.paths.len() as u64 {
        copy_in_place(directory, &name, &stat).map_err(entry_error("copy", first))?;
        for path in rest {
            let (other, other_name) = locate(tree, path)?;
            fs::unlink_at(other.as_fd(), &other_name)
                .and_then(|()| fs::link_at((directory, &name), (other.as_fd(), &other_name)))
                .map_err(entry_error("link", path))?;
        }
        stat =
            fs::stat_at(directory, &name).map_err(entry_error("read the attributes of", first))?;
    }
    own(&Entry { directory, name: &name, path: first, stat }, id_base)
}

fn locate(tree: &Tree, path: &[u8]) -> Result<(std::os::fd::OwnedFd, CString)> {
    let (directory, name) = split(path);
    let name = CString::new(name).map_err(|error| entry_error("name", path)(error.into()))?;
    Ok((tree.directory(directory)?, name))
}

/// Replaces `name` by a new inode with the same content, owner, mode and time.
fn copy_in_place(directory: BorrowedFd<'_>, name: &CString, stat: &Stat) -> io::Result<()> {
    // Reserved for whiteouts, so no entry of a layer can have it.
    const TEMPORARY: &std::ffi::CStr = c".wh.copy";
    let source = fs::open_file_at(directory, name)?;
    let modified = source.metadata()?.modified()?;
    let mut copy = fs::create_file_at(directory, TEMPORARY)?;
    io::copy(&mut (&source).take(stat.size), &mut copy)?;
    fs::chown(copy.as_fd(), stat.uid, stat.gid)?;
    fs::chmod(copy.as_fd(), stat.permissions)?;
    copy.set_modified(modified)?;
    fs::rename_at((directory, TEMPORARY), (directory, name))
}
