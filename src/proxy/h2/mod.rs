//! HTTP/2 (RFC 9113): clients in front, and instances that speak it in clear text ("h2c").
//!
//! ```text
//!   wire ──► server ──► stream ──► relay ──► plain (HTTP/1.1)
//!   bytes,   frames     one        both
//!   meter    (`h2`)     request    directions
//! ```
//!
//! One task serves a connection: its frames, which the `h2` crate reads, and all of its streams. So
//! streams need no locks of ours, what several of them answer goes out in one write, and all end with
//! the connection.
//!
//! **Invariant.** What a client costs is bounded before it is served: streams, windows, heads and
//! buffers by constants of `server.rs`, frames that carry nothing by `meter.rs`.

mod clear;
mod line;
mod message;
mod meter;
mod origin;
mod plain;
mod relay;
mod responder;
mod room;
mod server;
mod stream;
mod tunnel;
mod websocket;
mod wire;

pub(in crate::proxy) use line::forward;
pub(in crate::proxy) use origin::Origins;
pub(in crate::proxy) use server::serve;

/// Whether `bytes`, the first of a connection, begin the preface of HTTP/2, as far as it looks like an
/// HTTP/1.1 head. An HTTP/1.1 server takes it for one of a version that it does not speak.
pub(in crate::proxy) fn is_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\n")
}
