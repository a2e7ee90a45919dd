//! Volumes on disk: made, mounted, grown, removed.
//!
//! ```text
//!  without a size   <data>/volumes/<id>/data              a directory
//!  with a size      <data>/volumes/<id>/image ─ loop ─ ext4 ─► <run>/volumes/<id>
//! ```
//!
//! Owners on disk are the ids inside of containers, not the host's: every container sees them
//! through its own id map (`Mount::BindIdmapped`), so a volume fits whichever container has it. The
//! directories above are root's alone, since to the host its files belong to whoever has those
//! numbers there.
//!
//! `<run>/volumes` is a shared mount: monitors of containers hold copies of all mounts, and an
//! unmount reaches those too.
//!
//! **Invariant.** The record in the store is written last and removed last: what is listed is whole
//! or can be removed again. An image is never attached to two loop devices: two file systems that
//! do not know of each other would write to it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::launch::APP_USER;
use super::pipeline::blocking;
use super::{Error, Kind, Platform, Result, clock};
use crate::container::Mount;
use crate::domain::{
    Bytes, DirectoryMode, HostDir, MAX_VOLUME, MIN_VOLUME, MountSource, Volume, VolumeId,
    VolumeMount, VolumeName,
};
use crate::support::report;
use crate::sys::{fs, loop_device, mount};

/// A file system of a terabyte is made and grown within seconds, since its tables are left empty.
const TOOL: Duration = Duration::from_secs(120);
/// How often another process may take a loop device between our question and our claim.
const LOOP_ATTEMPTS: u32 = 16;
/// The kernel detaches a loop device a moment after its last use.
const DETACH: Duration = Duration::from_secs(2);
const DETACH_POLL: Duration = Duration::from_millis(20);
/// How much a tool's complaint tells.
const COMPLAINT: usize = 400;

/// A volume to be.
#[derive(Debug)]
pub(super) struct NewVolume {
    pub(super) name: VolumeName,
    pub(super) size: Option<Bytes>,
    pub(super) mode: DirectoryMode,
    pub(super) host_dir: Option<HostDir>,
}

impl Platform {
    /// Makes a volume.
    ///
    /// # Errors
    /// `Conflict` if the name is taken, `Invalid` for a size that cannot be.
    pub(super) async fn make_volume(&self, new: NewVolume) -> Result<Volume> {
        check_size(new.size)?;
        if self.store.volume(&new.name)?.is_some() {
            return Err(Error::new(
                Kind::Conflict,
                format!("volume `{}` exists already", new.name),
            ));
        }
        let volume = Volume {
            id: random_id()?,
            name: new.name,
            size: new.size,
            mode: new.mode,
            host_dir: new.host_dir,
            created_at: clock::now(),
        };
        let made = self.fill_volume(&volume).await;
        let kept = match made {
            Ok(()) => self.store.add_volume(&volume).map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            self.remove_volume_files(&volume).await?;
            return Err(error);
        }
        Ok(volume)
    }

    async fn fill_volume(&self, volume: &Volume) -> Result<()> {
        if volume.host_dir.is_some() {
            return Ok(());
        }
        let (directory, owned) = (self.volume_dir(&volume.id), volume.clone());
        blocking(move || prepare(&directory, &owned)).await?.map_err(|source| {
            Error::internal(format!("cannot make volume `{}`", volume.name), source)
        })?;
        if volume.size.is_some() {
            make_file_system(&self.image(&volume.id)).await?;
        }
        let root = self.ensure_mounted(volume).await?;
        let (mode, sized) = (volume.mode, volume.size.is_some());
        blocking(move || hand_over(&root, mode, sized)).await?.map_err(|source| {
            Error::internal(format!("cannot prepare volume `{}`", volume.name), source)
        })
    }

    /// Removes a volume with all that is in it; nothing may have it mounted. Directories of the
    /// host's stay.
    ///
    /// # Errors
    /// `Conflict` while a process uses it.
    pub(super) async fn remove_volume(&self, volume: &Volume) -> Result<()> {
        self.remove_volume_files(volume).await?;
        self.store.remove_volume(&volume.id)?;
        Ok(())
    }

    async fn remove_volume_files(&self, volume: &Volume) -> Result<()> {
        if volume.host_dir.is_some() {
            return Ok(());
        }
        self.unmount_volume(volume).await?;
        self.discard_tree(self.volume_dir(&volume.id)).await;
        Ok(())
    }

    /// The directory that containers mount; mounted by now if it has a file system of its own.
    ///
    /// # Errors
    /// `Conflict` if a directory of the host's is not allowed or not there; `Internal`.
    pub(super) async fn ensure_mounted(&self, volume: &Volume) -> Result<PathBuf> {
        if let Some(directory) = &volume.host_dir {
            return self.allowed_host_dir(directory);
        }
        if volume.size.is_none() {
            let directory = self.volume_dir(&volume.id).join("data");
            return match directory.is_dir() {
                true => Ok(directory),
                false => Err(lost(volume, &directory)),
            };
        }
        let (image, point) = (self.image(&volume.id), self.mount_point(&volume.id));
        if !image.is_file() {
            return Err(lost(volume, &image));
        }
        // Two containers that start at once mount it once.
        let _guard = self.0.volumes.lock().await;
        let parent = self.mount_points();
        let path = point.clone();
        blocking(move || mount_image(&image, &parent, &path)).await?.map_err(|source| {
            Error::internal(format!("cannot mount volume `{}`", volume.name), source)
        })?;
        Ok(point)
    }

    /// A mount of `volume` at `target` for a container's spec.
    ///
    /// # Errors
    /// As [`Platform::ensure_mounted`].
    pub(super) async fn volume_mount(
        &self,
        volume: &Volume,
        target: impl Into<PathBuf>,
        read_only: bool,
    ) -> Result<Mount> {
        let source = self.ensure_mounted(volume).await?;
        Ok(Mount::BindIdmapped { source, target: target.into(), read_only })
    }

    /// An app's mount for a container's spec.
    pub(super) async fn app_mount(&self, wanted: &VolumeMount) -> Result<Mount> {
        let target = wanted.container_dir.as_path();
        match &wanted.source {
            MountSource::Volume(name) => {
                let volume = self.find_volume(name)?;
                self.volume_mount(&volume, target, wanted.read_only).await
            }
            MountSource::HostDir(directory) => Ok(Mount::BindIdmapped {
                source: self.allowed_host_dir(directory)?,
                target: target.into(),
                read_only: wanted.read_only,
            }),
        }
    }

    /// The volume of that name.
    pub(super) fn find_volume(&self, name: &VolumeName) -> Result<Volume> {
        self.store.volume(name)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("volume `{name}` does not exist")).hint(
                "run `staithe storage:list-entries` to see them, or `staithe storage:create` to make one",
            )
        })
    }

    /// Where a directory of the host's really is, if the operator allows it there.
    ///
    /// # Errors
    /// `Denied` outside of the allowed ones, `Conflict` if it is not there.
    pub(super) fn allowed_host_dir(&self, wanted: &HostDir) -> Result<PathBuf> {
        let missing = |source: io::Error| {
            Error::new(Kind::Conflict, format!("the host has no directory `{wanted}`"))
                .hint("make it first")
                .because(source)
        };
        // Links are followed first: it is the real place that must be allowed.
        let real = wanted.as_path().canonicalize().map_err(missing)?;
        let allowed =
            self.settings().storage_host_dirs.iter().any(|allowed| {
                allowed.canonicalize().is_ok_and(|allowed| real.starts_with(allowed))
            });
        if !allowed {
            let message = format!("directory `{wanted}` of the host may not be mounted");
            return Err(Error::new(Kind::Denied, message).hint(
                "use a volume (`staithe storage:create`), or have the operator add it to `platform.storage_host_dirs`",
            ));
        }
        match real.is_dir() {
            true => Ok(real),
            false => Err(missing(io::ErrorKind::NotADirectory.into())),
        }
    }

    /// Gives a sized volume more room; while containers use it, if the kernel lets us.
    ///
    /// # Errors
    /// `Invalid` for a smaller size or a volume without one, `Conflict` if it must not be in use.
    pub(super) async fn grow_volume(&self, volume: &Volume, size: Bytes) -> Result<Volume> {
        check_size(Some(size))?;
        let Some(old) = volume.size else {
            let message = format!("volume `{}` has no size to change", volume.name);
            return Err(Error::new(Kind::Invalid, message)
                .hint("it may use what the disk has; make one with `--size` and move the data"));
        };
        if size < old {
            let message = format!("volume `{}` has {old} and cannot be made smaller", volume.name);
            return Err(
                Error::new(Kind::Invalid, message).hint("make a smaller one and move the data")
            );
        }
        self.ensure_mounted(volume).await?;
        let (image, longer) = (self.image(&volume.id), self.image(&volume.id));
        let device = blocking(move || lengthen(&longer, size)).await?.map_err(|source| {
            Error::internal(format!("cannot grow volume `{}`", volume.name), source)
        })?;
        if let Err(error) = run_tool("resize2fs", &[device.as_os_str()]).await {
            // A mounted file system is grown only by who has CAP_SYS_RESOURCE, which daemons in
            // containers and some virtual machines have not; one that nobody uses, by anybody.
            self.grow_unused(volume, &image, error).await?;
        }
        let grown = Volume { size: Some(size), ..volume.clone() };
        self.store.set_volume(&grown)?;
        Ok(grown)
    }

    /// What a volume's file system has; none for one without a size.
    pub(super) async fn volume_space(&self, volume: &Volume) -> Result<Option<fs::Space>> {
        if volume.size.is_none() {
            return Ok(None);
        }
        let root = self.ensure_mounted(volume).await?;
        let space = blocking(move || File::open(root).and_then(|root| fs::space(root.as_fd())));
        Ok(Some(space.await?.map_err(|source| {
            Error::internal(format!("cannot measure volume `{}`", volume.name), source)
        })?))
    }

    /// Grows a file system that is not mounted, and that nobody mounts meanwhile.
    async fn grow_unused(&self, volume: &Volume, image: &Path, why: Error) -> Result<()> {
        let _guard = self.0.volumes.lock().await;
        self.unmount_locked(volume).await?;
        let free = is_free_soon(image).await;
        if !free.map_err(|error| Error::internal("cannot look at loop devices", error))? {
            let message = format!("volume `{}` is in use and cannot be grown now", volume.name);
            return Err(Error::new(Kind::Conflict, message)
                .hint("stop what uses it (`staithe ps:stop`), then try again")
                .because(why));
        }
        run_tool("e2fsck", &["-fp".as_ref(), image.as_os_str()]).await?;
        run_tool("resize2fs", &[image.as_os_str()]).await
    }

    async fn unmount_volume(&self, volume: &Volume) -> Result<()> {
        let _guard = self.0.volumes.lock().await;
        self.unmount_locked(volume).await
    }

    /// For who holds the lock.
    async fn unmount_locked(&self, volume: &Volume) -> Result<()> {
        let point = self.mount_point(&volume.id);
        let parent = self.mount_points();
        let result = blocking(move || unmount(&parent, &point)).await?;
        result.map_err(|source| match source.kind() {
            io::ErrorKind::ResourceBusy => {
                let message = format!("volume `{}` is in use", volume.name);
                Error::new(Kind::Conflict, message).because(source)
            }
            _ => Error::internal(format!("cannot unmount volume `{}`", volume.name), source),
        })
    }

    /// Unmounts everything, for the end of an ephemeral instance; its containers are gone.
    pub(super) async fn unmount_volumes(&self) {
        let _guard = self.0.volumes.lock().await;
        let parent = self.mount_points();
        let unmounted = blocking(move || unmount_all(&parent)).await;
        let result = unmounted.and_then(|result| {
            result.map_err(|source| Error::internal("cannot unmount volumes", source))
        });
        if let Err(error) = result {
            tracing::error!(error = report(&error), "volumes stay mounted");
        }
    }

    /// Says which directories of volumes nobody knows. They are not removed: a store that was
    /// restored from an older copy does not know them either.
    pub(super) fn report_unknown_volumes(&self) -> Result<()> {
        let known = self.store.volumes()?;
        let Ok(entries) = std::fs::read_dir(self.settings().data_dir.join("volumes")) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !known.iter().any(|volume| name == volume.id.as_str()) {
                let directory = entry.path();
                tracing::warn!(directory = %directory.display(), "nothing knows this volume; remove it by hand if it is not needed");
            }
        }
        Ok(())
    }

    fn volume_dir(&self, id: &VolumeId) -> PathBuf {
        self.settings().data_dir.join("volumes").join(id.as_str())
    }

    fn image(&self, id: &VolumeId) -> PathBuf {
        self.volume_dir(id).join("image")
    }

    fn mount_points(&self) -> PathBuf {
        self.settings().run_dir.join("volumes")
    }

    fn mount_point(&self, id: &VolumeId) -> PathBuf {
        self.mount_points().join(id.as_str())
    }
}

fn check_size(size: Option<Bytes>) -> Result<()> {
    match size {
        Some(size) if !(MIN_VOLUME..=MAX_VOLUME).contains(&size) => {
            let message = format!("a volume has {MIN_VOLUME} to {MAX_VOLUME}, not {size}");
            Err(Error::new(Kind::Invalid, message))
        }
        _ => Ok(()),
    }
}

fn random_id() -> Result<VolumeId> {
    let text = format!("{}{}", super::launch::random_hex()?, &super::launch::random_hex()?[..4]);
    Ok(text.parse()?)
}

fn lost(volume: &Volume, path: &Path) -> Error {
    let message = format!("the files of volume `{}` are gone from the disk", volume.name);
    Error::new(Kind::Conflict, message).hint(format!(
        "bring `{}` back from a copy, or destroy the volume and make it again",
        path.display()
    ))
}

/// Directories that only root may enter.
fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn prepare(directory: &Path, volume: &Volume) -> io::Result<()> {
    private_directory(directory)?;
    match volume.size {
        None => std::fs::create_dir(directory.join("data"))?,
        // Sparse: it takes what is written, up to its size.
        Some(size) => {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let image = options.open(directory.join("image"))?;
            image.set_len(size.0)?;
            image.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()?;
    // The record is written after this: it must not outlive a power cut without its directory.
    match directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Gives an image and the device that shows it another length; answers the device.
fn lengthen(image: &Path, size: Bytes) -> io::Result<PathBuf> {
    OpenOptions::new().write(true).open(image)?.set_len(size.0)?;
    let device = attached(image)?.ok_or(io::ErrorKind::NotFound)?;
    loop_device::take_size(File::open(&device)?.as_fd())?;
    Ok(device)
}

async fn make_file_system(image: &Path) -> Result<()> {
    let options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"];
    let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(std::ffi::OsStr::new).collect();
    arguments.push(image.as_os_str());
    run_tool("mkfs.ext4", &arguments).await
}

/// One of e2fsprogs, killed if it takes too long.
async fn run_tool(tool: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let mut command = tokio::process::Command::new(tool);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    // It is in sbin, which not every environment has in its path.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    let output = match tokio::time::timeout(TOOL, command.output()).await {
        Err(_) => return Err(Error::new(Kind::Failed, format!("`{tool}` takes too long"))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Kind::Failed, format!("`{tool}` is not installed"))
                .hint("install e2fsprogs, or make volumes without a size"));
        }
        Ok(result) => {
            result.map_err(|error| Error::internal(format!("cannot run `{tool}`"), error))?
        }
    };
    // e2fsck(8): 1 is that what was wrong is mended.
    let mended = tool == "e2fsck" && output.status.code() == Some(1);
    if output.status.success() || mended {
        return Ok(());
    }
    let complaint: String =
        String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT).collect();
    Err(Error::new(Kind::Failed, format!("`{tool}` failed: {complaint}")))
}

/// Gives the root of a new volume to the user that processes run as.
fn hand_over(root: &Path, mode: DirectoryMode, has_file_system: bool) -> io::Result<()> {
    if has_file_system {
        // Databases take only an empty directory. e2fsck makes it again when it needs it.
        std::fs::remove_dir(root.join("lost+found"))?;
    }
    let directory = fs::open_directory(root)?;
    fs::chown(directory.as_fd(), APP_USER, APP_USER)?;
    std::fs::set_permissions(root, Permissions::from_mode(mode.bits()))?;
    File::from(directory).sync_all()
}

/// Whether a file system is mounted right at `point`, a directory in `parent`.
fn is_mounted(parent: &Path, point: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(point) {
        Ok(facts) => Ok(facts.dev() != std::fs::metadata(parent)?.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn mount_image(image: &Path, parent: &Path, point: &Path) -> io::Result<()> {
    private_directory(parent)?;
    share(parent)?;
    if is_mounted(parent, point)? {
        return Ok(());
    }
    private_directory(point)?;
    // One that is attached still, since something holds it mounted where we do not see it, is
    // mounted once more: the kernel then has one file system, not two.
    let (device, _held) = match attached(image)? {
        Some(device) => (device.clone(), File::open(device)?),
        None => attach(image)?,
    };
    let source = device.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let options = [("source", source), ("errors", "remount-ro")];
    let tame = mount::Attributes::NOSUID.and(mount::Attributes::NODEV);
    let tree = mount::new_file_system("ext4", &options, tame)?;
    mount::attach(tree.as_fd(), File::open(point)?.as_fd())
}

/// Makes the directory of mount points a shared mount, once.
fn share(parent: &Path) -> io::Result<()> {
    if mounts_at(parent)? > 0 {
        return Ok(());
    }
    mount::bind_to_itself(parent)?;
    mount::make_shared(parent)
}

/// How many mounts are right at `path`.
fn mounts_at(path: &Path) -> io::Result<usize> {
    let path = path.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| Path::new(&unescaped(point)) == path).count())
}

/// mountinfo writes blanks and backslashes as octal numbers, proc_pid_mountinfo(5).
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The loop device that shows `image`, if there is one.
fn attached(image: &Path) -> io::Result<Option<PathBuf>> {
    let image = image.canonicalize()?;
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        // Devices without a file have no such entry.
        let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        if Path::new(file.trim_end_matches('\n')) == image {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

/// Whether no loop device shows `image`, now or in a moment.
async fn is_free_soon(image: &Path) -> io::Result<bool> {
    let deadline = tokio::time::Instant::now() + DETACH;
    while attached(image)?.is_some() {
        if tokio::time::Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(DETACH_POLL).await;
    }
    Ok(true)
}

/// Attaches `image` to a free loop device, which stays only as long as it is open or mounted.
fn attach(image: &Path) -> io::Result<(PathBuf, File)> {
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..LOOP_ATTEMPTS {
        let path = PathBuf::from(format!("/dev/loop{}", loop_device::next_free(control.as_fd())?));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        match loop_device::configure(device.as_fd(), file.as_fd()) {
            Ok(()) => return Ok((path, device)),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("other programs take every free loop device"))
}

fn unmount(parent: &Path, point: &Path) -> io::Result<()> {
    if is_mounted(parent, point)? {
        mount::unmount(point)?;
    }
    match std::fs::remove_dir(point) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unmount_all(parent: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        unmount(parent, &entry?.path())?;
    }
    while mounts_at(parent)? > 0 {
        mount::unmount(parent)?;
    }
    std::fs::remove_dir(parent)
}

#[cfg(test)]
mod tests;
