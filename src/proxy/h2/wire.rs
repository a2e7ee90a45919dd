//! The bytes below the frames: those read early, the meter, and one write for many frames.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::proxy::stream::{Sink, Source, Stream};

/// What is gathered before it is written: a full TLS record. Several answers that are ready at the
/// same time so cost one system call, where the `h2` crate alone makes one for each DATA frame.
const GATHERED: usize = 16 * 1024;

/// A connection's bytes, shared by the frames above and the task that runs them.
#[derive(Debug)]
pub(super) struct Wire(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: RefCell<Stream>,
    early: RefCell<Bytes>,
    gathered: RefCell<Vec<u8>>,
    /// Bytes that the other side's kernel has taken.
    written: Cell<u64>,
    /// A write has failed.
    broken: Cell<bool>,
    meter: Rc<Meter>,
}

impl Clone for Wire {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl Wire {
    /// On `stream`, of which `early` was read already.
    pub(super) fn new(stream: Stream, early: Bytes, meter: Rc<Meter>) -> Self {
        Self(Rc::new(Inner {
            stream: RefCell::new(stream),
            early: RefCell::new(early),
            gathered: RefCell::default(),
            written: Cell::new(0),
            broken: Cell::new(false),
            meter,
        }))
    }

    pub(super) fn written(&self) -> u64 {
        self.0.written.get()
    }

    /// An idle connection keeps no buffer.
    pub(super) fn rest(&self) {
        self.0.gathered.borrow_mut().shrink_to_fit();
    }

    /// Writes what was gathered.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.gathered.borrow_mut();
        if gathered.is_empty() || self.0.broken.get() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = self.0.stream.borrow_mut();
        let (_, mut writer) = stream.split();
        let mut done = 0;
        let result = loop {
            if done == gathered.len() {
                break writer.poll_flush(cx);
            }
            match writer.poll_write(cx, &[IoSlice::new(&gathered[done..])]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => done += length,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.0.written.set(self.0.written.get() + done as u64);
        if let Poll::Ready(Err(_)) = result {
            self.0.broken.set(true);
        }
        gathered.drain(..done);
        result
    }

    /// Reads and drops what the client still sends, until it ends: closing at once would make our
    /// kernel throw away what the client has not read (RFC 9112 §9.6 says it of HTTP/1.1).
    pub(super) async fn drain(&self) {
        let mut sink = [0; 4096];
        std::future::poll_fn(|cx| {
            loop {
                let mut room = ReadBuf::new(&mut sink);
                let mut stream = self.0.stream.borrow_mut();
                match ready!(stream.split().0.poll_read(cx, &mut room)) {
                    Ok(()) if !room.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &*self.0;
        if inner.broken.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.meter.fault().is_some() {
            // The task that runs the connection looks at the meter next, and ends it.
            return Poll::Pending;
        }
        let before = room.filled().len();
        let mut early = inner.early.borrow_mut();
        if early.is_empty() {
            ready!(inner.stream.borrow_mut().split().0.poll_read(cx, room))?;
        } else {
            let length = early.len().min(room.remaining());
            room.put_slice(&early[..length]);
            early.advance(length);
        }
        inner.meter.read(&room.filled()[before..]);
        if inner.meter.fault().is_some() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.0.gathered.borrow().len() >= GATHERED {
            ready!(self.poll_write_out(cx))?;
        }
        let mut gathered = self.0.gathered.borrow_mut();
        slices.iter().for_each(|slice| gathered.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the task that runs the connection writes out when all frames are there.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        self.0.stream.borrow_mut().split().1.poll_shutdown(cx)
    }
}
