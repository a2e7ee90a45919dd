//! The two ways to say "what the layers below have here is gone": overlayfs's on disk
//! (overlayfs.rst) and OCI's in a tar (image-spec layer.md#whiteouts).

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::fs::{self, FileKind, Stat};

/// Prefix of an OCI whiteout; what follows is the name that is gone.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// OCI's mark of an opaque directory: a file of this name in it.
pub(super) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// Prefix of the marks that aufs once used for itself; they mean nothing to others.
pub(super) const AUFS_PREFIX: &[u8] = b".wh..wh.";

const OPAQUE_KEY: &CStr = c"trusted.overlay.opaque";
const OPAQUE_VALUE: &[u8] = b"y";

/// Whether the entry is an overlayfs whiteout.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == FileKind::CharDevice && stat.node == 0
}

/// Whether the directory `name` hides what lies below it.
pub(super) fn is_opaque(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    fs::xattr_is_at(directory, name, OPAQUE_KEY, OPAQUE_VALUE)
}

/// Makes the directory `name` hide what lies below it.
pub(super) fn set_opaque(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    fs::set_xattr_at(directory, name, OPAQUE_KEY, OPAQUE_VALUE)
}

/// What to do with an extended attribute found in a directory that becomes a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Part of the layer.
    Keep,
    /// Meaningless or dangerous in a layer.
    Strip,
    /// Without it the content would be another.
    Refuse,
}

/// Classifies an extended attribute by its name.
pub(super) fn attribute(key: &CStr) -> Attribute {
    match key.to_bytes() {
        b"trusted.overlay.opaque" => Attribute::Keep,
        // The host's label, which it puts on every file and nobody can take off.
        b"security.selinux" => Attribute::Keep,
        // The data are elsewhere: the upper directory was mounted with redirect_dir or metacopy.
        b"trusted.overlay.redirect" | b"trusted.overlay.metacopy" => Attribute::Refuse,
        // File capabilities and ACLs would grant rights; `user.*` is not portable.
        _ => Attribute::Strip,
    }
}
