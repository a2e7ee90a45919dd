//! A stack made out of Debian packages, as an image: bootstrapped, stored, taken elsewhere.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use staithe::build::stack::{self, BootstrapOptions, StackRecipe, Variant};
use staithe::image::{Config, Digest, ImageConfig, ImageSpec, ImageStore, Layer, TarOptions};

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

async fn bootstrap_run_image(directory: &Path, round: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string("buildpacks/stacks/debian-13.toml").unwrap();
    let recipe = StackRecipe::parse(&text).unwrap();
    let options = BootstrapOptions {
        mirror: None,
        security_mirror: None,
        ca_bundle: None,
        cache_dir: directory.join("cache"),
        work_dir: directory.join("work"),
        deadline: Duration::from_secs(900),
    };
    let tar = directory.join(round);
    let mut log = Vec::new();
    let result =
        stack::bootstrap(&recipe, Variant::Run, &tar, &options, |line| log.push(line.to_owned()))
            .await;
    let bootstrapped = result.unwrap_or_else(|error| panic!("{error}\n{}", log.join("\n")));
    assert!(bootstrapped.packages.iter().any(|(name, _)| name == "libc6"));
    // Slim: tens of megabytes. Whoever adds a package sees what it costs.
    assert!(bootstrapped.tar_bytes < 100 << 20, "{} bytes", bootstrapped.tar_bytes);
    tar
}

fn add(store: &ImageStore, tar: &Path) -> (Layer, Digest) {
    let lease = store.lease();
    let tar = File::open(tar).unwrap();
    let layer = store.add_layer_from_tar(&lease, tar, TarOptions::default()).unwrap();
    let spec = ImageSpec {
        config: ImageConfig { cmd: vec!["/bin/bash".into()], ..ImageConfig::default() },
        layers: vec![layer.digest],
        history: vec!["debian-13 run".into()],
    };
    let image = store.write_image(&lease, &spec).unwrap();
    store.tag("stack/debian-13:run", &image).unwrap();
    (layer, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_a_stack_is_reproducible_and_its_image_is_valid() {
    if !is_installed("mmdebstrap") {
        return crate::support::skip("mmdebstrap is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let first = bootstrap_run_image(directory.path(), "first.tar").await;
    let second = bootstrap_run_image(directory.path(), "second.tar").await;
    let store = ImageStore::open(&directory.path().join("store"), Config::default()).unwrap();
    let (layer, image) = add(&store, &first);
    let (again, same_image) = add(&store, &second);
    assert_eq!((layer.digest, image), (again.digest, same_image));
    assert!(again.existed);

    let root = store.layer_path(&layer.digest);
    let app = std::fs::metadata(root.join("app")).unwrap();
    assert_eq!((app.uid(), app.gid()), (1000, 1000));
    let output = Command::new("chroot").arg(&root).args(["id", "app"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "uid=1000(app) gid=1000(app) groups=1000(app)\n"
    );
    let archive = directory.path().join("image.tar");
    let file = File::create(&archive).unwrap();
    store.export_oci_archive(&image, "debian-13", std::io::BufWriter::new(file)).unwrap();
    check_with_skopeo(&archive, &image, directory.path(), &store);
}

/// Another implementation reads the archive, and what it writes can be read again.
fn check_with_skopeo(archive: &Path, image: &Digest, directory: &Path, store: &ImageStore) {
    if !is_installed("skopeo") {
        return crate::support::skip("skopeo is not installed");
    }
    let source = format!("oci-archive:{}:debian-13", archive.display());
    let output = Command::new("skopeo").args(["inspect", &source]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&image.to_string()));
    let compressed = directory.join("compressed.tar");
    let target = format!("oci-archive:{}:x", compressed.display());
    let copy = ["copy", "--quiet", "--dest-compress", &source, &target];
    let output = Command::new("skopeo").args(copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lease = store.lease();
    let imported = store.import_oci_archive(&lease, File::open(&compressed).unwrap()).unwrap();
    assert_ne!(imported.source_digest, *image);
    assert_eq!(store.image(&imported.digest).unwrap().layers, store.image(image).unwrap().layers);
}
