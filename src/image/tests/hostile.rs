//! Layers made out of tars that somebody else wrote.

use std::io::Write;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;

/// Writes members as they are given, which the tar crate would refuse.
#[derive(Default)]
struct RawTar(Vec<u8>);

impl RawTar {
    fn member(mut self, kind: EntryType, path: &[u8], link: &[u8], data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.member(EntryType::Regular, path.as_bytes(), b"", data.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.member(EntryType::Directory, path.as_bytes(), b"", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, path.as_bytes(), target.as_bytes(), b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.member(EntryType::Link, path.as_bytes(), target.as_bytes(), b"")
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn add(fixture: &Fixture, tar: &[u8]) -> Result<Layer> {
    fixture.store.add_layer_from_tar(&fixture.store.lease(), tar, TarOptions::default())
}

#[track_caller]
fn check_refused(tar: RawTar, expected: &str) {
    let fixture = Fixture::new();
    let error = add(&fixture, &tar.finish()).unwrap_err();
    let message = crate::support::report(&error);
    assert!(message.contains(expected), "{message}");
    assert!(fixture.names("tmp").is_empty());
    assert_eq!(names(fixture.directory.path()), ["store"]);
}

#[test]
fn machine_names_that_climb_are_refused() {
    check_refused(RawTar::default().file("../escaped", "x"), "contains `..`");
    check_refused(RawTar::default().file("a/../../escaped", "x"), "contains `..`");
    check_refused(RawTar::default().link("a", "../../etc/passwd"), "contains `..`");
    check_refused(RawTar::default().file(".wh...", "x"), "a whiteout of nothing");
    check_refused(RawTar::default().file(".wh.", "x"), "a whiteout of nothing");
}

#[test]
fn machine_symbolic_links_do_not_lead_out() {
    let fixture = Fixture::new();
    let outside = fixture.directory("outside");
    let tar = RawTar::default()
        .symlink("abs", outside.to_str().unwrap())
        .symlink("up", "../../../..")
        .file("/absolute", "x")
        .file("up/at-root", "x")
        .finish();
    let layer = add(&fixture, &tar).unwrap();
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert_eq!(names(&snapshot), ["abs", "absolute", "at-root", "up"]);
    // Nothing of that name inside: a parent that cannot be made, not a file outside.
    let tar = RawTar::default().symlink("abs", "/outside").file("abs/file", "x").finish();
    assert!(add(&fixture, &tar).is_err());
    let tar = RawTar::default().symlink("pw", "/etc/passwd").link("copy", "pw").file("pw", "x");
    let layer = add(&fixture, &tar.finish()).unwrap();
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert!(fs::symlink_metadata(snapshot.join("copy")).unwrap().is_symlink());
    assert!(names(&outside).is_empty());
}

#[test]
fn machine_devices_and_set_aside_marks_are_skipped() {
    let fixture = Fixture::new();
    let tar = RawTar::default()
        .member(EntryType::Char, b"dev/null", b"", b"")
        .member(EntryType::Fifo, b"fifo", b"", b"")
        .file(".wh..wh.plnk", "")
        .file("file", "x")
        .finish();
    let layer = add(&fixture, &tar).unwrap();
    assert_eq!(layer.dropped, 3);
    assert_eq!(names(&fixture.store.layer_path(&layer.digest)), ["dev", "file"]);
}

#[test]
fn machine_whiteouts_speak_of_lower_layers_only() {
    let fixture = Fixture::new();
    let tar = RawTar::default()
        .file(".wh.gone", "")
        .directory("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/kept", "x")
        .file("replaced", "new")
        .file(".wh.replaced", "")
        .file(".wh.later", "")
        .directory("later/")
        .file("later/new", "x")
        .finish();
    let layer = add(&fixture, &tar).unwrap();
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert!(is_whiteout(&snapshot.join("gone")));
    assert!(is_opaque(&snapshot.join("opaque")) && is_opaque(&snapshot.join("later")));
    assert_eq!(fs::read(snapshot.join("replaced")).unwrap(), b"new");
    assert_eq!(names(&snapshot), ["gone", "later", "opaque", "replaced"]);
}

#[test]
fn machine_the_last_member_of_a_name_counts() {
    let fixture = Fixture::new();
    let tar = RawTar::default().file("a", "1").file("a", "2").symlink("b", "x").file("b", "3");
    let layer = add(&fixture, &tar.finish()).unwrap();
    let snapshot = fixture.store.layer_path(&layer.digest);
    assert_eq!(fs::read(snapshot.join("a")).unwrap(), b"2");
    assert_eq!(fs::read(snapshot.join("b")).unwrap(), b"3");
    let twice = RawTar::default().directory("a/").file("a", "x");
    check_refused(twice, "is in the tar twice");
}

#[test]
fn machine_a_compression_bomb_stops_at_the_limit() {
    let fixture = Fixture::with(Config { max_layer_bytes: 1 << 20, ..Config::default() });
    let mut gzip = GzEncoder::new(Vec::new(), Level::best());
    gzip.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    let options = TarOptions { compression: Compression::Gzip, ..TarOptions::default() };
    let lease = fixture.store.lease();
    let error = fixture.store.add_layer_from_tar(&lease, bomb.as_slice(), options).unwrap_err();
    assert_eq!(error.to_string(), "layer refused: more than 1048576 bytes");
}

#[test]
fn machine_extension_headers_have_a_limit() {
    let name = vec![b'a'; 5000];
    let tar = RawTar::default().member(EntryType::GNULongName, b"x", b"", &name).file("y", "");
    check_refused(tar, "a name is longer than 4095 bytes");
    let huge = vec![b'a'; (1 << 20) + 1];
    let tar = RawTar::default().member(EntryType::GNULongName, b"x", b"", &huge).file("y", "");
    check_refused(tar, "an extension header is larger than 1 MiB");
    let sizes = RawTar::default().member(EntryType::XHeader, b"x", b"", b"12 size=999\n");
    check_refused(sizes.file("y", "abc"), "two different sizes");
}

#[test]
fn machine_a_truncated_tar_is_an_error() {
    let fixture = Fixture::new();
    let tar = RawTar::default().file("a", &"x".repeat(2000)).finish();
    let error = add(&fixture, &tar[..1500]).unwrap_err();
    assert!(matches!(error, Error::ReadStream { .. }), "{error:?}");
}

#[test]
fn machine_the_announced_digest_is_checked() {
    let fixture = Fixture::new();
    let tar = RawTar::default().file("a", "x").finish();
    let lease = fixture.store.lease();
    let right = TarOptions { expected: Some(Digest::of(&tar)), ..TarOptions::default() };
    fixture.store.add_layer_from_tar(&lease, tar.as_slice(), right).unwrap();
    let wrong = TarOptions { expected: Some(Digest::of(b"")), ..TarOptions::default() };
    let error = fixture.store.add_layer_from_tar(&lease, tar.as_slice(), wrong).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }));
}

#[test]
fn machine_a_layer_survives_its_own_tar() {
    let fixture = Fixture::new();
    let directory = fixture.directory("new");
    fill_with_everything(&directory);
    let lease = fixture.store.lease();
    let layer =
        fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default()).unwrap();
    let tar = tar_of(&fixture, &layer.digest);
    assert_eq!(Digest::of(&tar), layer.digest);
    let other = Fixture::new();
    let again = add(&other, &tar).unwrap();
    assert_eq!(again.digest, layer.digest);
    assert_eq!(tar_of(&other, &again.digest), tar);
    // The tar is one that others can read.
    let listing = std::process::Command::new("tar")
        .args(["--list", "--file", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(&tar)?;
            child.wait_with_output()
        })
        .unwrap();
    assert!(listing.status.success());
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(listing.contains("usr/.wh.gone\n") && listing.contains("hidden/.wh..wh..opq\n"));
    assert!(listing.contains(&"n".repeat(150)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the bytes, the answer is a layer or an error, and nothing is written elsewhere.
    #[test]
    fn machine_a_damaged_tar_never_panics_or_escapes(
        at in 0_usize..4096, with in proptest::collection::vec(any::<u8>(), 1..64), fix in any::<bool>(),
    ) {
        let fixture = Fixture::new();
        let mut tar = RawTar::default()
            .directory("d/").file("d/f", "data").symlink("s", "d").link("l", "d/f")
            .finish();
        for (offset, byte) in with.iter().enumerate() {
            if let Some(place) = tar.get_mut(at + offset) {
                *place = *byte;
            }
        }
        if fix {
            fix_checksums(&mut tar);
        }
        let _ = add(&fixture, &tar);
        prop_assert!(fixture.names("tmp").is_empty());
        prop_assert_eq!(names(fixture.directory.path()), ["store"]);
    }
}

/// Makes the damaged headers count: most damage would otherwise stop at the check sum.
fn fix_checksums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
