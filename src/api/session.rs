//! Connections that become a process's standard streams: `run`, `enter`, `ssh/exec`.
//!
//! ```text
//! client ── frames ──> read_client ──> input            size ──> supervise ──> wait
//! client <── frames ── write_frames <── pump(output), pump(errors), exit code
//! ```
//!
//! The process lives as long as its client: whichever goes first ends the other.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Answer};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::platform::{Error, Kind, Platform, Session};
use crate::support::shutdown::{Phase, Shutdown};
use crate::support::{report, tasks};
use crate::sys;
use crate::web::Caller;
use crate::web::Refusal;
use crate::web::{App, Body};
use crate::wire::frames::{Frame, FrameCodec};
use crate::wire::{RunRequest, SESSION_PROTOCOL};

/// How much is read from the process at once; well below what a frame may carry.
const READ_BYTES: usize = 32 << 10;
/// Frames on their way to the client; with `READ_BYTES` the most memory a slow client costs.
const QUEUE: usize = 8;
/// How long output may go on after the process has ended: a grandchild may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a silent session is proven alive: a client that is gone shows only when written to.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the client may take to switch protocols after it was told it may.
const UPGRADE: Duration = Duration::from_secs(10);

/// A process to relay. The descriptors are pipes, sockets or a pty's master.
#[allow(missing_debug_implementations, reason = "a process has nothing to show")]
pub struct Remote {
    /// Its standard input.
    pub input: Option<OwnedFd>,
    /// Its standard output, or its terminal.
    pub output: OwnedFd,
    /// Its standard error, unless it has a terminal.
    pub errors: Option<OwnedFd>,
    /// The process; dropping it ends it.
    pub process: Box<dyn Process>,
}

/// What is asked of a process beside its streams.
pub trait Process: Send {
    /// Tells its terminal the new size in characters; nothing without a terminal.
    ///
    /// # Errors
    /// If the terminal refuses.
    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error>;

    /// Its exit code, 128 + signal if it was killed. Must be cancel-safe.
    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + '_>>;
}

impl Process for Session {
    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        Self::resize(self, columns, rows)
    }

    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + '_>> {
        Box::pin(Self::wait(self))
    }
}

impl TryFrom<Session> for Remote {
    type Error = Error;

    fn try_from(mut session: Session) -> Result<Self, Error> {
        let input = session.input.take();
        let errors = session.errors.take();
        // A copy, because a session ends its process when dropped and so cannot be taken apart.
        let output = session.output.try_clone().map_err(|source| {
            Error::new(Kind::Internal, "duplicate a session's output").because(source)
        })?;
        Ok(Self { input, output, errors, process: Box::new(session) })
    }
}

/// `POST /apps/{app}/run`.
pub(super) async fn run(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    App(app): App,
    upgrade: Upgrade,
    Body(request): Body<RunRequest>,
) -> Result<Response, Refusal> {
    let session = platform.run(&caller.actor, &app, request).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

/// `POST /apps/{app}/enter`.
pub(super) async fn enter(
    State(platform): State<Platform>,
    State(sessions): State<Sessions>,
    caller: Caller,
    App(app): App,
    upgrade: Upgrade,
    Body(request): Body<RunRequest>,
) -> Result<Response, Refusal> {
    let session = platform.enter(&caller.actor, &app, request).await?;
    Ok(sessions.start(session.try_into()?, upgrade)?)
}

/// The client's wish to leave HTTP for frames.
pub(super) struct Upgrade(OnUpgrade);

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let wanted = parts.headers.get(header::UPGRADE).is_some_and(|to| to == SESSION_PROTOCOL);
        let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| wanted);
        let refusal = || {
            let message = format!("this path needs `Upgrade: {SESSION_PROTOCOL}`");
            Error::new(Kind::Invalid, message).into()
        };
        upgrade.map(Self).ok_or_else(refusal)
    }
}

impl OperationInput for Upgrade {
    fn inferred_early_responses(
        _: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Answer)> {
        operation.extensions.insert("x-upgrade".to_owned(), SESSION_PROTOCOL.into());
        let description = "The connection carries the process's streams from now on, in frames";
        let answer = Answer { description: description.to_owned(), ..Answer::default() };
        vec![(Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()), answer)]
    }
}

/// The sessions going on.
#[derive(Clone)]
pub(super) struct Sessions {
    permits: Arc<Semaphore>,
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl Sessions {
    /// None so far, and at most `max` at once.
    pub(super) fn new(max: usize, shutdown: Shutdown) -> Self {
        Self { permits: Arc::new(Semaphore::new(max)), tracker: TaskTracker::new(), shutdown }
    }

    /// Answers "switching protocols" and relays `remote` from then on.
    pub(super) fn start(&self, remote: Remote, upgrade: Upgrade) -> Result<Response, Error> {
        let busy = |_| {
            Error::new(Kind::Unavailable, "too many sessions are open")
                .hint("end one of them and try again")
        };
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(busy)?;
        let mut shutdown = self.shutdown.clone();
        let session = async move {
            let _permit = permit;
            tokio::select! {
                // Neither arm's loss matters: both end the session and its process.
                () = relay_upgraded(remote, upgrade.0) => {}
                () = shutdown.reached(Phase::Stopping) => {}
            }
        };
        // Detached on purpose: `finished` waits for it through the tracker.
        drop(tasks::spawn("api/session", self.tracker.track_future(session)));
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, SESSION_PROTOCOL)];
        Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
    }

    /// Returns once no session is left.
    pub(super) async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn relay_upgraded(remote: Remote, upgrade: OnUpgrade) {
    let client = match tokio::time::timeout(UPGRADE, upgrade).await {
        Ok(Ok(upgraded)) => TokioIo::new(upgraded),
        Ok(Err(error)) => return tracing::info!(%error, "the client did not start its session"),
        Err(_) => return tracing::info!("the client took too long to start its session"),
    };
    if let Err(error) = relay(remote, client).await {
        tracing::debug!("session broke off: {}", report(&error));
    }
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("watch a process's {stream}")]
    Watch { stream: &'static str, source: io::Error },
    #[error("write to the client")]
    Client { source: io::Error },
}

/// Relays until the process has ended and its output is delivered, or the client is gone.
async fn relay<C>(remote: Remote, client: C) -> Result<(), RelayError>
where
    C: AsyncRead + AsyncWrite,
{
    let Remote { input, output, errors, mut process } = remote;
    let input = input.map(|fd| watched(fd, "input")).transpose()?;
    let output = watched(output, "output")?;
    let errors = errors.map(|fd| watched(fd, "errors")).transpose()?;
    let (reader, writer) = tokio::io::split(client);
    let (frames, queue) = mpsc::channel(QUEUE);
    let (resize, sizes) = watch::channel(None);
    let ended = CancellationToken::new();
    let life = async {
        let end = async {
            let code = supervise(process.as_mut(), sizes).await;
            ended.cancel();
            code
        };
        let outputs = async {
            tokio::select! {
                // Both arms are only ever dropped together with the streams they read.
                ((), ()) = async {
                    tokio::join!(
                        pump(Some(output), Frame::Stdout, frames.clone()),
                        pump(errors, Frame::Stderr, frames.clone()),
                    )
                } => {}
                () = async { ended.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
            }
        };
        let (code, ()) = tokio::join!(end, outputs);
        // A closed queue means the client is gone, which `write_frames` reports.
        let _ = frames.send(Frame::Exit(code)).await;
        drop(frames);
        Ok(())
    };
    tokio::select! {
        // Every arm ends the session; what the others were doing is then of no use to anybody.
        result = async { tokio::try_join!(life, write_frames(writer, queue)) } => result.map(|_| ()),
        () = read_client(reader, input, resize) => Ok(()),
    }
}

fn watched(fd: OwnedFd, stream: &'static str) -> Result<AsyncFd<File>, RelayError> {
    let error = |source| RelayError::Watch { stream, source };
    sys::fd::set_nonblocking(fd.as_fd()).map_err(error)?;
    sys::fd::watch(fd).map_err(error)
}

/// The process's exit code; window sizes are passed on until then.
async fn supervise(
    process: &mut dyn Process,
    mut sizes: watch::Receiver<Option<(u16, u16)>>,
) -> u8 {
    loop {
        let changed = tokio::select! {
            // Cancel-safe by contract.
            code = process.wait() => return exit_code(code),
            // Cancel-safe: the change stays unseen until it is borrowed. An error means that the
            // client is gone, and then this whole future is dropped.
            changed = sizes.changed() => changed.is_ok(),
        };
        let size = *sizes.borrow_and_update();
        if let Some((columns, rows)) = size
            && let Err(error) = process.resize(columns, rows)
        {
            tracing::debug!("cannot resize a session's terminal: {}", report(&error));
        }
        if !changed {
            return exit_code(process.wait().await);
        }
    }
}

fn exit_code(code: Result<i32, Error>) -> u8 {
    match code {
        Ok(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Err(error) => {
            tracing::error!("cannot learn how a session's process ended: {}", report(&error));
            u8::MAX
        }
    }
}

/// Sends what the process writes to `stream` as frames, until its end.
async fn pump(
    stream: Option<AsyncFd<File>>,
    frame: fn(Bytes) -> Frame,
    frames: mpsc::Sender<Frame>,
) {
    let Some(stream) = stream else { return };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let Ok(mut ready) = stream.readable().await else { return };
        let Ok(result) = ready.try_io(|stream| stream.get_ref().read(&mut buffer)) else {
            continue;
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A pty's master reports EIO when nobody has the other end open (pty(7)).
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if frames.send(frame(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes frames as they come; an empty one now and then to learn whether the client is there.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Frame>,
) -> Result<(), RelayError> {
    let mut buffer = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(KEEP_ALIVE, queue.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) => Frame::Stdout(Bytes::new()),
        };
        if let Err(error) = frame.encode(&mut buffer) {
            tracing::error!("a session's frame cannot be sent: {}", report(&error));
        }
        writer.write_all_buf(&mut buffer).await.map_err(|source| RelayError::Client { source })?;
    }
    writer.shutdown().await.map_err(|source| RelayError::Client { source })
}

/// Passes on what the client sends, until it is gone or breaks the protocol.
async fn read_client(
    reader: impl AsyncRead + Unpin,
    mut input: Option<AsyncFd<File>>,
    resize: watch::Sender<Option<(u16, u16)>>,
) {
    let mut frames = FramedRead::new(reader, FrameCodec);
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(Frame::Stdin(data)) if data.is_empty() => input = None,
            Ok(Frame::Stdin(data)) => {
                if let Some(stream) = &input
                    && write_all(stream, &data).await.is_err()
                {
                    // The process has closed its input; the rest of it is dropped.
                    input = None;
                }
            }
            Ok(Frame::Window { rows, columns }) => {
                resize.send_replace(Some((columns, rows)));
            }
            // A signal has no verb: a terminal turns ^C into one, a lost client ends the process.
            Ok(Frame::Signal(_)) => {}
            Ok(Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_)) => {
                return tracing::info!("a session's client sent a frame that only a server sends");
            }
            Err(error) => return tracing::debug!("session lost: {}", report(&error)),
        }
    }
}

async fn write_all(stream: &AsyncFd<File>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let mut ready = stream.writable().await?;
        match ready.try_io(|stream| stream.get_ref().write(data)) {
            Ok(Ok(count)) => data = &data[count..],
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            // Not ready after all; wait again.
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
