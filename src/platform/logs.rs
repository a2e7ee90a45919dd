//! An app's log: one file for each container, merged by time.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{LogLine, LogQuery, Platform, Result};
use crate::domain::{AppId, AppName};
use crate::support::tasks;

/// Lines shown unless told otherwise (Dokku's and Heroku's default).
const DEFAULT_LINES: usize = 100;
/// The most lines one query shows of the past.
const MAX_LINES: usize = 100_000;
/// How much of each file's end is read for the past.
const TAIL_BYTES: u64 = 4 << 20;
/// Between two looks for new lines while somebody follows.
const POLL: Duration = Duration::from_millis(100);
/// Lines on their way to a reader; a slow reader slows down our reading, never the app.
const QUEUE: usize = 1024;

impl Platform {
    /// The app's log lines, oldest first; ends unless `tail`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn logs(&self, name: &AppName, query: LogQuery) -> Result<mpsc::Receiver<LogLine>> {
        let app = self.find_app(name)?;
        Ok(follow(self.log_dir(app.id), query))
    }

    /// The last lines that a container wrote.
    pub(super) async fn last_log_lines(
        &self,
        app: AppId,
        container: &str,
        count: usize,
    ) -> Vec<String> {
        let suffix = container.rsplit('-').next().unwrap_or_default().to_owned();
        let mut reader =
            Reader { directory: self.log_dir(app), process: None, positions: HashMap::new() };
        let mut lines = reader
            .read_files(
                |path| path.to_string_lossy().contains(&format!("-{suffix}.log")),
                TAIL_BYTES,
            )
            .await;
        let skip = lines.len().saturating_sub(count);
        lines.drain(..skip).for_each(drop);
        lines.into_iter().map(|line| line.text).collect()
    }

    /// Removes the oldest log files of an app beyond its limit; those of living containers stay.
    pub(super) async fn prune_logs(&self, app: AppId) {
        let alive: Vec<String> =
            self.0.instances.of_app(app).into_iter().map(|i| i.container).collect();
        self.prune_log_dir(&self.log_dir(app), &alive).await;
    }

    /// Removes the oldest files below a directory of logs beyond the limit, but for those of living
    /// containers.
    pub(super) async fn prune_log_dir(&self, directory: &Path, alive: &[String]) {
        let limit = self.settings().log_bytes_per_app;
        let mut files = list_files(directory).await;
        // Names begin with the time of the start: newest first.
        files.sort_by(|a, b| b.1.file_name().cmp(&a.1.file_name()));
        let mut total = 0;
        for (_, path, bytes) in files {
            total += bytes;
            let name = path.to_string_lossy();
            let living = alive
                .iter()
                .any(|id| name.contains(&format!("-{}.log", id.rsplit('-').next().unwrap_or(id))));
            if total > limit
                && !living
                && let Err(error) = tokio::fs::remove_file(&path).await
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old log file");
            }
        }
    }
}

/// The lines below a directory of logs, oldest first; ends unless `tail`.
pub(super) fn follow(directory: PathBuf, query: LogQuery) -> mpsc::Receiver<LogLine> {
    let (tx, rx) = mpsc::channel(QUEUE);
    tasks::spawn("logs", async move {
        let mut reader = Reader { directory, process: query.process, positions: HashMap::new() };
        let count = query.num.unwrap_or(DEFAULT_LINES).min(MAX_LINES);
        let mut lines = reader.read_new(TAIL_BYTES).await;
        let skip = lines.len().saturating_sub(count);
        lines.drain(..skip);
        while send_all(&tx, lines).await && query.tail {
            tokio::time::sleep(POLL).await;
            lines = reader.read_new(u64::MAX).await;
        }
    });
    rx
}

async fn send_all(tx: &mpsc::Sender<LogLine>, lines: Vec<LogLine>) -> bool {
    for line in lines {
        if tx.send(line).await.is_err() {
            return false;
        }
    }
    !tx.is_closed()
}

/// Reads what was appended since the last look, over all files of an app.
#[derive(Debug)]
struct Reader {
    directory: PathBuf,
    process: Option<String>,
    /// By inode, so that a rotated file goes on under its new name.
    positions: HashMap<u64, u64>,
}

impl Reader {
    async fn read_new(&mut self, at_most: u64) -> Vec<LogLine> {
        self.read_files(|_| true, at_most).await
    }

    async fn read_files(&mut self, wanted: impl Fn(&Path) -> bool, at_most: u64) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for (process, path, _) in list_files(&self.directory).await {
            if !self.shows(&process) || !wanted(&path) {
                continue;
            }
            match self.read_file(&process, &path, at_most).await {
                Ok(new) => lines.extend(new),
                // Removed or rotated between listing and opening: its lines are found again.
                Err(error) => tracing::debug!(path = %path.display(), %error, "log file not read"),
            }
        }
        lines.sort_by(|a, b| a.at.cmp(&b.at));
        lines
    }

    fn shows(&self, process: &str) -> bool {
        match &self.process {
            None => true,
            Some(wanted) => process == wanted || process.split('.').next() == Some(wanted),
        }
    }

    async fn read_file(
        &mut self,
        process: &str,
        path: &Path,
        at_most: u64,
    ) -> std::io::Result<Vec<LogLine>> {
        use std::os::unix::fs::MetadataExt;
        let mut file = File::open(path).await?;
        let metadata = file.metadata().await?;
        let known = self.positions.get(&metadata.ino()).copied();
        let start = known.unwrap_or_else(|| metadata.len().saturating_sub(at_most));
        if metadata.len() <= start {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(start)).await?;
        let mut bytes = Vec::new();
        file.take(metadata.len() - start).read_to_end(&mut bytes).await?;
        // A line that is still being written is left for the next look.
        let complete = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
        self.positions.insert(metadata.ino(), start + complete as u64);
        let text = String::from_utf8_lossy(&bytes[..complete]);
        let skip = usize::from(known.is_none() && start > 0);
        Ok(text.lines().skip(skip).filter_map(|line| parse(process, line)).collect())
    }
}

/// One record of a container's log: `<time> <o|e>[p] <text>`.
fn parse(process: &str, line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let stream = match stream.as_bytes().first()? {
        b'o' => "stdout",
        b'e' => "stderr",
        _ => return None,
    };
    Some(LogLine {
        at: at.into(),
        process: process.into(),
        stream: stream.into(),
        text: text.into(),
    })
}

/// All log files below an app's directory: process, path, size.
async fn list_files(directory: &Path) -> Vec<(String, PathBuf, u64)> {
    let mut files = Vec::new();
    // A directory that is not there has no logs yet.
    let Ok(mut processes) = tokio::fs::read_dir(directory).await else { return files };
    while let Ok(Some(process)) = processes.next_entry().await {
        let name = process.file_name().to_string_lossy().into_owned();
        let Ok(mut entries) = tokio::fs::read_dir(process.path()).await else { continue };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let bytes = entry.metadata().await.map_or(0, |metadata| metadata.len());
            files.push((name.clone(), entry.path(), bytes));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_time_a_stream_and_any_text() {
        let line = parse("web.1", "2026-01-02T03:04:05.000006Z e  two  spaces").unwrap();
        assert_eq!((line.stream.as_str(), line.text.as_str()), ("stderr", " two  spaces"));
        assert_eq!(parse("web.1", "2026-01-02T03:04:05.000006Z o ").unwrap().text, "");
        assert!(parse("web.1", "garbage").is_none());
    }

    #[tokio::test]
    async fn following_sees_each_line_once_also_across_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let process = directory.path().join("web.1");
        std::fs::create_dir(&process).unwrap();
        let path = process.join("1-aa.log");
        let write = |path: &Path, text: &str| {
            use std::io::Write;
            let mut file =
                std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut reader =
            Reader { directory: directory.path().into(), process: None, positions: HashMap::new() };
        let texts =
            |lines: Vec<LogLine>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        write(&path, "2026-01-01T00:00:00.1Z o one\n2026-01-01T00:00:00.2Z o tw");
        assert_eq!(texts(reader.read_new(1000).await), ["one"]);
        write(&path, "o\n");
        std::fs::rename(&path, process.join("1-aa.log.1")).unwrap();
        write(&path, "2026-01-01T00:00:00.3Z e three\n");
        assert_eq!(texts(reader.read_new(1000).await), ["two", "three"]);
        assert!(reader.read_new(1000).await.is_empty());
    }
}
