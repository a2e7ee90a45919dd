//! argv → role. Container roles are handed over before any thread exists.

fn main() {}
