//! The user's side of a process that runs elsewhere: keys and window sizes go there, output comes
//! back, and its exit code becomes ours.

use std::io;
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::codec::FramedRead;

use super::client::broke_off;
use super::exit::{Exit, Failure};
use crate::sys;
use crate::wire::frames::{Frame, FrameCodec};

/// How much is read from standard input at once; below what a frame may carry.
const READ_BYTES: usize = 32 << 10;

/// Joins the process at the other end of `connection` to our standard streams, until it ends.
/// Answers with its exit code.
pub(super) async fn attach(connection: TokioIo<Upgraded>, terminal: bool) -> Result<u8, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, format!("use the terminal: {error}"));
    let (reader, writer) = tokio::io::split(connection);
    let resized = signal(SignalKind::window_change()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // Put back when this function returns, however it does.
    let _raw = match terminal {
        true => Some(sys::tty::RawMode::enter(io::stdin().as_fd()).map_err(failed)?),
        false => None,
    };
    tokio::select! {
        // Each arm ends the session; the connection is closed, and the server ends the process.
        code = receive(reader, tokio::io::stdout(), tokio::io::stderr()) => code,
        failure = send(tokio::io::stdin(), resized, terminal, writer) => Err(failure),
        _ = hangup.recv() => Err(Failure::Silent(128 + 1)),
        _ = terminate.recv() => Err(Failure::Silent(128 + 15)),
    }
}

/// Prints what comes until the exit code does.
async fn receive(
    reader: impl AsyncRead + Unpin,
    mut stdout: impl AsyncWrite + Unpin,
    mut stderr: impl AsyncWrite + Unpin,
) -> Result<u8, Failure> {
    // Nobody reads any more: the process at the other end is to end as well.
    let unread = |_| Failure::Silent(0);
    let mut frames = FramedRead::new(reader, FrameCodec);
    while let Some(frame) = frames.next().await {
        match frame.map_err(|_| broke_off())? {
            Frame::Stdout(data) => print(&mut stdout, &data).await.map_err(unread)?,
            Frame::Stderr(data) => print(&mut stderr, &data).await.map_err(unread)?,
            Frame::Exit(code) => return Ok(code),
            Frame::Stdin(_) | Frame::Window { .. } | Frame::Signal(_) => return Err(broke_off()),
        }
    }
    Err(broke_off())
}

async fn print(stream: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    stream.write_all(data).await?;
    stream.flush().await
}

/// Sends what is typed and how large the window is. Returns only if that is no longer possible.
async fn send(
    mut stdin: impl AsyncRead + Unpin,
    mut resized: Signal,
    terminal: bool,
    mut writer: impl AsyncWrite + Unpin,
) -> Failure {
    let mut input = vec![0; READ_BYTES];
    let mut open = true;
    let mut buffer = BytesMut::new();
    loop {
        let frame = tokio::select! {
            // Cancel-safe: what was not read stays in the stream (AsyncReadExt::read).
            read = stdin.read(&mut input), if open => {
                // A failed read is the end of the input as well; empty says so to the server.
                let count = read.unwrap_or(0);
                open = count > 0;
                Frame::Stdin(Bytes::copy_from_slice(&input[..count]))
            }
            // Cancel-safe: a signal that is not received stays pending.
            _ = resized.recv() => match sys::tty::window_size(io::stdout().as_fd()) {
                Ok((columns, rows)) if terminal => Frame::Window { rows, columns },
                _ => continue,
            },
        };
        if frame.encode(&mut buffer).is_err() || writer.write_all_buf(&mut buffer).await.is_err() {
            // The other half of the connection may still hold the exit code.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(frames: &[Frame]) -> (Result<u8, Failure>, String, String) {
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire).unwrap());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = receive(&wire[..], &mut stdout, &mut stderr).await;
        (code, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[tokio::test]
    async fn output_is_told_apart_and_the_exit_code_ends_it() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let frames = [
            Frame::Stdout(text("out")),
            Frame::Stdout(Bytes::new()),
            Frame::Stderr(text("err")),
            Frame::Exit(7),
        ];
        assert_eq!(received(&frames).await, (Ok(7), "out".into(), "err".into()));
        assert_eq!(received(&frames[..3]).await.0, Err(broke_off()));
    }
}
