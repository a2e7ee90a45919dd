//! HTTP/1.1 on the wire: strict reading, exact writing (RFC 9110, RFC 9112).
//!
//! **Invariant.** Pure: bytes in, facts and bytes out; no sockets, no clock. A message has one
//! framing here or it is refused.

pub(super) mod body;
pub(super) mod field;
pub(super) mod host;
pub(super) mod request;
pub(super) mod response;
pub(super) mod scan;

#[cfg(test)]
mod tests;

/// The longest head of a request or response, and the size of a read buffer. Node refuses heads
/// over 16 KiB and nginx over 32 KiB, so nothing that works behind them is refused here.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// The most header fields of one message; Apache's limit, and far above what browsers send.
pub(super) const MAX_FIELDS: usize = 100;

/// The minor version of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// HTTP/1.0: no chunks, no interim answers, closes unless told otherwise.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    fn of(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}
