//! Times, sizes and spans in words.

use std::time::SystemTime;

use crate::domain::Timestamp;

/// Now, for "3 minutes ago".
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// RFC 3339 in UTC, whole seconds.
pub(in crate::dashboard) fn iso(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.0.div_euclid(1000)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// `just now`, `5 min ago`, `in 3 h`, `2 d ago`, and the date beyond a month. `app.js` says the same.
pub(in crate::dashboard) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = (now.0 - at.0) / 1000;
    let (amount, future) = (seconds.unsigned_abs(), seconds < 0);
    let words = match amount {
        0..45 => return if future { "in a moment".into() } else { "just now".into() },
        45..3600 => format!("{} min", (amount / 60).max(1)),
        3600..86_400 => format!("{} h", amount / 3600),
        86_400..2_592_000 => format!("{} d", amount / 86_400),
        _ => return iso(at).chars().take(10).collect(),
    };
    if future { format!("in {words}") } else { format!("{words} ago") }
}

/// Bytes in the largest binary unit that leaves a whole part: `40.2 MiB`.
pub(in crate::dashboard) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    match unit {
        "B" => format!("{count} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// A span of milliseconds in its two largest units: `2h 3m`, `41s`, `0.4s`.
pub(in crate::dashboard) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_words() {
        let now = Timestamp(1_800_000_000_000);
        let check = |ms: i64, expected: &str| {
            assert_eq!(relative(Timestamp(now.0 - ms), now), expected);
        };
        check(0, "just now");
        check(-1000, "in a moment");
        check(50_000, "1 min ago");
        check(3_599_000, "59 min ago");
        check(-7_200_000, "in 2 h");
        check(3 * 86_400_000, "3 d ago");
        check(40 * 86_400_000, "2026-12-06");
    }

    #[test]
    fn sizes_and_spans() {
        assert_eq!([bytes(12), bytes(1536), bytes(42_152_755)], ["12 B", "1.5 KiB", "40.1 MiB"]);
        let spans = [420, 41_000, 125_000, 7_380_000, 90_000_000].map(span);
        assert_eq!(spans, ["0.4s", "41s", "2m 5s", "2h 3m", "1d 1h"]);
    }
}
