//! What a client has sent and a child has not read yet.
//!
//! russh gives a client new window as soon as data arrives, and would stop its whole session loop
//! where nobody takes the data. Then output, too, would stand still, and `psql < dump.sql`, which
//! prints while it reads, would wait for itself. So data is always taken into an [`Input`], and the
//! connection's [`Gate`] stops the reading of the socket while too much of it is waiting. It stays
//! open while output is stalled, because the client's new window is behind its data; that is at
//! most the window the client has, far below [`LIMIT`].

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Waiting bytes from which on a connection is not read: enough to keep a child busy.
const HIGH_WATER: usize = 1 << 20;
/// Waiting bytes from which on a connection is not read although output is stalled.
const LIMIT: usize = 16 << 20;
/// What a piece of data costs beside its bytes, so that many small ones count.
const PIECE: usize = 128;

/// Opens and closes the reading side of one connection.
#[derive(Debug, Default)]
pub(super) struct Gate {
    waiting: AtomicUsize,
    stalled_outputs: AtomicUsize,
    abandoned: AtomicBool,
    reader: AtomicWaker,
}

impl Gate {
    /// Whether the connection is read.
    pub(super) fn is_open(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Acquire);
        let stalled = self.stalled_outputs.load(Ordering::Acquire) > 0;
        waiting < HIGH_WATER
            || (stalled && waiting < LIMIT)
            || self.abandoned.load(Ordering::Acquire)
    }

    /// The client is gone: what it left behind may be read to the end.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Marks output as stalled until the guard is dropped.
    pub(super) fn stalled(&self) -> Stalled<'_> {
        self.stalled_outputs.fetch_add(1, Ordering::AcqRel);
        self.reader.wake();
        Stalled(self)
    }

    pub(super) fn poll_open(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.reader.register(context.waker());
        // It may have opened between the two.
        if self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn add(&self, bytes: usize) {
        self.waiting.fetch_add(bytes + PIECE, Ordering::AcqRel);
    }

    fn take(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes + PIECE, Ordering::AcqRel);
        self.reader.wake();
    }
}

/// See [`Gate::stalled`].
#[derive(Debug)]
pub(super) struct Stalled<'a>(&'a Gate);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.stalled_outputs.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket behind a gate.
#[derive(Debug)]
pub(super) struct GatedStream<S> {
    pub(super) stream: S,
    pub(super) gate: Arc<Gate>,
}

impl<S: AsyncRead + Unpin> AsyncRead for GatedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.gate.poll_open(context));
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The data that waits for one child's standard input.
#[derive(Debug)]
pub(super) struct Input {
    queue: Mutex<Queue>,
    changed: Notify,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    ended: bool,
    /// The child does not read any more.
    discarding: bool,
}

impl Input {
    /// Nothing yet; counted by `gate`.
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { queue: Mutex::default(), changed: Notify::new(), gate }
    }

    /// Adds data; data after the end is dropped.
    pub(super) fn push(&self, data: Bytes) {
        let mut queue = self.queue();
        if !queue.ended && !queue.discarding && !data.is_empty() {
            self.gate.add(data.len());
            queue.pieces.push_back(data);
            self.changed.notify_one();
        }
    }

    /// Nothing will be added any more.
    pub(super) fn end(&self) {
        self.queue().ended = true;
        self.changed.notify_one();
    }

    /// Drops what is waiting and what will come.
    pub(super) fn discard(&self) {
        let mut queue = self.queue();
        queue.discarding = true;
        for piece in queue.pieces.drain(..) {
            self.gate.take(piece.len());
        }
    }

    /// The next data, or none at the end. One caller at a time. Cancel-safe: data is taken only
    /// when it is returned.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(piece) = queue.pieces.pop_front() {
                    self.gate.take(piece.len());
                    return Some(piece);
                }
                if queue.ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.discard();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn fill(input: &Input, bytes: usize) {
        for _ in 0..bytes.div_ceil(32768) {
            input.push(Bytes::from_static(&[0; 32768]));
        }
    }

    #[test]
    fn the_gate_closes_when_much_is_waiting_and_opens_when_it_is_read() {
        let gate = Arc::new(Gate::default());
        let input = Input::new(Arc::clone(&gate));
        fill(&input, HIGH_WATER);
        assert!(!gate.is_open());
        assert!(input.next().now_or_never().flatten().is_some());
        assert!(gate.is_open());
        fill(&input, HIGH_WATER);
        drop(input);
        assert!(gate.is_open());
        assert_eq!(gate.waiting.load(Ordering::Acquire), 0);
    }

    #[test]
    fn stalled_output_keeps_the_gate_open_up_to_the_limit() {
        let gate = Arc::new(Gate::default());
        let input = Input::new(Arc::clone(&gate));
        fill(&input, HIGH_WATER);
        let stalled = gate.stalled();
        assert!(gate.is_open());
        fill(&input, LIMIT);
        assert!(!gate.is_open());
        drop(stalled);
        gate.abandon();
        assert!(gate.is_open());
    }

    #[tokio::test]
    async fn data_comes_out_in_order_and_then_the_end() {
        let input = Input::new(Arc::default());
        input.push(Bytes::from_static(b"a"));
        input.push(Bytes::from_static(b"b"));
        input.end();
        input.push(Bytes::from_static(b"late"));
        assert_eq!(input.next().await.unwrap(), "a");
        assert_eq!(input.next().await.unwrap(), "b");
        assert_eq!(input.next().await, None);
        assert_eq!(input.next().await, None);
    }
}
