//! Verified downloads shared by all apps: a language runtime crosses the network once a machine.
//!
//! A buildpack leaves what it downloaded under the name of its hash. Any app's code could have put
//! files there too, so only names that a bundled catalogue pins are taken, and only after hashing
//! a copy that nobody else can write to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256, Sha512};

use super::Job;
use super::prepare::NEW_DOWNLOADS;
use crate::build::descriptor::Catalog;
use crate::build::tree;

/// The largest download that is kept.
const MAX_BYTES: u64 = 512 << 20;

/// Takes over new downloads. They only save time, so failures are logged and the build goes on.
pub(super) fn harvest(catalog: &Catalog, job: &Job) {
    let dir = job.upper.join(NEW_DOWNLOADS.trim_start_matches('/'));
    let parents_are_dirs = dir.parent().is_some_and(tree::is_dir) && tree::is_dir(&dir);
    let names = if parents_are_dirs { tree::names(&dir) } else { Ok(Vec::new()) };
    for name in names.unwrap_or_default().into_iter().filter(|name| catalog.pins(name)) {
        let goal = job.downloads.join(&name);
        if goal.exists() {
            continue;
        }
        if let Err(error) = take(&dir.join(&name), &goal, &name) {
            tracing::warn!(download = name, %error, "download is not kept");
        }
    }
}

fn take(source: &Path, goal: &Path, name: &str) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(source)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(io::Error::other("it is not a regular file of at most 512 MiB"));
    }
    // Two builds may take the same download at once; neither may write to what the other verified.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let partial = goal.with_extension(format!("{}.{count}.partial", std::process::id()));
    let result =
        copy_verified(source, &partial, name).and_then(|()| std::fs::rename(&partial, goal));
    if result.is_err() {
        // The first failure is the one to report.
        let _ = std::fs::remove_file(&partial);
    }
    result
}

fn copy_verified(source: &Path, partial: &Path, name: &str) -> io::Result<()> {
    let mut from = File::open(source)?.take(MAX_BYTES);
    let mut to = File::options().write(true).create_new(true).mode(0o644).open(partial)?;
    let hash = match name.starts_with("sha512-") {
        true => copy_hashing::<Sha512>(&mut from, &mut to)?,
        false => copy_hashing::<Sha256>(&mut from, &mut to)?,
    };
    match name.split_once('-').is_some_and(|(_, wanted)| wanted == hash) {
        true => Ok(()),
        false => Err(io::Error::other("its hash is not the pinned one")),
    }
}

fn copy_hashing<H: Digest>(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    use std::fmt::Write as _;
    let mut hasher = H::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
    let mut hex = String::new();
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_the_hash_of_their_name_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("source");
        crate::support::atomic_file::write(&source, b"abc", 0o644).unwrap();
        let name = "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        take(&source, &root.path().join(name), name).unwrap();
        assert_eq!(std::fs::read(root.path().join(name)).unwrap(), b"abc");
        let other = "sha256-aa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(take(&source, &root.path().join(other), other).is_err());
        std::os::unix::fs::symlink(&source, root.path().join("link")).unwrap();
        assert!(take(&root.path().join("link"), &root.path().join(other), other).is_err());
        assert_eq!(tree::names(root.path()).unwrap(), ["link", name, "source"]);
    }
}
