//! Who is at the other end of a connection, and where it came in.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::listen::Listener;
use super::tls::{Session, Tls};

/// The longest text of an address: `INET6_ADDRSTRLEN` without its end, netinet/in.h.
const LONGEST: usize = 45;

/// A client's connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its address; an IPv4 one in its own form on sockets that take both.
    pub(super) address: IpAddr,
    text: Text,
    /// Where it came in.
    pub(super) listener: Rc<Listener>,
    /// What was agreed on in its handshake; `None` without TLS.
    pub(super) session: Option<Rc<Session>>,
}

impl Client {
    pub(super) fn new(peer: SocketAddr, listener: Rc<Listener>) -> Self {
        let address = peer.ip().to_canonical();
        let mut text = Text::default();
        // Every address fits.
        let _ = write!(text, "{address}");
        Self { address, text, listener, session: None }
    }

    /// The same after its handshake.
    pub(super) fn secured(self, session: Session) -> Self {
        Self { session: Some(Rc::new(session)), ..self }
    }

    /// Whether a request for `host` may be answered on this connection. Without TLS every one.
    pub(super) fn may_ask_for(&self, host: &str, tls: &Tls) -> bool {
        self.session.as_ref().is_none_or(|session| session.serves(tls, host))
    }

    /// The address as text, as headers and logs have it.
    pub(super) fn text(&self) -> &str {
        // Only whole strings are put in.
        std::str::from_utf8(&self.text.bytes[..usize::from(self.text.length)]).unwrap_or_default()
    }
}

/// Inline, so that a connection needs no further memory for it.
#[derive(Debug, Clone, Copy)]
struct Text {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], length: 0 }
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let start = usize::from(self.length);
        let end = start + part.len();
        let place = self.bytes.get_mut(start..end).ok_or(fmt::Error)?;
        place.copy_from_slice(part.as_bytes());
        self.length = u8::try_from(end).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::Scheme;

    use super::super::ListenerName;
    use super::*;

    #[test]
    fn the_text_is_the_address_without_its_port_and_without_mapping() {
        let address = "[::]:80".parse().unwrap();
        let listener =
            Rc::new(Listener { name: ListenerName::Http, scheme: Scheme::Http, address });
        let longest = "[fe80:1111:2222:3333:4444:5555:6666:7777]:65535";
        for (peer, text) in [
            ("192.0.2.1:5", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
            (longest, "fe80:1111:2222:3333:4444:5555:6666:7777"),
        ] {
            let client = Client::new(peer.parse().unwrap(), Rc::clone(&listener));
            assert_eq!((client.text(), client.address.to_string().as_str()), (text, text));
        }
    }
}
