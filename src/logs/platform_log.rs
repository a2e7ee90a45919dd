//! What the platform says of an app, beside what the app says: bounded files in the monitors' form.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::record::write_time;
use crate::domain::{LogLevel, ReleaseVersion};

/// Size at which a file is rotated: some 10,000 lines.
const MAX_BYTES: u64 = 1 << 20;
/// The name of the file that is written to; the older one has `.1` after it.
const FILE: &str = "platform.log";
/// The longest text of one line, as of the monitors' records.
const MAX_TEXT: usize = 16 * 1024;

/// Writes what the platform says; one for all apps.
#[derive(Debug, Default)]
pub struct PlatformLog {
    /// One writer at a time: each looks at the file's size and may rotate it.
    writing: Mutex<()>,
}

impl PlatformLog {
    /// Adds a line to the log of the app whose directory is given.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(
        &self,
        directory: &Path,
        now: i64,
        (release, level): (Option<ReleaseVersion>, LogLevel),
        text: &str,
    ) -> io::Result<()> {
        let directory = directory.join(super::PLATFORM);
        let release = release.map_or("-".into(), |release| release.to_string());
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        let record = format!("{} o {release} {level} {text}\n", write_time(now));
        let _guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let path = directory.join(FILE);
        let mut file = open(&path)?;
        if file.metadata()?.len() > MAX_BYTES {
            std::fs::rename(&path, directory.join(format!("{FILE}.1")))?;
            file = open(&path)?;
        }
        file.write_all(record.as_bytes())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Filter, History, Places, Span};

    #[test]
    fn what_the_platform_says_is_kept_within_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let log = PlatformLog::default();
        let text = format!("{}\nforged", "x".repeat(1000));
        for at in 0..2500 {
            let what = (Some(ReleaseVersion(4)), LogLevel::Error);
            log.write(directory.path(), 1_000_000_000_000 + at, what, &text).unwrap();
        }
        let files = std::fs::read_dir(directory.path().join("platform")).unwrap();
        let sizes: Vec<_> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size < MAX_BYTES + 2000), "{sizes:?}");
        let places = Places { app: directory.path().into(), router: None };
        let span = Span { count: 1, ..Span::default() };
        let last = History::read(&places, &Filter::all(), &span, None, || true).lines.remove(0);
        assert_eq!((last.level, last.release), (LogLevel::Error, Some(ReleaseVersion(4))));
        assert!(last.text.ends_with("x forged"), "{}", last.text);
    }
}
