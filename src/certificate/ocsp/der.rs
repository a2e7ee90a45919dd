//! DER (X.690 §10), as little of it as OCSP needs: what a stranger sent is taken apart by a reader
//! that knows no lengths but short definite ones, and never goes beyond what it was given.

use crate::domain::Timestamp;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// `[number]` around another value.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

/// The values of a sequence, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Over the content of a value.
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The sequence that `der` is, to its last byte.
    pub(super) fn of_sequence(der: &'a [u8]) -> Option<Self> {
        let mut reader = Self(der);
        let inner = reader.enter(SEQUENCE)?;
        reader.is_empty().then_some(inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value, whatever it is.
    pub(super) fn any(&mut self) -> Option<Value<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        // Tags of more than one byte do not occur.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match *first {
            short if short < 0x80 => (usize::from(short), rest),
            0x81 => rest
                .split_first()
                .map(|(byte, rest)| (usize::from(*byte), rest))
                .filter(|(length, _)| *length >= 0x80)?,
            0x82 => rest
                .split_first_chunk::<2>()
                .map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))
                .filter(|(length, _)| *length >= 0x100)?,
            // Indefinite, or longer than what is read at all.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Value { tag: *tag, content, whole })
    }

    /// The next value, if it has this tag; otherwise nothing is taken.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut ahead = *self;
        let value = ahead.any().filter(|value| value.tag == tag)?;
        *self = ahead;
        Some(value)
    }

    /// The content of the next value, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.optional(tag).map(|value| value.content)
    }

    /// The inside of the next value, which must have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(Self)
    }
}

/// GeneralizedTime as RFC 5280 §4.1.2.5.2 has it: `20260102030405Z`.
pub(super) fn time(content: &[u8]) -> Option<Timestamp> {
    let digits = content.strip_suffix(b"Z").filter(|digits| digits.len() == 14)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        digits[range].iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'))
    };
    let small = |range| i8::try_from(number(range)).ok();
    let (month, day) = (small(4..6)?, small(6..8)?);
    let (hour, minute, second) = (small(8..10)?, small(10..12)?, small(12..14)?);
    let civil = jiff::civil::DateTime::new(number(0..4), month, day, hour, minute, second, 0);
    let time = jiff::tz::TimeZone::UTC.to_timestamp(civil.ok()?).ok()?;
    Some(Timestamp(time.as_millisecond()))
}

/// A value of `parts`, one behind the other; at most 64 KiB.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let [.., high, low] = length.to_be_bytes();
    let mut der = vec![tag];
    match length {
        0..0x80 => der.push(low),
        0x80..0x100 => der.extend([0x81, low]),
        _ => der.extend([0x82, high, low]),
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for length in [0, 1, 127, 128, 255, 256, 65_000] {
            let der = write(OCTETS, &[&vec![7; length]]);
            let mut reader = Reader::new(&der);
            let value = reader.any().unwrap();
            assert_eq!(
                (value.content.len(), value.whole, reader.is_empty()),
                (length, &*der, true)
            );
        }
        let bad: [&[u8]; 8] = [
            &[],
            &[4],
            &[4, 2, 0],
            &[4, 0x81, 1, 0],
            &[4, 0x82, 0, 1, 0],
            &[4, 0x80, 0, 0],
            &[4, 0x83, 0, 0, 1, 0],
            &[0x1f, 0x20, 0],
        ];
        for bad in bad {
            assert!(Reader::new(bad).any().is_none(), "{bad:?}");
        }
        assert!(Reader::of_sequence(&[0x30, 0, 0]).is_none(), "a byte behind the end");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(b"20260102030405Z"), Some(Timestamp(1_767_323_045_000)));
        for bad in [
            &b"20260102030405"[..],
            b"20260102030405.5Z",
            b"202601020304Z",
            b"20261302030405Z",
            b"2026010203040aZ",
            b"20260102030405+0100",
        ] {
            assert_eq!(time(bad), None);
        }
    }
}
