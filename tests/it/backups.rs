//! Backups: made, looked at, kept, restored; and everything that goes wrong with them.
//!
//! The service is a diary (`tests/fixtures/plugins/diary`): one file, and scripts that can be made to
//! wait, to refuse and to forget. Real databases are in `tests/it/services`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::bucket::Moto;
use super::support::staithe::plugin_fixture;
use super::support::{Staithe, eventually};

/// A Staithe with a diary called `d1`.
fn with_diary() -> Staithe {
    let staithe = Staithe::start_with_services(&["diary"]);
    let plugin = plugin_fixture("diary");
    staithe.cli(&["plugin:install", plugin.to_str().unwrap()]).succeeds();
    staithe.cli(&["diary:create", "d1"]).succeeds();
    staithe
}

fn write(staithe: &Staithe, service: &str, line: &str) {
    let script = format!("echo '{line}' >> /data/contents");
    staithe.cli(&["diary:enter", service, "sh", "-c", &script]).succeeds();
}

fn contents(staithe: &Staithe, service: &str) -> String {
    staithe.cli(&["diary:enter", service, "cat", "/data/contents"]).succeeds().stdout
}

/// Makes a backup that is good, and answers its name.
fn backup(staithe: &Staithe, service: &str) -> String {
    let made = staithe.cli(&["diary:backup", service, "--quiet"]).succeeds();
    made.stdout.lines().last().unwrap().trim().to_owned()
}

/// States by backup, newest first.
fn states(staithe: &Staithe, service: &str) -> Vec<String> {
    let list = staithe.json(&["diary:backup-list", service]);
    let state = |backup: &serde_json::Value| backup["state"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(state).collect()
}

fn dump(staithe: &Staithe, service: &str, id: &str) -> PathBuf {
    staithe.data_dir().join("backups/diary").join(service).join(id).join("dump")
}

#[allow(clippy::disallowed_methods, reason = "damage need not survive a power cut")]
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_backup_outlives_its_service_and_brings_it_back() {
    let staithe = with_diary();
    staithe.cli(&["diary:backup-info", "d1"]).succeeds().says("never");
    write(&staithe, "d1", "monday: rain");
    let before = contents(&staithe, "d1");
    let made = staithe.cli(&["diary:backup", "d1"]).succeeds();
    made.says("Restoring it into a scratch service").says("it is verified");
    staithe.cli(&["diary:backup-info", "d1"]).succeeds().says("ago: ");
    // Nothing of the scratch service is left, nor of the facts.
    assert_eq!(staithe.json(&["diary:list"]).as_array().unwrap().len(), 1);
    let files = staithe.cli(&["diary:enter", "d1", "ls", "-A", "/data"]).succeeds().stdout;
    assert!(!files.contains("facts"), "{files}");

    write(&staithe, "d1", "tuesday: more rain");
    let restored = staithe.cli(&["diary:restore", "d1"]).succeeds();
    restored.says("what was there before is in backup ");
    assert_eq!(contents(&staithe, "d1"), before);
    // The safety backup brings Tuesday back.
    let list = staithe.json(&["diary:backup-list", "d1"]);
    assert_eq!(list[0]["cause"], "safety", "{list}");
    let safety = list[0]["id"].as_str().unwrap();
    staithe.cli(&["diary:restore", "d1", safety, "--to", "d2"]).succeeds();
    assert!(contents(&staithe, "d2").contains("tuesday"));
    staithe.cli(&["diary:restore", "d1", "--to", "d2"]).fails_with(4).says("exists already");

    staithe.cli(&["diary:destroy", "d1", "--force"]).succeeds();
    assert_eq!(states(&staithe, "d1").len(), 2, "backups outlive their service");
    staithe.cli(&["diary:restore", "d1"]).succeeds();
    assert_eq!(contents(&staithe, "d1"), before);
    staithe.cli(&["diary:backup-list", "nobody"]).fails_with(20).says("does not exist");
}

#[test]
fn damage_is_found_and_never_restored() {
    let staithe = with_diary();
    write(&staithe, "d1", "monday: rain");
    let id = backup(&staithe, "d1");
    change(&dump(&staithe, "d1", &id), |bytes| bytes[14] ^= 1);
    let found = staithe.cli(&["diary:backup-verify", "d1"]).fails_with(1);
    found.says("its contents have changed (SHA-256 differs)").says("do not rely on it");
    assert_eq!(states(&staithe, "d1"), ["bad"]);
    staithe.cli(&["diary:restore", "d1"]).fails_with(20).says("has no verified backup");
    let before = contents(&staithe, "d1");
    staithe.cli(&["diary:restore", "d1", &id]).fails_with(1).says("is damaged");
    assert_eq!(contents(&staithe, "d1"), before);

    let id = backup(&staithe, "d1");
    change(&dump(&staithe, "d1", &id), |bytes| bytes.truncate(5));
    staithe.cli(&["diary:backup-verify", "d1", &id]).fails_with(1).says("it has 5 bytes, not ");
    std::fs::remove_file(dump(&staithe, "d1", &id)).unwrap();
    staithe.cli(&["diary:backup-verify", "d1", &id]).fails_with(1).says("any more");

    // A dump that cannot be restored, or that restores to something else, is no good backup.
    write(&staithe, "d1", "forget the rest");
    write(&staithe, "d1", "wednesday: sun");
    let found = staithe.cli(&["diary:backup", "d1"]).fails_with(1);
    found.says("it restores to other contents: lines is 3, not 4");
    staithe.cli(&["diary:enter", "d1", "sh", "-c", "echo nothing > /data/contents"]).succeeds();
    let found = staithe.cli(&["diary:backup", "d1"]).fails_with(1);
    found.says("it cannot be restored: the import ended with 3: this is no diary");
    staithe.cli(&["events"]).succeeds().says("is bad: it cannot be restored");
}

#[test]
fn retention_keeps_the_newest_and_the_last_verified_one() {
    let staithe = with_diary();
    staithe.cli(&["diary:backup-set", "--global", "keep", "3"]).succeeds();
    staithe.cli(&["diary:backup-set", "d1", "keep", "2"]).succeeds();
    staithe.cli(&["diary:backup-set", "d1", "keep", "none"]).fails_with(4);
    let first = backup(&staithe, "d1");
    let made: Vec<_> = (0..3).map(|_| backup(&staithe, "d1")).collect();
    assert_eq!(states(&staithe, "d1"), ["verified", "verified"]);
    assert!(!dump(&staithe, "d1", &first).exists());
    assert!(dump(&staithe, "d1", &made[1]).exists());
    // Bad ones do not push the last good one out.
    write(&staithe, "d1", "forget the rest");
    for _ in 0..3 {
        staithe.cli(&["diary:backup", "d1"]).fails_with(1);
    }
    assert_eq!(states(&staithe, "d1"), ["bad", "bad", "verified"]);
    let last = &made[2];
    staithe.cli(&["diary:backup-remove", "d1", last]).fails_with(4).says("the last verified one");
    staithe.cli(&["diary:backup-remove", "d1", last, "--force"]).succeeds();
    assert_eq!(states(&staithe, "d1"), ["bad", "bad"]);
}

#[test]
fn a_backup_is_made_when_its_time_has_come() {
    let staithe = with_diary();
    staithe.cli(&["diary:backup-schedule", "d1", "every day"]).fails_with(4).says("schedule");
    staithe.cli(&["diary:backup-schedule", "d1", "* * * * *"]).succeeds();
    let schedule = staithe.cli(&["diary:backup-schedule-cat", "d1"]).succeeds();
    assert_eq!(schedule.stdout, "* * * * *\n");
    eventually(Duration::from_secs(120), "a backup by schedule", || {
        let list = staithe.json(&["diary:backup-list", "d1"]);
        let made = list[0]["cause"] == "schedule" && list[0]["state"] == "verified";
        made.then_some(()).ok_or_else(|| list.to_string())
    });
    staithe.cli(&["diary:backup-unschedule", "d1"]).succeeds();
    let info = staithe.json(&["diary:backup-info", "d1"]);
    assert_eq!(info["schedule"], serde_json::Value::Null, "{info}");
    assert_eq!(info["last_verified"]["cause"], "schedule", "{info}");
}

#[test]
fn a_control_plane_that_is_killed_during_a_backup_loses_nothing_and_says_so() {
    let staithe = with_diary();
    let good = backup(&staithe, "d1");
    staithe.cli(&["diary:enter", "d1", "touch", "/data/hold"]).succeeds();
    let mut running = staithe.cli_command(&["diary:backup", "d1"]);
    let mut running =
        running.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(Duration::from_secs(30), "the export waits", || {
        let held = staithe.cli(&["diary:enter", "d1", "test", "-e", "/data/held"]);
        (held.code == Some(0)).then_some(()).ok_or(held.stderr)
    });
    staithe.cli(&["diary:backup", "d1"]).fails_with(4).says("is being backed up already");
    assert_eq!(states(&staithe, "d1"), ["running", "verified"]);
    staithe.kill_daemon();
    running.wait().unwrap();
    staithe.launch();
    assert_eq!(states(&staithe, "d1"), ["failed", "verified"]);
    let list = staithe.json(&["diary:backup-list", "d1"]);
    assert_eq!(list[0]["why"], "the control plane was restarted meanwhile");
    staithe.cli(&["events"]).succeeds().says("failed: the control plane was restarted meanwhile");
    let half = dump(&staithe, "d1", list[0]["id"].as_str().unwrap());
    eventually(Duration::from_secs(10), "half a backup is cleared away", || {
        let directory = half.parent().unwrap();
        match std::fs::read_dir(directory) {
            Err(_) => Ok(()),
            Ok(entries) => Err(format!("{:?}", entries.flatten().collect::<Vec<_>>())),
        }
    });
    staithe.cli(&["diary:enter", "d1", "rm", "/data/hold"]).succeeds();
    staithe.cli(&["diary:backup-verify", "d1", &good]).succeeds();
    staithe.cli(&["diary:restore", "d1"]).succeeds();
    backup(&staithe, "d1");
}

/// A file system of 256 KiB over the directory of backups; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "staithe-it"]).arg(&directory);
        assert!(mount.status().unwrap().success());
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_disk_is_said_to_be_full_and_takes_no_backup_along() {
    let staithe = with_diary();
    let disk = SmallDisk::over(staithe.data_dir().join("backups"));
    let good = backup(&staithe, "d1");
    let fill = "head -c 1000000 /dev/urandom | base64 >> /data/contents";
    staithe.cli(&["diary:enter", "d1", "sh", "-c", fill]).succeeds();
    let before = contents(&staithe, "d1");
    let failed = staithe.cli(&["diary:backup", "d1"]).fails_with(1);
    failed.says("no space is left at ").says("make room there");
    assert_eq!(states(&staithe, "d1"), ["failed", "verified"]);
    // What is there must not be replaced where it cannot be kept.
    let failed = staithe.cli(&["diary:restore", "d1"]).fails_with(1);
    failed.says("the present contents cannot be backed up: no space is left");
    assert_eq!(contents(&staithe, "d1"), before);
    staithe.cli(&["diary:backup-verify", "d1", &good]).succeeds();
    drop(disk);
    backup(&staithe, "d1");
}

#[test]
fn a_bucket_keeps_backups_and_says_what_is_wrong_with_it() {
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket("kept");
    let staithe = with_diary();
    let set = |key: &str, value: &str| {
        staithe.cli(&["diary:backup-set", "--global", key, value]).succeeds();
    };
    let missing = staithe.cli(&["diary:backup", "d1", "kept"]).fails_with(4);
    missing.says("needs s3-access-key-id");
    set("s3-endpoint", &moto.endpoint());
    set("s3-access-key-id", "AKIAEXAMPLE");
    let secret = ["diary:backup-set", "--global", "s3-secret-access-key", "-"];
    staithe.cli_with_input(&secret, "hush-hush\n").succeeds();
    set("place", "s3://kept/of-ours");
    write(&staithe, "d1", "monday: rain");
    let id = backup(&staithe, "d1");
    let info = staithe.json(&["diary:backup-info", "d1", &id]);
    assert_eq!(info["place"], "s3://kept/of-ours", "{info}");
    assert!(!staithe.data_dir().join("backups").exists(), "it is not on this machine");
    let absent = staithe.cli(&["diary:backup", "d1", "s3://absent"]).fails_with(1);
    absent.says("NoSuchBucket").says("make the bucket");

    // A machine that knows nothing of its backups finds one by its name.
    let before = contents(&staithe, "d1");
    staithe.cli(&["diary:destroy", "d1", "--force"]).succeeds();
    staithe.cli(&["diary:restore", "d1"]).succeeds();
    assert_eq!(contents(&staithe, "d1"), before);

    drop(moto);
    let down = staithe.cli(&["diary:backup", "d1"]);
    assert_ne!(down.code, Some(0));
    down.says("s3://kept/of-ours` cannot be reached").says("Connection refused");
    let everything = format!("{}{}", staithe.log(), staithe.cli(&["events"]).succeeds().stdout);
    assert!(!everything.contains("hush-hush"), "the secret is told");
}

#[test]
fn mariadb_is_backed_up_and_comes_back_equal() {
    let staithe = Staithe::start_with_services(&["mysql"]);
    staithe.cli(&["mysql:create", "shop-db"]).succeeds();
    let sql = |statement: &str| {
        let arguments = ["mysql:connect", "--no-tty", "shop-db", "--", "-N", "-B", "-e", statement];
        staithe.cli(&arguments).succeeds().stdout
    };
    sql("create table t (id int primary key auto_increment, name varchar(30), price float)");
    sql("insert into t (name, price) values ('a', 1.23456789), ('ü', null)");
    let rows = "select id, name, price from t order by id";
    let before = sql(rows);
    staithe.cli(&["mysql:backup", "shop-db"]).succeeds().says("it is verified");
    sql("delete from t");
    staithe.cli(&["mysql:restore", "shop-db"]).succeeds();
    assert_eq!(sql(rows), before);
    staithe.cli(&["mysql:destroy", "shop-db", "--force"]).succeeds();
    staithe.cli(&["mysql:restore", "shop-db"]).succeeds();
    assert_eq!(sql(rows), before);
}
