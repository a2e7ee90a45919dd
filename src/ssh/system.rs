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
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use russh::keys::{HashAlg, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::support::tasks;
use crate::sys::session::reader_is_gone;
use crate::sys::tty::{RawMode, window_size};
use crate::wire::frames::{Frame, FrameCodec};
use crate::wire::{
    ACTOR_FROM_HEADER, ACTOR_HEADER, ACTOR_VIA_HEADER, API_PREFIX, ExecRequest, Problem,
    SESSION_PROTOCOL, TerminalSize,
};

/// How long the control plane may take to answer; sshd's own patience is `LoginGraceTime`.
const ANSWER: Duration = Duration::from_secs(10);
/// How often we look whether sshd still takes our output: it sends no signal when a client without
/// a terminal goes away.
const WATCH: Duration = Duration::from_secs(1);
/// The largest answer that is no stream: some thousand keys.
const MAX_ANSWER: usize = 16 << 20;
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
    #[error("the control plane's answer cannot be understood")]
    Answer,
    #[error("this key was removed")]
    UnknownKey,
    #[error("{}{}", .0.detail, .0.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default())]
    Refused(Box<Problem>),
    #[error("the control plane went away")]
    Lost,
    #[error("nobody reads the output any more")]
    Unread,
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
        for line in crate::support::report(&error).lines() {
            let _ = writeln!(io::stderr(), " !     {line}");
        }
        ExitCode::from(EXIT_BROKEN)
    })
}

fn try_authorized_keys(
    arguments: &[OsString],
    control_socket: &Path,
    executable: &Path,
) -> Result<u8, Error> {
    let words: Vec<_> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let [_user, kind, key] = words[..] else {
        return Err(Error::Usage("ssh-authorized-keys %u %t %k"));
    };
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).map_err(Error::Key)?;
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let text = key.to_openssh().map_err(Error::Key)?;
    if runtime()?.block_on(owner(control_socket, &fingerprint))?.is_some() {
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
    let request = ExecRequest {
        command: text("SSH_ORIGINAL_COMMAND").unwrap_or_default(),
        terminal: terminal_size(),
        environment: sent
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text(name)?)))
            .collect(),
    };
    // `client port server port`, see sshd(8).
    let from = text("SSH_CONNECTION")
        .and_then(|connection| connection.split(' ').next().map(str::to_owned));
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let owner = owner(control_socket, fingerprint).await?.ok_or(Error::UnknownKey)?;
        relay(control_socket, (&owner, from.as_deref()), request).await
    });
    // A thread may be waiting for input that never comes.
    runtime.shutdown_background();
    result
}

fn terminal_size() -> Option<TerminalSize> {
    let (columns, rows) = window_size(io::stdin().as_fd()).ok()?;
    Some(TerminalSize { columns, rows })
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)
}

/// The name of the key's owner, or none when the key is not known (any more).
async fn owner(control_socket: &Path, fingerprint: &str) -> Result<Option<String>, Error> {
    let request = Request::get(format!("{API_PREFIX}/ssh-keys"))
        .header(ACTOR_HEADER, "sshd")
        .header(ACTOR_VIA_HEADER, "sshd");
    let response = ask(control_socket, request, Bytes::new()).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    let keys: Vec<KnownKey> = read(response).await?;
    Ok(keys.into_iter().find(|key| key.fingerprint == fingerprint).map(|key| key.user))
}

/// What matters here of `wire::SshKey`.
#[derive(Debug, serde::Deserialize)]
struct KnownKey {
    user: String,
    fingerprint: String,
}

async fn refusal(response: Response<Incoming>) -> Error {
    read(response).await.map_or_else(|error| error, |problem| Error::Refused(Box::new(problem)))
}

async fn read<T: serde::de::DeserializeOwned>(response: Response<Incoming>) -> Result<T, Error> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
    let body = tokio::time::timeout(ANSWER, body).await.map_err(|_| Error::Silent)?;
    let body = body.map_err(|_| Error::Answer)?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| Error::Answer)
}

async fn ask(
    control_socket: &Path,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(control_socket).await.map_err(Error::Unreachable)?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(Error::Request)?;
    // Its end is seen by the sender and by the streams; the process ends soon after.
    drop(tasks::spawn("ssh-command/connection", connection.with_upgrades()));
    let request = request
        .header("host", "staithe")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|error| Error::Start(io::Error::other(error)))?;
    let response = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
    response.map_err(|_| Error::Silent)?.map_err(Error::Request)
}

async fn relay(
    control_socket: &Path,
    (owner, from): (&str, Option<&str>),
    exec: ExecRequest,
) -> Result<u8, Error> {
    let terminal = exec.terminal.is_some();
    let body = serde_json::to_vec(&exec).map_err(|error| Error::Start(error.into()))?;
    let mut request = Request::post(format!("{API_PREFIX}/ssh/exec"))
        .header(ACTOR_HEADER, owner)
        .header("connection", "upgrade")
        .header("upgrade", SESSION_PROTOCOL);
    if let Some(from) = from {
        request = request.header(ACTOR_FROM_HEADER, from);
    }
    let response = ask(control_socket, request, body.into()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let stream = hyper::upgrade::on(response).await.map_err(Error::Request)?;
    let (reader, writer) = tokio::io::split(TokioIo::new(stream));
    // Ours is only a pipe between two terminals: the one behind the control plane edits and echoes.
    let raw = terminal.then(|| RawMode::enter(io::stdin().as_fd())).transpose();
    let _raw = raw.map_err(Error::Start)?;
    let (frames, queued) = mpsc::channel(MAX_QUEUED);
    // Each arm that ends also ends the process, so that nothing of the others is missed. Those that
    // only send never end: the control plane may stop reading before its last word has arrived.
    tokio::select! {
        code = receive(reader) => code,
        error = watch_output() => Err(error),
        error = follow_window(frames.clone(), terminal) => Err(error),
        never = read_input(frames) => Err(never),
        never = send(queued, writer) => Err(never),
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
        written.map_err(|_| Error::Unread)?;
    }
    Err(Error::Lost)
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(to: &mut W, data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

async fn send<W: tokio::io::AsyncWrite>(mut queued: mpsc::Receiver<Frame>, writer: W) -> Error {
    let mut frames = std::pin::pin!(FramedWrite::new(writer, FrameCodec));
    while let Some(frame) = queued.recv().await {
        if frames.send(frame).await.is_err() {
            break;
        }
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
        if frames.send(Frame::Stdin(data)).await.is_err() || count == 0 {
            return std::future::pending().await;
        }
    }
}

async fn follow_window(frames: mpsc::Sender<Frame>, terminal: bool) -> Error {
    if !terminal {
        return std::future::pending().await;
    }
    let mut changes = match signal(SignalKind::window_change()) {
        Ok(changes) => changes,
        Err(error) => return Error::Start(error),
    };
    while changes.recv().await.is_some() {
        let Some(TerminalSize { columns, rows }) = terminal_size() else { continue };
        if frames.send(Frame::Window { rows, columns }).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

async fn watch_output() -> Error {
    let mut ticks = tokio::time::interval(WATCH);
    loop {
        ticks.tick().await;
        if reader_is_gone(io::stdout().as_fd()).unwrap_or(true) {
            return Error::Unread;
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
