//! Tests of relayed sessions over a pair of sockets.
