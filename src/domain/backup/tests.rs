//! Settings, retention and facts of backups.

use super::*;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn at(day: i64) -> Timestamp {
    Timestamp(1_790_000_000_000 + day * DAY_MS)
}

fn backup(day: i64, state: BackupState) -> Backup {
    Backup {
        id: BackupId::new(at(day), [0, 0, 0, 1]).unwrap(),
        kind: "postgres".parse().unwrap(),
        service: "shop".parse().unwrap(),
        place: BackupPlace::Local,
        created_at: at(day),
        finished_at: Some(at(day)),
        cause: BackupCause::Manual,
        actor: Actor::platform(),
        extension: "dump".into(),
        bytes: 1,
        sha256: String::new(),
        facts: "{}".into(),
        state,
    }
}

fn stored() -> BackupState {
    BackupState::Stored { unverified: None }
}

fn verified() -> BackupState {
    BackupState::Verified { at: at(0) }
}

fn bad() -> BackupState {
    BackupState::Bad { at: at(0), why: "it differs".into() }
}

fn failed() -> BackupState {
    BackupState::Failed { why: "no space".into() }
}

/// The days of the backups that go, newest first.
fn outdated(retention: Retention, backups: &[(i64, BackupState)], today: i64) -> Vec<i64> {
    let backups: Vec<Backup> = backups.iter().map(|(day, s)| backup(*day, s.clone())).collect();
    let gone = retention.outdated(&backups, at(today));
    gone.iter().map(|gone| (gone.created_at.0 - at(0).0) / DAY_MS).collect()
}

#[test]
fn names_sort_by_time_and_nothing_else_is_one() {
    let id = BackupId::new(Timestamp(1_795_530_729_010), [0, 0xab, 0x12, 0xcd]).unwrap();
    assert_eq!(id.as_str(), "20261124-143209-00ab12cd");
    assert!(BackupId::new(at(1), [255; 4]).unwrap() < BackupId::new(at(2), [0; 4]).unwrap());
    for bad in ["", "..", "20261124-143209", "20261124-143209-00AB12CD", "2026-1-00ab12cd", "a/b"] {
        assert!(bad.parse::<BackupId>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_newest_are_kept() {
    let week: Vec<_> = (0..7).map(|day| (day, verified())).collect();
    assert_eq!(outdated(Retention { count: 3, days: None }, &week, 7), [3, 2, 1, 0]);
    assert_eq!(outdated(Retention { count: 10, days: Some(2) }, &week, 7), [4, 3, 2, 1, 0]);
    assert_eq!(outdated(Retention { count: 10, days: None }, &week, 7), Vec::<i64>::new());
}

#[test]
fn the_last_verified_one_is_never_removed() {
    let backups = [(0, verified()), (1, verified()), (2, stored()), (3, stored()), (4, bad())];
    assert_eq!(outdated(Retention { count: 1, days: None }, &backups, 5), [2, 0]);
    // Old as it is, and whatever came after it.
    let backups = [(0, verified()), (1, bad()), (2, failed())];
    assert_eq!(outdated(Retention { count: 1, days: Some(1) }, &backups, 400), [1]);
    // None was ever verified: the newest that can be tried.
    let backups = [(0, stored()), (1, stored()), (2, bad())];
    assert_eq!(outdated(Retention { count: 1, days: Some(1) }, &backups, 400), [2, 0]);
}

#[test]
fn what_is_being_made_stays_and_failures_take_no_place() {
    let mut backups = vec![(0, verified()), (1, verified())];
    backups.extend((2..24).map(|day| (day, failed())));
    backups.push((30, BackupState::Running));
    assert_eq!(outdated(Retention { count: 2, days: None }, &backups, 31), [3, 2]);
}

#[test]
fn places_are_read_and_bounded() {
    for text in ["local", "s3://bucket", "s3://my-bucket/a/b"] {
        assert_eq!(text.parse::<BackupPlace>().unwrap().to_string(), text);
    }
    assert_eq!("s3://bucket/a/".parse::<BackupPlace>().unwrap().to_string(), "s3://bucket/a");
    for text in
        ["", "/srv", "s3://", "s3://ab", "s3://bu cket", "s3://bucket/../x", "s3://bucket/a/b/c"]
    {
        assert!(text.parse::<BackupPlace>().is_err(), "{text:?}");
    }
}

#[test]
fn settings_are_taken_by_name_and_secrets_are_not_repeated() {
    let mut settings = BackupSettings::default();
    settings.set("place", "s3://bucket").unwrap();
    settings.set("keep", "3").unwrap();
    settings.set("s3-endpoint", "http://127.0.0.1:9000").unwrap();
    settings.set("s3-secret-access-key", "hush").unwrap();
    assert_eq!(settings.retention(), Retention { count: 3, days: None });
    assert!(!format!("{settings:?}").contains("hush"));
    settings.set("keep", "").unwrap();
    assert_eq!(settings.retention().count, 14);
    let long = "secret".repeat(100);
    let error = settings.set("s3-secret-access-key", &long).unwrap_err().to_string();
    assert!(!error.contains("secret".repeat(2).as_str()), "{error}");
    for (key, value) in [
        ("keep", "0"),
        ("keep", "x"),
        ("keep-days", "99999"),
        ("s3-endpoint", "ftp://x"),
        ("s3-endpoint", "http://user:pw@host"),
        ("s3-endpoint", "http://host/path"),
        ("nonsense", "x"),
    ] {
        assert!(settings.set(key, value).is_err(), "{key}={value}");
    }
}

#[test]
fn credentials_stay_with_their_server() {
    let mut all = BackupSettings::default();
    all.set("s3-access-key-id", "id").unwrap();
    all.set("s3-secret-access-key", "hush").unwrap();
    all.set("keep", "5").unwrap();
    let mut own = BackupSettings::default();
    assert!(own.or(&all).s3_secret_access_key.is_some());
    own.set("s3-endpoint", "http://elsewhere").unwrap();
    let merged = own.or(&all);
    assert_eq!(merged.s3_secret_access_key, None);
    assert_eq!(merged.s3_access_key_id, None);
    assert_eq!(merged.keep, Some(5));
}
