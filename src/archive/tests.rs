//! Local places; those in a bucket are tested against a real server in `tests/it/archive.rs`.

use super::*;

fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn local() -> (tempfile::TempDir, Archive) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::Local(directory.path().join("backups"));
    let archive = Archive::open(&place, tls()).unwrap();
    (directory, archive)
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_was_written_is_listed_and_read_again() {
    let (_directory, archive) = local();
    let contents = Bytes::from(vec![7; 600_000]);
    let mut writer = archive.create(&key("a/b/dump"), 1 << 20).await.unwrap();
    for piece in contents.chunks(70_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert_eq!(archive.list(&key("a")).await.unwrap(), [], "it has no name before its end");
    let stored = writer.finish().await.unwrap();
    let mut sum = Sum::default();
    sum.update(&contents);
    assert_eq!(stored, sum.finish());
    let listed = archive.list(&key("a")).await.unwrap();
    assert_eq!(listed, [Entry { key: key("a/b/dump"), bytes: 600_000 }]);
    assert_eq!(archive.get(&key("a/b/dump"), 600_000).await.unwrap(), contents);
    let error = archive.get(&key("a/b/dump"), 599_999).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 599_999, .. }), "{error}");
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let (directory, archive) = local();
    let mut writer = archive.create(&key("a/dump"), 10).await.unwrap();
    writer.write(Bytes::from_static(b"12345")).await.unwrap();
    let error = writer.write(Bytes::from_static(b"678901")).await.unwrap_err();
    assert_eq!(error.to_string(), "it has more than the 10 bytes that are allowed");
    writer.abort().await;
    let left = std::fs::read_dir(directory.path().join("backups/a")).unwrap().count();
    assert_eq!(left, 0);
    let error = archive.open_file(&key("a/dump")).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[tokio::test]
async fn the_last_file_takes_its_directories_along() {
    let (directory, archive) = local();
    for name in ["a/b/dump", "a/b/manifest.json"] {
        archive.put(&key(name), Bytes::from_static(b"x")).await.unwrap();
    }
    let half = directory.path().join("backups/a/b/.dump.1.0.part");
    crate::support::atomic_file::write(&half, b"half", 0o600).unwrap();
    archive.delete(&key("a/b/dump")).await.unwrap();
    assert!(half.exists(), "another upload may be writing it");
    archive.delete(&key("a/b/manifest.json")).await.unwrap();
    archive.delete(&key("a/b/manifest.json")).await.unwrap();
    assert!(!directory.path().join("backups/a").exists());
    assert!(directory.path().join("backups").exists());
}

#[tokio::test]
async fn only_root_reads_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, archive) = local();
    archive.put(&key("a/dump"), Bytes::from_static(b"x")).await.unwrap();
    for (path, mode) in [("backups", 0o700), ("backups/a", 0o700), ("backups/a/dump", 0o600)] {
        let found = std::fs::metadata(directory.path().join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn a_full_device_is_named_as_such() {
    // Every write to /dev/full ends with ENOSPC.
    let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_directory, archive) = local();
    let mut writer = archive.create(&key("a/dump"), u64::MAX).await.unwrap();
    let Upload::Local(upload) = &mut writer.upload else { panic!("a local place") };
    upload.replace_file(file);
    writer.write(Bytes::from(vec![0; 1 << 20])).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.hint().unwrap().contains("make room"));
}

#[tokio::test]
async fn links_are_not_followed() {
    let (directory, archive) = local();
    archive.put(&key("a/dump"), Bytes::from_static(b"x")).await.unwrap();
    std::os::unix::fs::symlink("/etc", directory.path().join("backups/a/etc")).unwrap();
    let listed = archive.list(&key("a")).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

#[test]
fn settings_show_no_secret() {
    let bucket = Bucket {
        endpoint: Some("http://127.0.0.1:9".into()),
        region: "us-east-1".into(),
        bucket: "b".into(),
        prefix: None,
        access_key_id: "id".into(),
        secret_access_key: crate::domain::Secret::new("hush"),
    };
    let archive = Archive::open(&Place::Bucket(bucket.clone()), tls()).unwrap();
    assert_eq!(archive.location(), "s3://b");
    let shown = format!("{bucket:?} {archive:?}");
    assert!(!shown.contains("hush"), "{shown}");
}
