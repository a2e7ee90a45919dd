//! Table and property tests of the wire.
