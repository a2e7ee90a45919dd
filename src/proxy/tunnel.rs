//! After an upgrade: bytes both ways, until both sides have ended or nobody says anything.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::{Buffer, write_all};
use super::connection::Connection;
use super::stream::{Sink, Source};
use super::timer::Timer;

/// The instance's end of a tunnel.
#[derive(Debug)]
pub(super) struct Upstream<'u> {
    pub(super) reader: ReadHalf<'u>,
    pub(super) writer: WriteHalf<'u>,
    /// What it sent right behind its head.
    pub(super) rest: Buffer,
}

/// The bytes that went either way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    pub(super) to_client: u64,
    pub(super) to_instance: u64,
}

/// Joins the client and the instance until nobody has said anything for `idle`. What either sent
/// early goes first.
pub(super) async fn run(
    connection: &mut Connection<'_>,
    upstream: Upstream<'_>,
    idle: Duration,
) -> Carried {
    let Connection { reader, writer, buffer, timer, .. } = connection;
    let (up_bytes, down_bytes) = (Cell::new(0), Cell::new(0));
    let Upstream { reader: mut up_reader, writer: mut up_writer, mut rest } = upstream;
    let up = Direction { reader, writer: &mut up_writer, buffer, bytes: &up_bytes };
    let down = Direction { reader: &mut up_reader, writer, buffer: &mut rest, bytes: &down_bytes };
    timer.set(idle);
    // However it ends, both connections are closed.
    let _ =
        timer.limit(async { tokio::try_join!(up.copy(timer, idle), down.copy(timer, idle)) }).await;
    Carried { to_client: down_bytes.get(), to_instance: up_bytes.get() }
}

struct Direction<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    buffer: &'a mut Buffer,
    bytes: &'a Cell<u64>,
}

impl<R: Source, W: Sink> Direction<'_, R, W> {
    /// Copies until the reader's end, and passes the end on: the other direction may go on.
    async fn copy(self, timer: &Timer, idle: Duration) -> io::Result<()> {
        loop {
            let length = self.buffer.data().len();
            if length > 0 {
                write_all(self.writer, &mut [IoSlice::new(self.buffer.data())]).await?;
                self.bytes.set(self.bytes.get() + length as u64);
                self.buffer.consume(length);
                timer.set(idle);
            }
            if self.buffer.fill(self.reader).await? == 0 {
                return std::future::poll_fn(|cx| self.writer.poll_shutdown(cx)).await;
            }
        }
    }
}
