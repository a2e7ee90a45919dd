//! What a collection removes and, above all, what it does not.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn collect(fixture: &Fixture, images: &[Digest], layers: &[Digest]) -> GcReport {
    let roots = Roots { images: images.to_vec(), layers: layers.to_vec() };
    fixture.store.gc(|| Ok::<_, Infallible>(roots)).unwrap()
}

#[test]
fn machine_references_roots_and_leases_are_kept() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let shared = fixture.layer(&lease, "a", "shared").digest;
    let tagged = fixture.image(&lease, &[shared, fixture.layer(&lease, "a", "1").digest]);
    fixture.store.tag("kept", &tagged).unwrap();
    let rooted = fixture.image(&lease, &[shared, fixture.layer(&lease, "a", "2").digest]);
    let cached = fixture.layer(&lease, "a", "cached").digest;
    let garbage_layer = fixture.layer(&lease, "a", "3");
    let garbage = fixture.image(&lease, &[shared, garbage_layer.digest]);
    drop(lease);
    let lease = fixture.store.lease();
    let fresh = fixture.layer(&lease, "a", "fresh").digest;

    let report = collect(&fixture, &[rooted], &[cached]);
    assert_eq!((report.layers_removed, report.blobs_removed), (1, 2));
    assert!(report.bytes > garbage_layer.tar_bytes);
    assert!(fixture.store.image(&garbage).is_err());
    assert!(!fixture.store.has_layer(&garbage_layer.digest));
    assert!(!fixture.store.layer_path(&garbage_layer.digest).exists());
    for image in [tagged, rooted] {
        for path in fixture.store.image_layer_paths(&image).unwrap() {
            assert!(path.join("a").exists());
        }
    }
    assert!(fixture.store.has_layer(&cached) && fixture.store.has_layer(&fresh));
    assert_eq!(collect(&fixture, &[rooted], &[cached]), GcReport::default());

    drop(lease);
    fixture.store.untag("kept").unwrap();
    let report = collect(&fixture, &[], &[]);
    assert_eq!((report.layers_removed, report.blobs_removed), (5, 4));
    assert!(fixture.names("layers/sha256").is_empty());
    assert!(fixture.names("blobs/sha256").is_empty() && fixture.names("trash").is_empty());
}

#[test]
fn machine_a_held_image_keeps_its_layers() {
    let fixture = Fixture::new();
    let lease = fixture.store.lease();
    let image = fixture.image(&lease, &[fixture.layer(&lease, "a", "1").digest]);
    let holder = fixture.store.lease();
    holder.hold(&image).unwrap();
    drop(lease);
    assert_eq!(collect(&fixture, &[], &[]), GcReport::default());
    drop(holder);
    assert_eq!(collect(&fixture, &[], &[]).layers_removed, 1);
    assert!(fixture.store.lease().hold(&image).is_err());
}

#[test]
fn machine_a_missing_image_stops_the_collection() {
    let fixture = Fixture::new();
    let layer = fixture.layer(&fixture.store.lease(), "a", "1").digest;
    let missing = Digest::of(b"missing");
    let roots = Roots { images: vec![missing], ..Roots::default() };
    let error = fixture.store.gc(|| Ok::<_, Infallible>(roots)).unwrap_err();
    assert!(matches!(error, Error::UnknownImage { .. }));
    let failing = || Err(std::io::Error::other("database is locked"));
    let error = fixture.store.gc(failing).unwrap_err();
    assert_eq!(
        crate::support::report(&error),
        "list the images that must be kept: database is locked"
    );
    assert!(fixture.store.has_layer(&layer));
    // A cache record may name a layer that a crash took.
    assert_eq!(collect(&fixture, &[], &[missing]).layers_removed, 1);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn machine_collections_do_not_race_with_pushes() {
    let fixture = Fixture::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                collect(&fixture, &[], &[]);
                std::thread::yield_now();
            }
        });
        // Also when an assertion fails, or the other thread would never end.
        let _done = SetOnDrop(&done);
        for round in 0..40 {
            let lease = fixture.store.lease();
            // Every other push finds the layer of the one before, perhaps just collected.
            let layer = fixture.layer(&lease, "a", &format!("{}", round / 2));
            let image = fixture.image(&lease, &[layer.digest]);
            let paths = fixture.store.image_layer_paths(&image).unwrap();
            assert!(paths[0].join("a").exists(), "round {round}");
        }
    });
    collect(&fixture, &[], &[]);
    assert!(fixture.names("layers/sha256").is_empty());
}
