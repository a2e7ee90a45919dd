//! The store as its users see it. Everything here owns files and makes device nodes, so it needs
//! root: hence the prefix `machine_`.

mod archives;
mod collection;
mod directories;
mod hostile;
mod images;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// A store in a directory of its own, with room beside it for directories to add.
struct Fixture {
    directory: tempfile::TempDir,
    store: ImageStore,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&directory.path().join("store"), config).unwrap();
        Self { directory, store }
    }

    /// Closes the store and opens it again, as after a crash.
    fn reopen(self) -> Self {
        let Self { directory, store } = self;
        drop(store);
        let store = ImageStore::open(&directory.path().join("store"), Config::default()).unwrap();
        Self { directory, store }
    }

    /// A new directory beside the store.
    fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// A layer with one file.
    fn layer(&self, lease: &Lease, name: &str, content: &str) -> Layer {
        let directory = self.directory("one-file");
        write(&directory.join(name), content);
        self.store.add_layer_from_dir(lease, &directory, DirOptions::default()).unwrap()
    }

    fn image(&self, lease: &Lease, layers: &[Digest]) -> Digest {
        let spec = ImageSpec { layers: layers.to_vec(), ..ImageSpec::default() };
        self.store.write_image(lease, &spec).unwrap()
    }

    /// Names in one of the store's directories, sorted.
    fn names(&self, below: &str) -> Vec<String> {
        names(&self.directory.path().join("store").join(below))
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[allow(clippy::disallowed_methods, reason = "a test's file need not survive a crash")]
fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn chown(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// A tree with one of everything that a layer can hold.
fn fill_with_everything(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    write(&root.join("usr/bin/tool"), "#!/bin/sh\n");
    set_mode(&root.join("usr/bin/tool"), 0o4755);
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/other")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("./odd//target/../x", root.join("odd")).unwrap();
    symlink("t".repeat(300), root.join("long-target")).unwrap();
    write(&root.join("n".repeat(150)), "long name");
    write(&root.join("ünïcode"), vec![7; 1500]);
    write(&root.join("empty"), "");
    fs::create_dir(root.join("hidden")).unwrap();
    write(&root.join("hidden/inside"), "x");
    mark_opaque(&root.join("hidden"));
    run("mknod", &[root.join("usr/gone").to_str().unwrap(), "c", "0", "0"]);
    chown(&root.join("empty"), 1000);
    set_mode(&root.join("usr"), 0o750);
}

fn mark_opaque(path: &Path) {
    let (parent, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    let parent = crate::sys::fs::open_directory(parent).unwrap();
    let name = std::ffi::CString::new(name).unwrap();
    overlay::set_opaque(std::os::fd::AsFd::as_fd(&parent), &name).unwrap();
}

fn is_opaque(path: &Path) -> bool {
    let parent = crate::sys::fs::open_directory(path.parent().unwrap()).unwrap();
    let name = std::ffi::CString::new(path.file_name().unwrap().to_str().unwrap()).unwrap();
    overlay::is_opaque(std::os::fd::AsFd::as_fd(&parent), &name).unwrap()
}

fn is_whiteout(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path)
        .is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == 0)
}

/// The layer's canonical tar.
fn tar_of(fixture: &Fixture, digest: &Digest) -> Vec<u8> {
    let mut tar = Vec::new();
    let tree = fixture.store.tree(&fixture.store.layer_path(digest)).unwrap();
    let measures = canonical::write(&tree, &Config::default(), &mut tar).unwrap();
    assert_eq!(measures.digest, *digest);
    assert_eq!(measures.tar_bytes, tar.len() as u64);
    tar
}
