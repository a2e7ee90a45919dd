//! A client's connection as the rest of the proxy sees it, plain or encrypted.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::tls::TlsStream;

/// Where bytes come from.
pub(super) trait Source {
    /// Ready once a read may give something: bytes, the end or an error.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads into `room`; nothing at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
}

/// Where bytes go.
pub(super) trait Sink {
    /// Takes some of `slices`; what it took may wait for [`Sink::poll_flush`].
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Hands all that was taken to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that nothing more comes.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Source for ReadHalf<'_> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_read_ready(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, room)
    }
}

impl Sink for WriteHalf<'_> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_some(Pin::new(self), cx, slices)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }
}

/// Below this many bytes a copy costs less than to have the kernel look through a list, writev(2):
/// room for a head and a short body.
pub(super) const COPIED: usize = 2048;

/// Writes what there is by the cheapest call.
fn write_some(
    writer: Pin<&mut WriteHalf<'_>>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = slices.iter().filter(|slice| !slice.is_empty());
    let Some(first) = filled.next() else { return Poll::Ready(Ok(0)) };
    if filled.next().is_none() {
        return writer.poll_write(cx, first);
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    if total > COPIED {
        return writer.poll_write_vectored(cx, slices);
    }
    let mut copy = [0; COPIED];
    let mut end = 0;
    for slice in slices {
        copy[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    writer.poll_write(cx, &copy[..end])
}

/// A client's connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    /// Boxed, so that plain connections do not pay for its size. One task reads and writes, and
    /// never holds a borrow while it waits.
    Tls(Box<RefCell<TlsStream>>),
}

impl Stream {
    /// Halves that one task uses side by side.
    pub(super) fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Self::Tls(stream) => (Reader::Tls(stream), Writer::Tls(stream)),
        }
    }

    /// Says goodbye if that needs no waiting; the end of the connection follows.
    pub(super) async fn close_now(&mut self) {
        if let Self::Tls(stream) = self {
            let stream = stream.get_mut();
            std::future::poll_fn(|cx| {
                // What the socket does not take now was for a client that does not read.
                let _ = Sink::poll_shutdown(&mut *stream, cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_mut().tcp(),
        }
    }
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub(super) enum Reader<'s> {
    Plain(ReadHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

impl Source for Reader<'_> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(reader) => reader.poll_readable(cx),
            Self::Tls(stream) => stream.borrow_mut().poll_readable(cx),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(reader) => Source::poll_read(reader, cx, room),
            Self::Tls(stream) => Source::poll_read(&mut *stream.borrow_mut(), cx, room),
        }
    }
}

/// The writing half of a [`Stream`].
#[derive(Debug)]
pub(super) enum Writer<'s> {
    Plain(WriteHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

impl Writer<'_> {
    /// The socket, if what is written goes into it as it is.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(writer) => Some(writer.as_ref()),
            Self::Tls(_) => None,
        }
    }
}

impl Sink for Writer<'_> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(writer) => Sink::poll_write(writer, cx, slices),
            Self::Tls(stream) => Sink::poll_write(&mut *stream.borrow_mut(), cx, slices),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Sink::poll_flush(&mut *stream.borrow_mut(), cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(writer) => Sink::poll_shutdown(writer, cx),
            Self::Tls(stream) => Sink::poll_shutdown(&mut *stream.borrow_mut(), cx),
        }
    }
}
