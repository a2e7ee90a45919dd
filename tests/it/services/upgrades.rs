//! Newer packages for a service, and the way back from those it does not start with.
//!
//! The newest packages of a day are always the same; so another version of the plugin asks for more
//! of them.

use std::path::Path;

use staithe::support::atomic_file;

use crate::support::Staithe;
use crate::support::staithe::plugin_fixture;

/// The plugin's folder again, with another list of packages and another way to start.
fn diary(folder: &Path, packages: &str, start: &str) {
    let manifest = std::fs::read_to_string(plugin_fixture("diary").join("plugin.toml")).unwrap();
    let manifest = manifest.replace("\"busybox\"", packages);
    atomic_file::write(&folder.join("plugin.toml"), manifest.as_bytes(), 0o644).unwrap();
    let script = std::fs::read_to_string(plugin_fixture("diary").join("bin/start")).unwrap();
    let script = script.replace("set -eu\n", start);
    atomic_file::write(&folder.join("bin/start"), script.as_bytes(), 0o755).unwrap();
}

#[test]
fn an_upgrade_keeps_the_contents_and_goes_back_if_the_server_does_not_start() {
    let staithe = Staithe::start_with_services(&["diary"]);
    staithe.cli(&["plugin:install", plugin_fixture("diary").to_str().unwrap()]).succeeds();
    staithe.cli(&["diary:create", "d1"]).succeeds();
    let enter = |command: &str| staithe.cli(&["diary:enter", "d1", "sh", "-c", command]);
    enter("echo own > /data/contents").succeeds();
    let folder = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", plugin_fixture("diary").join(".").to_str().unwrap()])
        .arg(folder.path())
        .status();
    assert!(copied.unwrap().success());
    let update = ["plugin:update", "diary", folder.path().to_str().unwrap()];

    diary(folder.path(), r#""busybox", "hello""#, "set -eu\n");
    staithe.cli(&update).succeeds();
    enter("test -e /usr/bin/hello").fails_with(1);
    staithe.cli(&["diary:upgrade", "d1"]).succeeds().says("Restarting diary service `d1`");
    enter("cat /data/contents && test -e /usr/bin/hello").succeeds().says("own");
    staithe.cli(&["diary:upgrade", "d1"]).succeeds().says("has the newest packages already");

    diary(folder.path(), r#""busybox", "sl""#, "set -eu\n[ ! -e /usr/games/sl ] || exit 7\n");
    staithe.cli(&update).succeeds();
    let refused = staithe.cli(&["diary:upgrade", "d1"]).fails_with(1);
    refused.says("was not upgraded").says("it runs with the packages it had before");
    enter("cat /data/contents && test -e /usr/bin/hello").succeeds().says("own");
    assert_eq!(staithe.json(&["diary:info", "d1"])["status"], "running");
    staithe.cli(&["diary:upgrade", "none"]).fails_with(20);
}
