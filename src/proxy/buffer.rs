//! Read buffers that connections hold only while bytes are in them.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::http::MAX_HEAD;
use super::stream::{Sink, Source};

/// Free buffers kept by a core: 2 MiB, enough for 64 connections reading at the same instant.
const MAX_FREE: usize = 64;

thread_local! {
    /// A core is one thread, so its buffers need no lock; they go round in it.
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A window of bytes read from a socket. Storage is taken when bytes arrive and given back when the
/// last is consumed, so that an idle connection costs none.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    storage: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn data(&self) -> &[u8] {
        self.storage.as_ref().map_or(&[], |storage| &storage[self.start..self.end])
    }

    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Some(storage) => &mut storage[self.start..self.end],
            None => &mut [],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more can be read until something is consumed.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start == MAX_HEAD
    }

    /// Drops the first `length` bytes.
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
        debug_assert!(self.start <= self.end);
        if self.is_empty() {
            self.release();
        }
    }

    /// Waits for bytes and reads them; 0 at the end of the stream. Must not be called when full.
    /// Cancel-safe.
    pub(super) async fn fill(&mut self, reader: &mut impl Source) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, reader)).await
    }

    /// Waits for the end of the stream, which shows by reading ahead. A client that has sent a buffer
    /// full of further requests is there; its end shows when something is written to it.
    pub(super) async fn watch_end(&mut self, reader: &mut impl Source) {
        while !self.is_full() {
            if !matches!(self.fill(reader).await, Ok(length) if length > 0) {
                return;
            }
        }
        std::future::pending().await
    }

    /// [`Buffer::fill`] for hand-written futures.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut impl Source,
    ) -> Poll<io::Result<usize>> {
        if self.storage.is_none() {
            // Only a socket that has something gets a buffer.
            ready!(reader.poll_readable(cx))?;
        }
        let storage = self.storage.get_or_insert_with(take_storage);
        if self.end == storage.len() {
            storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(&mut storage[self.end..]);
        let result = reader.poll_read(cx, &mut room);
        let length = room.filled().len();
        self.end += length;
        if self.is_empty() {
            self.release();
        }
        result.map_ok(|()| length)
    }

    fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        if let Some(storage) = self.storage.take() {
            FREE.with_borrow_mut(|free| {
                if free.len() < MAX_FREE {
                    free.push(storage);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

fn take_storage() -> Box<[u8]> {
    FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; MAX_HEAD].into_boxed_slice())
}

/// Writes all of `slices`, in as few calls as the socket allows. Not cancel-safe: a part may have
/// been written.
pub(super) async fn write_all(
    writer: &mut impl Sink,
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    // Skips empty slices at the front.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = std::future::poll_fn(|cx| writer.poll_write(cx, slices)).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    std::future::poll_fn(|cx| writer.poll_flush(cx)).await
}
