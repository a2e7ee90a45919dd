//! TLS towards clients: which certificate a name gets, handshakes, and the encrypted stream.
//!
//! ```text
//!   table ──► Certificates ◄── <data_dir>/certificates/<id>.pem, <id>.ocsp
//!                  │ by SNI: exact, deepest wildcard, `_`
//!   ClientHello ──► accept ──► TlsStream ──► HTTP/1.1 or HTTP/2 by ALPN
//! ```
//!
//! Everything of a handshake happens on the core that accepted the connection. Session tickets are
//! sealed by a key that all cores share and that changes every six hours.
//!
//! **Invariant.** A client is never shown a certificate that was not bound to the name it asked for:
//! without one its handshake ends with `unrecognized_name` (RFC 6066 §3), which tells nothing of
//! what else is served here.

mod accept;
mod certificates;
mod files;
mod stream;

pub(super) use accept::{Accepted, Session, accept};
pub(super) use certificates::Tls;
pub(super) use files::CertificateFiles;
pub(super) use stream::TlsStream;
