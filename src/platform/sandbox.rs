//! The build's sandbox over a container: each step is a process added to it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::Platform;
use crate::build::{Sandbox, SandboxError, Step, StepExit, Stream};
use crate::container::{ExecHandle, ExitRecord, Io, Stdio};

/// Longer lines are handed on in pieces, so that a build cannot fill our memory.
const MAX_LINE: usize = 64 << 10;
/// After a step's end its output may still be held open by what it left running; not for long.
const LINGER: Duration = Duration::from_millis(500);

/// A running build container.
#[derive(Debug)]
pub(super) struct BuildContainer {
    pub(super) platform: Platform,
    pub(super) container: String,
    pub(super) cancel: CancellationToken,
}

impl Sandbox for BuildContainer {
    async fn exec(
        &self,
        step: &Step,
        output: &(dyn Fn(Stream, &str) + Send + Sync),
    ) -> Result<StepExit, SandboxError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| SandboxError::Run {
            step: step.name.clone(),
            source,
        };
        let process = super::launch::process(step.args.clone(), step.env.clone(), &step.cwd);
        let runtime = &self.platform.runtime;
        let mut handle = runtime
            .exec(&self.container, &process, Stdio::Pipes)
            .await
            .map_err(|error| failed(error.into()))?;
        let result = tokio::select! {
            biased;
            // Cancel-safe: only observes.
            () = self.cancel.cancelled() => Err(SandboxError::Canceled),
            // Cancel-safe: only observes.
            () = tokio::time::sleep(step.deadline) => {
                Err(SandboxError::Deadline { step: step.name.clone(), limit: step.deadline })
            }
            // Dropped: the handle is killed below.
            result = run(&mut handle, output) => result.map_err(failed),
        };
        if result.is_err() {
            // A step that cannot be killed dies with its container.
            let _ = handle.kill();
        }
        Ok(step_exit(&result?))
    }
}

fn step_exit(record: &ExitRecord) -> StepExit {
    let code = record.code.or(record.signal.map(|signal| 128 + signal)).unwrap_or(1);
    StepExit { code, out_of_memory: record.oom_killed }
}

async fn run(
    handle: &mut ExecHandle,
    output: &(dyn Fn(Stream, &str) + Send + Sync),
) -> Result<ExitRecord, Box<dyn std::error::Error + Send + Sync>> {
    let Some(Io::Pipes { stdin, stdout, stderr }) = handle.io.take() else {
        return Err("the step has no pipes".into());
    };
    drop(stdin);
    let lines = async {
        let out = copy_lines(stdout, |line| output(Stream::Stdout, line));
        let err = copy_lines(stderr, |line| output(Stream::Stderr, line));
        tokio::try_join!(out, err)
    };
    tokio::pin!(lines);
    let record = tokio::select! {
        // Cancel-safe: the pipes stay readable, and the end can be asked for again.
        result = &mut lines => {
            result?;
            return Ok(handle.wait().await?);
        }
        record = handle.wait() => record?,
    };
    // What it wrote before its end is in the pipes.
    if let Ok(result) = tokio::time::timeout(LINGER, lines).await {
        result?;
    }
    Ok(record)
}

async fn copy_lines(pipe: OwnedFd, mut line: impl FnMut(&str)) -> std::io::Result<()> {
    let receiver = pipe::Receiver::from_owned_fd(pipe)?;
    for_each_line(receiver, &mut line).await
}

/// Hands on each line without its line feed; pieces of at most [`MAX_LINE`] of longer ones.
async fn for_each_line(
    reader: impl AsyncRead + Unpin,
    line: &mut impl FnMut(&str),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(reader);
    let mut pending = Vec::new();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            if !pending.is_empty() {
                line(&String::from_utf8_lossy(&pending));
            }
            return Ok(());
        }
        let (taken, complete) = match memchr::memchr(b'\n', buffer) {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        pending.extend_from_slice(&buffer[..taken - usize::from(complete)]);
        reader.consume(taken);
        if complete || pending.len() >= MAX_LINE {
            line(&String::from_utf8_lossy(&pending));
            pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_long_ones_come_in_pieces() {
        let text = format!("one\n\ntwo\n{}\nlast", "x".repeat(MAX_LINE + 10));
        let mut lines = Vec::new();
        for_each_line(text.as_bytes(), &mut |line: &str| lines.push(line.len())).await.unwrap();
        assert_eq!(&lines[..3], [3, 0, 3]);
        assert_eq!(lines[3..lines.len() - 1].iter().sum::<usize>(), MAX_LINE + 10);
        assert_eq!(lines.last(), Some(&4));
    }
}
