//! An answer as it is kept: a line with the time in which it may be shown, in seconds since 1970,
//! then the answer's DER. The line is for the proxy, which reads no DER.

use crate::domain::{OcspSpan, Timestamp};

/// An answer that vouches for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    /// When it may be shown.
    pub span: OcspSpan,
    /// `OCSPResponse` in DER.
    pub(super) der: Vec<u8>,
}

impl Staple {
    /// As the file has it.
    pub(in crate::certificate) fn to_bytes(&self) -> Vec<u8> {
        let OcspSpan { from, until } = self.span;
        let mut bytes = format!("{} {}\n", from.0 / 1000, until.0 / 1000).into_bytes();
        bytes.extend_from_slice(&self.der);
        bytes
    }

    /// From a file.
    pub(in crate::certificate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, der) = (&bytes[..end], &bytes[end + 1..]);
        let (from, until) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let time = |text: &str| Some(Timestamp(text.parse::<i64>().ok()?.checked_mul(1000)?));
        let span = OcspSpan { from: time(from)?, until: time(until)? };
        Some(Self { span, der: der.to_vec() })
    }
}
