//! Sending within the windows of the other side (RFC 9113 §5.2).

use bytes::Bytes;
use h2::SendStream;

/// How far a body got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All of it is on its way.
    Done,
    /// The rest waits for `poll_capacity`.
    Wait,
    /// The stream has ended.
    Gone,
}

/// Sends as much of `data` as there is room for; `last` ends the stream with it. The crate itself
/// would take any amount and hold it.
pub(super) fn send(stream: &mut SendStream<Bytes>, data: &mut Bytes, last: bool) -> Step {
    stream.reserve_capacity(data.len());
    let room = stream.capacity().min(data.len());
    let whole = room == data.len();
    if room == 0 && !whole {
        return Step::Wait;
    }
    match (stream.send_data(data.split_to(room), last && whole), whole) {
        (Err(_), _) => Step::Gone,
        (Ok(()), true) => Step::Done,
        (Ok(()), false) => Step::Wait,
    }
}
