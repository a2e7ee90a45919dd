//! The conversation with the control plane over its socket.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::messages::{Answer, Outcome, Problem, Push, Update};
use super::output::Output;
use super::{Error, Setting};
use crate::git::RefUpdate;
use crate::support::tasks;

/// How long a control plane may be away, at the start or in between: a restart takes a second or
/// two, and a push is not worth more waiting than that with reserves.
const AWAY: Duration = Duration::from_secs(30);
/// How often a control plane that is away is looked for, and an undecided push asked about.
const POLL: Duration = Duration::from_millis(500);
/// How long one answer about the outcome may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the stream may be silent. Builds have a limit of their own, which ends earlier.
const SILENCE: Duration = Duration::from_secs(2 * 3600);
/// The longest line of the stream; a longer one is cut there.
const MAX_LINE: usize = 256 * 1024;
/// The largest answer that is no stream.
const MAX_ANSWER: usize = 1 << 20;

/// The platform's word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// With what is still to be shown.
    Rejected(Option<String>),
}

/// One push and where to ask about it.
pub(super) struct Client {
    control_socket: PathBuf,
    actor: String,
    from: Option<String>,
    via: Option<String>,
    path: String,
    id: String,
    body: Bytes,
}

/// How a conversation ended.
enum Ended {
    Verdict(Verdict),
    /// The control plane has gone.
    Lost,
}

impl Client {
    pub(super) fn new(setting: &Setting, updates: &[RefUpdate]) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let id = format!("{:032x}", u128::from_ne_bytes(random));
        let push = Push {
            id: id.clone(),
            app: setting.app.clone(),
            updates: updates.iter().map(Update::from).collect(),
            quarantine: setting.quarantine.clone(),
        };
        Ok(Self {
            control_socket: setting.control_socket.clone(),
            actor: setting.actor.clone(),
            from: setting.from.clone(),
            via: setting.via.clone(),
            path: format!("/api/v1/apps/{}/pushes", setting.app),
            id,
            body: serde_json::to_vec(&push)?.into(),
        })
    }

    /// Asks, shows what comes, and answers with the verdict.
    pub(super) async fn verdict<W: Write>(&self, output: &mut Output<W>) -> Result<Verdict, Error> {
        let sender = self.connect(output).await?;
        match self.push(sender, output).await? {
            Ended::Verdict(verdict) => Ok(verdict),
            Ended::Lost => {
                let text = " !     Lost the control plane; asking for the outcome of this push";
                output.line(text).map_err(Error::Output)?;
                self.outcome().await
            }
        }
    }

    /// Waits for the control plane to be there; nothing has been asked of it yet.
    async fn connect<W: Write>(
        &self,
        output: &mut Output<W>,
    ) -> Result<SendRequest<Full<Bytes>>, Error> {
        let deadline = Instant::now() + AWAY;
        let mut said = false;
        loop {
            match self.open().await {
                Ok(sender) => return Ok(sender),
                Err(error) if Instant::now() > deadline => return Err(Error::Unreachable(error)),
                Err(_) if said => {}
                Err(_) => {
                    said = true;
                    let text = "       Waiting for the control plane";
                    output.line(text).map_err(Error::Output)?;
                }
            }
            sleep(POLL).await;
        }
    }

    async fn open(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = UnixStream::connect(&self.control_socket).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Its end is seen by the sender and by the body; the process ends soon after.
        let _detached = tasks::spawn("git-hook/connection", connection);
        Ok(sender)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder();
        let told = [("x-staithe-actor-from", &self.from), ("x-staithe-actor-via", &self.via)];
        for (header, value) in told {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
        request
            .method(method)
            .uri(path)
            .header("host", "staithe")
            .header("content-type", "application/json")
            .header("x-staithe-actor", &self.actor)
            .body(Full::new(body))
            .map_err(|_| Error::Answer)
    }

    async fn push<W: Write>(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        output: &mut Output<W>,
    ) -> Result<Ended, Error> {
        let request = self.request(Method::POST, &self.path, self.body.clone())?;
        let silent = |_| Error::Silent(SILENCE.as_secs());
        let response = timeout(SILENCE, sender.send_request(request)).await.map_err(silent)?;
        let Ok(response) = response else { return Ok(Ended::Lost) };
        if response.status() != StatusCode::OK {
            return refusal(response).await;
        }
        let mut body = response.into_body();
        let mut lines = Lines::default();
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(silent)?;
            let Some(Ok(frame)) = frame else { return Ok(Ended::Lost) };
            let Ok(data) = frame.into_data() else { continue };
            for line in lines.push(&data) {
                if let Some(verdict) = show(&line, output)? {
                    return Ok(Ended::Verdict(verdict));
                }
            }
        }
    }

    /// Asks what became of the push until it is decided. Each answer gives the control plane new
    /// time.
    async fn outcome(&self) -> Result<Verdict, Error> {
        let path = format!("{}/{}", self.path, self.id);
        let mut deadline = Instant::now() + AWAY;
        while Instant::now() < deadline {
            sleep(POLL).await;
            match timeout(ANSWER, self.ask(&path)).await {
                Ok(Ok(Some(Outcome::Pending))) => deadline = Instant::now() + AWAY,
                Ok(Ok(Some(Outcome::Accepted {}))) => return Ok(Verdict::Accepted),
                Ok(Ok(Some(Outcome::Rejected { reason }))) => {
                    return Ok(Verdict::Rejected(Some(reason)));
                }
                Ok(Ok(None)) => return Err(Error::Lost),
                // Not there, or not ready yet.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(Error::Lost)
    }

    async fn ask(&self, path: &str) -> io::Result<Option<Outcome>> {
        let mut sender = self.open().await?;
        let request = self.request(Method::GET, path, Bytes::new()).map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        match response.status() {
            StatusCode::OK => Ok(Some(serde_json::from_slice(&whole(response).await?)?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(io::Error::other(format!("status {status}"))),
        }
    }
}

async fn refusal(response: Response<Incoming>) -> Result<Ended, Error> {
    let status = response.status();
    let Ok(body) = whole(response).await else { return Ok(Ended::Lost) };
    let text = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.text(),
        Err(_) => format!("the control plane answered with status {status}"),
    };
    Ok(Ended::Verdict(Verdict::Rejected(Some(text))))
}

async fn whole(response: Response<Incoming>) -> io::Result<Bytes> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
    Ok(body.await.map_err(io::Error::other)?.to_bytes())
}

fn show<W: Write>(line: &[u8], output: &mut Output<W>) -> Result<Option<Verdict>, Error> {
    let answer: Answer = serde_json::from_slice(line).map_err(|_| Error::Answer)?;
    if let Some(text) = answer.line {
        output.line(&text).map_err(Error::Output)?;
    }
    if let Some(problem) = answer.error {
        return Ok(Some(Verdict::Rejected(Some(problem.text()))));
    }
    Ok(answer.result.and_then(|outcome| match outcome {
        Outcome::Accepted {} => Some(Verdict::Accepted),
        // The reason was among the lines.
        Outcome::Rejected { .. } => Some(Verdict::Rejected(None)),
        Outcome::Pending => None,
    }))
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, data: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(data);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.0.drain(..=end).collect();
            line.pop();
            lines.push(line);
        }
        if self.0.len() > MAX_LINE {
            lines.push(std::mem::take(&mut self.0));
        }
        lines.retain(|line| !line.is_empty());
        lines
    }
}

#[cfg(test)]
mod tests;
