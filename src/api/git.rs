//! `/git/<app>.git/…`: git's smart HTTP (gitprotocol-http(5)), for CI that has a token and no key.
//!
//! ```text
//!  GET  info/refs?service=git-receive-pack ─► what there is; the first push makes the app
//!  POST git-receive-pack ── body (gzip or not) ─► git ─► hook ─► build ── side band ─► answer
//! ```
//!
//! The same commands serve a repository as over SSH, with the same policy, hook and limits.
//!
//! **Invariant.** Only tokens come in here: a browser that was led here with its cookie does nothing.

use std::io::Write;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ssh::Shell;
use crate::domain::AppName;
use crate::platform::{Error, Kind};
use crate::support::tasks;
use crate::sys::session::{GroupSignal, signal_group};
use crate::web::{Caller, Refusal};

/// Conversations at once, on the whole machine.
const AT_ONCE: usize = 32;
/// What is read of git's output at once, and how many of these wait for a slow client.
const CHUNK: usize = 32 << 10;
const QUEUE: usize = 4;
/// How long one conversation may last: longer than any build.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// How long git may take to clear up after its client has gone.
const GRACE: Duration = Duration::from_secs(10);
/// The most bytes of a fetch's request, unpacked: lists of what the client has.
const MAX_FETCH_BYTES: u64 = 16 << 20;

/// One of git's services over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOverHttp {
    /// `git push`.
    ReceivePack,
    /// `git fetch`, `git clone`.
    UploadPack,
}

impl GitOverHttp {
    fn by_name(name: &str) -> Option<Self> {
        match name {
            "git-receive-pack" => Some(Self::ReceivePack),
            "git-upload-pack" => Some(Self::UploadPack),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReceivePack => "git-receive-pack",
            Self::UploadPack => "git-upload-pack",
        }
    }
}

/// Half of a conversation with git.
#[derive(Debug, Clone)]
pub struct GitHttpRequest {
    /// The repository's app.
    pub app: AppName,
    /// The service.
    pub service: GitOverHttp,
    /// Only what refs there are.
    pub advertise: bool,
    /// The client's `Git-Protocol`.
    pub protocol: Option<String>,
}

/// What a started command comes as.
pub type GitCommand<'a> = Pin<Box<dyn Future<Output = Result<Command, Error>> + Send + 'a>>;

#[derive(Clone)]
struct Git {
    shell: Arc<dyn Shell>,
    permits: Arc<Semaphore>,
}

/// What the web door leads to below `/git`.
pub(super) fn routes(shell: Arc<dyn Shell>) -> Router {
    // The repository's name is no `{app}`: it ends with `.git`. The platform decides on the app.
    Router::new()
        .route("/git/{repository}/info/refs", get(refs))
        .route("/git/{repository}/git-receive-pack", post(receive_pack))
        .route("/git/{repository}/git-upload-pack", post(upload_pack))
        .with_state(Git { shell, permits: Arc::new(Semaphore::new(AT_ONCE)) })
}

#[derive(Debug, Deserialize)]
struct RefsQuery {
    service: Option<String>,
}

async fn refs(
    State(git): State<Git>,
    caller: Caller,
    Path(repository): Path<String>,
    Query(query): Query<RefsQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let service = query.service.as_deref().and_then(GitOverHttp::by_name).ok_or_else(|| {
        // Without the service it is the dumb protocol, which reads files as they are.
        let message = "only git's smart protocol is served here";
        Refusal::from(Error::new(Kind::Invalid, message)).with_status(StatusCode::FORBIDDEN)
    })?;
    let protocol = protocol(service, &headers);
    let new_form = protocol.as_deref() == Some("version=2");
    let request = GitHttpRequest { app: app(&repository)?, service, advertise: true, protocol };
    let talk = git.start(&caller, request).await?;
    let head = match new_form {
        true => Bytes::new(),
        false => preamble(service),
    };
    Ok(answer(service, "advertisement", talk.run(Body::empty(), Packing::Plain, head)))
}

async fn receive_pack(
    State(git): State<Git>,
    caller: Caller,
    Path(repository): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    git.converse(caller, &repository, GitOverHttp::ReceivePack, &headers, body).await
}

async fn upload_pack(
    State(git): State<Git>,
    caller: Caller,
    Path(repository): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    git.converse(caller, &repository, GitOverHttp::UploadPack, &headers, body).await
}

impl Git {
    async fn converse(
        &self,
        caller: Caller,
        repository: &str,
        service: GitOverHttp,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let expected = format!("application/x-{}-request", service.name());
        if content_type != Some(expected.as_str()) {
            let error = Error::new(Kind::Invalid, format!("the request must be `{expected}`"));
            return Err(Refusal::from(error).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let packing = Packing::of(headers)?;
        let protocol = protocol(service, headers);
        let request = GitHttpRequest { app: app(repository)?, service, advertise: false, protocol };
        let talk = self.start(&caller, request).await?;
        Ok(answer(service, "result", talk.run(body, packing, Bytes::new())))
    }

    async fn start(&self, caller: &Caller, request: GitHttpRequest) -> Result<Talk, Refusal> {
        if caller.actor.via != "token" {
            let error = Error::new(Kind::Denied, "git over HTTP needs a token as its password")
                .hint("make one with `staithe tokens:create <name> --verb 'git:*'`");
            return Err(Refusal::from(error).with_status(StatusCode::UNAUTHORIZED));
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            Error::new(Kind::Unavailable, "too many pushes and fetches are going on")
                .hint("try again in a moment")
        })?;
        let service = request.service;
        let mut command = self.shell.git(caller, request).await?;
        // What git has to say goes over the side band.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |error| Error::new(Kind::Internal, "git cannot be started").because(error);
        let mut child: Child = command.spawn().map_err(failed)?;
        let missing = || Error::new(Kind::Internal, "git has no standard streams");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Talk { child, input, output, service, _permit: permit })
    }
}

/// A command that was started, with what it holds.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    service: GitOverHttp,
    _permit: OwnedSemaphorePermit,
}

impl Talk {
    /// Runs it in a task of its own, which outlives the client by a grace time only.
    fn run(self, body: Body, packing: Packing, head: Bytes) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        // Detached on purpose: ends with its client or at its deadline.
        drop(tasks::spawn("api/git", async move {
            let Self { mut child, input, output, service, _permit } = self;
            let limit = match service {
                GitOverHttp::UploadPack => MAX_FETCH_BYTES,
                // `receive.maxInputSize` bounds packs, as over SSH.
                GitOverHttp::ReceivePack => u64::MAX,
            };
            let gone = sender.clone();
            let talk = async {
                if !head.is_empty() && sender.send(head).await.is_err() {
                    return;
                }
                let sent = feed(input, body, packing, limit);
                // Both go on side by side; who has said its last word needs no more input.
                tokio::select! {
                    // The arms own what they read and write, and end with it.
                    () = pump(output, sender) => {}
                    () = async { sent.await; std::future::pending().await } => {}
                }
            };
            tokio::select! {
                // Each arm's loss ends the conversation, which is what the others wait for.
                () = talk => {}
                () = gone.closed() => {}
                () = tokio::time::sleep(LONGEST) => {}
            }
            drop(gone);
            end(&mut child).await;
        }));
        receiver
    }
}

/// Lets git end by itself, and clear its quarantine away, before it is killed.
async fn end(child: &mut Child) {
    let leader = child.id();
    // It may have ended by itself.
    let signal = |signal| leader.map(|leader| signal_group(leader, signal));
    if let Ok(None) = child.try_wait() {
        let _ = signal(GroupSignal::HangUp);
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(Ok(status)) => tracing::debug!(%status, "git over HTTP ended"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot wait for git"),
        Err(_) => {
            tracing::warn!("git did not end in time after its client was gone");
            let _ = signal(GroupSignal::Kill);
        }
    }
}

/// Gives git what the client sends. A body that breaks off, or is damaged or too large, ends the
/// input: git then sees half a request and refuses it.
async fn feed(mut input: ChildStdin, body: Body, packing: Packing, limit: u64) {
    let mut body = body.into_data_stream();
    let mut unpacked = Unpacked::new(packing, limit);
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else { return };
        // Small pieces, so that a few bytes cannot become a great many at once.
        for piece in chunk.chunks(PIECE) {
            match unpacked.next(piece) {
                Ok(data) if input.write_all(&data).await.is_ok() => {}
                Ok(_) => return,
                Err(error) => return tracing::info!(%error, "a request of git's is refused"),
            }
        }
    }
    if let Ok(rest) = unpacked.finish() {
        // Who does not read any more has said what there was to say.
        let _ = input.write_all(&rest).await;
    }
}

/// Deflate makes at most 1032 bytes of one: 4 MiB of a piece.
const PIECE: usize = 4 << 10;

async fn pump(mut output: ChildStdout, sender: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if sender.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return;
        }
    }
}

/// How the request's body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
}

impl Packing {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => Ok(Self::Plain),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip),
            Some(_) => {
                let error = Error::new(Kind::Invalid, "only gzip is understood");
                Err(Refusal::from(error).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
            }
        }
    }
}

/// Unpacks a body piece by piece, up to a limit.
struct Unpacked {
    gzip: Option<GzDecoder<Vec<u8>>>,
    left: u64,
}

impl Unpacked {
    fn new(packing: Packing, limit: u64) -> Self {
        let gzip = (packing == Packing::Gzip).then(|| GzDecoder::new(Vec::new()));
        Self { gzip, left: limit }
    }

    fn next(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        let data = match &mut self.gzip {
            None => piece.to_vec(),
            Some(gzip) => {
                gzip.write_all(piece)?;
                gzip.flush()?;
                std::mem::take(gzip.get_mut())
            }
        };
        self.counted(data)
    }

    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        let rest = match self.gzip.take() {
            None => Vec::new(),
            Some(gzip) => gzip.finish()?,
        };
        self.counted(rest)
    }

    fn counted(&mut self, data: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(data)
            }
            None => Err(std::io::ErrorKind::FileTooLarge.into()),
        }
    }
}

/// What stands before the refs in the first forms of the protocol.
fn preamble(service: GitOverHttp) -> Bytes {
    let line = format!("# service={}\n", service.name());
    format!("{:04x}{line}0000", line.len() + 4).into()
}

/// `receive-pack` knows no version 2, and clients that ask for it there expect the first form.
fn protocol(service: GitOverHttp, headers: &HeaderMap) -> Option<String> {
    let asked = headers.get("git-protocol").and_then(|value| value.to_str().ok())?;
    let known = asked.split(':').find(|word| word.starts_with("version="))?;
    (service == GitOverHttp::UploadPack || known != "version=2").then(|| known.to_owned())
}

/// `shop.git` and `shop` are `shop`'s.
fn app(repository: &str) -> Result<AppName, Error> {
    Ok(repository.strip_suffix(".git").unwrap_or(repository).parse()?)
}

fn answer(service: GitOverHttp, what: &str, output: mpsc::Receiver<Bytes>) -> Response {
    let body = Body::from_stream(stream::unfold(output, |mut output| async {
        let chunk = output.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), output))
    }));
    let content_type = format!("application/x-{}-{what}", service.name());
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache".into())], body)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_body_is_unpacked_up_to_its_limit() {
        let text = b"0032want 0123".repeat(1000);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&text).unwrap();
        let packed = packed.finish().unwrap();
        let unpack = |limit: u64| -> std::io::Result<Vec<u8>> {
            let mut unpacked = Unpacked::new(Packing::Gzip, limit);
            let mut all = Vec::new();
            for piece in packed.chunks(7) {
                all.extend(unpacked.next(piece)?);
            }
            all.extend(unpacked.finish()?);
            Ok(all)
        };
        assert_eq!(unpack(u64::MAX).unwrap(), text);
        assert!(unpack(100).is_err());
        assert!(Unpacked::new(Packing::Gzip, 100).next(b"no gzip at all").is_err());
    }

    #[test]
    fn the_refs_begin_with_the_service() {
        assert_eq!(preamble(GitOverHttp::UploadPack), "001e# service=git-upload-pack\n0000");
        assert_eq!(preamble(GitOverHttp::ReceivePack), "001f# service=git-receive-pack\n0000");
    }

    #[test]
    fn a_repository_names_its_app() {
        assert_eq!(app("shop.git").unwrap().as_str(), "shop");
        assert_eq!(app("shop").unwrap().as_str(), "shop");
        for wrong in ["", ".git", "..", "Shop.git", "a b"] {
            assert!(app(wrong).is_err(), "{wrong}");
        }
    }
}
