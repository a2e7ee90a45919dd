//! The files that an app's log is made of.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::record::Origin;
use super::router::RouterLog;
use super::tail::FileId;

/// The most files that are looked at: a crash loop of years has fewer before they are pruned.
const MAX_FILES: usize = 20_000;

/// Where an app's files are.
#[derive(Debug, Clone)]
pub struct Places {
    /// A directory for each instance, and the platform's.
    pub app: PathBuf,
    /// The proxy's files of the app.
    pub router: Option<RouterLog>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) origin: Origin,
    /// The number of the file and those it was rotated from and to; of cursors.
    pub(super) key: u32,
    /// How often it was rotated.
    pub(super) rotation: u32,
    pub(super) id: FileId,
    pub(super) size: u64,
    /// When it was last written to, in microseconds since the Unix epoch.
    pub(super) modified: i64,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Path(PathBuf),
    Router(Arc<OwnedFd>, RouterLog),
}

impl Found {
    /// Opens it, also if it was rotated since it was found.
    pub(super) fn open(&self) -> io::Result<File> {
        for rotated in 0..=ROTATIONS {
            let file = self.open_rotated(rotated)?;
            if FileId::of(&file.metadata()?) == self.id {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_rotated(&self, rotated: u32) -> io::Result<File> {
        let numbered = |name: &str| match self.rotation + rotated {
            0 => name.to_owned(),
            number => format!("{name}.{number}"),
        };
        match &self.handle {
            Handle::Path(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let base = name.strip_suffix(&format!(".{}", self.rotation)).unwrap_or(&name);
                File::open(path.with_file_name(numbered(base)))
            }
            Handle::Router(directory, log) => {
                log.open_file(directory, &CString::new(numbered(log.name()))?)
            }
        }
    }
}

/// How often a file may be rotated between its finding and its opening.
const ROTATIONS: u32 = 2;

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        // Inodes are given again at once when a file is removed; with the time of birth they are not.
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |born| u64::try_from(born.as_nanos()).unwrap_or(0));
        Self { inode: metadata.ino(), born }
    }
}

fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1000)
}

impl Places {
    /// Bytes of all files. Blocks.
    pub fn size(&self) -> u64 {
        self.list(|_| true).iter().map(|file| file.size).sum()
    }

    /// All files whose origin is wanted, those of one container oldest first. What is not there yet,
    /// or just being renamed, is left out.
    pub(super) fn list(&self, wanted: impl Fn(&Origin) -> bool) -> Vec<Found> {
        let mut found = HashMap::new();
        if let Ok(processes) = std::fs::read_dir(&self.app) {
            for process in processes.flatten() {
                list_process(&process.path(), &wanted, &mut found);
            }
        }
        if let Some(router) = self.router.as_ref().filter(|_| wanted(&Origin::Router)) {
            list_router(router, &mut found);
        }
        let mut files: Vec<_> = found.into_values().collect();
        files.sort_by_key(|file| (file.key, std::cmp::Reverse(file.rotation)));
        files
    }
}

fn list_process(
    directory: &Path,
    wanted: &impl Fn(&Origin) -> bool,
    found: &mut HashMap<FileId, Found>,
) {
    let process = directory.file_name().unwrap_or_default().to_string_lossy();
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if found.len() >= MAX_FILES {
            tracing::warn!(directory = %directory.display(), "more log files than are read");
            return;
        }
        let name = entry.file_name();
        let Some(name) = Name::of(&name.to_string_lossy(), &process) else { continue };
        if !wanted(&name.origin) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            let file = Found {
                origin: name.origin,
                key: name.key,
                rotation: name.rotation,
                id: FileId::of(&metadata),
                size: metadata.len(),
                modified: modified(&metadata),
                handle: Handle::Path(entry.path()),
            };
            found.insert(file.id, file);
        }
    }
}

fn list_router(router: &RouterLog, found: &mut HashMap<FileId, Found>) {
    let Ok(directory) = router.open_directory() else { return };
    let directory = Arc::new(directory);
    for name in router.names(&directory).unwrap_or_default() {
        let Ok(file) = router.open_file(&directory, &name) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        let rotation = router.suffix(&name).and_then(|suffix| suffix.get(1..)?.parse().ok());
        let file = Found {
            origin: Origin::Router,
            key: 0,
            rotation: rotation.unwrap_or(0),
            id: FileId::of(&metadata),
            size: metadata.len(),
            modified: modified(&metadata),
            handle: Handle::Router(Arc::clone(&directory), router.clone()),
        };
        found.insert(file.id, file);
    }
}

/// What a file's name says: `<start in ms>[-v<release>]-<suffix>.log[.<rotation>]`.
struct Name {
    origin: Origin,
    key: u32,
    rotation: u32,
}

impl Name {
    fn of(name: &str, process: &str) -> Option<Self> {
        let (stem, rotation) = name.split_once(".log")?;
        let rotation = match rotation.strip_prefix('.') {
            Some(number) => number.parse().ok()?,
            None if rotation.is_empty() => 0,
            None => return None,
        };
        let key = key_of(stem);
        if process == super::PLATFORM {
            return Some(Self { origin: Origin::Platform, key, rotation });
        }
        let release = stem.split('-').find_map(|part| part.strip_prefix('v')?.parse().ok());
        let origin = Origin::App { process: process.into(), release };
        Some(Self { origin, key, rotation })
    }
}

/// The container's suffix is a number; what else there may be gets one (FNV-1a).
pub(super) fn key_of(stem: &str) -> u32 {
    let suffix = stem.rsplit('-').next().unwrap_or(stem);
    u32::from_str_radix(suffix, 16).unwrap_or_else(|_| {
        stem.bytes()
            .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ReleaseVersion;

    #[test]
    fn names_say_container_release_and_rotation() {
        let name = Name::of("1700000000000-v12-00c0ffee.log.2", "web.1").unwrap();
        let origin = Origin::App { process: "web.1".into(), release: Some(ReleaseVersion(12)) };
        assert_eq!((name.origin, name.key, name.rotation), (origin, 0x00c0_ffee, 2));
        let old = Name::of("1700000000000-00c0ffee.log", "web.1").unwrap();
        assert_eq!(old.key, 0x00c0_ffee);
        assert_eq!(Name::of("platform.log", "platform").unwrap().origin, Origin::Platform);
        for bad in ["x", "1-aa.log.x", "1-aa.logs"] {
            assert!(Name::of(bad, "web.1").is_none(), "{bad}");
        }
    }
}
