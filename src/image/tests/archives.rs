//! Images that leave one store and arrive in another.

use std::io::Write;

use super::*;

fn exported(fixture: &Fixture) -> (Digest, Vec<u8>) {
    let lease = fixture.store.lease();
    let directory = fixture.directory("new");
    fill_with_everything(&directory);
    let bottom =
        fixture.store.add_layer_from_dir(&lease, &directory, DirOptions::default()).unwrap();
    let top = fixture.layer(&lease, "app", "1");
    let mut spec = ImageSpec { layers: vec![bottom.digest, top.digest], ..ImageSpec::default() };
    spec.config.labels.insert("k".into(), "v".into());
    let image = fixture.store.write_image(&lease, &spec).unwrap();
    let mut archive = Vec::new();
    fixture.store.export_oci_archive(&image, "shop:v7", &mut archive).unwrap();
    (image, archive)
}

fn import(fixture: &Fixture, archive: &[u8]) -> Result<Imported> {
    fixture.store.import_oci_archive(&fixture.store.lease(), archive)
}

#[test]
fn machine_an_image_keeps_its_digest_on_a_journey() {
    let (here, there) = (Fixture::new(), Fixture::new());
    let (digest, archive) = exported(&here);
    let imported = import(&there, &archive).unwrap();
    assert_eq!(
        imported,
        Imported { digest, source_digest: digest, name: Some("shop:v7".to_owned()) }
    );
    assert_eq!(there.store.image(&digest).unwrap(), here.store.image(&digest).unwrap());
    // Also where the layers exist already.
    assert_eq!(import(&there, &archive).unwrap().digest, digest);
    let mut again = Vec::new();
    there.store.export_oci_archive(&digest, "shop:v7", &mut again).unwrap();
    assert!(again == archive, "the two archives differ");
    assert!(there.names("tmp").is_empty());
}

/// An archive as `skopeo copy` and `docker save` make them: compressed, in their own order.
fn foreign_archive(layer_tar: &[u8], diff_id: Digest) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(layer_tar).unwrap();
    let layer = gzip.finish().unwrap();
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
    }))
    .unwrap();
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": Digest::of(&config).to_string(), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": Digest::of(&layer).to_string(), "size": layer.len()}],
    }))
    .unwrap();
    let index = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": Digest::of(&manifest).to_string(), "size": manifest.len()}],
    }))
    .unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    for blob in [&layer, &config, &manifest] {
        append(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    append("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    append("index.json", &index);
    builder.into_inner().unwrap()
}

fn foreign_layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    builder.append_data(&mut header, "z", &b"zz"[..]).unwrap();
    builder.append_data(&mut header, "a", &b"aa"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn machine_a_foreign_image_gets_a_digest_of_its_own() {
    let fixture = Fixture::new();
    let layer = foreign_layer();
    let imported = import(&fixture, &foreign_archive(&layer, Digest::of(&layer))).unwrap();
    assert_ne!(imported.digest, imported.source_digest);
    assert_eq!(imported.name, None);
    let image = fixture.store.image(&imported.digest).unwrap();
    assert_eq!(image.config.cmd, ["/bin/sh"]);
    assert_eq!(names(&fixture.store.layer_path(&image.layers[0])), ["a", "z"]);
    // From here on it is one of ours.
    let mut archive = Vec::new();
    fixture.store.export_oci_archive(&imported.digest, "x", &mut archive).unwrap();
    assert_eq!(import(&Fixture::new(), &archive).unwrap().digest, imported.digest);
}

#[test]
fn machine_a_layer_that_is_not_what_it_says_is_refused() {
    let fixture = Fixture::new();
    let error = import(&fixture, &foreign_archive(&foreign_layer(), Digest::of(b"x"))).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "layer", .. }), "{error:?}");
    // Knowing the digest of a layer in the store does not give access to it.
    let lease = fixture.store.lease();
    let secret = fixture.layer(&lease, "secret", "of another app").digest;
    let error = import(&fixture, &foreign_archive(&foreign_layer(), secret)).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "layer", .. }), "{error:?}");
}

#[test]
fn machine_damage_on_the_way_is_noticed() {
    let fixture = Fixture::new();
    let (_, archive) = exported(&fixture);
    let there = Fixture::new();
    let find =
        |text: &str| archive.windows(text.len()).position(|at| at == text.as_bytes()).unwrap();
    for at in [0, find("layer.v1.tar"), find("diff_ids"), find("long name"), find("usr/.wh.gone")] {
        let mut damaged = archive.clone();
        damaged[at] ^= 1;
        assert!(import(&there, &damaged).is_err(), "byte {at}");
    }
    for length in [0, 511, 3000, archive.len() / 2] {
        assert!(import(&there, &archive[..length]).is_err(), "length {length}");
    }
    let small = Fixture::with(Config { max_import_bytes: 4096, ..Config::default() });
    assert!(matches!(import(&small, &archive), Err(Error::TooLarge { .. })));
    assert!(there.names("tmp").is_empty() && small.names("tmp").is_empty());
}

#[test]
fn machine_a_changed_snapshot_is_not_exported() {
    let fixture = Fixture::new();
    let (digest, _) = exported(&fixture);
    let paths = fixture.store.image_layer_paths(&digest).unwrap();
    write(&paths[1].join("app"), "2");
    let error = fixture.store.export_oci_archive(&digest, "x", std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "snapshot", .. }), "{error:?}");
}
