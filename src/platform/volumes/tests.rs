//! Volumes on disk, on this machine.

use super::*;

/// A directory for an image and one for mount points; unmounted and removed at the end, also of a
/// test that fails.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::Builder::new().tempdir_in("/var/tmp").unwrap() }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn points(&self) -> PathBuf {
        self.directory.path().join("points")
    }

    fn point(&self) -> PathBuf {
        self.points().join("one")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = unmount_all(&self.points()) {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

fn loop_devices(image: &Path) -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim_end()) == image).count()
}

#[tokio::test]
async fn machine_an_image_is_mounted_once_and_leaves_nothing_behind() {
    let place = Place::new();
    File::create(place.image()).unwrap().set_len(MIN_VOLUME.0).unwrap();
    make_file_system(&place.image()).await.unwrap();
    mount_image(&place.image(), &place.points(), &place.point()).unwrap();
    mount_image(&place.image(), &place.points(), &place.point()).unwrap();
    assert!(is_mounted(&place.points(), &place.point()).unwrap());
    assert_eq!((mounts_at(&place.points()).unwrap(), mounts_at(&place.point()).unwrap()), (1, 1));
    hand_over(&place.point(), DirectoryMode::PRIVATE, true).unwrap();
    let facts = std::fs::metadata(place.point()).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (APP_USER, APP_USER, 0o700));
    assert_eq!(std::fs::read_dir(place.point()).unwrap().count(), 0);
    assert_eq!(loop_devices(&place.image()), 1);
    unmount_all(&place.points()).unwrap();
    assert!(!place.points().exists());
    assert!(is_free_soon(&place.image()).await.unwrap());
    assert_eq!(loop_devices(&place.image()), 0);
}

#[tokio::test]
async fn machine_an_image_that_is_still_attached_gets_no_second_file_system() {
    let place = Place::new();
    File::create(place.image()).unwrap().set_len(MIN_VOLUME.0).unwrap();
    make_file_system(&place.image()).await.unwrap();
    mount_image(&place.image(), &place.points(), &place.point()).unwrap();
    let held = File::open(place.point()).unwrap();
    mount::detach(&place.point()).unwrap();
    mount_image(&place.image(), &place.points(), &place.point()).unwrap();
    assert_eq!(loop_devices(&place.image()), 1);
    assert_eq!(held.metadata().unwrap().dev(), std::fs::metadata(place.point()).unwrap().dev());
    let busy = unmount(&place.points(), &place.point());
    drop(held);
    // The first mount is detached, so only the second could be busy, and it is not.
    busy.unwrap();
}

#[test]
fn sizes_have_bounds() {
    assert!(check_size(None).is_ok());
    assert!(check_size(Some(MIN_VOLUME)).is_ok());
    assert!(check_size(Some(Bytes(1))).unwrap_err().to_string().contains("16m"));
    assert!(check_size(Some(Bytes(u64::MAX))).is_err());
}

#[test]
fn mount_points_are_unescaped() {
    assert_eq!(unescaped("/a\\040b\\134c"), "/a b\\c");
}

#[tokio::test]
async fn a_failing_tool_is_told_with_its_complaint() {
    let missing = Path::new("/nonexistent/image");
    let error = make_file_system(missing).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("mkfs.ext4"), "{text}");
}
