//! An encrypted connection: records in and out of one socket, without buffers while it is idle.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::buffer::Buffer;
use super::super::stream::{Sink, Source};

/// A connection after its handshake; during it for [`super::accept()`].
#[derive(Debug)]
pub(in crate::proxy) struct TlsStream {
    tcp: TcpStream,
    tls: ServerConnection,
    /// Records that were read and not taken in yet.
    incoming: Buffer,
    /// Bytes that were decrypted and not read yet.
    plaintext: usize,
    /// The client says no more, by its own word or by the end of the connection. A cut request shows
    /// in its own framing, so the two need no telling apart.
    ended: bool,
    /// The socket took less than all at the last write.
    blocked: bool,
}

impl TlsStream {
    pub(super) fn new(tcp: TcpStream, tls: ServerConnection, incoming: Buffer) -> Self {
        Self { tcp, tls, incoming, plaintext: 0, ended: false, blocked: false }
    }

    pub(in crate::proxy) fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    pub(super) fn session(&self) -> &ServerConnection {
        &self.tls
    }

    /// Carries the handshake to its end.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What came with the ClientHello was processed before.
        while self.tls.is_handshaking() {
            ready!(self.poll_send(cx))?;
            if self.ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_records(cx))?;
        }
        match self.tls.protocol_version() {
            // Only session tickets are left, which go out with the first answer.
            Some(rustls::ProtocolVersion::TLSv1_3) => Poll::Ready(Ok(())),
            _ => self.poll_send(cx),
        }
    }

    /// Reads until there is plaintext, or the end.
    fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.plaintext == 0 && !self.ended {
            ready!(self.poll_records(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in some of what the client sent.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.incoming.is_empty() && ready!(self.incoming.poll_fill(cx, &mut self.tcp))? == 0 {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let mut records = self.incoming.data();
        let taken = self.tls.read_tls(&mut records)?;
        if taken == 0 {
            // It takes none only when it will never take any.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.incoming.consume(taken);
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                self.ended |= state.peer_has_closed();
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                // The alert, as far as the socket takes it at once.
                let _ = self.poll_send(cx);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
        }
    }

    /// Hands records to the kernel until none is left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut socket = Socket { tcp: &mut self.tcp, cx };
            match self.tls.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.blocked = false;
        Poll::Ready(Ok(()))
    }
}

impl Source for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, room)
    }
}

impl Source for TlsStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_plaintext(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_plaintext(cx))?;
        if self.plaintext > 0 {
            let wanted = room.remaining().min(self.plaintext);
            let read = io::Read::read(&mut self.tls.reader(), room.initialize_unfilled_to(wanted))?;
            self.plaintext -= read;
            room.advance(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink for TlsStream {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.blocked {
            // What was taken before goes first, so that no more than one write waits.
            ready!(self.poll_send(cx))?;
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        if let Poll::Ready(result) = self.poll_send(cx) {
            result?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Once, however often it is called.
        self.tls.send_close_notify();
        ready!(self.poll_send(cx))?;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.tcp), cx)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Source::poll_read(self.get_mut(), cx, room)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Sink::poll_write(self.get_mut(), cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Sink::poll_write(self.get_mut(), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::poll_shutdown(self.get_mut(), cx)
    }
}

/// The socket as rustls writes to it: what would have to wait is an error.
struct Socket<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl Socket<'_, '_> {
    fn now(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
        match poll {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.tcp).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
