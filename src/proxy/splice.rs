//! Bodies that go from socket to socket inside the kernel, splice(2).
//!
//! For plain connections on both sides, and bodies whose length is known: nothing of them has to be
//! looked at. What was read together with the head has been written before.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::sys;

/// From so many bytes on it is worth the calls: below, one read and one write do.
pub(super) const WORTHWHILE: u64 = 16 * 1024;

/// What a pipe holds, pipe(7), and so the most that one call moves.
const CAPACITY: usize = 64 * 1024;

/// Pipes that a core keeps.
const MAX_FREE: usize = 16;

thread_local! {
    /// Empty pipes of this core.
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe with bytes on their way.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn take() -> io::Result<Self> {
        let kept = FREE.with_borrow_mut(Vec::pop);
        let ends = match kept {
            Some(ends) => ends,
            None => {
                let (read, write) = sys::fd::pipe()?;
                Ends { read, write }
            }
        };
        Ok(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes that are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `wanted` bytes out of `from`; 0 at its end. To be called when empty. Cancel-safe.
    pub(super) async fn fill(&mut self, from: &TcpStream, wanted: u64) -> io::Result<usize> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(CAPACITY);
        let Some(ends) = &self.ends else { return Ok(0) };
        let step = || sys::fd::splice(from.as_fd(), ends.write.as_fd(), wanted);
        let filled = poll_fn(|cx| poll_io(from, cx, Interest::READABLE, step)).await?;
        self.held = filled;
        Ok(filled)
    }

    /// Gives some of what it holds to `to`. Cancel-safe.
    pub(super) async fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let held = self.held;
        let step = || sys::fd::splice(ends.read.as_fd(), to.as_fd(), held);
        let drained = poll_fn(|cx| poll_io(to, cx, Interest::WRITABLE, step)).await?;
        self.held -= drained;
        match drained {
            0 => Err(io::ErrorKind::WriteZero.into()),
            drained => Ok(drained),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One with bytes of a broken exchange in it must not meet another.
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            FREE.with_borrow_mut(|free| {
                if free.len() < MAX_FREE {
                    free.push(ends);
                }
            });
        }
    }
}

fn poll_io(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    interest: Interest,
    mut step: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        match interest.is_readable() {
            true => ready!(stream.poll_read_ready(cx))?,
            false => ready!(stream.poll_write_ready(cx))?,
        }
        match stream.try_io(interest, &mut step) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_in_order_and_the_end_shows() {
        let ((mut app, up), (down, mut client)) = (pair().await, pair().await);
        app.write_all(b"hello").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(pipe.fill(&up, 3).await.unwrap(), 3);
        assert_eq!(pipe.drain(&down).await.unwrap(), 3);
        assert_eq!(pipe.fill(&up, 100).await.unwrap(), 2);
        assert_eq!(pipe.drain(&down).await.unwrap(), 2);
        drop(app);
        assert_eq!(pipe.fill(&up, 100).await.unwrap(), 0);
        drop(down);
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hello");
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_not_used_again() {
        let (mut app, up) = pair().await;
        app.write_all(b"secret").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert!(pipe.fill(&up, 100).await.unwrap() > 0);
        drop(pipe);
        assert!(FREE.with_borrow(Vec::is_empty));
        drop(Pipe::take().unwrap());
        assert_eq!(FREE.with_borrow(Vec::len), 1);
    }
}
