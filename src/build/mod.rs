//! build.

pub mod stack;
