//! What the system's sshd runs, as an account without privileges: a list of keys, and a forced
//! command. Both ask the control plane over its socket. See `docs/system-sshd.md`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use russh::keys::{HashAlg, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::relay::{AuthorizeRequest, RelayRequest};
use crate::support::tasks;
use crate::sys::session::{RawMode, reader_is_gone, window_size};
use crate::wire::frames::{Frame, FrameCodec};

/// How long the control plane may take to answer; sshd's own patience is `LoginGraceTime`.
const ANSWER: Duration = Duration::from_secs(10);
/// How often we look whether sshd still takes our output: it sends no signal when a client without
/// a terminal goes away.
const WATCH: Duration = Duration::from_secs(1);
/// One read of the input; one frame.
const CHUNK: usize = 32 * 1024;
/// Frames on their way to the control plane.
const MAX_QUEUED: usize = 8;
/// OpenSSH's code for a session that broke.
const EXIT_BROKEN: u8 = 255;

/// Why a session through the system's sshd failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("usage: staithe {0}")]
    Usage(&'static str),
    #[error("the offered key cannot be read")]
    Key(#[source] russh::keys::ssh_key::Error),
    #[error("start")]
    Start(#[source] io::Error),
    #[error("the control plane is not running; try again when it is back")]
    Unreachable(#[source] io::Error),
    #[error("ask the control plane")]
    Request(#[source] hyper::Error),
    #[error("the control plane has not answered within {} s", ANSWER.as_secs())]
    Silent,
    #[error("the control plane refused the session with status {0}")]
    Refused(StatusCode),
    #[error("the control plane went away")]
    Lost,
}

/// `staithe ssh-authorized-keys <user> <key type> <key>`, sshd's `AuthorizedKeysCommand`
/// (sshd_config(5)) with the tokens `%u %t %k`. Prints the key's line where it is known, with
/// `executable` as forced command.
pub fn authorized_keys(
    arguments: &[OsString],
    control_socket: &Path,
    executable: &Path,
) -> ExitCode {
    exit_code(try_authorized_keys(arguments, control_socket, executable))
}

/// `staithe ssh-command <fingerprint>`, the forced command: runs what the client asked for in the
/// control plane and passes all streams. Exits as the command does.
pub fn forced_command(
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
    control_socket: &Path,
) -> ExitCode {
    exit_code(try_forced_command(arguments, environment, control_socket))
}

fn exit_code(result: Result<u8, Error>) -> ExitCode {
    result.map(ExitCode::from).unwrap_or_else(|error| {
        // When nobody reads it, nobody misses it.
        let _ = writeln!(io::stderr(), " !     {}", crate::support::report(&error));
        ExitCode::from(EXIT_BROKEN)
    })
}

fn try_authorized_keys(
    arguments: &[OsString],
    control_socket: &Path,
    executable: &Path,
) -> Result<u8, Error> {
    let usage = || Error::Usage("ssh-authorized-keys %u %t %k");
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let [_user, kind, key] = words[..] else { return Err(usage()) };
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).map_err(Error::Key)?;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let text = key.to_openssh().map_err(Error::Key)?;
    let known = runtime()?.block_on(async {
        let request = AuthorizeRequest { fingerprint: fingerprint.clone() };
        let response = ask(control_socket, "/api/v1/ssh/authorize", &request, None).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(Error::Refused(status)),
        }
    })?;
    if known {
        let line = authorized_keys_line(executable, &fingerprint, &text);
        io::stdout().write_all(line.as_bytes()).map_err(Error::Start)?;
    }
    Ok(0)
}

/// A fingerprint has no letters that a shell or sshd would take for anything else; the path of the
/// executable is the operator's.
fn authorized_keys_line(executable: &Path, fingerprint: &str, key: &str) -> String {
    let command = format!("'{}' ssh-command {fingerprint}", executable.display());
    let command = command.replace('"', "\\\"");
    format!("restrict,pty,command=\"{command}\" {}\n", key.trim_end())
}

fn try_forced_command(
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
    control_socket: &Path,
) -> Result<u8, Error> {
    let fingerprint = arguments.first().and_then(|word| word.to_str());
    let fingerprint = fingerprint.ok_or(Error::Usage("ssh-command <fingerprint>"))?;
    let text = |name: &str| environment(name).and_then(|value| value.into_string().ok());
    let sent = ["TERM", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "GIT_PROTOCOL"];
    let request = RelayRequest {
        fingerprint: fingerprint.to_owned(),
        command: text("SSH_ORIGINAL_COMMAND").unwrap_or_default(),
        terminal: window_size(io::stdin().as_fd()).map(|size| (size.rows, size.columns)),
        environment: sent
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text(name)?)))
            .collect(),
    };
    let runtime = runtime()?;
    let result = runtime.block_on(relay(control_socket, request));
    // A thread may be waiting for input that never comes.
    runtime.shutdown_background();
    result
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)
}

/// Sends one request; with `upgrade`, asks for the connection to become that protocol's.
async fn ask<B: serde::Serialize>(
    control_socket: &Path,
    path: &str,
    body: &B,
    upgrade: Option<&str>,
) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(control_socket).await.map_err(Error::Unreachable)?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(Error::Request)?;
    // Its end is seen by the sender and by the streams; the process ends soon after.
    drop(tasks::spawn("ssh-command/connection", connection.with_upgrades()));
    let body = serde_json::to_vec(body).map_err(|error| Error::Start(error.into()))?;
    let mut request =
        Request::post(path).header("host", "staithe").header("content-type", "application/json");
    if let Some(protocol) = upgrade {
        request = request.header("connection", "upgrade").header("upgrade", protocol);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Error::Start(io::Error::other(error)))?;
    let response = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
    response.map_err(|_| Error::Silent)?.map_err(Error::Request)
}

async fn relay(control_socket: &Path, request: RelayRequest) -> Result<u8, Error> {
    let terminal = request.terminal.is_some();
    let response =
        ask(control_socket, "/api/v1/ssh/exec", &request, Some("staithe-session")).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Refused(response.status()));
    }
    let stream = hyper::upgrade::on(response).await.map_err(Error::Request)?;
    let (reader, writer) = tokio::io::split(TokioIo::new(stream));
    // Ours is only a pipe between two terminals: the one behind the control plane edits and echoes.
    let _raw = terminal.then(|| RawMode::enter(io::stdin().as_fd())).transpose();
    let _raw = _raw.map_err(Error::Start)?;
    let (frames, queued) = mpsc::channel(MAX_QUEUED);
    // All arms end the process, so that nothing of them is missed.
    tokio::select! {
        code = receive(reader) => code,
        sent = send(queued, writer) => sent,
        error = read_input(frames.clone()) => Err(error),
        error = follow_window(frames, terminal) => Err(error),
        error = watch_output() => Err(error),
    }
}

/// Writes what comes until the exit code does.
async fn receive<R: tokio::io::AsyncRead>(reader: R) -> Result<u8, Error> {
    let mut frames = std::pin::pin!(FramedRead::new(reader, FrameCodec));
    let (mut output, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    while let Some(Ok(frame)) = frames.next().await {
        let written = match frame {
            Frame::Stdout(data) => write(&mut output, &data).await,
            Frame::Stderr(data) => write(&mut errors, &data).await,
            Frame::Exit(code) => return Ok(code),
            Frame::Stdin(_) | Frame::Window { .. } | Frame::Signal(_) => Ok(()),
        };
        written.map_err(|_| Error::Lost)?;
    }
    Err(Error::Lost)
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(to: &mut W, data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

async fn send<W: tokio::io::AsyncWrite>(
    mut queued: mpsc::Receiver<Frame>,
    writer: W,
) -> Result<u8, Error> {
    let mut frames = std::pin::pin!(FramedWrite::new(writer, FrameCodec));
    while let Some(frame) = queued.recv().await {
        frames.send(frame).await.map_err(|_| Error::Lost)?;
    }
    std::future::pending().await
}

async fn read_input(frames: mpsc::Sender<Frame>) -> Error {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        // An input that fails has ended.
        let count = input.read(&mut buffer).await.unwrap_or(0);
        let data = Bytes::copy_from_slice(&buffer[..count]);
        if frames.send(Frame::Stdin(data)).await.is_err() {
            return Error::Lost;
        }
        if count == 0 {
            return std::future::pending().await;
        }
    }
}

async fn follow_window(frames: mpsc::Sender<Frame>, terminal: bool) -> Error {
    let mut changes = match signal(SignalKind::window_change()) {
        Ok(changes) if terminal => changes,
        Ok(_) => return std::future::pending().await,
        Err(error) => return Error::Start(error),
    };
    while changes.recv().await.is_some() {
        if let Some(size) = window_size(io::stdin().as_fd()) {
            let frame = Frame::Window { rows: size.rows, columns: size.columns };
            if frames.send(frame).await.is_err() {
                return Error::Lost;
            }
        }
    }
    std::future::pending().await
}

async fn watch_output() -> Error {
    let mut ticks = tokio::time::interval(WATCH);
    loop {
        ticks.tick().await;
        if reader_is_gone(io::stdout().as_fd()).unwrap_or(true) {
            return Error::Lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_is_tied_to_the_forced_command() {
        let line = authorized_keys_line(
            Path::new("/opt/st\"aithe"),
            "SHA256:abc+/=",
            "ssh-ed25519 AAAA\n",
        );
        let expected = "restrict,pty,command=\"'/opt/st\\\"aithe' ssh-command SHA256:abc+/=\" \
            ssh-ed25519 AAAA\n";
        assert_eq!(line, expected);
    }
}
