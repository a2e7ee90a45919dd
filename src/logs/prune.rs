//! What is kept of an app's files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How much is kept of one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files together.
    pub max_bytes: u64,
    /// Since a file was last written to.
    pub max_age: Duration,
}

/// A directory of no container is removed after this: one that is about to start has just made its.
const EMPTY_FOR: Duration = Duration::from_secs(3600);

/// Removes the oldest files below `directory` beyond the bounds. Those that `living` names, the ones
/// being written to, stay; what was rotated away from them goes like any other. Blocks.
pub fn prune(directory: &Path, bounds: Bounds, living: impl Fn(&Path) -> bool) {
    let now = SystemTime::now();
    let mut files = Vec::new();
    for process in subdirectories(directory) {
        let before = files.len();
        files.extend(files_in(&process));
        if files.len() == before && modified(&process).is_some_and(|at| age(now, at) > EMPTY_FOR) {
            // Refused if something has come in between.
            let _ = std::fs::remove_dir(&process);
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.modified));
    let mut total = 0;
    for file in files {
        total += file.bytes;
        let old = age(now, file.modified) > bounds.max_age;
        if (total > bounds.max_bytes || old)
            && !living(&file.path)
            && let Err(error) = std::fs::remove_file(&file.path)
        {
            tracing::warn!(path = %file.path.display(), %error, "cannot remove an old log file");
        }
    }
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().and_then(|metadata| metadata.modified()).ok()
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

fn files_in(directory: &Path) -> Vec<Kept> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let kept = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let modified = metadata.modified().ok()?;
        Some(Kept { path: entry.path(), bytes: metadata.len(), modified })
    };
    entries.filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};
    use std::io::Write;

    /// A file of 10 bytes, last written to so long ago.
    fn file(directory: &Path, name: &str, hours: u64) -> PathBuf {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
        path
    }

    #[test]
    fn the_oldest_go_first_and_what_is_written_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name, hours| file(directory.path(), name, hours);
        let living = at("web.1/1-aa.log", 3);
        let rotated = at("web.1/1-aa.log.1", 2);
        let old = at("worker.1/1-bb.log", 1);
        let newest = at("cron.x/1-cc.log", 0);
        let bounds = Bounds { max_bytes: 20, max_age: Duration::from_secs(86_400) };
        prune(directory.path(), bounds, |path| path == living);
        let there = [&living, &rotated, &old, &newest].map(|path| path.exists());
        assert_eq!(there, [true, false, true, true]);
        let bounds = Bounds { max_bytes: 1000, max_age: Duration::from_secs(1800) };
        prune(directory.path(), bounds, |path| path == living);
        assert_eq!([&living, &old, &newest].map(|path| path.exists()), [true, false, true]);
        assert!(directory.path().join("worker.1").exists(), "it was emptied just now");
    }
}
