//! Schedules: when something is done again and again.

use std::fmt;
use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::invalid::text_serde;
use super::{Invalid, Timestamp};

/// Longer than any real schedule: sixty minutes listed one by one.
const MAX_TEXT: usize = 200;
/// A day from which every schedule that can ever fire is looked for: it begins the 28 years in
/// which each date falls on each day of the week (of the Gregorian calendar until 2100).
const EPOCH: DateTime = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);

/// A schedule as crontab(5) writes it: minute, hour, day of month, month, day of week, or one of
/// `@hourly @daily @midnight @weekly @monthly @yearly @annually`; always in UTC.
///
/// If both days are restricted, one of them is enough (crontab(5)). `L`, `W` and `#` may be used as
/// in other crons.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    pattern: Box<croner::Cron>,
}

impl Schedule {
    /// The schedule as it was written, with single spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first point of the schedule after `moment`; none if there is none in the years that a
    /// calendar has.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let now = jiff::Timestamp::from_millisecond(moment.0).ok()?;
        let civil = TimeZone::UTC.to_datetime(now);
        let next = self.pattern.find_next_occurrence(&civil, false).ok()?;
        let next = TimeZone::UTC.to_timestamp(next).ok()?;
        Some(Timestamp(next.as_millisecond()))
    }

    /// How many points of the schedule lie in `after..=until`, counted up to `limit`.
    pub fn count_between(&self, after: Timestamp, until: Timestamp, limit: u32) -> u32 {
        let mut count = 0;
        let mut moment = after;
        while count < limit {
            match self.next_after(moment) {
                Some(next) if next <= until => (moment, count) = (next, count + 1),
                _ => break,
            }
        }
        count
    }
}

impl FromStr for Schedule {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: String| Invalid::new("schedule", text, why);
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let written = words.join(" ");
        if written.len() > MAX_TEXT {
            return Err(invalid(format!("is longer than {MAX_TEXT} characters")));
        }
        let fields = match written.strip_prefix('@') {
            Some(nickname) => nickname_fields(nickname).ok_or_else(|| {
                invalid(
                    "is not one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly".into(),
                )
            })?,
            None if words.len() == 5 => &written,
            None => {
                return Err(invalid(
                    "must have five fields (minute, hour, day, month, day of week), such as `0 3 * * *`"
                        .into(),
                ));
            }
        };
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(fields).map_err(|error| {
            invalid(format!("is not understood: {}", error.to_string().trim_end_matches('.')))
        })?;
        if pattern.find_next_occurrence(&EPOCH, true).is_err() {
            return Err(invalid("never comes: there is no such date".into()));
        }
        Ok(Self { text: written, pattern: Box::new(pattern) })
    }
}

fn nickname_fields(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "hourly" => "0 * * * *",
        "daily" | "midnight" => "0 0 * * *",
        "weekly" => "0 0 * * 0",
        "monthly" => "0 0 1 * *",
        "yearly" | "annually" => "0 0 1 1 *",
        _ => return None,
    })
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schedule").field(&self.text).finish()
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

text_serde!(Schedule);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn next(schedule: &str, after: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let next = schedule.next_after(at(after)).unwrap();
        jiff::Timestamp::from_millisecond(next.0).unwrap().to_string()
    }

    #[test]
    fn the_next_point_is_after_the_moment_in_utc() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-11-24T14:00:00Z", "2026-11-24T14:01:00Z"),
            ("* * * * *", "2026-11-24T14:00:59.999Z", "2026-11-24T14:01:00Z"),
            ("*/15 * * * *", "2026-11-24T14:45:00Z", "2026-11-24T15:00:00Z"),
            ("30 3 * * *", "2026-12-31T23:59:59Z", "2027-01-01T03:30:00Z"),
            ("0 9 * * mon-fri", "2026-11-27T09:00:00Z", "2026-11-30T09:00:00Z"),
            ("0 0 * * 7", "2026-11-24T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 13 * FRI", "2026-11-10T00:00:00Z", "2026-11-13T00:00:00Z"),
            ("0 0 13 * FRI", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"),
            ("0 0 29 FEB *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@hourly", "2026-11-24T14:00:01Z", "2026-11-24T15:00:00Z"),
            ("@midnight", "2026-11-24T14:00:01Z", "2026-11-25T00:00:00Z"),
            ("@Weekly", "2026-11-24T14:00:01Z", "2026-11-29T00:00:00Z"),
            ("@yearly", "2026-11-24T14:00:01Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("60 * * * *", "is not understood"),
            ("* 24 * * *", "is not understood"),
            ("* * * * mo", "is not understood"),
            ("@reboot", "is not one of"),
            ("@every 5m", "is not one of"),
            ("0 0 31 2 *", "never comes"),
            ("0 0 30 FEB *", "never comes"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let long = format!("{} * * * *", "1,".repeat(200));
        assert!(long.parse::<Schedule>().unwrap_err().to_string().contains("longer than"));
    }

    #[test]
    fn points_in_a_span_are_counted_up_to_the_limit() {
        let schedule: Schedule = "0 * * * *".parse().unwrap();
        let (from, to) = (at("2026-11-24T00:00:00Z"), at("2026-11-24T05:00:00Z"));
        assert_eq!(schedule.count_between(from, to, 100), 5);
        assert_eq!(schedule.count_between(from, to, 3), 3);
        assert_eq!(schedule.count_between(to, from, 100), 0);
    }

    #[test]
    fn a_schedule_is_written_as_it_was_read() {
        let schedule: Schedule = " 0   3 * * *".parse().unwrap();
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(json, "\"0 3 * * *\"");
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-*/,0-9@A-Za-z#?+ ]{0,30}") {
            if let Ok(schedule) = text.parse::<Schedule>() {
                let next = schedule.next_after(Timestamp(0)).expect("it comes");
                proptest::prop_assert!(next > Timestamp(0));
            }
        }
    }
}
