//! What a client's frames cost us against what they are good for.
//!
//! The `h2` crate bounds memory, but answers any number of PING and SETTINGS frames and accepts any
//! number of requests that are taken back at once; each is cheap for the client and work for us
//! (CVE-2019-9512, CVE-2019-9515, CVE-2023-44487, CVE-2025-8671). So frames are counted as they
//! come in, before anything understands them: those that carry nothing spend a credit that time and
//! served content earn.

use std::cell::{Cell, RefCell};

use tokio::time::Instant;

/// What a connection may spend at once: a hundred requests taken back, as when a browser leaves a
/// page full of pictures, or five hundred PINGs.
const CREDIT: u32 = 1000;

/// What serving may add to it: two WINDOW_UPDATEs for each piece of data under way.
const MAX_CREDIT: u32 = 4 * CREDIT;

/// What a piece of content, or the head of an answer, earns. A client answers a DATA frame by up to
/// two WINDOW_UPDATEs, and may send a PING to measure the way (gRPC does).
const EARNED: u32 = 4;

/// What each second earns: two requests taken back, or ten PINGs.
const EARNED_EACH_SECOND: u32 = 20;

/// A request taken back: a connection to an instance, perhaps.
const RESET_COST: u32 = 10;

/// A frame that has to be answered.
const ANSWERED_COST: u32 = 2;

/// The length of a frame's head (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;

/// The length of what a client sends before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Follows one client's frames.
#[derive(Debug)]
pub(super) struct Meter {
    credit: Cell<u32>,
    /// Time has earned up to here.
    earned: Cell<Instant>,
    exhausted: Cell<bool>,
    position: RefCell<Position>,
}

/// Where in the stream of frames we are.
#[derive(Debug)]
struct Position {
    /// Bytes to pass before the next frame's head.
    skip: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
}

impl Meter {
    /// Of a connection that has not sent its preface yet.
    pub(super) fn new() -> Self {
        Self {
            credit: Cell::new(CREDIT),
            earned: Cell::new(Instant::now()),
            exhausted: Cell::new(false),
            position: RefCell::new(Position {
                skip: PREFACE.len(),
                head: [0; FRAME_HEAD],
                filled: 0,
            }),
        }
    }

    /// Whether the client has spent more than it may: the connection should end.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// Content passed, in either direction.
    pub(super) fn earn(&self) {
        self.credit.set((self.credit.get() + EARNED).min(MAX_CREDIT));
    }

    /// A request ended unanswered because the client broke it.
    pub(super) fn spend_reset(&self) {
        self.spend(RESET_COST);
    }

    /// Follows `bytes`, which came next.
    pub(super) fn read(&self, mut bytes: &[u8]) {
        let mut position = self.position.borrow_mut();
        while !bytes.is_empty() {
            let skipped = position.skip.min(bytes.len());
            position.skip -= skipped;
            bytes = &bytes[skipped..];
            let filled = position.filled;
            let taken = (FRAME_HEAD - filled).min(bytes.len());
            position.head[filled..filled + taken].copy_from_slice(&bytes[..taken]);
            position.filled += taken;
            bytes = &bytes[taken..];
            if position.filled == FRAME_HEAD {
                position.filled = 0;
                let [a, b, c, kind, flags, ..] = position.head;
                position.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.spend(cost(kind, flags, position.skip));
            }
        }
    }

    fn spend(&self, cost: u32) {
        if cost == 0 {
            return;
        }
        if self.credit.get() < cost {
            let seconds = self.earned.get().elapsed().as_secs();
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX);
            if earned > 0 {
                self.earned.set(Instant::now());
            }
            let earned = earned.saturating_mul(EARNED_EACH_SECOND).min(CREDIT);
            self.credit.set(self.credit.get() + earned);
        }
        match self.credit.get().checked_sub(cost) {
            Some(left) => self.credit.set(left),
            None => self.exhausted.set(true),
        }
    }
}

/// What a frame costs, by RFC 9113 §6.
fn cost(kind: u8, flags: u8, length: usize) -> u32 {
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    match kind {
        // DATA with content, HEADERS: bounded by windows and by the number of streams.
        0 if length > 0 || flags & END_STREAM != 0 => 0,
        1 => 0,
        3 => RESET_COST,
        4 | 6 if flags & ACK == 0 => ANSWERED_COST,
        // Empty DATA, PRIORITY, WINDOW_UPDATE, GOAWAY, CONTINUATION, acknowledgements, unknown ones.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn spent(frames: &[Vec<u8>]) -> u32 {
        let meter = Meter::new();
        meter.read(PREFACE);
        frames.iter().for_each(|frame| meter.read(frame));
        CREDIT - meter.credit.get()
    }

    #[test]
    fn content_is_free_and_the_rest_costs() {
        assert_eq!(spent(&[frame(0, 0, b"data"), frame(1, 5, b"head"), frame(0, 1, b"")]), 0);
        assert_eq!(spent(&[frame(3, 0, &[0; 4])]), RESET_COST);
        assert_eq!(spent(&[frame(6, 0, &[0; 8]), frame(4, 0, &[])]), 2 * ANSWERED_COST);
        assert_eq!(spent(&[frame(6, 1, &[0; 8]), frame(0, 0, b""), frame(9, 0, b"")]), 3);
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        for payload in [&[3_u8; 200][..], &[], &[0; 8]] {
            bytes.extend(frame(3, 0, payload));
        }
        for size in [1, 2, 5, 9, 10, 100, bytes.len()] {
            let meter = Meter::new();
            bytes.chunks(size).for_each(|part| meter.read(part));
            assert_eq!(CREDIT - meter.credit.get(), 3 * RESET_COST, "{size}");
        }
    }

    #[test]
    fn a_flood_exhausts_and_service_earns() {
        let meter = Meter::new();
        meter.read(PREFACE);
        let reset = frame(3, 0, &[0; 4]);
        for _ in 0..CREDIT / RESET_COST {
            meter.read(&reset);
        }
        assert!(!meter.is_exhausted());
        (0..3).for_each(|_| meter.earn());
        meter.read(&reset);
        assert!(!meter.is_exhausted());
        meter.read(&reset);
        assert!(meter.is_exhausted());
    }
}
