//! The time as text, and names for requests; both made once and used often.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::strtime;

/// A core's wall clock: formats each second once.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Cell<i64>,
    http_date: RefCell<String>,
    /// RFC 3339 up to the seconds.
    prefix: RefCell<String>,
}

impl Clock {
    /// Milliseconds of Unix time.
    pub(super) fn now_ms(&self) -> i64 {
        let now = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
        self.advance(now.div_euclid(1000));
        now
    }

    fn advance(&self, second: i64) {
        if self.second.replace(second) == second {
            return;
        }
        let timestamp = Timestamp::from_second(second).unwrap_or_default();
        // The formats are constants without zone or locale, so they cannot fail.
        let format = |format: &str| strtime::format(format, timestamp).unwrap_or_default();
        // IMF-fixdate of RFC 9110 §5.6.7.
        self.http_date.replace(format("%a, %d %b %Y %H:%M:%S GMT"));
        self.prefix.replace(format("%Y-%m-%dT%H:%M:%S"));
    }

    /// Runs `with` on the HTTP date of the last [`Clock::now_ms`].
    pub(super) fn with_http_date<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        with(&self.http_date.borrow())
    }

    /// `now` in RFC 3339 with milliseconds.
    pub(super) fn rfc3339(&self, now_ms: i64) -> String {
        self.advance(now_ms.div_euclid(1000));
        format!("{}.{:03}Z", self.prefix.borrow(), now_ms.rem_euclid(1000))
    }
}

/// Milliseconds of Unix time.
pub(super) fn unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Makes request ids: the shape of a random UUID, unique over cores and restarts. They are names,
/// not secrets.
#[derive(Debug)]
pub(super) struct RequestIds {
    state: Cell<[u64; 2]>,
}

impl RequestIds {
    /// Seeded by the kernel; without it, by the clock and the process id.
    pub(super) fn new() -> Self {
        let mut seed = [0; 16];
        if getrandom::fill(&mut seed).is_err() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            seed = (now.as_nanos() ^ u128::from(std::process::id())).to_ne_bytes();
        }
        let seed = u128::from_ne_bytes(seed);
        let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
        Self { state: Cell::new([half(seed), half(seed >> 64)]) }
    }

    /// The next id.
    pub(super) fn next(&self) -> [u8; 36] {
        let [high, low] = self.state.get();
        // A Weyl sequence through a mixing function (SplitMix64): no state repeats before 2^64.
        let state =
            [high.wrapping_add(0x9e37_79b9_7f4a_7c15), low.wrapping_add(0xd1b5_4a32_d192_ed03)];
        self.state.set(state);
        let [high, low] = state.map(mix);
        // Version 4, variant 1 (RFC 9562 §5.4).
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        let bits = (u128::from(high) << 64) | u128::from(low);
        let mut id = [b'-'; 36];
        let mut shift = 128;
        for (at, byte) in id.iter_mut().enumerate() {
            if ![8, 13, 18, 23].contains(&at) {
                shift -= 4;
                let digit = usize::try_from((bits >> shift) & 0xf).unwrap_or(0);
                *byte = b"0123456789abcdef"[digit];
            }
        }
        id
    }
}

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_the_rfc_is_written_as_in_the_rfc() {
        let clock = Clock::default();
        // RFC 9110 §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT.
        assert_eq!(clock.rfc3339(784_111_777_042), "1994-11-06T08:49:37.042Z");
        clock.with_http_date(|date| assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    #[test]
    fn request_ids_are_uuids_and_differ() {
        let ids = RequestIds::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        assert_ne!(first, RequestIds::new().next());
        let text = std::str::from_utf8(&first).unwrap();
        assert_eq!(text.match_indices('-').map(|(at, _)| at).collect::<Vec<_>>(), [8, 13, 18, 23]);
        assert_eq!(first[14], b'4');
        assert!(b"89ab".contains(&first[19]));
    }
}
