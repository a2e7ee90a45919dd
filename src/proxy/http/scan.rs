//! Finding the end of a head.

/// Why bytes are not the start of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct BareLineFeed;

/// Remembers how far a head was searched, so that a head that comes byte by byte is searched once
/// and not once for each byte.
#[derive(Debug, Default)]
pub(in crate::proxy) struct HeadScan {
    searched: usize,
    line_start: usize,
}

impl HeadScan {
    /// The length of the head at the start of `bytes`, with its empty line, once it is whole.
    /// `bytes` must start with those of the last call.
    ///
    /// # Errors
    /// On a line feed without its carriage return: RFC 9112 §2.2 lets a recipient take it for a line
    /// end, and where two recipients differ in that, requests are smuggled.
    pub(in crate::proxy) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, BareLineFeed> {
        for offset in memchr::memchr_iter(b'\n', &bytes[self.searched..]) {
            let at = self.searched + offset;
            if at == 0 || bytes[at - 1] != b'\r' {
                return Err(BareLineFeed);
            }
            if at - 1 == self.line_start {
                return Ok(Some(at + 1));
            }
            self.line_start = at + 1;
        }
        self.searched = bytes.len();
        Ok(None)
    }
}
