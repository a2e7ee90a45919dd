//! The device nodes of a container's /dev: binds of the host's, as no user namespace can make any.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::protocol::{Failure, Step};
use crate::sys::mount::{self, Attributes};
use crate::sys::path;

/// Name, and the numbers that the host's node must have.
const DEVICES: [(&str, (u64, u64)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// In the order of [`detached`]; `null` is the first.
pub(super) const NAMES: [&str; DEVICES.len()] =
    [DEVICES[0].0, DEVICES[1].0, DEVICES[2].0, DEVICES[3].0, DEVICES[4].0, DEVICES[5].0];

/// A detached mount of each node. For the monitor, who sees the host's /dev.
pub(super) fn detached() -> Result<Vec<OwnedFd>, Failure> {
    let root = path::root().step("open /")?;
    DEVICES
        .iter()
        .map(|(name, numbers)| {
            let node = Path::new("/dev").join(name);
            let open = || -> io::Result<OwnedFd> {
                let tree = mount::clone_tree(root.as_fd(), &node)?;
                if path::facts(tree.as_fd())?.character_device != Some(*numbers) {
                    return Err(io::Error::other("not the device of that name"));
                }
                mount::add_attributes(tree.as_fd(), Attributes::NOSUID.and(Attributes::NOEXEC))?;
                Ok(tree)
            };
            open().step_with(|| format!("bind {}", node.display()))
        })
        .collect()
}
