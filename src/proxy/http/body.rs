//! Bodies: taking the payload out of one framing, and putting it into another.

use std::io::IoSlice;
use std::ops::Range;

use super::field::{Field, LineCopier};
use super::scan::HeadScan;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection. Responses only.
    UntilClose,
}

/// The longest chunk-size line; extensions are rare and short. Nobody pads 256 bytes for good.
const MAX_SIZE_LINE: usize = 256;

/// The longest trailer section.
const MAX_TRAILERS: usize = 8 * 1024;

/// The most trailer fields.
const MAX_TRAILER_FIELDS: usize = 32;

/// A body that breaks its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::proxy) struct BadBody(pub(in crate::proxy) &'static str);

/// What was found in a window of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct Taken {
    /// Where in the window the payload is.
    pub(in crate::proxy) payload: Range<usize>,
    /// How many bytes of the window are dealt with, payload and framing.
    pub(in crate::proxy) consumed: usize,
    /// The body ends here.
    pub(in crate::proxy) done: bool,
}

/// Takes payload out of a framing.
#[derive(Debug)]
pub(in crate::proxy) enum BodyReader {
    Length(u64),
    Chunked(ChunkReader),
    UntilClose,
}

impl BodyReader {
    pub(in crate::proxy) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkReader::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes what `window` holds of the body. Payload of several chunks is moved together.
    ///
    /// # Errors
    /// If the framing is broken.
    pub(in crate::proxy) fn take(&mut self, window: &mut [u8]) -> Result<Taken, BadBody> {
        match self {
            Self::Length(remaining) => {
                let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let length = window.len().min(wanted);
                // A usize always fits.
                *remaining -= length as u64;
                Ok(Taken { payload: 0..length, consumed: length, done: *remaining == 0 })
            }
            Self::Chunked(reader) => reader.take(window),
            Self::UntilClose => {
                Ok(Taken { payload: 0..window.len(), consumed: window.len(), done: false })
            }
        }
    }

    /// How many bytes of a body of known length are still to come.
    pub(in crate::proxy) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(remaining) => Some(*remaining),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// The trailer fields that may be passed on, each a line with its end.
    pub(in crate::proxy) fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(reader) => &reader.trailers,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ChunkState {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// Reads chunks (RFC 9112 §7.1), strictly: hexadecimal digits only, CRLF only, no control characters
/// in extensions, which are dropped as the RFC asks.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ChunkReader {
    state: ChunkState,
    trailer_scan: HeadScan,
    trailers: Vec<u8>,
}

impl ChunkReader {
    fn take(&mut self, window: &mut [u8]) -> Result<Taken, BadBody> {
        let mut taken = Taken { payload: 0..0, consumed: 0, done: false };
        loop {
            let rest = &window[taken.consumed..];
            let step = match self.state {
                ChunkState::Size => self.take_size(rest)?,
                ChunkState::Data(remaining) => {
                    let wanted = usize::try_from(remaining).unwrap_or(usize::MAX);
                    let length = rest.len().min(wanted);
                    append_payload(window, &mut taken, length);
                    self.state = match remaining - length as u64 {
                        0 => ChunkState::DataEnd,
                        remaining => ChunkState::Data(remaining),
                    };
                    (length > 0).then_some(length)
                }
                ChunkState::DataEnd => self.take_data_end(rest)?,
                ChunkState::Trailers => self.take_trailers(rest)?,
                ChunkState::Done => None,
            };
            match step {
                Some(length) => taken.consumed += length,
                None => break,
            }
        }
        taken.done = self.state == ChunkState::Done;
        Ok(taken)
    }

    fn take_size(&mut self, rest: &[u8]) -> Result<Option<usize>, BadBody> {
        let searched = &rest[..rest.len().min(MAX_SIZE_LINE)];
        let Some(end) = memchr::memchr(b'\n', searched) else {
            return match searched.len() == MAX_SIZE_LINE {
                true => Err(BadBody("a chunk-size line is too long")),
                false => Ok(None),
            };
        };
        let line = rest[..end].strip_suffix(b"\r").ok_or(BadBody("a chunk-size line lacks CR"))?;
        self.state = match chunk_size(line)? {
            0 => ChunkState::Trailers,
            size => ChunkState::Data(size),
        };
        Ok(Some(end + 1))
    }

    fn take_data_end(&mut self, rest: &[u8]) -> Result<Option<usize>, BadBody> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = ChunkState::Size;
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(BadBody("a chunk is longer than its size")),
        }
    }

    fn take_trailers(&mut self, rest: &[u8]) -> Result<Option<usize>, BadBody> {
        let end = self.trailer_scan.end(rest).map_err(|_| BadBody("a trailer line lacks CR"))?;
        match end {
            Some(end) if end <= MAX_TRAILERS => {
                self.trailers = passed_trailers(&rest[..end])?;
                self.state = ChunkState::Done;
                Ok(Some(end))
            }
            None if rest.len() <= MAX_TRAILERS => Ok(None),
            _ => Err(BadBody("the trailer section is too long")),
        }
    }
}

/// Moves the next `length` bytes of the window behind the payload that was found so far.
fn append_payload(window: &mut [u8], taken: &mut Taken, length: usize) {
    let start = taken.consumed;
    if taken.payload.is_empty() {
        taken.payload = start..start + length;
    } else {
        window.copy_within(start..start + length, taken.payload.end);
        taken.payload.end += length;
    }
}

/// `1*HEXDIG [ chunk-ext ]`, at most 16 digits.
fn chunk_size(line: &[u8]) -> Result<u64, BadBody> {
    let digits = line.iter().take_while(|c| c.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 16 {
        return Err(BadBody("a chunk size is not a number"));
    }
    let extension = &line[digits..];
    let start = extension.trim_ascii_start();
    let printable = extension.iter().all(|&c| c == b'\t' || (c >= b' ' && c != 0x7f));
    if !printable || !(extension.is_empty() || start.starts_with(b";")) {
        return Err(BadBody("a chunk extension is malformed"));
    }
    let text = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| BadBody("a chunk size is not a number"))
}

/// The lines of a trailer section that may follow a body: nothing that frames, routes or vouches
/// for a message, since receivers may merge trailers into its head (RFC 9110 §6.5.1).
///
/// # Errors
/// If the section, with its empty line, is none.
pub(in crate::proxy) fn passed_trailers(section: &[u8]) -> Result<Vec<u8>, BadBody> {
    let mut storage = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let parsed = httparse::parse_headers(section, &mut storage);
    let Ok(httparse::Status::Complete((length, fields))) = parsed else {
        return Err(BadBody("a trailer is malformed"));
    };
    if length != section.len() {
        return Err(BadBody("a trailer is malformed"));
    }
    let mut passed = Vec::new();
    let mut copier = LineCopier::new(section);
    for (index, field) in fields.iter().enumerate() {
        let secret = ["cookie", "set-cookie", "trailer", "content-encoding"];
        let refused = secret.iter().any(|name| field.name.eq_ignore_ascii_case(name));
        if Field::of(field.name.as_bytes()) == Field::Other && !refused {
            copier.keep(fields, index, &mut passed);
        }
    }
    copier.flush(&mut passed);
    Ok(passed)
}

/// The framing around one piece of payload on its way out.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Envelope {
    /// The size line: 16 digits of a u64 and CRLF.
    size_line: [u8; 18],
    size_length: usize,
    tail: &'static [u8],
    /// The empty line after the trailers.
    end: &'static [u8],
}

impl Envelope {
    /// For `payload` bytes under `framing`; `last` when the body ends with them.
    pub(in crate::proxy) fn new(framing: Framing, payload: usize, last: bool) -> Self {
        if framing != Framing::Chunked {
            return Self::default();
        }
        let mut envelope = Self::default();
        if payload > 0 {
            use std::io::Write as _;
            let mut room = envelope.size_line.as_mut_slice();
            let whole = room.len();
            // A usize has at most 16 digits, so it fits.
            let _ = write!(room, "{payload:x}\r\n");
            envelope.size_length = whole - room.len();
        }
        envelope.tail = match (payload > 0, last) {
            (true, true) => b"\r\n0\r\n",
            (true, false) => b"\r\n",
            (false, true) => b"0\r\n",
            (false, false) => b"",
        };
        envelope.end = if last { b"\r\n" } else { b"" };
        envelope
    }

    /// Head, size line, payload, and what ends the chunk and the body, in the order of the wire.
    pub(in crate::proxy) fn slices<'a>(
        &'a self,
        head: &'a [u8],
        payload: &'a [u8],
        trailers: &'a [u8],
    ) -> [IoSlice<'a>; 6] {
        let trailers = if self.end.is_empty() { b"" } else { trailers };
        let size_line = &self.size_line[..self.size_length];
        [head, size_line, payload, self.tail, trailers, self.end].map(IoSlice::new)
    }
}
