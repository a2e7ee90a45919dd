//! A WebSocket over HTTP/2 (RFC 8441): bytes between a stream and an instance's connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::relay::Body;
use super::responder::{Responder, StreamBody};
use crate::proxy::buffer::{Buffer, write_all};
use crate::proxy::timer::Timer;

/// The instance's end of a tunnel.
#[derive(Debug)]
pub(super) struct Upstream<'u> {
    pub(super) reader: ReadHalf<'u>,
    pub(super) writer: WriteHalf<'u>,
    /// What it sent right behind its head.
    pub(super) rest: Buffer,
}

/// Joins the client and the instance until both have ended, one is gone, or nobody says anything for
/// so long; returns the bytes that came from the client, and those that went to it.
pub(super) async fn run(
    responder: &Responder,
    body: &mut StreamBody,
    upstream: Upstream<'_>,
    (timer, idle): (&Timer, Duration),
) -> (u64, u64) {
    let (received, bytes) = (Cell::new(0), Cell::new(0));
    let Upstream { mut reader, mut writer, mut rest } = upstream;
    timer.set(idle);
    let up = async {
        loop {
            let piece = body.next().await.map_err(|_| Ended)?;
            write_all(&mut writer, &mut [IoSlice::new(&piece.data)]).await.map_err(|_| Ended)?;
            body.release(piece.data.len());
            received.set(received.get() + piece.data.len() as u64);
            timer.set(idle);
            if piece.last {
                return writer.shutdown().await.map_err(|_| Ended);
            }
        }
    };
    let down = async {
        loop {
            let data = Bytes::copy_from_slice(rest.data());
            let length = data.len();
            rest.consume(length);
            if !responder.send_data(data, false).await {
                return Err(Ended);
            }
            bytes.set(bytes.get() + length as u64);
            timer.set(idle);
            if rest.fill(&mut reader).await.map_err(|_| Ended)? == 0 {
                return if responder.send_data(Bytes::new(), true).await {
                    Ok(())
                } else {
                    Err(Ended)
                };
            }
        }
    };
    let mut both = pin!(async { tokio::try_join!(up, down) });
    let whole = poll_fn(|cx| {
        if let Poll::Ready(result) = both.as_mut().poll(cx) {
            return Poll::Ready(result.is_ok());
        }
        if responder.poll_gone(cx).is_ready() {
            return Poll::Ready(false);
        }
        timer.poll_expired(cx).map(|()| false)
    })
    .await;
    if !whole {
        // RFC 8441 §5.1: an end that is no orderly one.
        responder.reset(Reason::CANCEL);
    }
    (received.get(), bytes.get())
}

/// A side that is gone: the other one's connection is closed too.
#[derive(Debug)]
struct Ended;
