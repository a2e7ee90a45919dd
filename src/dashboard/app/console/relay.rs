//! Between a browser's terminal and a process.
//!
//! ```text
//!  browser ── binary: input ── text: {"columns":…,"rows":…} ──►  process
//!  browser ◄─ binary: output ─ text: {"exit":…}, {"error":…} ──  process
//! ```
//!
//! Whichever goes first ends the other. Nothing waits without a deadline: a browser that takes no
//! output, answers no ping or sends nothing for long is gone.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{Buf, Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Standing;
use crate::platform::{Session, SessionStream, SessionStreams};
use crate::support::report;

/// How much is read from the process at once.
const READ_BYTES: usize = 32 << 10;
/// Input that waits for the process; a browser that sends more waits.
const MAX_PENDING: usize = 256 << 10;
/// How often the browser is asked whether it is there, and the person's rights are looked at.
const TICK: Duration = Duration::from_secs(15);
/// A browser that has said nothing for so long, not even to a ping, is gone.
const SILENT: Duration = Duration::from_secs(50);
/// A console in which nobody has typed for so long is closed: a shell left open is a door left open.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// How long the browser may take to accept what is sent.
const SEND: Duration = Duration::from_secs(30);
/// How long output may go on after the process has ended: a grandchild may hold the terminal open.
const DRAIN: Duration = Duration::from_secs(2);

/// A console that is to run.
pub(super) struct Relay {
    pub(super) session: Session,
    /// Its place among those open.
    pub(super) place: tokio::sync::OwnedSemaphorePermit,
    pub(super) may: Standing,
}

/// Why a console ends.
#[derive(Debug)]
enum End {
    /// The browser is gone; there is nobody to tell.
    Gone,
    /// The process has ended.
    Exit(i32),
    /// For a reason that the person is told.
    Closed(&'static str),
}

/// What a browser says in text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    columns: u16,
    rows: u16,
}

impl Relay {
    /// Relays until either side is gone.
    pub(super) async fn run(self, mut socket: WebSocket) {
        let Self { mut session, place, may } = self;
        let end = match session.streams() {
            Ok(streams) => relay(&mut socket, &mut session, &streams, &may).await,
            Err(error) => {
                tracing::error!("a console cannot be opened: {}", report(&error));
                End::Closed("the console cannot be opened; the server's log tells why")
            }
        };
        // Ends the process, before the browser is told that it is over.
        drop(session);
        drop(place);
        let told = match end {
            End::Gone => return,
            End::Exit(code) => json!({ "exit": code }),
            End::Closed(why) => json!({ "error": why }),
        };
        if send(&mut socket, text(&told)).await.is_ok() {
            let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
            // The browser may have gone meanwhile, which is what is wanted.
            let _ = send(&mut socket, Message::Close(Some(frame))).await;
        }
    }
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(SEND, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

async fn relay(
    socket: &mut WebSocket,
    session: &mut Session,
    streams: &SessionStreams,
    may: &Standing,
) -> End {
    let mut state = State::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let step = tokio::select! {
            // Cancel-safe by contract.
            code = session.wait() => {
                let code = code.unwrap_or(1);
                drain(socket, &streams.output, &mut buffer).await;
                return End::Exit(code);
            }
            // Cancel-safe: a message is taken only when it is returned.
            message = socket.recv(), if state.pending_bytes() < MAX_PENDING => {
                state.take(message, session)
            }
            // Cancel-safe by contract.
            written = write(streams.input.as_ref(), &state.pending), if !state.pending.is_empty() => {
                state.written(written);
                Ok(())
            }
            // Cancel-safe by contract.
            read = streams.output.read(&mut buffer), if !state.output_over => match read {
                Ok(0) | Err(_) => {
                    state.output_over = true;
                    Ok(())
                }
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    send(socket, Message::Binary(bytes)).await
                }
            },
            // Cancel-safe.
            _ = tick.tick() => match state.look(may) {
                Ok(()) => send(socket, Message::Ping(Bytes::new())).await,
                Err(end) => Err(end),
            },
        };
        if let Err(end) = step {
            return end;
        }
    }
}

/// What is known of a console that goes on.
#[derive(Debug)]
struct State {
    /// Input that the process has not taken yet.
    pending: Bytes,
    heard: Instant,
    typed: Instant,
    output_over: bool,
}

impl State {
    fn new() -> Self {
        let now = Instant::now();
        Self { pending: Bytes::new(), heard: now, typed: now, output_over: false }
    }

    fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    fn take(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
        session: &Session,
    ) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::Gone) };
        self.heard = Instant::now();
        match message {
            Message::Binary(data) => {
                self.typed = self.heard;
                self.pending = match self.pending.is_empty() {
                    true => data,
                    false => [&self.pending[..], &data[..]].concat().into(),
                };
            }
            Message::Text(text) => {
                let Ok(size) = serde_json::from_str::<Size>(&text) else {
                    return Err(End::Closed("the page sent something that is not known"));
                };
                let (columns, rows) = (size.columns.clamp(1, 1000), size.rows.clamp(1, 1000));
                if let Err(error) = session.resize(columns, rows) {
                    tracing::debug!("cannot resize a console: {}", report(&error));
                }
            }
            Message::Close(_) => return Err(End::Gone),
            // axum answers pings by itself.
            Message::Ping(_) | Message::Pong(_) => {}
        }
        Ok(())
    }

    fn written(&mut self, written: std::io::Result<usize>) {
        match written {
            Ok(count) => self.pending.advance(count),
            // The process has closed its input; the rest of it is dropped.
            Err(_) => self.pending = Bytes::new(),
        }
    }

    fn look(&self, may: &Standing) -> Result<(), End> {
        if self.heard.elapsed() > SILENT {
            return Err(End::Gone);
        }
        if self.typed.elapsed() > IDLE {
            return Err(End::Closed("closed after an hour in which nothing was typed"));
        }
        match may.holds() {
            true => Ok(()),
            false => Err(End::Closed("you are no longer signed in, or no longer let in here")),
        }
    }
}

async fn write(input: Option<&SessionStream>, data: &[u8]) -> std::io::Result<usize> {
    match input {
        Some(input) => input.write(data).await,
        None => Ok(data.len()),
    }
}

/// Sends what the process wrote before its end.
async fn drain(socket: &mut WebSocket, output: &SessionStream, buffer: &mut [u8]) {
    let rest = async {
        while let Ok(count @ 1..) = output.read(buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..count]);
            if send(socket, Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
    };
    // What holds the terminal open for longer does not hold the console.
    let _ = timeout(DRAIN, rest).await;
}
