//! Answers that go on while somebody watches (`text/event-stream`, HTML Living Standard §9.2).

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::support::tasks;

/// How often a silent stream is proven alive: proxies close what says nothing.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events on their way to a browser. Whoever makes them waits when it is slow.
const QUEUE: usize = 8;
/// How long a stream may be silent to a browser that takes nothing before it is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Where a stream's events go.
#[derive(Debug, Clone)]
pub(super) struct Events(mpsc::Sender<Event>);

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Events {
    /// Sends an event; waits while the browser is slow.
    pub(super) async fn send(&self, event: Event) -> Result<(), Gone> {
        let sent = tokio::time::timeout(STALLED, self.0.send(event)).await;
        sent.ok().and_then(Result::ok).ok_or(Gone)
    }

    /// Returns when the browser has gone away. Cancel-safe.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Answers with what `work` sends, until it returns or the browser goes away.
pub(super) fn answer<F>(name: &'static str, work: impl FnOnce(Events) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let events = Events(sender);
    let watch = events.clone();
    let work = work(events);
    drop(tasks::spawn(name, async move {
        tokio::select! {
            // Either arm's end is the end of the stream; what the other was doing is of no use then.
            _ = work => {}
            () = watch.closed() => {}
        }
    }));
    let events = stream::unfold(receiver, |mut receiver| async {
        let event = receiver.recv().await?;
        Some((event, receiver))
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("still here");
    // Proxies such as nginx hold answers back unless told not to.
    let head = [("x-accel-buffering", "no")];
    (head, Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive)).into_response()
}
