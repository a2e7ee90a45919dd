//! The `pre-receive` hook: asks the control plane for a push's verdict and shows what it streams.
//!
//! Runs as the repositories' owner, as a child of `git receive-pack`, in a process group that gets
//! a hang-up when the client goes away. Its death closes the request, which tells the platform to
//! cancel.
//!
//! ```text
//!  read updates ─> connect (30 s) ─> POST ─> lines … ─> outcome ─> exit 0 or 1
//!                                     └─ lost ─> GET until decided, unknown or 30 s of silence
//! ```

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{PushOutput, RefUpdate};
use crate::domain::AppName;
use crate::sys::session::reader_is_gone;

mod client;
mod messages;
mod output;

use client::{Client, Verdict};
use output::Output;

/// How often we look whether the user is still there.
const WATCH: Duration = Duration::from_millis(250);
/// The most the updates of one push may measure: 1000 refs with the longest names.
const MAX_INPUT: usize = 4 << 20;

/// What a hook is told by its environment.
#[derive(Debug)]
struct Setting {
    app: AppName,
    actor: String,
    /// From where they came, and by which door if not by SSH.
    from: Option<String>,
    via: Option<String>,
    control_socket: PathBuf,
    quarantine: Option<PathBuf>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unknown git hook; this server installs `pre-receive`")]
    Hook,
    #[error("`{0}` is not set; this hook only runs in a push to Staithe")]
    Environment(&'static str),
    #[error("read the updates of the push")]
    Input(#[source] io::Error),
    #[error("the push cannot be read")]
    Updates(#[from] super::InvalidUpdate),
    #[error("start")]
    Start(#[source] io::Error),
    /// Nobody reads what we print: the client is gone.
    #[error("show the progress")]
    Output(#[source] io::Error),
    #[error("the control plane is not running; push again when it is back")]
    Unreachable(#[source] io::Error),
    #[error(
        "the control plane was restarted before it decided about this push; what serves is \
        unchanged unless `staithe releases` shows a new release; push again"
    )]
    Lost,
    #[error("the control plane has said nothing for {0} s; push again")]
    Silent(u64),
    #[error("the control plane's answer cannot be understood")]
    Answer,
}

/// Runs the hook that `arguments` name, with `environment` to look variables up, on the standard
/// streams. The exit code is git's answer: 0 lets the push in.
pub fn main(arguments: &[OsString], environment: impl Fn(&str) -> Option<OsString>) -> ExitCode {
    let mode = output_mode(&environment);
    let mut output = Output::new(mode, io::stdout());
    match run(arguments, environment, &mut output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // When the client is gone, there is nobody to tell.
            let _ = output.failure(&crate::support::report(&error));
            ExitCode::FAILURE
        }
    }
}

fn run<W: Write>(
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
    output: &mut Output<W>,
) -> Result<bool, Error> {
    if arguments.first().is_none_or(|name| name != "pre-receive") {
        return Err(Error::Hook);
    }
    let setting = Setting::read(environment)?;
    let updates = RefUpdate::parse_all(&read_input().map_err(Error::Input)?)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    let client = Client::new(&setting, &updates).map_err(Error::Start)?;
    let verdict = runtime.block_on(async {
        // Either arm ends the process, so that nothing of the other is missed.
        tokio::select! {
            verdict = client.verdict(output) => verdict,
            () = user_is_gone() => Err(Error::Output(io::ErrorKind::BrokenPipe.into())),
        }
    });
    match verdict? {
        Verdict::Accepted => Ok(true),
        Verdict::Rejected(None) => Ok(false),
        Verdict::Rejected(Some(reason)) => {
            output.failure(&reason).map_err(Error::Output)?;
            Ok(false)
        }
    }
}

/// Returns when nobody can read our output any more. A hook that waited for a silent build would
/// not notice otherwise; its end lets `receive-pack` clear the quarantine away, which it does not
/// do when it is ended by a signal.
async fn user_is_gone() {
    let mut ticks = tokio::time::interval(WATCH);
    let output = io::stdout();
    while !reader_is_gone(output.as_fd()).unwrap_or(true) {
        ticks.tick().await;
    }
}

fn read_input() -> io::Result<String> {
    let mut input = String::new();
    let limit = u64::try_from(MAX_INPUT).unwrap_or(u64::MAX);
    io::stdin().take(limit).read_to_string(&mut input)?;
    // A cut line could name another ref.
    if input.len() == MAX_INPUT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(input) }
}

impl Setting {
    fn read(environment: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |name: &'static str| {
            let value = environment(name).and_then(|value| value.into_string().ok());
            value.ok_or(Error::Environment(name))
        };
        Ok(Self {
            app: text("STAITHE_APP")?.parse().map_err(|_| Error::Environment("STAITHE_APP"))?,
            actor: text("STAITHE_ACTOR")?,
            from: text("STAITHE_ACTOR_FROM").ok(),
            via: text("STAITHE_ACTOR_VIA").ok(),
            control_socket: PathBuf::from(text("STAITHE_CONTROL_SOCKET")?),
            quarantine: environment("GIT_QUARANTINE_PATH").map(PathBuf::from),
        })
    }
}

fn output_mode(environment: impl Fn(&str) -> Option<OsString>) -> PushOutput {
    match environment("STAITHE_PUSH_OUTPUT").as_ref().and_then(|value| value.to_str()) {
        Some("direct") => PushOutput::Direct,
        Some("overwrite") => PushOutput::Overwrite,
        _ => PushOutput::Sideband,
    }
}
