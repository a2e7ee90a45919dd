//! Tests of the tree writer on trees that were made for it, good and hostile.

use std::os::unix::fs::MetadataExt;

use git2::{ObjectType, Oid};

use super::*;
use crate::git::Places;

const FILE: &str = "100644";
const PROGRAM: &str = "100755";
const LINK: &str = "120000";
const TREE: &str = "40000";
const GITLINK: &str = "160000";

/// Repositories of ours in a directory that goes away.
struct Fixture {
    directory: tempfile::TempDir,
    repositories: Repositories,
    app: AppName,
    objects: git2::Repository,
    options: ExportOptions,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let found = directory.path().metadata().unwrap();
        let (uid, gid) = (found.uid(), found.gid());
        let mut config = Config { owner_uid: uid, owner_gid: gid, ..Config::default() };
        change(&mut config);
        let places = Places {
            root: directory.path().join("repos"),
            hook_executable: "/bin/false".into(),
            control_socket: "/nonexistent".into(),
        };
        let repositories = Repositories::open(config, places).unwrap();
        let app = "shop".parse().unwrap();
        let path = repositories.ensure(&app).unwrap();
        let objects = git2::Repository::open_bare(path).unwrap();
        let options = ExportOptions { uid, gid };
        Self { directory, repositories, app, objects, options }
    }

    fn blob(&self, contents: &[u8]) -> Oid {
        self.objects.blob(contents).unwrap()
    }

    /// A tree of exactly these entries, which libgit2's builder would refuse in part.
    fn tree(&self, entries: &[(&str, &str, Oid)]) -> Oid {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            raw.extend_from_slice(id.as_bytes());
        }
        self.objects.odb().unwrap().write(ObjectType::Tree, &raw).unwrap()
    }

    /// A commit of any tree, which libgit2 would read first.
    fn commit(&self, tree: Oid) -> CommitId {
        let person = "A <a@example.org> 1700000000 +0000";
        let raw = format!("tree {tree}\nauthor {person}\ncommitter {person}\n\nx\n");
        let odb = self.objects.odb().unwrap();
        CommitId::from_oid(odb.write(ObjectType::Commit, raw.as_bytes()).unwrap())
    }

    fn destination(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    async fn export(&self, tree: Oid) -> Result<Exported, Error> {
        let commit = self.commit(tree);
        let destination = self.destination();
        self.repositories.export_tree(&self.app, None, &commit, &destination, self.options).await
    }

    async fn refused(&self, tree: Oid) -> String {
        let error = self.export(tree).await.unwrap_err();
        assert!(!self.destination().exists(), "something is left after: {error}");
        crate::support::report(&error)
    }

    fn mode(&self, path: &str) -> u32 {
        self.destination().join(path).symlink_metadata().unwrap().mode() & 0o7777
    }
}

#[tokio::test]
async fn a_tree_is_written_with_its_modes_and_links() {
    let fixture = Fixture::new(|_| {});
    let blob = fixture.blob(b"hello");
    let inner = fixture.tree(&[(FILE, "inner", blob)]);
    let target = fixture.blob(b"/etc/passwd");
    let tree = fixture.tree(&[
        (FILE, "file", blob),
        (LINK, "link", target),
        (PROGRAM, "program", blob),
        (TREE, "sub", inner),
    ]);
    let exported = fixture.export(tree).await.unwrap();
    assert_eq!((exported.entries, exported.bytes), (5, 5 * 3 + 11));
    assert_eq!(fixture.mode("file"), 0o644);
    assert_eq!(fixture.mode("program"), 0o755);
    assert_eq!(fixture.mode("sub"), 0o755);
    assert_eq!(fixture.mode(""), 0o755);
    let link = std::fs::read_link(fixture.destination().join("link")).unwrap();
    assert_eq!(link, Path::new("/etc/passwd"));
    assert_eq!(std::fs::read(fixture.destination().join("sub/inner")).unwrap(), b"hello");
}

#[tokio::test]
async fn a_link_and_a_directory_of_one_name_do_not_lead_outside() {
    let fixture = Fixture::new(|_| {});
    let outside = fixture.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = fixture.blob(outside.to_str().unwrap().as_bytes());
    let blob = fixture.blob(b"x");
    let inner = fixture.tree(&[(FILE, "planted", blob)]);
    let tree = fixture.tree(&[(LINK, "a", target), (TREE, "a", inner)]);
    let error = fixture.refused(tree).await;
    assert!(error.starts_with("create `") && error.contains("File exists"), "{error}");
    let tree = fixture.tree(&[(LINK, "a", target), (FILE, "a", blob)]);
    assert!(fixture.refused(tree).await.contains("File exists"));
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let fixture = Fixture::new(|_| {});
    let blob = fixture.blob(b"x");
    let inner = fixture.tree(&[(FILE, "config", blob)]);
    for name in ["..", ".", ".git", ".GiT", "a/b", "../../x", ""] {
        for (mode, id) in [(FILE, blob), (TREE, inner), (LINK, blob)] {
            let tree = fixture.tree(&[(mode, name, id)]);
            // Some of them libgit2 already refuses to read.
            let error = fixture.refused(tree).await;
            let expected = error.contains("a name must not") || error.contains("read tree");
            assert!(expected || error.contains("read commit"), "{name:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_tree_that_unfolds_without_end_stops_at_the_limit() {
    let fixture = Fixture::new(|config| config.max_export_entries = 2000);
    let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    let mut tree = fixture.tree(&[(FILE, "x", fixture.blob(b"x"))]);
    for _ in 0..30 {
        let entries: Vec<_> = names.iter().map(|name| (TREE, name.as_str(), tree)).collect();
        tree = fixture.tree(&entries);
    }
    let error = fixture.refused(tree).await;
    assert_eq!(error, "the source tree has more than 2000 files and directories");
}

#[tokio::test]
async fn too_many_bytes_too_large_files_and_too_much_time_are_refused() {
    let fixture = Fixture::new(|config| {
        config.max_export_bytes = 100;
        config.max_file_bytes = 60;
    });
    let blob = fixture.blob(&[b'x'; 50]);
    let tree = fixture.tree(&[(FILE, "a", blob), (FILE, "b", blob), (FILE, "c", blob)]);
    assert_eq!(fixture.refused(tree).await, "the source tree has more than 100 bytes");
    let large = fixture.tree(&[(FILE, "large\u{1b}", fixture.blob(&[b'x'; 61]))]);
    let error = fixture.refused(large).await;
    assert!(error.ends_with("holds the path `large\\u{1b}`, which is refused: it is too large"));

    let slow = Fixture::new(|config| config.export_timeout_secs = 0);
    let tree = slow.tree(&[(FILE, "a", slow.blob(b"x"))]);
    assert_eq!(slow.refused(tree).await, "writing the source tree took longer than 0 s");
}

#[tokio::test]
async fn a_submodule_without_a_usable_url_is_named() {
    let fixture = Fixture::new(|_| {});
    let other = fixture.commit(fixture.tree(&[])).oid();
    let tree = fixture.tree(&[(GITLINK, "lib", other)]);
    let expected = "submodule `lib` (no URL): `.gitmodules` names no URL for it";
    assert_eq!(fixture.refused(tree).await, expected);
    let text = b"[submodule \"l\"]\n\tpath = lib\n\turl = git@example.org:lib.git\n";
    let tree = fixture.tree(&[(FILE, ".gitmodules", fixture.blob(text)), (GITLINK, "lib", other)]);
    let expected = "submodule `lib` (git@example.org:lib.git): only URLs that begin with \
        `https://` are fetched";
    assert_eq!(fixture.refused(tree).await, expected);
}

#[tokio::test]
async fn a_file_that_is_elsewhere_is_warned_about() {
    let fixture = Fixture::new(|_| {});
    let pointer =
        fixture.blob(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    let exported = fixture.export(fixture.tree(&[(FILE, "big.bin", pointer)])).await.unwrap();
    let expected = "1 file(s) are Git LFS pointers; their contents are not in the push";
    assert_eq!(exported.warnings, [expected]);
}

#[tokio::test]
async fn a_missing_commit_is_an_error() {
    let fixture = Fixture::new(|_| {});
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let destination = fixture.destination();
    let export = fixture.repositories.export_tree(
        &fixture.app,
        None,
        &commit,
        &destination,
        fixture.options,
    );
    let error = crate::support::report(&export.await.unwrap_err());
    assert!(error.starts_with("read commit `0123456789"), "{error}");
    assert!(!destination.exists());
}

#[test]
fn a_quarantine_must_be_one_of_the_repositorys() {
    let fixture = Fixture::new(|_| {});
    let objects = fixture.repositories.path(&fixture.app).join("objects");
    let good = objects.join("tmp_objdir-incoming-abc");
    std::fs::create_dir(&good).unwrap();
    std::os::unix::fs::symlink("/etc", objects.join("tmp_objdir-incoming-link")).unwrap();
    let check = |path: &Path| fixture.repositories.quarantine(&fixture.app, path).is_ok();
    assert!(check(&good));
    assert!(!check(&objects.join("tmp_objdir-incoming-link")));
    assert!(!check(&objects.join("pack")));
    assert!(!check(&objects.join("tmp_objdir-incoming-missing")));
    assert!(!check(&good.join("../../../tmp_objdir-incoming-abc")));
    assert!(!check(Path::new("/etc")));
}

#[test]
fn repositories_are_made_renamed_and_removed() {
    let fixture = Fixture::new(|_| {});
    let (shop, blog): (AppName, AppName) = ("shop".parse().unwrap(), "blog".parse().unwrap());
    let repositories = &fixture.repositories;
    repositories.ensure(&shop).unwrap();
    repositories.rename(&shop, &blog).unwrap();
    assert!(!repositories.exists(&shop) && repositories.exists(&blog));
    let error = repositories.rename(&shop, &blog).unwrap_err();
    assert_eq!(error.to_string(), "repository `shop` does not exist");
    repositories.ensure(&shop).unwrap();
    let error = repositories.rename(&shop, &blog).unwrap_err();
    assert_eq!(error.to_string(), "repository `blog` exists already");
    repositories.remove(&blog).unwrap();
    repositories.remove(&blog).unwrap();
    assert!(!repositories.exists(&blog));
    repositories.set_head(&shop, &"trunk".parse().unwrap()).unwrap();
    assert_eq!(repositories.head(&shop, &"trunk".parse().unwrap()).unwrap(), None);
}
