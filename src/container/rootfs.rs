//! The monitor's part of the file system: layers, volumes and devices as detached mounts, made
//! with the host's privileges and handed to init, which has none of them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::protocol::{Failure, Step};
use super::spec::{ContainerSpec, Mount, Rootfs};
use crate::sys::mount::{self, Attributes};
use crate::sys::path;

/// Nothing in a container may gain by a file's mode, or be a device, but what is in our /dev.
const TAME: Attributes = Attributes::NOSUID.and(Attributes::NODEV);

/// Lays the layers over each other; a detached overlay.
///
/// The layers hold the image's own ids and are mapped through `user_namespace`; changes go to the
/// upper directory with the ids of the host. `staging` is a directory that the monitor's mount
/// namespace can hide for the while; overlayfs is told relative names inside it, so that a
/// container's mountinfo shows no path of the host.
pub(super) fn assemble(
    spec: &ContainerSpec,
    user_namespace: BorrowedFd<'_>,
    staging: &Path,
) -> Result<OwnedFd, Failure> {
    make_upper(&spec.rootfs, spec.id_map.host_base)?;
    mount::mount("tmpfs", staging, "mode=700,size=1m").step("mount the staging area")?;
    let result = stage(&spec.rootfs, user_namespace, staging);
    // The overlay has its own hold on the layers. Left mounted it would be seen by nobody else.
    let cleaned = std::env::set_current_dir("/").and_then(|()| mount::detach(staging));
    let overlay = result?;
    cleaned.step("unmount the staging area")?;
    Ok(overlay)
}

fn stage(
    rootfs: &Rootfs,
    user_namespace: BorrowedFd<'_>,
    staging: &Path,
) -> Result<OwnedFd, Failure> {
    let root = path::root().step("open /")?;
    for (number, lower) in rootfs.lowers.iter().enumerate() {
        let tree = mapped(root.as_fd(), lower, user_namespace, TAME.and(Attributes::READ_ONLY))?;
        place(&tree, &staging.join(number.to_string()))
            .step_with(|| format!("place layer `{}`", lower.display()))?;
    }
    let upper = mount::clone_tree(root.as_fd(), &rootfs.upper)
        .and_then(|tree| place(&tree, &staging.join("u")));
    upper.step_with(|| format!("place `{}`", rootfs.upper.display()))?;
    let merged = staging.join("m");
    fs::create_dir(&merged).step("make the place of the root file system")?;
    // Top first, as overlayfs wants it.
    let lowers: Vec<String> =
        (0..rootfs.lowers.len()).rev().map(|number| number.to_string()).collect();
    let options = format!("lowerdir={},upperdir=u/upper,workdir=u/work", lowers.join(":"));
    std::env::set_current_dir(staging).step("enter the staging area")?;
    mount::mount("overlay", Path::new("m"), &options)
        .step_with(|| format!("mount {} layers as overlay", lowers.len()))?;
    mount::clone_tree(root.as_fd(), &merged).step("detach the overlay")
}

/// Made by the monitor for the container's root: without that owner nothing inside may write.
fn make_upper(rootfs: &Rootfs, owner: u32) -> Result<(), Failure> {
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        let dir = rootfs.upper.join(name);
        let make = || -> io::Result<()> {
            match DirBuilder::new().mode(mode).create(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // lchown: whoever was here before must not have us give away another file.
            std::os::unix::fs::lchown(&dir, Some(owner), Some(owner))
        };
        make().step_with(|| format!("make `{}`", dir.display()))?;
    }
    Ok(())
}

/// Binds of the spec, detached; `None` for what init mounts itself.
pub(super) fn detached_mounts(
    spec: &ContainerSpec,
    user_namespace: BorrowedFd<'_>,
) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let root = path::root().step("open /")?;
    let attributes = |read_only: bool| {
        if read_only { TAME.and(Attributes::READ_ONLY) } else { TAME }
    };
    let detach = |wanted: &Mount| match wanted {
        Mount::Bind { source, read_only, .. } => {
            let tree = mount::clone_tree(root.as_fd(), source).and_then(|tree| {
                mount::add_attributes(tree.as_fd(), attributes(*read_only)).map(|()| tree)
            });
            tree.map(Some).step_with(|| format!("bind `{}`", source.display()))
        }
        Mount::BindIdmapped { source, read_only, .. } => {
            mapped(root.as_fd(), source, user_namespace, attributes(*read_only)).map(Some)
        }
        Mount::Tmpfs { .. } => Ok(None),
    };
    spec.mounts.iter().map(detach).collect()
}

fn mapped(
    root: BorrowedFd<'_>,
    source: &Path,
    user_namespace: BorrowedFd<'_>,
    attributes: Attributes,
) -> Result<OwnedFd, Failure> {
    let tree =
        mount::clone_tree(root, source).step_with(|| format!("clone `{}`", source.display()))?;
    mount::map_ids(tree.as_fd(), user_namespace, attributes).step_with(|| {
        let kind = file_system(source).unwrap_or_else(|| "its file system".into());
        format!("map the owners of `{}` ({kind} must support idmapped mounts)", source.display())
    })?;
    Ok(tree)
}

/// Attaches `tree` at a new directory.
fn place(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    fs::create_dir(target)?;
    mount::attach(tree.as_fd(), fs::File::open(target)?.as_fd())
}

/// The type of the file system that `path` is on, for messages.
fn file_system(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let number = format!("{}:{}", device >> 8 & 0xfff, device & 0xff);
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        (front.split(' ').nth(2)? == number).then(|| back.split(' ').next().map(str::to_owned))?
    })
}
