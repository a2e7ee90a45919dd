//! Sessions that come through the system's sshd: the control plane's end.
//!
//! `POST /api/v1/ssh/exec` with a [`RelayRequest`] is answered with `101 Switching Protocols`
//! (`Upgrade: staithe-session`); then both sides send the frames of [`crate::wire::frames`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

use super::connection::{Resolved, is_plain, may_set, resolve};
use super::gate::{Gate, Input};
use super::job::{self, Control, Ended, Gone, Manner, Sink};
use super::{Commands, Refused};
use crate::domain::Actor;
use crate::sys::session::{GroupSignal, WindowSize};
use crate::wire::frames::{Frame, FrameCodec};

/// Frames on their way to the client: a quarter of a megabyte.
const MAX_QUEUED: usize = 8;
/// Signals that may wait for a child.
const MAX_SIGNALS: usize = 16;

/// What a forced command asks the control plane to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRequest {
    /// The fingerprint of the key that sshd let in, `SHA256:…`.
    pub fingerprint: String,
    /// `SSH_ORIGINAL_COMMAND`; empty when a shell was asked for.
    pub command: String,
    /// The terminal's size in lines and characters, where there is one.
    pub terminal: Option<(u16, u16)>,
    /// `TERM`, `LANG`, `LC_…`, `GIT_PROTOCOL`; others are ignored.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
}

/// The body of `POST /api/v1/ssh/authorize`; answered with 204 when the key is known, else 404.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeRequest {
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// Runs what `request` asks for on behalf of `actor`, whom the caller has found by the
/// fingerprint, over `stream`, which has been upgraded. Returns when the command has ended or the
/// client has gone and the command had `grace` to end.
pub async fn serve<C, S>(
    stream: S,
    commands: &C,
    actor: &Actor,
    request: RelayRequest,
    grace: Duration,
) where
    C: Commands,
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let (frames, queued) = mpsc::channel(MAX_QUEUED);
    let (rows, columns) = request.terminal.unwrap_or((24, 80));
    let (window, window_out) = watch::channel(WindowSize { rows, columns });
    let (signals, signals_out) = mpsc::channel(MAX_SIGNALS);
    let hang_up = CancellationToken::new();
    let gate = Arc::new(Gate::default());
    let input = Input::new(Arc::clone(&gate));
    let client = Client { frames, gate: Arc::clone(&gate) };
    let control = Control { signals: signals_out, window: window_out, hang_up: hang_up.clone() };
    let receive = Receive { input: &input, gate: &gate, window, signals, hang_up: &hang_up };
    let work = async {
        let ended = work(commands, actor, request, grace, &input, control, &client).await;
        client.finish(ended).await;
        // The writer ends when nobody can queue any more.
        drop(client);
    };
    let send = async {
        if send(queued, writer).await.is_err() {
            hang_up.cancel();
        }
    };
    let respond = async { tokio::join!(work, send) };
    // Cancel-safe: what is received after the work is done has no reader.
    tokio::select! {
        _ = respond => {}
        () = receive.run(reader) => {}
    }
}

async fn work<C: Commands>(
    commands: &C,
    actor: &Actor,
    request: RelayRequest,
    grace: Duration,
    input: &Input,
    control: Control,
    client: &Client,
) -> Ended {
    let terminal = request.terminal.is_some();
    let mut environment = request.environment;
    environment.retain(|(name, value)| (may_set(name) || name == "TERM") && is_plain(name, value));
    let command = request.command.as_bytes();
    match resolve(commands, actor, command, terminal, environment).await {
        Ok(Resolved::Greeting(text)) => {
            // Nobody is left to see it when this fails.
            let _ = client.output(shown(&text, terminal)).await;
            Ended::Code(0)
        }
        Ok(Resolved::Command { command, terminal }) => {
            let manner = Manner { terminal, grace };
            match job::run(command, manner, input, control, client).await {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, actor.name = %actor, "cannot run a session's command");
                    let text = " !     the command cannot be started\n";
                    let _ = client.errors(shown(text, terminal)).await;
                    Ended::Code(1)
                }
            }
        }
        Err(Refused { message, exit_code }) => {
            let _ = client.errors(shown(&format!(" !     {message}\n"), terminal)).await;
            Ended::Code(exit_code)
        }
    }
}

/// A client with a terminal has it in raw mode, where a line feed only goes down.
fn shown(text: &str, terminal: bool) -> Bytes {
    if terminal { text.replace('\n', "\r\n").into() } else { text.to_owned().into() }
}

/// From the client.
struct Receive<'a> {
    input: &'a Input,
    gate: &'a Gate,
    window: watch::Sender<WindowSize>,
    signals: mpsc::Sender<GroupSignal>,
    hang_up: &'a CancellationToken,
}

impl Receive<'_> {
    /// Never returns: the end of the client ends the work, and that ends the session.
    async fn run<R: AsyncRead>(self, reader: R) {
        let mut frames = std::pin::pin!(FramedRead::new(reader, FrameCodec));
        loop {
            std::future::poll_fn(|context| self.gate.poll_open(context)).await;
            match frames.next().await {
                Some(Ok(frame)) => self.take(frame),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a relayed session broke");
                    break;
                }
                None => break,
            }
        }
        self.hang_up.cancel();
        std::future::pending().await
    }

    fn take(&self, frame: Frame) {
        match frame {
            Frame::Stdin(data) if data.is_empty() => self.input.end(),
            Frame::Stdin(data) => self.input.push(data),
            Frame::Window { rows, columns } => {
                self.window.send_replace(WindowSize { rows, columns });
            }
            Frame::Signal(number) => {
                if let Some(signal) = GroupSignal::by_number(number) {
                    // More signals than fit are as good as those that did.
                    let _ = self.signals.try_send(signal);
                }
            }
            // A client's mistake, and no harm.
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) => {}
        }
    }
}

/// To the client.
struct Client {
    frames: mpsc::Sender<Frame>,
    gate: Arc<Gate>,
}

impl Client {
    async fn queue(&self, frame: Frame) -> Result<(), Gone> {
        let _stalled = self.gate.stalled();
        self.frames.send(frame).await.map_err(|_| Gone)
    }

    async fn finish(&self, ended: Ended) {
        let code = match ended {
            Ended::Code(code) => code,
            Ended::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
        };
        // The client may be gone, which is as good.
        let _ = self.queue(Frame::Exit(code)).await;
    }
}

impl Sink for Client {
    async fn output(&self, data: Bytes) -> Result<(), Gone> {
        self.queue(Frame::Stdout(data)).await
    }

    async fn errors(&self, data: Bytes) -> Result<(), Gone> {
        self.queue(Frame::Stderr(data)).await
    }
}

async fn send<W: AsyncWrite>(
    mut queued: mpsc::Receiver<Frame>,
    writer: W,
) -> Result<(), crate::wire::frames::FrameError> {
    let mut frames = std::pin::pin!(FramedWrite::new(writer, FrameCodec));
    while let Some(frame) = queued.recv().await {
        frames.send(frame).await?;
    }
    frames.close().await
}

#[cfg(test)]
mod tests;
