//! With a database that is a few bytes in memory, and a place in a temporary directory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::archive::Place;
use crate::domain::{Actor, BackupCause, BackupPlace, BackupState};

/// Contents, and what goes wrong with it.
#[derive(Debug, Default)]
struct Fake {
    contents: Mutex<Vec<u8>>,
    /// Its export ends after so many bytes.
    breaks_after: Option<usize>,
    /// Loses its last byte when it is restored.
    forgets: bool,
    /// Takes no dump.
    refuses: bool,
    scratches: Arc<AtomicUsize>,
}

impl Fake {
    fn with(contents: &[u8]) -> Self {
        Self { contents: Mutex::new(contents.to_vec()), ..Self::default() }
    }

    fn contents(&self) -> Vec<u8> {
        self.contents.lock().unwrap().clone()
    }
}

fn facts(contents: &[u8]) -> String {
    let sum: u64 = contents.iter().map(|byte| u64::from(*byte)).sum();
    format!(r#"{{"tables":{{"t":{{"rows":{},"sum":{sum}}}}}}}"#, contents.len())
}

impl Database for Fake {
    type Scratch = Fake;

    async fn export(&self, _: &BackupId, dump: &mut Writer) -> Result<String> {
        let contents = self.contents();
        let end = self.breaks_after.unwrap_or(contents.len());
        dump.write(Bytes::copy_from_slice(&contents[..end])).await?;
        match self.breaks_after {
            None => Ok(facts(&contents)),
            Some(_) => Err(Error::new(Kind::Failed, "the export ended with 1: disk on fire")),
        }
    }

    async fn import(
        &self,
        dump: &mut Reader,
        sum: &mut Sum,
    ) -> std::result::Result<(), ImportError> {
        if self.refuses {
            return Err(ImportError::Refused("syntax error".into()));
        }
        let mut contents = Vec::new();
        while let Some(piece) = dump.next().await.map_err(ImportError::Read)? {
            sum.update(&piece);
            contents.extend_from_slice(&piece);
        }
        if self.forgets {
            contents.pop();
        }
        *self.contents.lock().unwrap() = contents;
        Ok(())
    }

    async fn check(&self) -> Result<String> {
        Ok(facts(&self.contents()))
    }

    async fn scratch(&self) -> Result<Fake> {
        self.scratches.fetch_add(1, Ordering::Relaxed);
        Ok(Fake { forgets: self.forgets, refuses: self.refuses, ..Fake::default() })
    }
}

struct World {
    directory: tempfile::TempDir,
    archive: Archive,
    backup: Backup,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Local(directory.path().into());
        let trust = crate::certificate::Trust::of_host();
        let archive = Archive::open(&place, trust.client().unwrap()).unwrap();
        let at = Timestamp(1_795_530_729_000);
        let backup = Backup {
            id: BackupId::new(at, [0, 0, 0, 1]).unwrap(),
            kind: "postgres".parse().unwrap(),
            service: "shop".parse().unwrap(),
            place: BackupPlace::Local,
            created_at: at,
            finished_at: None,
            cause: BackupCause::Manual,
            actor: Actor::platform(),
            extension: "dump".into(),
            bytes: 0,
            sha256: String::new(),
            facts: String::new(),
            state: BackupState::Running,
        };
        Self { directory, archive, backup }
    }

    /// A backup of `contents`.
    async fn made(contents: &[u8]) -> (Self, Fake) {
        let mut world = Self::new();
        let database = Fake::with(contents);
        make(&database, &world.archive, &mut world.backup, 1 << 20).await.unwrap();
        (world, database)
    }

    async fn files(&self) -> Vec<String> {
        let listed = self.archive.list(&"postgres".parse().unwrap()).await.unwrap();
        let name = |key: &Key| key.parts().last().unwrap().to_owned();
        listed.iter().map(|entry| name(&entry.key)).collect()
    }

    fn change_dump(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = format!("postgres/shop/{}/dump", self.backup.id);
        let path = self.directory.path().join(path);
        let mut dump = std::fs::read(&path).unwrap();
        change(&mut dump);
        crate::support::atomic_file::write(&path, &dump, 0o600).unwrap();
    }
}

async fn verdict(world: &World, database: &Fake) -> Verdict {
    verify(database, &world.archive, &world.backup).await.unwrap()
}

#[tokio::test]
async fn a_backup_is_good_once_it_was_restored() {
    let (world, database) = World::made(b"all our rows").await;
    assert_eq!(world.files().await, ["dump", "manifest.json"]);
    let files = Files::of(&world.backup.kind, &world.backup.service, &world.backup.id).unwrap();
    let manifest = manifest(&world.archive, &files).await.unwrap();
    assert_eq!((manifest.bytes, &manifest.sha256), (12, &world.backup.sha256));
    assert_eq!(manifest.facts["tables"]["t"]["rows"], 12);
    assert_eq!(verdict(&world, &database).await, Verdict::Good);
    assert_eq!(world.files().await, ["dump", "manifest.json", "verified.json"]);
    let restored = Fake::with(b"something else");
    restore(&restored, &world.archive, &world.backup).await.unwrap();
    assert_eq!(restored.contents(), b"all our rows");
    remove(&world.archive, &files).await.unwrap();
    assert_eq!(world.files().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_never_restored() {
    let (world, database) = World::made(b"all our rows").await;
    world.change_dump(|dump| dump[4] ^= 1);
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it is damaged") };
    assert_eq!(why, "its contents have changed (SHA-256 differs)");
    let precious = Fake::with(b"precious");
    let error = restore(&precious, &world.archive, &world.backup).await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(error.next_step(), Some("nothing was changed; choose another one"));
    assert_eq!(precious.contents(), b"precious");
    assert_eq!(world.files().await, ["dump", "manifest.json"]);
}

#[tokio::test]
async fn a_truncated_dump_is_found() {
    let (world, database) = World::made(b"all our rows").await;
    world.change_dump(|dump| dump.truncate(5));
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it is cut") };
    assert_eq!(why, "it has 5 bytes, not 12");
}

#[tokio::test]
async fn a_dump_that_restores_to_other_contents_is_found() {
    let (world, mut database) = World::made(b"all our rows").await;
    database.forgets = true;
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it differs") };
    assert_eq!(
        why,
        "it restores to other contents: tables.t.rows is 11, not 12, tables.t.sum is 1063, not 1178"
    );
}

#[tokio::test]
async fn a_dump_that_no_database_takes_is_found() {
    let (world, mut database) = World::made(b"all our rows").await;
    database.refuses = true;
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it is refused") };
    assert_eq!(why, "it cannot be restored: syntax error");
    // What is wrong with the file is said first: it is the cause.
    world.change_dump(|dump| dump.truncate(5));
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it is cut") };
    assert_eq!(why, "it has 5 bytes, not 12");
}

#[tokio::test]
async fn an_export_that_breaks_leaves_nothing() {
    let mut world = World::new();
    let database = Fake { breaks_after: Some(3), ..Fake::with(b"all our rows") };
    let made = make(&database, &world.archive, &mut world.backup, 1 << 20).await;
    assert_eq!(made.unwrap_err().to_string(), "the export ended with 1: disk on fire");
    assert_eq!(world.files().await, Vec::<String>::new());
    let made = make(&Fake::with(b"too much"), &world.archive, &mut world.backup, 7).await;
    assert!(made.unwrap_err().to_string().contains("more than the 7 bytes"));
    assert_eq!(world.files().await, Vec::<String>::new());
    let made = make(&Fake::with(b""), &world.archive, &mut world.backup, 7).await;
    assert_eq!(made.unwrap_err().to_string(), "the export is empty");
    assert_eq!(world.files().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_that_is_gone_is_said_to_be() {
    let (world, database) = World::made(b"all our rows").await;
    let files = Files::of(&world.backup.kind, &world.backup.service, &world.backup.id).unwrap();
    remove(&world.archive, &files).await.unwrap();
    let Verdict::Bad(why) = verdict(&world, &database).await else { panic!("it is gone") };
    assert!(why.starts_with("it is not at "), "{why}");
    assert_eq!(database.scratches.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn hostile_manifests_are_refused() {
    let world = World::new();
    let files = Files::of(&world.backup.kind, &world.backup.service, &world.backup.id).unwrap();
    for text in ["", "[]", "{}", r#"{"version":1,"id":"../../etc"}"#] {
        world.archive.put(&files.manifest, Bytes::from(text)).await.unwrap();
        let error = manifest(&world.archive, &files).await.unwrap_err();
        assert!(error.to_string().contains("is no manifest of a backup"), "{error}");
    }
}

#[test]
fn differences_are_named_and_cut_short() {
    let expected =
        serde_json::json!({ "a": 1, "b": { "c": 2 }, "d": 3, "e": 4, "f": "x".repeat(99) });
    let found = serde_json::json!({ "a": 1, "b": { "c": 3 }, "e": 5 });
    let text = difference(&expected, &found);
    assert_eq!(text, "b.c is 3, not 2, d is null, not 3, e is 5, not 4, and 1 more");
}
