//! Answers that take a while: one JSON value a line, as it happens.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, Stream, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::DropGuard;

use crate::platform::{Error, Follower, Journal, Kind, Operation};
use crate::web::log_failure;
use crate::web::problem;
use crate::web::routing::{Lines, Streamed};
use crate::wire::{LogLine, NDJSON, StreamItem};

/// What becomes of an operation whose client goes away before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDrop {
    /// It goes on: it was asked for and accepted.
    Continue,
    /// It is canceled: whoever interrupts a push wants it undone.
    Cancel,
}

/// The operation's lines, then its result or error.
pub(super) fn operation<T: Serialize + Send + 'static>(
    operation: Operation<T>,
    on_drop: OnDrop,
    request_id: String,
) -> Streamed<T> {
    let guard = (on_drop == OnDrop::Cancel).then(|| operation.cancel.drop_guard());
    let follower = operation.journal.follow();
    let running = Running { follower, outcome: operation.outcome, guard, request_id };
    let running = Phase::Lines(running);
    Streamed::new(ndjson(stream::unfold(running, |phase| async {
        match phase {
            Phase::Lines(running) => Some(running.step().await),
            Phase::End(running, outcome) => Some(running.last(outcome)),
            Phase::Over => None,
        }
    })))
}

type Outcome<T> = Result<Result<T, Error>, JoinError>;

enum Phase<T> {
    Lines(Running<T>),
    /// The outcome is known; lines may be left.
    End(Running<T>, Outcome<T>),
    Over,
}

struct Running<T> {
    follower: Follower,
    outcome: JoinHandle<Result<T, Error>>,
    guard: Option<DropGuard>,
    request_id: String,
}

impl<T: Serialize> Running<T> {
    async fn step(mut self) -> (Bytes, Phase<T>) {
        tokio::select! {
            biased;
            // Cancel-safe: a line counts as read only when it is returned.
            line = self.follower.next() => match line {
                Some(line) => (encode_line(&line), Phase::Lines(self)),
                None => {
                    let outcome = (&mut self.outcome).await;
                    self.last(outcome)
                }
            },
            // Cancel-safe: polling a JoinHandle takes nothing. This arm ends the answer of a task
            // that panicked and left its journal open.
            outcome = &mut self.outcome => self.last(outcome),
        }
    }

    /// The next line that is left, or the end.
    fn last(mut self, outcome: Outcome<T>) -> (Bytes, Phase<T>) {
        if let Some(Some(line)) = self.follower.next().now_or_never() {
            return (encode_line(&line), Phase::End(self, outcome));
        }
        if let Some(guard) = self.guard.take() {
            guard.disarm();
        }
        (encode(&self.end(outcome)), Phase::Over)
    }

    fn end(&self, outcome: Outcome<T>) -> StreamItem<T> {
        let error = match outcome {
            Ok(Ok(result)) => return StreamItem::Result(result),
            Ok(Err(error)) => error,
            Err(join) => Error::new(Kind::Internal, "the operation broke off").because(join),
        };
        log_failure(&error);
        StreamItem::Error(problem(&error, &self.request_id))
    }
}

/// A journal's lines from the first one, then `{"result":null}`.
pub(super) fn journal(journal: &Journal) -> Streamed<()> {
    Streamed::new(ndjson(stream::unfold(Some(journal.follow()), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Some(line) => Some((encode_line(&line), Some(follower))),
            None => Some((encode(&StreamItem::Result(())), None)),
        }
    })))
}

/// Log lines, each as a JSON object.
pub(super) fn log_lines(lines: mpsc::Receiver<LogLine>) -> Lines<LogLine> {
    Lines::new(ndjson(stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((encode(&line), lines))
    })))
}

/// Lines of text, each as a JSON string.
pub(super) fn texts(lines: mpsc::Receiver<String>) -> Lines<String> {
    values(lines)
}

/// Any values, each as JSON.
pub(super) fn values<T: Serialize + Send + 'static>(values: mpsc::Receiver<T>) -> Lines<T> {
    Lines::new(ndjson(stream::unfold(values, |mut values| async {
        let value = values.recv().await?;
        Some((encode(&value), values))
    })))
}

fn ndjson(items: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures_util::StreamExt;
    let body = Body::from_stream(items.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON))], body).into_response()
}

fn encode_line(line: &Arc<str>) -> Bytes {
    encode(&StreamItem::<()>::Line(line.to_string()))
}

fn encode<T: Serialize>(item: &T) -> Bytes {
    let mut text = serde_json::to_vec(item).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write an answer as JSON");
        Vec::new()
    });
    text.push(b'\n');
    text.into()
}
