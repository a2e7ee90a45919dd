//! Images and their names.

use super::*;

fn spec(layers: &[Digest]) -> ImageSpec {
    ImageSpec {
        config: ImageConfig {
            env: vec![("PATH".into(), "/usr/bin".into()), ("A".into(), "b=c".into())],
            entrypoint: vec!["/cnb/process/web".into()],
            cmd: vec!["x".into()],
            working_dir: "/app".into(),
            user: "1000:1000".into(),
            labels: [("b".into(), "2".into()), ("a".into(), "1".into())].into(),
            exposed_ports: vec!["8080/tcp".into()],
            stop_signal: "SIGINT".into(),
        },
        layers: layers.to_vec(),
        history: vec!["run stack".into()],
    }
}

#[test]
fn machine_an_image_reads_as_it_was_written_and_has_one_digest() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let bottom = fixture.layer(&lease, "a", "1");
    let top = fixture.layer(&lease, "b", "2");
    let layers = [bottom.digest, top.digest];
    let digest = fixture.store.write_image(&lease, &spec(&layers)).unwrap();
    assert_eq!(fixture.store.write_image(&lease, &spec(&layers)).unwrap(), digest);
    let image = fixture.store.image(&digest).unwrap();
    assert_eq!(image.config, spec(&layers).config);
    assert_eq!(image.layers, layers);
    assert_eq!(image.tar_bytes, bottom.tar_bytes + top.tar_bytes);
    let paths = fixture.store.image_layer_paths(&digest).unwrap();
    assert_eq!(names(&paths[0]), ["a"]);
    assert_eq!(names(&paths[1]), ["b"]);
    let reversed = [top.digest, bottom.digest];
    assert_ne!(fixture.store.write_image(&lease, &spec(&reversed)).unwrap(), digest);
}

#[test]
fn machine_an_image_of_unknown_layers_is_refused() {
    let fixture = Fixture::new();
    let missing = Digest::of(b"missing");
    let error = fixture.store.write_image(&fixture.store.lease(), &spec(&[missing])).unwrap_err();
    assert!(matches!(error, Error::UnknownLayer { digest } if digest == missing));
    let error = fixture.store.image(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("image {missing} is not in the image store"));
}

#[test]
fn machine_a_damaged_blob_is_noticed() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let layer = fixture.layer(&lease, "a", "1");
    let digest = fixture.image(&lease, &[layer.digest]);
    write(&fixture.store.blob_path(&digest), "{}");
    assert!(matches!(fixture.store.image(&digest), Err(Error::Mismatch { .. })));
    assert_eq!(fixture.image(&lease, &[layer.digest]), digest);
    fixture.store.image(&digest).unwrap();
}

#[test]
fn machine_names_survive_a_restart_and_move() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let one = fixture.image(&lease, &[fixture.layer(&lease, "a", "1").digest]);
    let two = fixture.image(&lease, &[fixture.layer(&lease, "a", "2").digest]);
    fixture.store.tag("stack/debian-13:run", &one).unwrap();
    fixture.store.tag("other", &one).unwrap();
    fixture.store.tag("stack/debian-13:run", &two).unwrap();
    fixture.store.untag("other").unwrap();
    drop(lease);
    let fixture = fixture.reopen();
    assert_eq!(fixture.store.list(), [("stack/debian-13:run".to_owned(), two)]);
    assert_eq!(fixture.store.resolve("stack/debian-13:run").unwrap(), two);
    assert_eq!(fixture.store.image(&one).unwrap().digest, one);
    let error = fixture.store.resolve("other").unwrap_err();
    assert_eq!(error.to_string(), "no image is named `other`");
    assert!(fixture.store.untag("other").is_err());
    let missing = Digest::of(b"missing");
    assert!(matches!(fixture.store.tag("x", &missing), Err(Error::UnknownImage { .. })));
}

#[test]
fn machine_a_layer_counts_after_a_restart_only_if_it_was_synced() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let cached = fixture.layer(&lease, "a", "cached").digest;
    fixture.store.sync().unwrap();
    let lost = fixture.layer(&lease, "a", "lost").digest;
    assert!(fixture.store.has_layer(&lost));
    drop(lease);
    let fixture = fixture.reopen();
    assert!(fixture.store.has_layer(&cached));
    assert!(!fixture.store.has_layer(&lost));
    assert!(!fixture.store.layer_path(&lost).exists());
    let lease = fixture.store.lease();
    assert!(!fixture.layer(&lease, "a", "lost").existed);
}

#[test]
fn machine_opening_removes_what_a_crash_left() {
    let fixture = Fixture::new();
    let store = fixture.directory.path().join("store");
    fs::create_dir_all(store.join("tmp/1.1/deep")).unwrap();
    fs::create_dir_all(store.join("trash/2.2/deep")).unwrap();
    let record = format!("layers/sha256/{}.json", Digest::of(b"x").hex());
    write(&store.join(&record), "{}");
    let fixture = fixture.reopen();
    for below in ["tmp", "trash", "layers/sha256"] {
        assert!(fixture.names(below).is_empty(), "{below}");
    }
}

#[test]
fn machine_one_process_at_a_time_has_the_store() {
    let fixture = Fixture::new();
    let path = fixture.directory.path().join("store");
    let error = ImageStore::open(&path, Config::default()).unwrap_err();
    assert!(error.to_string().ends_with("is in use by another process"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
}
