//! Databases whose disk is full, and names that would be one host's.

use std::time::Duration;

use crate::support::staithe::Finished;
use crate::support::{Staithe, eventually};

const SOON: Duration = Duration::from_secs(120);

fn sql(staithe: &Staithe, command: &str) -> Finished {
    let arguments =
        ["postgres:connect", "--no-tty", "small", "--", "--no-psqlrc", "-qAt", "-c", command];
    staithe.cli(&arguments)
}

/// Adds rows of a MiB each, acknowledged one by one, until one is refused; answers
/// how many were acknowledged, and the refusal.
fn fill(staithe: &Staithe, first: u32) -> (u32, Finished) {
    // More than twice what the disk has.
    for number in first..first + 400 {
        // The column is not compressed, and so a row is as long as it looks.
        let insert = format!(
            "insert into rows select {number}, string_agg(md5({number} || '-' || n), '')
             from generate_series(1, 32768) n"
        );
        let added = sql(staithe, &insert);
        if added.code != Some(0) {
            return (number, added);
        }
    }
    panic!("the disk is never full");
}

/// Every row up to that number, whole.
fn are_there(staithe: &Staithe, count: u32) {
    let whole = sql(
        staithe,
        &format!(
            "select count(distinct n) from rows where n < {count} and length(s) = 1048576
             and left(s, 32) = md5(n || '-1')"
        ),
    );
    assert_eq!(whole.succeeds().stdout.trim(), count.to_string());
}

/// Waits for it to take clients, as it does after each crash.
fn serves(staithe: &Staithe) {
    eventually(SOON, "PostgreSQL answers", || {
        let answer = sql(staithe, "select 1");
        if answer.code == Some(0) { Ok(()) } else { Err(answer.stderr) }
    });
}

#[test]
fn a_full_disk_loses_no_row_is_told_and_is_mended_by_more_room() {
    let staithe = Staithe::start_with_services(&["postgres"]);
    staithe.cli(&["postgres:create", "small", "--size", "192m"]).succeeds();
    assert_eq!(staithe.json(&["postgres:info", "small"])["disk_full"], false);
    sql(&staithe, "create table rows (n int primary key, s text)").succeeds();
    sql(&staithe, "alter table rows alter s set storage external").succeeds();
    let (count, refused) = fill(&staithe, 0);
    assert!(count > 20, "only {count} rows: {}", refused.stderr);
    eprintln!("{count} rows; then: {}", refused.stderr);
    let logs = staithe.cli(&["postgres:logs", "small"]).succeeds();
    logs.says("No space left on device");
    let report = staithe.json(&["postgres:info", "small"]);
    assert_eq!(report["disk_full"], true, "{report}");
    assert_eq!(report["disk_limit"], "192m");
    let told = staithe.cli(&["postgres:info", "small"]).succeeds();
    told.says("of 192m: full; run `staithe postgres:set small size <more>`");

    // Nothing else is harmed by a restart; whether it serves then depends on where it was cut off.
    let restarted = staithe.cli(&["postgres:restart", "small"]);
    if restarted.code == Some(0) {
        are_there(&staithe, count);
    } else {
        restarted.says("its disk is full");
    }
    // Not every machine lets a file system grow that is in use.
    staithe.cli(&["postgres:stop", "small"]).succeeds();
    staithe.cli(&["postgres:set", "small", "size", "64m"]).fails_with(4).says("made smaller");
    eventually(SOON, "the disk grows", || {
        let resized = staithe.cli(&["postgres:set", "small", "size", "320m"]);
        if resized.code == Some(0) { Ok(()) } else { Err(resized.stderr) }
    });
    staithe.cli(&["postgres:start", "small"]).succeeds();
    serves(&staithe);
    are_there(&staithe, count);
    let report = staithe.json(&["postgres:info", "small"]);
    assert_eq!((&report["disk_full"], &report["disk_limit"]), (&false.into(), &"320m".into()));
    sql(&staithe, "insert into rows values (-1, 'after')").succeeds();
}

#[test]
fn names_that_would_be_one_host_are_refused() {
    let staithe = Staithe::start_with_services(&["memcached"]);
    staithe.cli(&["memcached:create", "a_b"]).succeeds();
    staithe.cli(&["memcached:create", "Shop"]).succeeds();
    for (second, first) in [("a-b", "a_b"), ("A_B", "a_b"), ("shop", "Shop")] {
        let refused = staithe.cli(&["memcached:create", second]).fails_with(4);
        refused
            .says(&format!("memcached service `{second}` would have the host name of"))
            .says(&format!("memcached service `{first}`"))
            .says("choose another name");
    }
    staithe.cli(&["memcached:create", "Shop"]).fails_with(4).says("already exists");
    assert_eq!(staithe.json(&["memcached:list"]).as_array().unwrap().len(), 2);
    // Two that are made at once: one of them is.
    let mut made: Vec<_> = ["c-d", "c_d"]
        .map(|name| staithe.cli_command(&["memcached:create", name]).spawn().unwrap())
        .into();
    let codes: Vec<_> = made.iter_mut().map(|child| child.wait().unwrap().success()).collect();
    assert_eq!(codes.iter().filter(|good| **good).count(), 1, "{codes:?}");
    // A name is free again with its service.
    staithe.cli(&["memcached:destroy", "a_b", "--force"]).succeeds();
    staithe.cli(&["memcached:create", "a-b"]).succeeds();
}
