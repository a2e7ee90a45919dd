//! What a client has sent and a child has not read yet.
//!
//! russh gives a client new window as soon as data arrives, and would stop its whole session loop
//! where nobody takes the data. Then output, too, would stand still, and `psql < dump.sql`, which
//! prints while it reads, would wait for itself. So data is always taken into an [`Input`], and the
//! connection's [`Gate`] stops the reading of the socket while too much of it is waiting.
//!
//! While output is stalled the gate stays open, because the client's new window comes behind its
//! data on the same socket: a pager that shows the first page keeps `ssh host cat <big | less` from
//! reading, and `ssh` goes on sending. That data goes to a file without a name. It ends at
//! [`MAX_WAITING`], beyond which the client is hung up on.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Waiting bytes from which on a connection is not read: enough to keep a child busy.
const HIGH_WATER: usize = 1 << 20;
/// Waiting bytes of one child's input that are kept in memory; what comes then goes to a file.
const IN_MEMORY: usize = 4 << 20;
/// The most that may wait for one child: more than a pager's reader is likely to send, and less
/// than fills a disk.
const MAX_WAITING: u64 = 1 << 30;
/// How long a write may take before output counts as stalled: longer than a busy client needs to
/// give new window, or data would go to the file for nothing.
const STALL: Duration = Duration::from_millis(200);
/// How much is read back at once.
const READ_BACK: usize = 64 * 1024;
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
        waiting < HIGH_WATER || stalled || self.abandoned.load(Ordering::Acquire)
    }

    /// The client is gone: what it left behind may be read to the end.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Waits for `write` to be done; output counts as stalled when that takes long.
    pub(super) async fn watch<T>(&self, write: impl Future<Output = T>) -> T {
        let mut write = std::pin::pin!(write);
        match tokio::time::timeout(STALL, &mut write).await {
            Ok(written) => written,
            Err(_) => {
                let _stalled = self.stalled();
                write.await
            }
        }
    }

    /// Marks output as stalled until the guard is dropped.
    fn stalled(&self) -> Stalled<'_> {
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

    fn add(&self, cost: usize) {
        self.waiting.fetch_add(cost, Ordering::AcqRel);
    }

    fn take(&self, cost: usize) {
        self.waiting.fetch_sub(cost, Ordering::AcqRel);
        self.reader.wake();
    }
}

/// See [`Gate::stalled`].
#[derive(Debug)]
struct Stalled<'a>(&'a Gate);

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

/// There is no room for more data.
#[derive(Debug, thiserror::Error)]
pub(super) enum Overflow {
    #[error("more than {MAX_WAITING} bytes wait for a child")]
    Limit,
    #[error("keep a child's input in a file")]
    Spool(#[source] io::Error),
}

#[derive(Debug, Default)]
struct Queue {
    /// First these, then the spool.
    pieces: VecDeque<Bytes>,
    bytes: usize,
    spool: Option<Spool>,
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
    ///
    /// # Errors
    /// There is no room. The client can only be hung up on.
    pub(super) fn push(&self, data: Bytes) -> Result<(), Overflow> {
        let mut queue = self.queue();
        if !queue.ended && !queue.discarding && !data.is_empty() {
            self.gate.add(queue.push(data)?);
            self.changed.notify_one();
        }
        Ok(())
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
        self.gate.take(queue.clear());
    }

    /// The next data, or none at the end. One caller at a time. Cancel-safe: data is taken only
    /// when it is returned.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut queue = self.queue();
                if let Some((piece, cost)) = queue.pop() {
                    self.gate.take(cost);
                    return Some(piece);
                }
                if queue.ended || queue.discarding {
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

impl Queue {
    /// Answers what the data costs.
    fn push(&mut self, data: Bytes) -> Result<usize, Overflow> {
        if self.spool.is_none() && self.bytes < IN_MEMORY {
            let cost = data.len() + PIECE;
            self.bytes += cost;
            self.pieces.push_back(data);
            return Ok(cost);
        }
        let spool = match &mut self.spool {
            Some(spool) => spool,
            empty => empty.insert(Spool::create().map_err(Overflow::Spool)?),
        };
        if spool.waiting() > MAX_WAITING {
            return Err(Overflow::Limit);
        }
        spool.write(&data).map_err(Overflow::Spool)?;
        Ok(data.len())
    }

    /// The next data and what it had cost.
    fn pop(&mut self) -> Option<(Bytes, usize)> {
        if let Some(piece) = self.pieces.pop_front() {
            let cost = piece.len() + PIECE;
            self.bytes -= cost;
            return Some((piece, cost));
        }
        let read = self.spool.as_mut()?.read();
        if self.spool.as_ref().is_some_and(|spool| spool.waiting() == 0) {
            self.spool = None;
        }
        match read {
            Ok(data) => {
                let cost = data.len();
                Some((data, cost))
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a child's input back, the rest is lost");
                self.ended = true;
                None
            }
        }
    }

    /// Answers what all of it had cost.
    fn clear(&mut self) -> usize {
        self.pieces.clear();
        let spooled = self.spool.take().map_or(0, |spool| spool.waiting());
        std::mem::take(&mut self.bytes) + usize::try_from(spooled).unwrap_or(usize::MAX)
    }
}

/// A file without a name. Its reads and writes go to the page cache, so that they may be made on
/// a thread that must not block for long.
#[derive(Debug)]
struct Spool {
    file: File,
    read: u64,
    written: u64,
}

impl Spool {
    fn create() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("staithe-input-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file, read: 0, written: 0 })
    }

    fn waiting(&self) -> u64 {
        self.written - self.read
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.written)?;
        self.written += u64::try_from(data.len()).map_err(io::Error::other)?;
        Ok(())
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let size = usize::try_from(self.waiting()).unwrap_or(usize::MAX).min(READ_BACK);
        let mut data = vec![0; size];
        self.file.read_exact_at(&mut data, self.read)?;
        self.read += u64::try_from(size).map_err(io::Error::other)?;
        Ok(data.into())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn fill(input: &Input, bytes: usize) {
        for _ in 0..bytes.div_ceil(32768) {
            input.push(Bytes::from_static(&[0; 32768])).unwrap();
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
    fn stalled_output_and_a_lost_client_keep_the_gate_open() {
        let gate = Arc::new(Gate::default());
        let input = Input::new(Arc::clone(&gate));
        fill(&input, HIGH_WATER);
        let stalled = gate.stalled();
        assert!(gate.is_open());
        drop(stalled);
        assert!(!gate.is_open());
        gate.abandon();
        assert!(gate.is_open());
    }

    #[tokio::test]
    async fn much_data_goes_through_a_file_in_order() {
        let gate = Arc::new(Gate::default());
        let input = Input::new(Arc::clone(&gate));
        let sent: Vec<u8> = (0..10_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        for piece in sent.chunks(30_000) {
            input.push(Bytes::copy_from_slice(piece)).unwrap();
        }
        assert!(input.queue().spool.is_some());
        input.end();
        let mut received = Vec::new();
        while let Some(piece) = input.next().await {
            received.extend_from_slice(&piece);
        }
        assert!(received == sent);
        assert!(input.queue().spool.is_none());
        assert_eq!(gate.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn data_comes_out_in_order_and_then_the_end() {
        let input = Input::new(Arc::default());
        input.push(Bytes::from_static(b"a")).unwrap();
        input.push(Bytes::from_static(b"b")).unwrap();
        input.end();
        input.push(Bytes::from_static(b"late")).unwrap();
        assert_eq!(input.next().await.unwrap(), "a");
        assert_eq!(input.next().await.unwrap(), "b");
        assert_eq!(input.next().await, None);
        assert_eq!(input.next().await, None);
    }
}
