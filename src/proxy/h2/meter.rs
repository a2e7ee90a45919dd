//! What a client's frames cost us against what they are good for.
//!
//! The `h2` crate bounds memory, but answers any number of PING and SETTINGS frames and accepts any
//! number of requests that are taken back at once; each is cheap for the client and work for us
//! (CVE-2019-9512, CVE-2019-9515, CVE-2023-44487, CVE-2025-8671). So frames are counted as they
//! come in, before anything understands them: those that carry nothing spend a credit that time and
//! served content earn. What can be said of a frame by its head alone is checked here too, since the
//! crate is lenient about the first one, and says PROTOCOL_ERROR about most.

use std::cell::{Cell, RefCell};

use h2::Reason;
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
    /// Why the connection should end.
    fault: Cell<Option<Reason>>,
    position: RefCell<Position>,
}

/// Where in the stream of frames we are.
#[derive(Debug)]
struct Position {
    /// Bytes to pass before the next frame's head.
    skip: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// A frame has come.
    begun: bool,
}

impl Meter {
    /// Of a connection that has not sent its preface yet.
    pub(super) fn new() -> Self {
        Self {
            credit: Cell::new(CREDIT),
            earned: Cell::new(Instant::now()),
            fault: Cell::new(None),
            position: RefCell::new(Position {
                skip: PREFACE.len(),
                head: [0; FRAME_HEAD],
                filled: 0,
                begun: false,
            }),
        }
    }

    /// Why the connection should end, if it should: the client has spent more than it may, or broken
    /// a rule. What it sent from there on is of no use.
    pub(super) fn fault(&self) -> Option<Reason> {
        self.fault.get()
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
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                position.skip = length;
                if !std::mem::replace(&mut position.begun, true) && kind != SETTINGS {
                    // RFC 9113 §3.4.
                    self.fault.set(Some(Reason::PROTOCOL_ERROR));
                }
                if !has_its_size(kind, flags, length) {
                    self.fault.set(Some(Reason::FRAME_SIZE_ERROR));
                }
                self.spend(cost(kind, flags, length));
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
            None => self.fault.set(Some(Reason::ENHANCE_YOUR_CALM)),
        }
    }
}

// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// Whether a frame of fixed size has it.
fn has_its_size(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        PRIORITY => length == 5,
        RST_STREAM | WINDOW_UPDATE => length == 4,
        PING => length == 8,
        SETTINGS if flags & ACK != 0 => length == 0,
        SETTINGS => length.is_multiple_of(6),
        _ => true,
    }
}

/// What a frame costs.
fn cost(kind: u8, flags: u8, length: usize) -> u32 {
    match kind {
        // DATA with content, HEADERS: bounded by windows and by the number of streams.
        DATA if length > 0 || flags & END_STREAM != 0 => 0,
        HEADERS => 0,
        RST_STREAM => RESET_COST,
        SETTINGS | PING if flags & ACK == 0 => ANSWERED_COST,
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
        meter.read(&frame(SETTINGS, ACK, &[]));
        frames.iter().for_each(|frame| meter.read(frame));
        CREDIT - 1 - meter.credit.get()
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
        bytes.extend(frame(SETTINGS, 0, &[3; 198]));
        for payload in [&[3_u8; 200][..], &[], &[0; 8]] {
            bytes.extend(frame(HEADERS, 0, payload));
            bytes.extend(frame(RST_STREAM, 0, &[0; 4]));
        }
        for size in [1, 2, 5, 9, 10, 100, bytes.len()] {
            let meter = Meter::new();
            bytes.chunks(size).for_each(|part| meter.read(part));
            assert_eq!(CREDIT - meter.credit.get(), 3 * RESET_COST + ANSWERED_COST, "{size}");
            assert_eq!(meter.fault(), None, "{size}");
        }
    }

    #[test]
    fn a_flood_exhausts_and_service_earns() {
        let meter = Meter::new();
        meter.read(PREFACE);
        meter.read(&frame(SETTINGS, 0, &[]));
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        meter.earn();
        for _ in 0..CREDIT / RESET_COST {
            meter.read(&reset);
        }
        assert_eq!(meter.fault(), None);
        (0..2).for_each(|_| meter.earn());
        meter.read(&reset);
        assert_eq!(meter.fault(), None);
        meter.read(&reset);
        assert_eq!(meter.fault(), Some(Reason::ENHANCE_YOUR_CALM));
    }

    #[test]
    fn what_a_head_alone_gives_away_is_a_fault() {
        let fault = |frames: &[Vec<u8>]| {
            let meter = Meter::new();
            meter.read(PREFACE);
            frames.iter().for_each(|frame| meter.read(frame));
            meter.fault()
        };
        assert_eq!(fault(&[frame(PING, 0, &[0; 8])]), Some(Reason::PROTOCOL_ERROR));
        let settings = frame(SETTINGS, 0, &[]);
        for wrong in [
            frame(PING, 0, &[0; 7]),
            frame(SETTINGS, 0, &[0; 5]),
            frame(SETTINGS, ACK, &[0; 6]),
            frame(RST_STREAM, 0, &[0; 5]),
            frame(WINDOW_UPDATE, 0, &[0; 3]),
            frame(PRIORITY, 0, &[0; 4]),
        ] {
            assert_eq!(fault(&[settings.clone(), wrong]), Some(Reason::FRAME_SIZE_ERROR));
        }
        assert_eq!(fault(&[settings, frame(PING, 0, &[0; 8])]), None);
    }
}
