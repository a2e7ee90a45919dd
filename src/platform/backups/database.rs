//! Services as the flow of backups sees them: their scripts in their containers.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::super::services::Scratch;
use super::super::{Error, Kind, Platform, Result};
use super::flow::{Database, ImportError};
use crate::archive::{Reader, Sum, Writer};
use crate::build::neutralized;
use crate::domain::{BackupId, Service};
use crate::support::{report, tasks};

/// The longest that a dump may take to be made or taken.
const DUMP: Duration = Duration::from_secs(12 * 3600);
/// Facts are read from a file in the container.
const FACTS: Duration = Duration::from_secs(60);
const MAX_FACTS: usize = 8 << 20;
/// What is read at once.
const PIECE: usize = 256 * 1024;
/// How much of a program's complaints is kept: the end, which says why it ended.
const MAX_COMPLAINT: usize = 4096;
/// How much of that is told, in one line.
const SHOWN_CHARS: usize = 300;
/// How long complaints may go on after the process has ended: a grandchild may hold the pipe open.
const LINGER: Duration = Duration::from_secs(2);

/// A running service.
pub(super) struct Live {
    platform: Platform,
    service: Service,
}

impl Live {
    pub(super) fn new(platform: &Platform, service: Service) -> Self {
        Self { platform: platform.clone(), service }
    }

    /// The facts that an export left in the container; the file is gone afterwards.
    async fn take_facts(&self, path: &str) -> Result<String> {
        let script = r#"cat -- "$0"; rm -f -- "$0""#;
        let args = ["/bin/sh", "-c", script, path].map(ToOwned::to_owned).to_vec();
        let mut session = self.platform.service_exec(&self.service, args, Vec::new()).await?;
        drop(session.input.take());
        let complaint = complaint(session.errors.take());
        let mut output = receiver(&session.output)?;
        let mut text = Vec::new();
        let read = async {
            let mut piece = BytesMut::with_capacity(PIECE);
            while read(&mut output, &mut piece).await? > 0 {
                text.extend_from_slice(&piece.split());
                if text.len() > MAX_FACTS {
                    let message = format!("the facts have more than {MAX_FACTS} bytes");
                    return Err(Error::new(Kind::Failed, message));
                }
            }
            session.wait().await
        };
        tokio::time::timeout(FACTS, read)
            .await
            .map_err(|_| Error::new(Kind::Failed, "the facts are not read in time"))??;
        if text.is_empty() {
            let message = format!("the export told no facts: {}", complaint.end().await);
            return Err(Error::new(Kind::Failed, message));
        }
        String::from_utf8(text).map_err(|_| Error::new(Kind::Failed, "the facts are not UTF-8"))
    }

    async fn dump(&self, path: &str, dump: &mut Writer) -> Result<()> {
        let env = vec![("STAITHE_FACTS".to_owned(), path.to_owned())];
        let mut session = self.platform.service_exec_export(&self.service, env).await?;
        drop(session.input.take());
        let complaint = complaint(session.errors.take());
        let mut output = receiver(&session.output)?;
        // A place that takes no more ends this, and the session's end ends the program.
        let mut piece = BytesMut::with_capacity(PIECE);
        while read(&mut output, &mut piece).await? > 0 {
            dump.write(piece.split().freeze()).await?;
            piece.reserve(PIECE);
        }
        match session.wait().await? {
            0 => Ok(()),
            code => Err(Error::new(Kind::Failed, complaint.sentence("export", code).await)),
        }
    }

    async fn feed(&self, dump: &mut Reader, sum: &mut Sum) -> std::result::Result<(), ImportError> {
        let session = self.platform.service_exec_import(&self.service).await;
        let mut session = session.map_err(ImportError::Other)?;
        let complaint = complaint(session.errors.take());
        let output = self::complaint(copy(&session.output).map_err(ImportError::Other)?);
        let other = |error| ImportError::Other(Error::internal("cannot write a dump", error));
        let mut input = match session.input.take() {
            Some(input) => pipe::Sender::from_owned_fd(input).map_err(other)?,
            None => return Err(other(std::io::Error::other("a process without input"))),
        };
        while let Some(piece) = dump.next().await.map_err(ImportError::Read)? {
            sum.update(&piece);
            match input.write_all(&piece).await {
                Ok(()) => {}
                // It wants no more: why is in its end.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(other(error)),
            }
        }
        drop(input);
        let code = session.wait().await.map_err(ImportError::Other)?;
        drop(output);
        match code {
            0 => Ok(()),
            code => Err(ImportError::Refused(complaint.sentence("import", code).await)),
        }
    }
}

impl Database for Live {
    type Scratch = ScratchLive;

    async fn export(&self, id: &BackupId, dump: &mut Writer) -> Result<String> {
        let path = format!("/data/.facts-{id}");
        let dumped = tokio::time::timeout(DUMP, self.dump(&path, dump)).await;
        let dumped = dumped.unwrap_or_else(|_| Err(Error::new(Kind::Failed, late("export"))));
        let facts = self.take_facts(&path).await;
        dumped.and(facts)
    }

    async fn import(
        &self,
        dump: &mut Reader,
        sum: &mut Sum,
    ) -> std::result::Result<(), ImportError> {
        let fed = tokio::time::timeout(DUMP, self.feed(dump, sum)).await;
        fed.unwrap_or_else(|_| Err(ImportError::Refused(late("import"))))
    }

    async fn check(&self) -> Result<String> {
        Ok(self.platform.service_check(&self.service).await?.to_string())
    }

    async fn scratch(&self) -> Result<ScratchLive> {
        let scratch = self.platform.scratch_service(&self.service).await?;
        let live = Self::new(&self.platform, scratch.service().clone());
        Ok(ScratchLive { live, _scratch: scratch })
    }
}

/// A hidden service that is gone with this.
pub(super) struct ScratchLive {
    live: Live,
    _scratch: Scratch,
}

impl Database for ScratchLive {
    type Scratch = Self;

    async fn export(&self, id: &BackupId, dump: &mut Writer) -> Result<String> {
        self.live.export(id, dump).await
    }

    async fn import(
        &self,
        dump: &mut Reader,
        sum: &mut Sum,
    ) -> std::result::Result<(), ImportError> {
        self.live.import(dump, sum).await
    }

    async fn check(&self) -> Result<String> {
        self.live.check().await
    }

    async fn scratch(&self) -> Result<Self> {
        self.live.scratch().await
    }
}

fn late(what: &str) -> String {
    format!("the {what} takes longer than {} hours", DUMP.as_secs() / 3600)
}

fn copy(fd: &OwnedFd) -> Result<Option<OwnedFd>> {
    let copy = fd.try_clone();
    copy.map(Some).map_err(|error| Error::internal("cannot duplicate a pipe", error))
}

fn receiver(fd: &OwnedFd) -> Result<pipe::Receiver> {
    let copy = fd.try_clone().and_then(pipe::Receiver::from_owned_fd);
    copy.map_err(|error| Error::internal("cannot read from a program", error))
}

async fn read(output: &mut pipe::Receiver, piece: &mut BytesMut) -> Result<usize> {
    let read = output.read_buf(piece).await;
    read.map_err(|error| Error::internal("cannot read from a program", error))
}

/// What a program says on its way; read all the time, so that it never waits to say it.
struct Complaint(JoinHandle<String>);

impl Drop for Complaint {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn complaint(pipe: Option<OwnedFd>) -> Complaint {
    Complaint(tasks::spawn("backups/complaint", async move {
        let Some(Ok(pipe)) = pipe.map(pipe::Receiver::from_owned_fd) else { return String::new() };
        end_of(pipe).await
    }))
}

async fn end_of(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = BytesMut::new();
    let mut piece = BytesMut::with_capacity(MAX_COMPLAINT);
    loop {
        piece.clear();
        match pipe.read_buf(&mut piece).await {
            Ok(count) if count > 0 => kept.extend_from_slice(&piece),
            _ => return String::from_utf8_lossy(&kept).into_owned(),
        }
        let excess = kept.len().saturating_sub(MAX_COMPLAINT);
        let _: Bytes = kept.split_to(excess).freeze();
    }
}

impl Complaint {
    /// The last line that says something.
    async fn end(mut self) -> String {
        let text = match tokio::time::timeout(LINGER, &mut self.0).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => report(&error),
            Err(_) => String::new(),
        };
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
        neutralized(last.trim(), SHOWN_CHARS)
    }

    async fn sentence(self, what: &str, code: i32) -> String {
        format!("the {what} ended with {code}: {}", self.end().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_flood_the_end_is_kept() {
        let text = format!("{}\nthe last word\n\n", "noise ".repeat(10_000));
        let kept = end_of(text.as_bytes()).await;
        assert!(kept.len() <= MAX_COMPLAINT);
        assert!(kept.ends_with("the last word\n\n"));
    }
}
