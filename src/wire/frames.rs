//! Framing of a command's streams over one upgraded connection.
//!
//! ```text
//!  ┌──────┬────────────────┬─────────┐   kind: 0 stdin  1 stdout  2 stderr  3 exit
//!  │ kind │ length, 32 bit │ payload │         4 window size  5 signal
//!  │  u8  │   big endian   │         │   an empty stdin frame is the end of the input
//!  └──────┴────────────────┴─────────┘
//! ```
//!
//! Both sides may be hostile to each other: lengths are checked before anything is kept.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The largest payload: one read of a pipe. A longer one is cut into several frames by the sender.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Kind and length.
const HEADER: usize = 5;

/// One message about a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes for the command's input; empty at its end.
    Stdin(Bytes),
    /// Bytes the command wrote to its output.
    Stdout(Bytes),
    /// Bytes the command wrote to its error stream.
    Stderr(Bytes),
    /// The command has ended; nothing follows. 128 + n when signal n ended it.
    Exit(u8),
    /// The user's window has this size, in characters.
    Window {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// A signal by its number, for the command.
    Signal(u8),
}

/// Bytes that are no frame. The connection cannot be used any further.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the message names")]
pub enum FrameError {
    /// An unknown kind.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// More than [`MAX_PAYLOAD`], or not the length that the kind has.
    #[error("frame of kind {kind} with a payload of {length} bytes")]
    Length { kind: u8, length: usize },
    /// The connection failed, or ended inside a frame.
    #[error("read or write a frame")]
    Connection(#[source] std::io::Error),
}

// The codec traits of tokio-util demand this conversion.
impl From<std::io::Error> for FrameError {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Stdin(_) => 0,
            Self::Stdout(_) => 1,
            Self::Stderr(_) => 2,
            Self::Exit(_) => 3,
            Self::Window { .. } => 4,
            Self::Signal(_) => 5,
        }
    }

    /// Appends the frame to `buffer`.
    ///
    /// # Errors
    /// [`FrameError::Length`] when the payload is longer than [`MAX_PAYLOAD`].
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let kind = self.kind();
        match self {
            Self::Stdin(data) | Self::Stdout(data) | Self::Stderr(data) => {
                let length = u32::try_from(data.len()).ok().filter(|_| data.len() <= MAX_PAYLOAD);
                let length = length.ok_or(FrameError::Length { kind, length: data.len() })?;
                put_header(buffer, kind, length);
                buffer.put_slice(data);
            }
            Self::Exit(byte) | Self::Signal(byte) => {
                put_header(buffer, kind, 1);
                buffer.put_u8(*byte);
            }
            Self::Window { rows, columns } => {
                put_header(buffer, kind, 4);
                buffer.put_u16(*rows);
                buffer.put_u16(*columns);
            }
        }
        Ok(())
    }

    /// Takes one whole frame off the front of `buffer`, or nothing when it is not complete yet.
    ///
    /// # Errors
    /// The bytes are no frame.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some((&kind, rest)) = buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        // Cannot be cut: usize has at least 32 bits on Linux.
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        check_length(kind, length)?;
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(HEADER);
        let mut payload = buffer.split_to(length).freeze();
        Ok(Some(match kind {
            0 => Self::Stdin(payload),
            1 => Self::Stdout(payload),
            2 => Self::Stderr(payload),
            3 => Self::Exit(payload.get_u8()),
            4 => Self::Window { rows: payload.get_u16(), columns: payload.get_u16() },
            _ => Self::Signal(payload.get_u8()),
        }))
    }
}

fn put_header(buffer: &mut BytesMut, kind: u8, length: u32) {
    buffer.put_u8(kind);
    buffer.put_u32(length);
}

fn check_length(kind: u8, length: usize) -> Result<(), FrameError> {
    let fits = match kind {
        0..=2 => length <= MAX_PAYLOAD,
        3 | 5 => length == 1,
        4 => length == 4,
        _ => return Err(FrameError::Kind(kind)),
    };
    if fits { Ok(()) } else { Err(FrameError::Length { kind, length }) }
}

/// [`Frame`]s for tokio-util's `FramedRead` and `FramedWrite`.
#[derive(Debug, Default, Clone, Copy)]
pub struct FrameCodec;

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        Frame::decode(buffer)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), FrameError> {
        frame.encode(buffer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let data = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            data().prop_map(Frame::Stdin),
            data().prop_map(Frame::Stdout),
            data().prop_map(Frame::Stderr),
            any::<u8>().prop_map(Frame::Exit),
            any::<u8>().prop_map(Frame::Signal),
            any::<(u16, u16)>().prop_map(|(rows, columns)| Frame::Window { rows, columns }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            frames in prop::collection::vec(any_frame(), 0..8), cut in 1usize..64,
        ) {
            let mut stream = BytesMut::new();
            for frame in &frames {
                frame.encode(&mut stream).unwrap();
            }
            let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buffer.put_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert_eq!(decoded, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_the_payload_arrives() {
        let mut buffer = BytesMut::from(&[0, 0, 1, 0, 1][..]);
        assert!(matches!(Frame::decode(&mut buffer), Err(FrameError::Length { kind: 0, .. })));
        let long = Frame::Stdout(Bytes::from(vec![0; MAX_PAYLOAD + 1]));
        assert!(long.encode(&mut BytesMut::new()).is_err());
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut buffer = BytesMut::from(&[9, 0, 0, 0, 0][..]);
        assert!(matches!(Frame::decode(&mut buffer), Err(FrameError::Kind(9))));
    }
}
