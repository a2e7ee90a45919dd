//! Layers made out of directories.

use super::*;

/// Changing the canonical form changes the digest of every layer that exists: do not.
#[test]
fn machine_the_canonical_digest_is_pinned() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    fill_with_everything(&directory);
    let lease = fixture.store.lease();
    let layer =
        fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default()).unwrap();
    assert_eq!(
        layer.digest.to_string(),
        "sha256:07716c9e9b2aa55c20a404ecde6efa5be4c481d7f0844f5c3d86906b1af7b4b0"
    );
    assert_eq!((layer.entries, layer.dropped, layer.existed), (13, 0, false));
}

#[test]
fn machine_equal_content_is_stored_once_whatever_its_times_and_order() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let mut digests = Vec::new();
    for (round, order) in [["a", "b"], ["b", "a"]].iter().enumerate() {
        let directory = fixture.directory("new");
        for name in order {
            write(&directory.join(name), *name);
            run(
                "touch",
                &["-d", &format!("200{round}-01-01"), directory.join(name).to_str().unwrap()],
            );
        }
        let layer = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
        digests.push(layer.unwrap());
        assert!(!directory.exists());
    }
    assert_eq!(digests[0].digest, digests[1].digest);
    assert_eq!((digests[0].existed, digests[1].existed), (false, true));
    assert_eq!(fixture.names("layers/sha256").len(), 1);
    assert!(fixture.names("tmp").is_empty() && fixture.names("trash").is_empty());
}

#[test]
fn machine_owners_are_shifted_and_set_id_bits_survive() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    let file = directory.join("file");
    write(&file, "x");
    chown(&directory, 300_000);
    chown(&file, 301_000);
    set_mode(&file, 0o6755);
    symlink("/etc/shadow", directory.join("link")).unwrap();
    chown(&directory.join("link"), 365_535);
    run("mknod", &[directory.join("gone").to_str().unwrap(), "c", "0", "0"]);
    let lease = fixture.store.lease();
    let options = DirOptions { id_base: 300_000 };
    let layer = fixture.store.add_layer_from_dir(&lease, &directory, options).unwrap();
    let snapshot = fixture.store.layer_path(&layer.digest);
    let file = fs::symlink_metadata(snapshot.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 1000, 0o6755));
    assert_eq!(fs::symlink_metadata(snapshot.join("link")).unwrap().uid(), 65_535);
    assert!(is_whiteout(&snapshot.join("gone")));
    let root = fs::metadata(&snapshot).unwrap();
    assert_eq!((root.uid(), root.mode() & 0o7777), (0, 0o755));
    assert_eq!(fs::metadata("/etc/shadow").unwrap().uid(), 0);
}

#[test]
fn machine_an_owner_outside_of_the_range_is_refused() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    for owner in [299_999, 365_536, 0] {
        let directory = fixture.directory("new");
        write(&directory.join("file"), "x");
        chown(&directory.join("file"), owner);
        let options = DirOptions { id_base: 300_000 };
        let error = fixture.store.add_layer_from_dir(&lease, &directory, options).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer refused: `file` belongs to an id outside of the container's range"
        );
        assert!(!directory.exists());
    }
    assert!(fixture.names("tmp").is_empty());
}

#[test]
fn machine_what_has_no_place_in_an_image_is_left_out() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    run("mkfifo", &[&path("fifo")]);
    run("mknod", &[&path("disk"), "b", "8", "0"]);
    run("mknod", &[&path("null"), "c", "1", "3"]);
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    write(&directory.join("file"), "x");
    let parent = crate::sys::fs::open_directory(&directory).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&parent);
    crate::sys::fs::set_xattr_at(fd, c"file", c"user.note", b"1").unwrap();
    crate::sys::fs::set_xattr_at(fd, c"file", c"trusted.overlay.origin", b"1").unwrap();
    let lease = fixture.store.lease();
    let layer = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    let layer = layer.unwrap();
    assert_eq!((layer.entries, layer.dropped), (1, 4));
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert_eq!(names(&snapshot), ["file"]);
    let parent = crate::sys::fs::open_directory(&snapshot).unwrap();
    let keys = crate::sys::fs::xattr_names_at(std::os::fd::AsFd::as_fd(&parent), c"file").unwrap();
    assert!(keys.iter().all(|key| key.as_c_str() == c"security.selinux"), "{keys:?}");
}

#[test]
fn machine_redirected_overlays_and_whiteout_names_are_refused() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let directory = fixture.directory("new");
    write(&directory.join(".wh.passwd"), "");
    let error = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    assert!(error.unwrap_err().to_string().contains("reserved for OCI whiteouts"));
    let directory = fixture.directory("new");
    fs::create_dir(directory.join("moved")).unwrap();
    let parent = crate::sys::fs::open_directory(&directory).unwrap();
    let fd = std::os::fd::AsFd::as_fd(&parent);
    crate::sys::fs::set_xattr_at(fd, c"moved", c"trusted.overlay.redirect", b"/etc").unwrap();
    let error = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    assert!(error.unwrap_err().to_string().contains("redirect_dir or metacopy"));
}

#[test]
fn machine_an_inode_shared_with_the_outside_is_copied() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    let outside = fixture.directory.path().join("cache-entry");
    write(&outside, "original");
    chown(&outside, 300_000);
    fs::hard_link(&outside, directory.join("a")).unwrap();
    fs::hard_link(&outside, directory.join("b")).unwrap();
    let lease = fixture.store.lease();
    let options = DirOptions { id_base: 300_000 };
    let layer = fixture.store.add_layer_from_dir(&lease, &directory, options).unwrap();
    write(&outside, "changed!");
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert_eq!(fs::read(snapshot.join("b")).unwrap(), b"original");
    let (a, b) =
        (fs::metadata(snapshot.join("a")).unwrap(), fs::metadata(snapshot.join("b")).unwrap());
    assert_eq!((a.ino(), a.uid()), (b.ino(), 0));
    assert_eq!(fs::metadata(&outside).unwrap().uid(), 300_000);
    assert_eq!(names(&snapshot), ["a", "b"]);
}

#[test]
fn machine_limits_count_apparent_sizes_and_entries() {
    let config = Config { max_layer_bytes: 1 << 20, max_layer_entries: 3, ..Config::default() };
    let fixture = Fixture::with(config);
    let lease = fixture.store.lease();
    let directory = fixture.directory("new");
    let sparse = fs::File::create(directory.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let error = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    assert_eq!(error.unwrap_err().to_string(), "layer refused: more than 1048576 bytes");
    let directory = fixture.directory("new");
    for name in ["a", "b", "c", "d"] {
        write(&directory.join(name), "");
    }
    let error = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    assert_eq!(error.unwrap_err().to_string(), "layer refused: more than 3 entries");
}

#[test]
fn machine_nesting_beyond_every_limit_is_refused_and_removed() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    // Deeper than a path can name: built level by level, as a container would.
    let mut level = crate::sys::fs::open_directory(&directory).unwrap();
    for _ in 0..6000 {
        let fd = std::os::fd::AsFd::as_fd(&level);
        crate::sys::fs::make_directory_at(fd, c"d").unwrap();
        level = crate::sys::fs::open_directory_beneath(fd, c"d").unwrap();
    }
    drop(level);
    let lease = fixture.store.lease();
    let error = fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default());
    assert!(error.unwrap_err().to_string().contains("is nested too deeply"));
    assert!(fixture.names("tmp").is_empty() && fixture.names("trash").is_empty());
}
