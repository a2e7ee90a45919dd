//! The handshake of RFC 6455, which an extended CONNECT (RFC 8441) does without and an app that
//! speaks HTTP/1.1 insists on.

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Key` of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 24]);

impl Key {
    /// A fresh one. It proves that the answer is to this request, and is no secret.
    pub(super) fn new() -> Self {
        let mut nonce = [0; 16];
        // Without the kernel's numbers the key is constant, which only loses that proof.
        let _ = getrandom::fill(&mut nonce);
        let mut text = [0; 24];
        // 16 bytes are 24 characters.
        let _ = Base64::encode(&nonce, &mut text);
        Self(text)
    }

    pub(super) fn text(&self) -> &str {
        // Base64 is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether `head`, that of a 101, answers this key (RFC 6455 §4.1).
    pub(super) fn is_accepted_by(&self, head: &[u8]) -> bool {
        let digest = Sha1::new().chain_update(self.0).chain_update(GUID).finalize();
        let expected = Base64::encode_string(&digest);
        let mut storage = [httparse::EMPTY_HEADER; crate::proxy::http::MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut storage);
        if parsed.parse(head).is_err() {
            return false;
        }
        let is_accept =
            |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("sec-websocket-accept");
        let mut accepts = parsed.headers.iter().filter(|field| is_accept(field));
        let first = accepts.next().map(|field| field.value.trim_ascii());
        first == Some(expected.as_bytes()) && accepts.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted_and_nothing_else() {
        let key = Key(*b"dGhlIHNhbXBsZSBub25jZQ==");
        let head =
            |accept: &str| format!("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        assert!(key.is_accepted_by(head("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").as_bytes()));
        assert!(!key.is_accepted_by(head("c3pPLMBiTxaQ9kYGzzhZRbK+xOo=").as_bytes()));
        assert!(!key.is_accepted_by(b"HTTP/1.1 101 x\r\n\r\n"));
    }

    #[test]
    fn keys_differ() {
        assert_ne!(Key::new(), Key::new());
        assert_eq!(Key::new().text().len(), 24);
    }
}
