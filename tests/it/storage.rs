//! Volumes: what is in them outlives containers, releases and the control plane.

use std::time::Duration;

use crate::support::leftovers::leftovers;
use crate::support::{Repo, Staithe, eventually};

/// A shell line in a one-off of the app, its output without the line feed.
fn shell(staithe: &Staithe, line: &str) -> String {
    staithe.cli(&["run", "shop", &format!("{line};")]).succeeds().stdout.trim().to_owned()
}

#[test]
fn a_volume_outlives_containers_and_releases() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    staithe.cli(&["storage:create", "uploads"]).succeeds();
    staithe.cli(&["storage:create", "uploads"]).fails_with(4).says("exists already");
    let mounted = ["storage:mount", "shop", "uploads", "--container-dir", "/app/uploads"];
    staithe.cli(&mounted).succeeds().says("Releasing v2");
    staithe.cli(&mounted).fails_with(4).says("is taken");

    // The same files in one-offs and in the instance, owned by the user of the processes.
    shell(&staithe, "echo one > /app/uploads/file && mkdir /app/uploads/directory");
    assert_eq!(
        shell(&staithe, "stat -c %u:%g:%a /app/uploads /app/uploads/file | xargs"),
        "1000:1000:755 1000:1000:644"
    );
    staithe.cli(&["enter", "shop", "web", "cat", "/app/uploads/file"]).succeeds().says("one");
    repo.push_change("version.txt", "2\n").succeeds();
    staithe.cli(&["enter", "shop", "web", "cat", "/app/uploads/file"]).succeeds().says("one");
    // A release of before the mount has it too: going back in code loses no data.
    staithe.cli(&["rollback", "shop", "v1"]).succeeds();
    assert_eq!(shell(&staithe, "cat /app/uploads/file"), "one");

    // Another app with the same volume sees the same owners, though its ids are others.
    let other = Repo::of_fixture(&staithe, "procfile-script", "other");
    other.push().succeeds();
    staithe.cli(&["storage:mount", "other", "uploads:/shared", "--readonly"]).succeeds();
    let seen = staithe.cli(&["run", "other", "stat -c %u /shared/file; cat /shared/file;"]);
    assert_eq!(seen.succeeds().stdout, "1000\none\n");
    staithe.cli(&["run", "other", "echo two > /shared/file;"]).fails_with(1).says("Read-only");
    staithe.cli(&["storage:list", "other"]).succeeds().says("uploads:/shared:ro");
    let info = staithe.json(&["storage:info", "uploads"]);
    assert_eq!(info["apps"].as_array().unwrap().len(), 2, "{info}");

    // Nobody loses a volume by mistake.
    staithe.cli(&["--force", "storage:destroy", "uploads"]).fails_with(4).says("mounted by app");
    staithe.cli(&["storage:unmount", "shop", "nope"]).fails_with(20).says("does not mount");
    staithe.cli(&["storage:unmount", "shop", "uploads"]).succeeds();
    assert_eq!(shell(&staithe, "ls -A /app/uploads | wc -l"), "0");
    staithe.cli(&["--force", "apps:destroy", "other"]).succeeds();
    staithe.cli(&["--force", "storage:destroy", "uploads"]).succeeds();
    staithe.cli(&["storage:info", "uploads"]).fails_with(20).says("does not exist");
    assert_eq!(std::fs::read_dir(staithe.data_dir().join("volumes")).unwrap().count(), 0);
}

#[test]
fn the_size_of_a_volume_is_kept_by_the_kernel() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    staithe.cli(&["storage:create", "small", "--size", "1m"]).fails_with(4).says("16m");
    staithe.cli(&["storage:create", "small", "--size", "16m"]).succeeds();
    staithe.cli(&["storage:mount", "shop", "small:/data"]).succeeds();
    let fill = "dd if=/dev/zero of=/data/file bs=1M count=24 conv=fsync 2>&1;";
    staithe.cli(&["run", "shop", fill]).fails_with(1).says("No space left");
    // Not every machine lets a file system grow that is in use.
    staithe.cli(&["ps:stop", "shop"]).succeeds();
    eventually(Duration::from_secs(60), "the volume grows", || {
        let resized = staithe.cli(&["storage:resize", "small", "64m"]);
        if resized.code == Some(0) { Ok(()) } else { Err(resized.stderr) }
    });
    staithe.cli(&["ps:start", "shop"]).succeeds();
    staithe.cli(&["run", "shop", fill]).succeeds();
    staithe.cli(&["storage:resize", "small", "32m"]).fails_with(4).says("cannot be made smaller");
    // Neither devices nor privileges come out of a volume.
    let options = shell(&staithe, "grep ' /data ' /proc/self/mountinfo");
    assert!(options.contains("nosuid") && options.contains("nodev"), "{options}");
    let entries = staithe.json(&["storage:list-entries"]);
    assert_eq!(entries[0]["size"], "64m", "{entries}");
    assert!(entries[0]["used_bytes"].as_u64().unwrap() > 24 << 20, "{entries}");

    // The control plane is killed and comes back; then everything is stopped and started again.
    staithe.kill_daemon();
    staithe.launch();
    assert_eq!(shell(&staithe, "stat -c %s /data/file"), (24 << 20).to_string());
    staithe.stop();
    eventually(Duration::from_secs(20), "nothing is left", || {
        let left = leftovers(&staithe);
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    });
    staithe.launch();
    assert_eq!(shell(&staithe, "stat -c %s /data/file"), (24 << 20).to_string());
    staithe.cli(&["storage:unmount", "shop", "small"]).succeeds();
    eventually(Duration::from_secs(60), "the volume is free", || {
        let destroyed = staithe.cli(&["--force", "storage:destroy", "small"]);
        if destroyed.code == Some(0) { Ok(()) } else { Err(destroyed.stderr) }
    });
}

#[test]
fn directories_of_the_host_are_the_operators_to_give() {
    let shared = tempfile::tempdir().unwrap();
    let allowed = shared.path().join("allowed");
    std::fs::create_dir_all(allowed.join("photos")).unwrap();
    std::os::unix::fs::symlink("/etc", allowed.join("escape")).unwrap();
    let setting = format!("platform.storage_host_dirs=[\"{}\"]", allowed.display());
    let staithe = Staithe::start_with(true, &[&setting]);
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let photos = allowed.join("photos");
    for refused in [
        "/etc".to_owned(),
        format!("{}", allowed.join("escape").display()),
        format!("{}", shared.path().display()),
    ] {
        let mount = ["storage:mount", "shop", &format!("{refused}:/photos")];
        staithe.cli(&mount).fails_with(4).says("may not be mounted");
    }
    std::os::unix::fs::chown(&photos, Some(1000), Some(1000)).unwrap();
    staithe.cli(&["storage:mount", "shop", &format!("{}:/photos", photos.display())]).succeeds();
    shell(&staithe, "echo one > /photos/file");
    assert_eq!(std::fs::read_to_string(photos.join("file")).unwrap(), "one\n");
}
